"""Rules of the gate that need gigabytes, hours or the frame of another site. An application takes Gradio's place."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from trinas_app.web.gate import Gate, Rules
from trinas_app.web.hosts import Hosts
from trinas_app.web.limits import Limits

from support.processes import run_async

HUB = "https://huggingface.co"
FRAME = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
UPLOAD = "/gradio_api/upload"


class Application(SimpleNamespace):
    """Takes the place of Gradio. All answers are HTML; it counts the requests that it sees."""

    def __init__(self) -> None:
        super().__init__(auth=None, startup_events_triggered=True, seen=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen += 1
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<script>a()</script>"})


class Visitor:
    """Sends requests through a gate."""

    def __init__(self, folder: Path, hosts: Hosts | None = None, embedders: tuple[str, ...] = (), **limits: float):
        self.application = Application()
        rules = Rules(hosts or Hosts("127.0.0.1"), Limits(**{"free_mb": 0, **limits}), folder, embedders)
        self.gate = Gate(self.application, rules, lambda session: None)

    async def asking(self, method: str, path: str, address: str = "192.0.2.1", **options: object) -> httpx.Response:
        transport = httpx.ASGITransport(self.gate, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:7860") as client:
            return await client.request(method, path, **options)

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        return run_async(self.asking(method, path, **options))


def test_an_address_can_upload_so_much_an_hour(tmp_path):
    visitor = Visitor(tmp_path, hourly_upload_mb=1)
    statuses = [visitor.ask("POST", UPLOAD, content=bytes(400_000)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = visitor.ask("POST", UPLOAD, content=bytes(400_000))
    assert 0 < int(refused.headers["Retry-After"]) <= 720, "the time in which a fifth of an hour's amount grows back"
    assert refused.text == f"more than 1 MB in an hour; wait {refused.headers['Retry-After']} seconds\n"
    assert visitor.application.seen == 2
    assert visitor.ask("POST", UPLOAD, content=bytes(400_000), address="192.0.2.2").status_code == 200
    assert visitor.ask("POST", UPLOAD, content=bytes(100_000)).status_code == 200, "a smaller one still fits"


def test_no_upload_begins_on_a_disk_that_is_nearly_full(tmp_path):
    refused = Visitor(tmp_path, free_mb=1e12).ask("POST", UPLOAD, content=b"x")
    assert refused.status_code == 507
    assert "nearly full" in refused.text


def test_uploads_that_are_arriving_have_their_space(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000_000))
    visitor = Visitor(tmp_path)

    async def upload_two_at_once() -> list[int]:
        arrived = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield bytes(300_000)
            await arrived.wait()
            yield bytes(300_000)

        headers = {"Content-Length": "600000"}
        first = asyncio.create_task(visitor.asking("POST", UPLOAD, content=slow(), headers=headers))
        while not visitor.application.seen:
            await asyncio.sleep(0)
        second = await visitor.asking("POST", UPLOAD, content=bytes(600_000))
        arrived.set()
        return [(await first).status_code, second.status_code]

    assert run_async(upload_two_at_once()) == [200, 507]
    assert visitor.ask("POST", UPLOAD, content=bytes(600_000)).status_code == 200, "the space is free again"


def test_only_sites_that_may_embed_the_page_can_show_it_in_a_frame(tmp_path):
    visitor = Visitor(tmp_path, embedders=(HUB,))
    framed = visitor.ask("GET", "/", headers=FRAME)
    assert framed.status_code == 200
    assert framed.headers["Content-Security-Policy"].endswith(f"frame-ancestors {HUB}")
    assert visitor.ask("GET", "/config", headers=FRAME).status_code == 403, "only the page itself"
    assert visitor.ask("GET", "/", headers=FRAME | {"Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert visitor.ask("POST", "/gradio_api/run/predict", headers={"Origin": HUB}, content=b"{}").status_code == 403
    assert Visitor(tmp_path).ask("GET", "/", headers=FRAME).status_code == 403


def test_html_of_visitors_runs_no_scripts(tmp_path):
    visitor = Visitor(tmp_path)
    assert "'sha256-" in visitor.ask("GET", "/").headers["Content-Security-Policy"]
    policy = visitor.ask("GET", f"/gradio_api/file={tmp_path}/evil.html").headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; sandbox; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("hosts", "headers"),
    [
        (Hosts("127.0.0.1"), {}),
        (Hosts("127.0.0.1"), {"Origin": "http://localhost:7860"}),  # without Referer and Sec-Fetch
        (Hosts("127.0.0.1"), {"Host": "[::1]:7860", "Origin": "http://[::1]:7860", "Sec-Fetch-Site": "same-origin"}),
        (Hosts("0.0.0.0"), {"Host": "localhost:8080", "Origin": "http://localhost:8080"}),  # docker -p 8080:7860
        (Hosts("0.0.0.0"), {"Host": "192.168.1.5:7860", "Origin": "http://192.168.1.5:7860"}),  # a phone
        (Hosts("127.0.0.1", ("photos.example",)), {
            "Host": "photos.example", "Origin": "https://photos.example", "X-Forwarded-For": "192.0.2.9",
            "X-Forwarded-Host": "photos.example", "X-Forwarded-Proto": "https",
        }),  # Caddy, or nginx that passes Host
        (Hosts("127.0.0.1", ("photos.example",)), {"Host": "127.0.0.1:7860", "Origin": "https://photos.example"}),
        (Hosts("0.0.0.0", ("nas.local:8443",)), {"Host": "nas.local", "Origin": "https://nas.local:8443"}),
        (Hosts("0.0.0.0", ("ann-x.hf.space",)), {"Host": "ann-x.hf.space", "Origin": "https://ann-x.hf.space"}),
    ],
)  # fmt: skip
def test_those_for_whom_the_page_is_are_let_in(tmp_path, hosts, headers):
    visitor = Visitor(tmp_path, hosts)
    assert visitor.ask("GET", "/", headers=headers).status_code == 200
    assert visitor.ask("POST", "/gradio_api/queue/join", headers=headers, content=b'{"data": []}').status_code == 200
    assert visitor.ask("POST", UPLOAD, headers=headers, content=b"x").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "pc.local:7860"}, 403),
        ({"Host": "192.168.1.5:7860"}, 403),
        ({"Origin": "https://photos.example"}, 403),  # nginx as it is, which replaces Host
        ({"X-Forwarded-For": "192.0.2.9"}, 403),
    ],
)
def test_who_is_refused_by_mistake_is_told_what_to_do(tmp_path, headers, status):
    refused = Visitor(tmp_path).ask("POST", "/gradio_api/queue/join", headers=headers, content=b"{}")
    assert refused.status_code == status
    assert "--allow-host" in refused.text
    assert refused.text.count("\n") == 1
