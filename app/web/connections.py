"""The HTTP server under the page. Connections that are idle, slow or too many cannot end it.

Gradio starts uvicorn without limits, and has no option for them. So `start_server` takes the place of Gradio's own.
"""

import asyncio
import errno
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio.http_server
import uvicorn
from gradio.routes import App
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MOST_CONNECTIONS = 1000
"""Connections at the same time, if the machine allows the process enough open files."""

OTHER_FILES = 60
"""Open files that are no connections: libraries, models, pipes. Each connection may have one file more."""

BACKLOG = 64
HEADER_S = 30
"""Time for the header of a request, and for a connection without a request."""

STALL_S, LEAST_BYTES_PER_S = 60, 2000
"""Lowest speed of a request's body, and the time by which it may be late."""

TAKE_S = 600
"""Time in which a client must take some of an answer. The system buffers megabytes, so a slow one seems to stop."""

CHECK_S = 5


class Protocol(H11Protocol):
    """One connection. It is closed if its client lets the server wait."""

    limit = MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection. If there are too many, close another one, or this one."""
        super().connection_made(transport)
        self._since, self._received = time.monotonic(), 0  # it waits for a request; bytes that have come since
        self._stuck: float | None = None  # since then the client takes nothing of the answer
        self._check = self.loop.call_later(CHECK_S, self._close_if_slow)
        known = [each for each in self.connections if isinstance(each, Protocol) and not each.transport.is_closing()]
        if len(known) > self.limit:
            self._find_dispensable(known).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._check.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        self._received += len(data)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since, self._received = time.monotonic(), 0
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait until the client has taken what was sent."""
        self._stuck = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on sending."""
        self._stuck = None
        super().resume_writing()

    @property
    def is_waiting(self) -> bool:
        """Whether there is no request that the server answers."""
        return self.cycle is None or self.cycle.response_complete

    def _close_if_slow(self) -> None:
        if self._is_slow(time.monotonic()):
            self.transport.abort()
        else:
            self._check = self.loop.call_later(CHECK_S, self._close_if_slow)

    def _is_slow(self, now: float) -> bool:
        if self.is_waiting:
            return now - self._since > HEADER_S
        if self.cycle.more_body:
            return now - self._since > HEADER_S + STALL_S + self._received / LEAST_BYTES_PER_S
        return self._stuck is not None and now - self._stuck > TAKE_S

    def _find_dispensable(self, known: "list[Protocol]") -> "Protocol":
        """Return the connection of all known ones that is closed for a new one.

        It is of the address that has most, so that one address cannot keep all others out: the one that has waited
        longest for a request. If none waits, it is the new connection, unless others have much fewer.
        """
        counts = Counter(each._address for each in known)
        busiest, count = counts.most_common(1)[0]
        others = [each for each in known if each._address == busiest and each is not self]
        waiting = [each for each in others if each.is_waiting]
        if not waiting and counts[self._address] >= count / 2:
            return self
        return min(waiting or others, key=lambda each: each._since)

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""


class Server(uvicorn.Server):
    """Serves in a thread of its own. Gradio closes it."""

    def start(self, sockets: list[socket.socket]) -> None:
        """Begin to serve, and return when clients can come."""
        self._thread = threading.Thread(target=self.run, args=(sockets,), daemon=True)
        self._thread.start()
        while not self.started and self._thread.is_alive():
            time.sleep(0.001)

    def close(self) -> None:
        """Stop serving."""
        self.should_exit = True
        self._thread.join(timeout=5)


@contextmanager
def replace_server(wrap: Callable[[App], ASGIApp]) -> Iterator[None]:
    """Let Gradio start this module's server in the block.

    Args:
        wrap: returns the application that is served, from Gradio's.
    """

    def start_server(app: App, server_name: str, server_port: int, **_: Any) -> tuple[str, int, str, Server]:
        sockets = bind(server_name, server_port)
        Protocol.limit = count_connections()
        server = Server(
            uvicorn.Config(
                wrap(app), http=Protocol, ws="none", log_level="error", server_header=False, backlog=BACKLOG,
                timeout_graceful_shutdown=2,
            )
        )  # fmt: skip
        server.start(sockets)
        return server_name, server_port, write_url(server_name, server_port), server

    usual = gradio.http_server.start_server
    gradio.http_server.start_server = start_server  # type: ignore[assignment]
    try:
        yield
    finally:
        gradio.http_server.start_server = usual


def count_connections() -> int:
    """Return how many connections this process can have and still open files."""
    if resource is None:
        return MOST_CONNECTIONS
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(MOST_CONNECTIONS, max(8, (files - OTHER_FILES) // 2))


def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on all addresses of a host.

    Raises:
        OSError: there is no such host, or the port is taken.
    """
    sockets: list[socket.socket] = []
    for family, _, _, _, address in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM):
        try:
            sockets.append(socket.create_server(address[:2], family=family, backlog=BACKLOG))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:  # localhost may have an IPv6 address that this machine has not
                raise
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return sockets


def write_url(host: str, port: int) -> str:
    """Return the address of the page, as this machine can open it."""
    name = host.strip("[]")
    name = "localhost" if name in ("0.0.0.0", "::") else name
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
