"""The server under idle, slow and too many connections, and what it writes to its log then."""

import io
import resource
import socket
import time
import urllib.request
from contextlib import suppress

import pytest
from trinas_app.web import connections as connections_module
from trinas_app.web import log as log_module
from trinas_app.web.connections import bind, write_url
from trinas_app.web.log import LimitedStream

from support.processes import PATIENCE_S, wait_until
from support.web_server import Server, free_port, post

FEW_FILES = (
    "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160)); from trinas_app.cli import main; main()"
)
UPLOAD = (
    b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 100000000\r\n\r\n"
)
"""The header of an upload that may take a day at the lowest speed, if it goes on."""

IMPATIENT = """
import trinas_app.web.connections as connections
connections.HEADER_S = connections.STALL_S = connections.TAKE_S = 2
connections.CHECK_S = 0.2
from trinas_app.cli import main
main()
"""


def connect(server: Server, sent: bytes = b"") -> socket.socket:
    name, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((name, int(port)), timeout=PATIENCE_S)
    connection.sendall(sent)
    return connection


def is_served(server: Server) -> bool:
    with urllib.request.urlopen(server.url, timeout=PATIENCE_S) as answer:
        return bool(answer.status == 200)


@pytest.mark.slow
def test_idle_connections_keep_nobody_out_and_do_not_end_the_server(tmp_path):
    server = Server(tmp_path, python=("-c", FEW_FILES))
    held = []
    try:
        for number in range(220):
            held.append(connect(server, [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "][number % 2]))
            if number % 20 == 0:
                assert is_served(server)
        assert is_served(server)
        assert server.process.poll() is None
        assert len(server.said()) < 2000
        for connection in held:
            connection.close()
        assert is_served(server)
    finally:
        for connection in held:
            connection.close()
        server.close()
    assert "Traceback" not in server.said()


@pytest.mark.slow
def test_held_streams_of_many_addresses_leave_room_for_others(tmp_path):
    """The address that holds most loses one for a new address; here a few connections are all that it may have."""
    few = "import trinas_app.web.connections as c; c.MOST_CONNECTIONS = 12; from trinas_app.cli import main; main()"
    server = Server(tmp_path, python=("-c", few))
    head = b"GET /gradio_api/heartbeat/%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
    held = [connect(server, head % number) for number in range(12)]
    try:
        for connection in held:
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            other.settimeout(PATIENCE_S)
            other.sendall(b"GET /robots.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        for connection in held:
            connection.close()
        server.close()


def is_held(connection: socket.socket, rest: bytes) -> bool:
    """Take what the server has sent, and send a little more. Return whether the connection still exists."""
    try:
        with suppress(TimeoutError):
            if connection.recv(1 << 16) == b"":
                return False
        connection.sendall(rest)
    except OSError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "rest"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"),
        (b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n", b" "),
        (UPLOAD, b" "),
        (b"GET /robots.txt HTTP/1.1\r\nHost: localhost\r\n\r\n", b"G"),
    ],
    ids=["nothing", "a header without an end", "a body without an end", "a long upload", "a second request"],
)
def test_a_client_that_lets_the_server_wait_is_dropped(tmp_path, begin, rest):
    server = Server(tmp_path, python=("-c", IMPATIENT))
    try:
        with connect(server, begin) as connection:
            connection.settimeout(0.3)
            wait_until(lambda: not is_held(connection, rest))
        assert is_served(server)
    finally:
        server.close()
    assert "Traceback" not in server.said()


@pytest.mark.slow
def test_a_client_that_takes_nothing_is_dropped(tmp_path):
    server = Server(tmp_path, python=("-c", IMPATIENT))
    content = bytes(30_000_000)
    try:
        (path,) = post(f"{server.url}/gradio_api/upload", files={"files": ("a.png", content)}).json()
        head = f"GET /gradio_api/file={path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        with connect(server, head) as connection:
            time.sleep(6)  # three times the limit of this server
            received = 0
            with suppress(ConnectionError):
                while chunk := connection.recv(1 << 20):
                    received += len(chunk)
        assert received < len(content)
    finally:
        server.close()


def test_the_number_of_connections_fits_the_open_files(monkeypatch):
    limits = {160: 50, 1024: 482, 100_000: connections_module.MOST_CONNECTIONS, 64: 8}
    for files, connections in limits.items():
        monkeypatch.setattr(resource, "getrlimit", lambda kind, files=files: (files, files))
        assert connections_module.count_connections() == connections


def test_a_taken_port_and_an_unknown_host_are_errors():
    port = free_port()
    taken = bind("127.0.0.1", port)
    with pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", port)
    for opened in taken:
        opened.close()
    with pytest.raises(OSError, match=r"not known|resolution|No address"):
        bind("nobody.invalid", port)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("0.0.0.0", "http://localhost:80/"),
        ("::", "http://localhost:80/"),
        ("::1", "http://[::1]:80/"),
        ("[::1]", "http://[::1]:80/"),
        ("pc.local", "http://pc.local:80/"),
    ],
)
def test_the_address_can_be_opened(host, url):
    assert write_url(host, 80) == url


def test_the_log_takes_so_much_an_hour(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(log_module, "MOST_CHARS", 100)
    monkeypatch.setattr(log_module.time, "monotonic", lambda: clock[0])
    clock[0] = 1.0
    written = io.StringIO()
    stream = LimitedStream(written)
    for _ in range(50):
        stream.write("0123456789")
    assert written.getvalue().startswith("0123456789" * 10)
    assert written.getvalue().count("left out") == 1
    assert len(written.getvalue()) < 250
    clock[0] += log_module.PERIOD_S + 1
    stream.write("after an hour")
    assert written.getvalue().endswith("after an hour")
