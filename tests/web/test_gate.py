"""What the gate lets in: over all routes of Gradio, with and without a password, and with the headers of strangers."""

import json
import re
import socket
from collections.abc import Iterator

import gradio
import httpx
import pytest
from gradio.routes import App
from starlette.routing import Route
from trinas_app.web.gate import MAX_BODY, SHELL, WRONG_PASSWORDS, RefusedError, check_json, write_page_policy

from support.processes import run_async
from support.web_server import get, post

pytestmark = pytest.mark.slow

VALUES = {
    "path_or_url": "/etc/passwd", "url_path": "https://huggingface.co/x", "path": "x.js", "api_name": "upscale",
    "event_id": "0", "session_hash": "0", "size": "1",
}  # fmt: skip
"""Values of the parameters in paths. Others get a 1."""


def list_routes() -> list[tuple[str, str]]:
    """Return method and path of all routes of Gradio. Those that only exist with some settings are added."""
    app = run_async(make_application())
    found = {
        (method, re.sub(r"{(\w+)(:\w+)?}", lambda match: VALUES.get(match[1], "1"), route.path))
        for route in walk(app.routes)
        for method in route.methods or {"GET"}
    }
    more = {
        ("GET", "/gradio_api/mcp/sse"),
        ("POST", "/gradio_api/mcp/messages"),
        ("GET", "/gradio_api/profiling/traces"),
    }
    return sorted(found | more | {("OPTIONS", "/"), ("PUT", "/config"), ("DELETE", "/gradio_api/upload")})


async def make_application() -> App:
    """Return Gradio's application. It is made in an event loop, because it would start one, and leave it open."""
    return App.create_app(gradio.Blocks())


def walk(routes: list) -> Iterator[Route]:
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:
            yield from walk(getattr(route, "routes", []) or route.original_router.routes)


ROUTES = list_routes()
HELD = ("/heartbeat/", "/queue/data", "/upload_progress", "/call/upscale/0")
"""Streams, which do not end, or for whose sessions there is nothing to send."""


def ask(url: str, method: str, path: str, **options: object) -> tuple[int, httpx.Headers]:
    """Return status and headers of an answer; streams are not read."""
    with httpx.Client(base_url=url, timeout=60) as client, client.stream(method, path, **options) as answer:
        return answer.status_code, answer.headers


def test_there_are_routes():
    paths = {path for _, path in ROUTES}
    assert len(ROUTES) > 60, "these are all"
    assert {"/gradio_api/run/upscale", "/gradio_api/upload", "/gradio_api/proxy=https://huggingface.co/x"} <= paths


def test_without_the_password_only_the_empty_shell_is_there(guarded_server):
    answers = {route: ask(guarded_server.url, *route)[0] for route in ROUTES if route != ("POST", "/login")}
    shell = {(method, path) for method, path in answers if method in ("GET", "HEAD") and SHELL.fullmatch(path)}
    assert {status for route, status in answers.items() if route not in shell} == {401}
    text = get(guarded_server.url).text
    assert '"auth_required":true' in text
    assert '"components":[]' in text
    assert '"dependencies":[]' in text
    found = re.search(r"window\.gradio_api_info = (.*?);</script>", text)
    assert found is not None
    assert set(json.loads(found[1])["named_endpoints"]) == {"/upscale", "/models"}, "what the documents describe"


def test_a_wrong_cookie_is_no_password(guarded_server):
    login = post(f"{guarded_server.url}/login", data={"username": "ann", "password": "secret"})
    for name, token in login.cookies.items():
        assert ask(guarded_server.url, "GET", "/config", cookies={name: token})[0] == 200
        assert ask(guarded_server.url, "GET", "/config", cookies={name: f"{token}x"})[0] == 401
    assert ask(guarded_server.url, "GET", "/config", headers={"Cookie": "=;;\x01=\x7f"})[0] == 401


def test_the_cookie_stays_on_its_site(guarded_server):
    login = post(f"{guarded_server.url}/login", data={"username": "ann", "password": "secret"})
    cookies = login.headers.get_list("set-cookie")
    assert cookies
    for cookie in cookies:
        assert cookie.lower().count("samesite") == 1
        assert "SameSite=Lax" in cookie
        assert "httponly" in cookie.lower()


def test_passwords_cannot_be_guessed_quickly(guarded_server):
    """Each address has its own tries; here a server in front says whose they are."""

    def log_in(password: str, address: str) -> httpx.Response:
        data, headers = {"username": "ann", "password": password}, {"X-Forwarded-For": address}
        return post(f"{guarded_server.url}/login", data=data, headers=headers)

    statuses = [log_in("wrong", "192.0.2.1").status_code for _ in range(2 * WRONG_PASSWORDS)]
    assert statuses == [400] * WRONG_PASSWORDS + [429] * WRONG_PASSWORDS
    refused = log_in("secret", "192.0.2.1")
    assert refused.status_code == 429, "not even the right one is looked at"
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert log_in("secret", "192.0.2.2").status_code == 200
    for _ in range(3):
        assert [log_in("wrong", "192.0.2.3").status_code for _ in range(WRONG_PASSWORDS - 1)] == [400] * 9
        assert log_in("secret", "192.0.2.3").status_code == 200, "the right one lets the others be forgotten"


def test_only_routes_of_the_page_are_there(server):
    known = {"/", "/login", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/static/x.js",
             "/assets/x.js"}  # fmt: skip
    api = {"info", "app_id", "login_check", "user", "upload", "upload_progress", "cancel", "reset", "queue/join",
           "queue/data", "queue/status", "heartbeat/0", "call/upscale", "call/upscale/0",
           "file=/etc/passwd"}  # fmt: skip
    known |= {f"/gradio_api/{name}" for name in api}
    statuses = {(method, path): ask(server.url, method, path)[0] for method, path in ROUTES if path not in known}
    assert {route: status for route, status in statuses.items() if status != 404} == {}


@pytest.mark.parametrize(
    "route", ["run/upscale", "run/upscale/", "api/upscale", "run/models", "api/predict", "run/_run"]
)
def test_nothing_goes_past_the_queue(server, route):
    body = {"data": [None, 4, "", "best"]}
    assert post(f"{server.url}/gradio_api/{route}", json=body).status_code == 404


def test_private_functions_do_not_answer_to_programs(server):
    for function in get(f"{server.url}/config").json()["dependencies"]:
        body = {"data": [None] * len(function["inputs"])}
        if function["queue"] is not False:
            direct = post(f"{server.url}/gradio_api/run/predict", json=body | {"fn_index": function["id"]})
            assert direct.status_code == 404, function["api_name"]
        if function["api_visibility"] == "private":
            called = post(f"{server.url}/gradio_api/call/{function['api_name']}", json=body)
            assert called.status_code == 404, function["api_name"]


@pytest.mark.parametrize("path", ["/etc/passwd", "https://huggingface.co/x", "http://127.0.0.1/", "HTTP://x.y/"])
def test_the_server_shows_no_files_of_its_own_and_fetches_none(server, path):
    assert ask(server.url, "GET", f"/gradio_api/file={path}")[0] in (403, 404)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_programs_of_this_machine_need_no_headers(server, host):
    port = httpx.URL(server.url).port
    for path in ("/", "/config", "/gradio_api/info"):
        assert ask(f"http://{host}:{port}", "GET", path)[0] == 200
    upload = {"files": ("a.png", b"x")}
    assert ask(f"http://{host}:{port}", "POST", "/gradio_api/upload", files=upload)[0] == 200


STRANGERS = [
    {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "192.168.1.5:7860"},
    {"Host": "[::1"},
    {"Host": "127.0.0.1/theme.css?"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"X-Forwarded-For": "192.0.2.1"},  # a server in front of a page that is for this machine alone
]


@pytest.mark.parametrize("headers", STRANGERS, ids=lambda headers: "-".join(headers.values()))
def test_a_stranger_reaches_no_route(server, headers):
    answers = {route: ask(server.url, *route, headers=headers) for route in ROUTES}
    assert {status for status, _ in answers.values()} == {403}
    sent = [name for _, headers in answers.values() for name in headers]
    assert not [name for name in sent if name.startswith("access-control")]


def test_a_link_leads_to_the_page_and_to_nothing_else(server):
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(server.url, "GET", "/", headers=visit)[0] == 200
    assert ask(server.url, "POST", "/", headers=visit)[0] == 403
    assert ask(server.url, "GET", "/gradio_api/startup-events", headers=visit)[0] == 403


def test_every_answer_has_the_headers_that_keep_strangers_away(server):
    for route in ROUTES:
        if not any(part in route[1] for part in HELD):
            headers = ask(server.url, *route, headers={"Origin": server.url})[1]
            assert headers["X-Content-Type-Options"] == "nosniff", route
            assert headers["Referrer-Policy"] == "same-origin", route
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], route
            assert not any(name.startswith("access-control") for name in headers), route


def test_a_page_asks_no_other_server_and_runs_only_its_own_scripts():
    page = b"<script>a()</script><script data-x>\nb()\n</script><script src='/x.js'></script>"
    policy = write_page_policy(page, "'none'")
    assert policy.count("'sha256-") == 2
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert not re.search(r"https?:|\*", policy)
    assert policy != write_page_policy(page.replace(b"a()", b"c()"), "'none'")


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({}, b"x" * (MAX_BODY + 1), 413),
        ({"Transfer-Encoding": "chunked"}, iter([b"{}"]), 411),
        ({}, b"not json", 400),
        ({}, b"[1]", 400),
        ({}, b'{"data": [NaN]}', 400),
        ({}, b'{"data": [1e999]}', 400),
        ({}, b'{"data": [' + b"9" * 5000 + b"]}", 400),
        ({}, b"[" * 100_000, 400),
        ({}, b'{"data": [], "session_hash": "' + b"a" * 65 + b'"}', 400),
        ({}, b'{"data": [], "session_hash": "../a"}', 400),
        ({}, b'{"data": [], "session_hash": 1}', 400),
    ],
)  # fmt: skip
def test_strange_bodies_are_refused(server, headers, content, status):
    headers = {"Content-Type": "application/json", **headers}
    answer = post(f"{server.url}/gradio_api/queue/join", headers=headers, content=content)
    assert answer.status_code == status


def test_an_ordinary_body_is_left_as_it_is(tmp_path):
    parts = {"data": [1.5, "é", {"path": f"{tmp_path}/a/b.png"}], "session_hash": "a1"}
    body = json.dumps(parts).encode()
    assert check_json(body, tmp_path) is body


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"data": [{"path": "/etc/passwd"}]}, "not uploaded"),
        ({"data": [[{"a": {"path": "https://huggingface.co/x.png"}}]]}, "not uploaded"),
        ({"data": [{"path": ["/"]}]}, "not uploaded"),
        ({"data": ["a" * 10_001]}, "letters"),
        ({"data": [{"a" * 10_001: 1}]}, "letters"),
        ({"data": [-1e300]}, "number"),
        ({"data": [10**300]}, "number"),
    ],
)
def test_what_the_page_would_not_send_is_refused(tmp_path, parts, complaint):
    with pytest.raises(RefusedError, match=complaint):
        check_json(json.dumps(parts).encode(), tmp_path)
    with pytest.raises(RefusedError, match="session_hash"):
        check_json(b'{"session\\u005fhash": "' + b"a" * 65 + b'"}', tmp_path)


def test_an_upload_of_many_files_is_refused_before_it_arrives(server):
    """A thousand files of 200 MB: only the header is sent."""
    name, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((name, int(port)), timeout=60) as connection:
        head = (
            "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        )
        connection.sendall(f"{head}Content-Length: {200 * 10**9}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
