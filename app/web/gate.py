"""The gate of the page: every request passes it before Gradio sees it, and every answer on its way out.

Gradio serves more than the page needs, and to more people. The gate lets in the routes of the page and of its two
endpoints, from the page itself and from programs, but not from other web sites.
"""

import json
import os
import re
import shutil
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from http.cookies import CookieError
from pathlib import Path
from typing import Any

from gradio.routes import App
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from .allowance import Allowance
from .hosts import Hosts
from .limits import Limits

PAGE, LOGIN, UPLOAD = "/", "/login", "/gradio_api/upload"
STARTUP = "/gradio_api/startup-events"
"""Gradio calls this route once, before anybody else knows the address."""

SHELL = re.compile(r"/|/theme\.css|/manifest\.json|/favicon\.ico|/robots\.txt|/(assets|static)/.+")
"""Routes of the page's empty shell. They are open without the password, because the login is part of it."""

READ = re.compile(
    rf"{SHELL.pattern}|/config|/gradio_api/(info|app_id|login_check|user|upload_progress|queue/(data|status)"
    r"|heartbeat/[\w-]{1,64}|call/(upscale|models)/\w{1,64}|file=(?!https?:).+)"
)
CHANGE = re.compile(r"/login|/gradio_api/(upload|cancel|reset|run/predict|queue/join|call/(upscale|models))")
"""Routes that can be read, and routes that change something. `run` only takes what needs no place in the queue."""

STREAMS = re.compile(r"/gradio_api/(?:queue/data|call/\w+/(\w+))")
"""Answers that last as long as a client waits for its jobs. The group is the event of a client without a session."""

MAX_BODY = 2 << 20
"""Bytes of a request that is no upload. A batch of 1,000 files has about 0.5 MB."""

SESSION = re.compile(r"[\w-]{1,64}")
"""The key of a session, which the visitor's browser chooses. Gradio would remember longer ones too."""

LONGEST_TEXT, LARGEST_NUMBER = 10_000, 1e15
"""Letters of a text, and absolute value of a number, in a request."""

WRONG_PASSWORDS, FORGIVEN_S = 10, 600
"""Wrong passwords that an address may try, and the time in which they are forgiven."""

ABOUT_PASSWORDS = f"After {WRONG_PASSWORDS} wrong passwords you have to wait a minute for each further one."

HOUR_S = 3600

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

INLINE = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)


class RefusedError(Exception):
    """A request is not let in."""

    def __init__(self, status: int, reason: str, wait_s: int = 0) -> None:
        super().__init__(reason)
        self.status, self.wait_s = status, wait_s


@dataclass(frozen=True)
class Rules:
    """What a gate lets in."""

    hosts: Hosts
    limits: Limits
    folder: Path
    """Of visitors' files. Uploads need free space there."""
    embedders: tuple[str, ...] = ()
    """Origins of web sites that may show the page in a frame."""


class Gate:
    """An ASGI application around Gradio's.

    Args:
        app: Gradio's application.
        rules: what is let in.
        on_gone: called with the key of a session whose client has gone before its jobs ended.
    """

    def __init__(self, app: App, rules: Rules, on_gone: Callable[[str], None]) -> None:
        self._app, self._rules, self._on_gone = app, rules, on_gone
        self._passwords = Allowance(WRONG_PASSWORDS, FORGIVEN_S)
        self._uploads = Allowance(rules.limits.hourly_upload_mb * 1e6, HOUR_S)
        self._arriving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let Gradio answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = Answer(send, self._rules.embedders, is_page=scope["path"] == PAGE)
        try:
            self._check(request)
            length = self._check_length(request)
            if request.method == "POST" and request.scope["path"] not in (LOGIN, UPLOAD):
                receive = _replay(check_json(await request.body(), self._rules.folder), receive)
        except ClientDisconnect:
            return
        except RefusedError as refused:
            headers = {"Retry-After": str(refused.wait_s)} if refused.wait_s else None
            await PlainTextResponse(f"{refused}\n", refused.status, headers)(scope, receive, answer.send)
            return
        passed = MutableHeaders(scope=scope)
        passed["host"] = self._rules.hosts.complete(passed["host"])
        if request.scope["path"] == PAGE:  # the scripts in it can only be read if it is not compressed
            del passed["accept-encoding"]
        self._arriving += length
        try:
            await self._app(scope, receive, answer.send)
        finally:
            self._arriving -= length
            self._look_back(request, answer)

    def _check(self, request: Request) -> None:
        """Refuse a request of a stranger, or for something that the page does not have."""
        headers, path = request.headers, request.scope["path"]  # a strange Host can make another path of request.url
        host, hosts = headers.get("host", ""), self._rules.hosts
        if not hosts.has(host):
            raise RefusedError(403, f"{host[:100]!r} is not a name of this server; --allow-host adds one")
        if hosts.is_loopback and any(name in headers for name in FORWARDED):
            raise RefusedError(403, "this page is for users of its machine; --allow-host makes it one for others")
        if "origin" in headers and not hosts.is_origin(origin := headers["origin"], host):
            hint = f"if {origin[:100]!r} is its own address, --allow-host makes that known"
            raise RefusedError(403, f"another web site may not use this page; {hint}")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and not self._is_visit(request):
            raise RefusedError(403, "another web site may not use this page")
        if path == STARTUP and not self._app.startup_events_triggered:
            return
        is_read = request.method in ("GET", "HEAD")
        if not self._is_known(request) and path != LOGIN and not (is_read and SHELL.fullmatch(path)):
            raise RefusedError(401, "Not authenticated")
        routes = READ if is_read else CHANGE if request.method == "POST" else None
        if routes is None or not routes.fullmatch(path):
            raise RefusedError(404, "Not found")
        if path == LOGIN and (wait := self._passwords.take(_find_address(request))):
            raise RefusedError(429, f"too many wrong passwords; wait {wait} seconds", wait)

    def _is_visit(self, request: Request) -> bool:
        """Return whether somebody follows a link to the page, or sees it in a frame of a site that may embed it."""
        headers = request.headers
        shown = {"document", "iframe"} if self._rules.embedders else {"document"}
        return (
            request.method == "GET"
            and request.scope["path"] == PAGE
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") in shown
        )

    def _is_known(self, request: Request) -> bool:
        """Return whether no password is needed, or the visitor has given it."""
        if self._app.auth is None:
            return True
        names = (f"access-token-{self._app.cookie_id}", f"access-token-unsecure-{self._app.cookie_id}")
        try:
            return any(request.cookies.get(name) in self._app.tokens for name in names)
        except CookieError:
            return False

    def _check_length(self, request: Request) -> int:
        """Refuse what is too large, before it is received. Return the bytes that will arrive on the disk."""
        if "transfer-encoding" in request.headers:
            raise RefusedError(411, "say the length of what you send")
        length = int(request.headers.get("content-length", "0"))  # h11 has checked that it is a number
        if request.scope["path"] != UPLOAD:
            if length > MAX_BODY:
                raise RefusedError(413, f"more than {MAX_BODY >> 20} MB")
            return 0
        limits = self._rules.limits
        if length > limits.unpacked_mb * 1e6:
            raise RefusedError(413, f"more than {limits.unpacked_mb:g} MB are too much at once")
        if shutil.disk_usage(self._rules.folder).free - self._arriving - length < limits.free_mb * 1e6:
            raise RefusedError(507, "the disk of this server is nearly full; try again later", HOUR_S)
        if wait := self._uploads.take(_find_address(request), length):
            raise RefusedError(429, f"more than {limits.hourly_upload_mb:g} MB in an hour; wait {wait} seconds", wait)
        return length

    def _look_back(self, request: Request, answer: "Answer") -> None:
        """Take note of a right password, and of clients that have gone."""
        if request.scope["path"] == LOGIN and answer.status == 200:
            self._passwords.give_back(_find_address(request))
        if (stream := STREAMS.fullmatch(request.scope["path"])) and not answer.is_complete:
            self._on_gone(stream[1] or request.query_params.get("session_hash", ""))


class Answer:
    """An answer on its way out. It gets the headers that keep other web sites and foreign scripts away.

    Args:
        send: sends it.
        embedders: as in `Rules`.
        is_page: whether it is the page. No other HTML, of visitors for example, may run its scripts.

    Attributes:
        status: of the answer; 0 before it begins.
        is_complete: whether all of it was sent.
    """

    def __init__(self, send: Send, embedders: tuple[str, ...], is_page: bool) -> None:
        self._send, self._frames, self._is_page = send, " ".join(embedders) or "'none'", is_page
        self._begun: Message | None = None  # the beginning of a page, which is sent when its scripts are known
        self._body = b""
        self.status, self.is_complete = 0, False

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._dress(MutableHeaders(scope=message)):
                self._begun = message
                return
        elif self._begun is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            MutableHeaders(scope=self._begun)["Content-Security-Policy"] = write_page_policy(self._body, self._frames)
            await self._send(self._begun)
            message = {"type": "http.response.body", "body": self._body}
        self.is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    def _dress(self, headers: MutableHeaders) -> bool:
        """Set the headers. Return whether the answer is a page, whose policy depends on its scripts."""
        for name in [name for name in headers if name.startswith("access-control-")]:
            del headers[name]
        cookies = [_restrict_cookie(cookie) for cookie in headers.getlist("set-cookie")]
        del headers["set-cookie"]
        for cookie in cookies:
            headers.append("set-cookie", cookie)
        headers.update(HEADERS)
        headers["Content-Security-Policy"] = f"default-src 'none'; sandbox; frame-ancestors {self._frames}"
        return self._is_page and headers.get("content-type", "").startswith("text/html")


def check_json(body: bytes, folder: Path) -> bytes:
    """Return the body of a request if it is a JSON object that the page or a program would send.

    Gradio would remember long keys of sessions, print long values to the log, and download files from addresses.

    Args:
        body: of the request.
        folder: of visitors' files.
    Raises:
        RefusedError: it has a long text, a huge number, a strange key of a session, or a file that was not uploaded.
    """

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        found = json.loads(body, parse_constant=refuse)
        if not isinstance(found, dict):
            raise RefusedError(400, "not a JSON object")
        _check_value(found, f"{folder}{os.sep}")
    except (ValueError, RecursionError):
        raise RefusedError(400, "not a JSON object of finite numbers") from None
    key = found.get("session_hash")
    if key is not None and not (isinstance(key, str) and SESSION.fullmatch(key)):
        raise RefusedError(400, "session_hash is up to 64 letters, digits and hyphens")
    return body


def _check_value(value: Any, folder: str) -> None:
    """Check a value of a JSON object, and all values in it."""
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise RefusedError(400, f"a text has more than {LONGEST_TEXT:,} letters")
    if isinstance(value, float | int) and not abs(value) <= LARGEST_NUMBER:
        raise RefusedError(400, "a number is too large")
    if isinstance(value, dict):
        path = value.get("path")
        if path is not None and not (isinstance(path, str) and os.path.normpath(path).startswith(folder)):
            raise RefusedError(400, "a file was not uploaded here")
        for name, part in value.items():
            _check_value(name, folder)
            _check_value(part, folder)
    elif isinstance(value, list):
        for part in value:
            _check_value(part, folder)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that receives a body which was read before, and then what comes after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again


def write_page_policy(page: bytes, frames: str) -> str:
    """Return a content security policy under which a page runs its own scripts, and asks no other server for anything.

    Args:
        page: HTML. Its inline scripts are named by their hashes. Gradio's scripts make functions of strings.
        frames: who may show the page in a frame.
    """
    hashes = " ".join(f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in INLINE.findall(page))
    return (
        f"default-src 'none'; script-src 'self' 'unsafe-eval' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; "
        "font-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'self'; "
        f"frame-ancestors {frames}"
    )


def _restrict_cookie(cookie: str) -> str:
    """Return a Set-Cookie header whose cookie is not sent with requests of other web sites."""
    parts = [part for part in cookie.split(";") if not part.strip().lower().startswith("samesite=")]
    return ";".join([*parts, " SameSite=Lax"])


def _find_address(request: Request) -> str:
    return request.client.host if request.client else ""
