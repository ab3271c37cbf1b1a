"""Other web sites in a real browser: what they can do to the page on the visitor's own machine, which is nothing."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from support.web_server import PATIENCE_MS, STRANGER, Server, upload

pytestmark = pytest.mark.slow

TRIES = """async url => {
    const said = {};
    const ask = async (name, path, options) => {
        try {
            const answer = await fetch(url + path, options);
            said[name] = answer.type == "opaque" ? "opaque" : "read: " + (await answer.text()).slice(0, 50);
        } catch (error) { said[name] = "failed"; }
    };
    const form = new FormData();
    form.append("files", new Blob(["stolen"]), "stolen.png");
    const job = JSON.stringify({data: [2], fn_index: 0, session_hash: "stranger"});
    const plain = {"Content-Type": "text/plain"}, typed = {"Content-Type": "application/json"};
    await ask("config", "/config", {});
    await ask("config with cookies", "/config", {credentials: "include"});
    await ask("config unread", "/config", {mode: "no-cors", credentials: "include"});
    await ask("upload", "/gradio_api/upload", {method: "POST", body: form});
    const unread = {method: "POST", mode: "no-cors", credentials: "include"};
    await ask("upload unread", "/gradio_api/upload", {body: form, ...unread});
    await ask("job", "/gradio_api/queue/join", {method: "POST", body: job, headers: typed});
    await ask("job unread", "/gradio_api/queue/join", {body: job, headers: plain, ...unread});
    await ask("call", "/gradio_api/run/predict", {method: "POST", body: job, headers: plain, credentials: "include"});
    await ask("delete", "/gradio_api/upload", {method: "DELETE"});
    await ask("stream", "/gradio_api/heartbeat/stranger", {signal: AbortSignal.timeout(2000)});
    said.events = await new Promise(done => {
        const events = new EventSource(url + "/gradio_api/heartbeat/stranger", {withCredentials: true});
        events.onmessage = () => done("read"); events.onerror = () => { events.close(); done("failed"); };
    });
    said.socket = await new Promise(done => {
        const socket = new WebSocket(url.replace("http", "ws") + "/gradio_api/queue/data");
        socket.onopen = () => done("read"); socket.onerror = () => done("failed");
    });
    for (const [tag, path] of [["script", "/theme.css"], ["img", "/static/img/logo_nosize.svg"]])
        said[tag] = await new Promise(done => {
            const part = document.createElement(tag);
            part.onload = () => done("read"); part.onerror = () => done("failed");
            part.src = url + path; document.body.append(part);
        });
    return said;
}"""

FRAME = """url => new Promise(done => {
    const frame = document.createElement("iframe");
    frame.src = url; frame.onload = () => done(); document.body.append(frame);
})"""

FORM = """url => {
    const form = document.createElement("form");
    Object.assign(form, {method: "POST", action: url + "/gradio_api/upload", enctype: "multipart/form-data"});
    form.innerHTML = "<input name=files value=x>";
    document.body.append(form); form.submit();
}"""


class Site(BaseHTTPRequestHandler):
    """A web site with one empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """The port of another web site on this machine."""
    with ThreadingHTTPServer(("0.0.0.0", 0), Site) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def watch(page: Page, url: str) -> list[tuple[str, int]]:
    """Return a list that will have all answers of a server to a page."""
    answers: list[tuple[str, int]] = []
    page.on("response", lambda got: answers.append((got.url, got.status)) if got.url.startswith(url) else None)
    return answers


@pytest.mark.parametrize(
    ("name", "stranger"), [("127.0.0.1", "localhost"), ("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")]
)
def test_another_site_can_neither_read_nor_trigger_anything(browser: Browser, server: Server, site, name, stranger):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    url = f"http://{name}:{port_of(server)}"
    answers = watch(page, url)
    page.goto(f"http://{stranger}:{site}/")
    said = page.evaluate(TRIES, url)
    assert set(said.values()) <= {"failed", "opaque"}, said
    page.evaluate(FRAME, url)
    assert "gradio" not in page.frames[1].content()
    with page.expect_navigation():
        page.evaluate(FORM, url)
    assert "another web site may not use this page" in page.content()
    assert {status for _, status in answers} == {403}
    assert not server.find_files("stolen.png")
    page.close()


def test_the_page_itself_can(browser: Browser, server: Server):
    """The same tries succeed where they may, so the tries are good ones."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server.url)
    said = page.evaluate(TRIES, server.url)
    succeeded = {name for name, what in said.items() if what.startswith("read")}
    assert succeeded >= {"config", "config with cookies", "upload", "job", "call", "events", "img"}
    assert said["socket"] == "failed"
    (stolen,) = server.find_files("stolen.png")
    stolen.unlink()
    page.close()


def test_a_name_that_leads_here_is_not_the_pages(browser: Browser, server: Server):
    """DNS rebinding: the stranger's own name has the address of this machine."""
    page = browser.new_page()
    url = f"http://{STRANGER}:{port_of(server)}"
    answers = watch(page, url)
    page.goto(url)
    assert "is not a name of this server" in page.content()
    script = "url => fetch(url, {method: 'POST', body: '{}'}).then(answer => answer.status, () => 403)"
    for path in ("/config", "/gradio_api/upload", "/gradio_api/queue/join"):
        assert page.evaluate(script, url + path) == 403
    assert {status for _, status in answers} == {403}
    page.close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_works_by_both_names_without_a_word_in_the_console(browser: Browser, server: Server, cat: Path, name):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(f"http://{name}:{port_of(server)}")
    upload(page, "#image-file", cat)
    page.locator("#start:enabled").click()
    page.locator("#said", has_text="done in").wait_for()
    assert errors == []
    page.close()


def test_a_link_on_another_site_leads_to_the_page(browser: Browser, server: Server, site):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"http://localhost:{site}/")
    page.evaluate("url => { location.href = url; }", server.url)
    page.locator("#about").wait_for()
    page.close()


def test_a_script_that_gets_into_the_page_does_not_run(browser: Browser, server: Server):
    page = browser.new_page()
    page.goto(server.url)
    for script in ("<img src=x onerror='window.hacked = 1'>", "<svg onload='window.hacked = 1'>"):
        page.evaluate("script => document.body.insertAdjacentHTML('beforeend', script)", script)
    page.evaluate("""() => {
        const part = document.createElement("script");
        part.textContent = "window.hacked = 1"; document.body.append(part);
    }""")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    page.close()
