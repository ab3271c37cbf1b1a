"""The real server, met by a real browser and by a real client."""

import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from PIL import Image as PillowImage
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from trinas_app.web.tab_compare import MOST_MODELS

from support.hub_server import HubServer
from support.images import generated_photograph
from support.web_server import Server
from trinas.zoo.bundled import models_of_scale

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: the page is not tested in a browser")

PATIENCE_MS = 60_000
CARD = "document.querySelector('#trade-off .chart')"
TABS = ("Upscale", "Batch", "Compare", "Models", "Search")


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), hub=hub.url)
    yield running
    running.close()
    assert "Traceback" not in running.said()
    assert not list(running.folder.glob("trinas-web-*")), "visitors' files are gone with the server"


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
    yield launched
    launched.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page, freshly opened; it may complain of nothing, and ask nobody else for anything."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    complaints: list[str] = []
    strangers: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: strangers.append(request.url) if is_stranger(request.url, server) else None)
    opened.goto(server.url)
    expect(opened.get_by_role("tab", name="Upscale")).to_be_visible()
    yield opened
    opened.close()
    assert complaints == []
    assert strangers == [], "works without internet"


def is_stranger(url: str, server: Server) -> bool:
    return url.startswith("http") and not url.startswith(server.url)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """With transparency, a resolution and a text, none of which may be lost."""
    path = tmp_path / "a cat & <b>dog.png"
    image = PillowImage.fromarray(generated_photograph(60, 80)).convert("RGBA")
    image.putpixel((3, 3), (1, 2, 3, 0))
    image.save(path, dpi=(300, 300))
    return path


def command_line_result(picture: Path, folder: Path, *options: str) -> bytes:
    """What `trinas-upscale` writes for the same wishes."""
    command = [sys.executable, "-m", "trinas_app", str(picture), "-o", str(folder), "--device", "cpu", *options]
    subprocess.run(command, check=True, capture_output=True)
    (result,) = folder.iterdir()
    return result.read_bytes()


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def upload(page: Page, box: str, *paths: Path) -> None:
    page.locator(f"{box} input[type=file]").first.set_input_files([str(path) for path in paths])


def download(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.locator(button).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


@needs_browser
def test_a_picture_is_enlarged_to_the_command_lines_very_file(page, picture, tmp_path):
    upload(page, "#picture", picture)
    expect(page.locator("#plan")).to_contain_text("320 × 240 pixels")
    expect(page.locator("#plan")).to_contain_text("trinas-xs-x4")
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")
    file = download(page, "#download", tmp_path)
    assert file.read_bytes() == command_line_result(picture, tmp_path / "cli", "-s", "4")
    assert page.locator("b", has_text="dog").count() == 0, "a file's name is text"


@needs_browser
def test_other_sizes_and_formats_are_the_command_lines_too(page, tmp_path):
    picture = tmp_path / "boat.jpg"
    PillowImage.fromarray(generated_photograph(50, 70)).save(picture, quality=90)
    upload(page, "#picture", picture)
    page.get_by_label("Longer side…").first.check()
    page.get_by_label("Longer side in pixels").first.fill("200")
    page.get_by_label("Longer side in pixels").first.press("Tab")
    expect(page.locator("#plan")).to_contain_text("200 × 143 pixels")
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("boat_long200.jpg")
    file = download(page, "#download", tmp_path)
    assert file.read_bytes() == command_line_result(picture, tmp_path / "cli", "--long-side", "200")


@needs_browser
def test_a_compressed_jpeg_gets_another_model_and_the_page_says_why(page, tmp_path):
    picture = tmp_path / "boat.jpg"
    PillowImage.fromarray(generated_photograph(50, 70)).save(picture, quality=62)
    upload(page, "#picture", picture)
    plan = page.locator("#plan")
    expect(plan).to_contain_text("JPEG of quality 62: trinas-s-photo-x4, which smooths compression away")
    page.get_by_label("Other…").first.check()
    page.get_by_label("Times, 1 to 16").first.fill("8")
    page.get_by_label("Times, 1 to 16").first.press("Tab")
    expect(plan).to_contain_text("trinas-s-photo-x2, which smooths compression away, then trinas-xs-x4")
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("boat_x8.jpg")
    file = download(page, "#download", tmp_path)
    assert file.read_bytes() == command_line_result(picture, tmp_path / "cli", "-s", "8")


@needs_browser
def test_what_is_no_picture_is_said_to_be_none(page, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture at all")
    upload(page, "#picture", bad)
    expect(page.locator("#plan .bad")).to_contain_text("bad.png")
    expect(page.locator("#start")).to_be_disabled()
    assert str(tmp_path) not in page.locator("#plan").inner_text()


@needs_browser
def test_stop_ends_a_run_within_a_tile_and_the_next_one_works(page, picture, tmp_path, server):
    large = tmp_path / "large.png"
    PillowImage.fromarray(generated_photograph(1800, 1800)).save(large)
    upload(page, "#picture", large)
    expect(page.locator("#start")).to_be_enabled()
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("left")  # the first tile is done
    page.locator("#stop").click()
    expect(page.locator("#said .note")).to_contain_text("Stopped.")
    expect(page.locator("#download")).not_to_be_visible()
    assert not [path for path in server.files() if path.name == "large_x4.png"]
    upload_again(page, picture)
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")


def upload_again(page: Page, picture: Path) -> None:
    """Another picture in place of the one that is there."""
    page.locator("#picture").get_by_label("Clear").first.click()
    expect(page.locator("#start")).to_be_disabled()
    upload(page, "#picture", picture)
    expect(page.locator("#plan")).to_contain_text("80 × 60 pixels")
    expect(page.locator("#start")).to_be_enabled()


@needs_browser
def test_a_batch_goes_on_past_a_bad_file_and_keeps_folders(page, picture, tmp_path):
    archive = tmp_path / "holiday.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in {
            "sea/one.png": picture.read_bytes(),
            "sea/broken.png": b"x",
            "two.png": picture.read_bytes(),
        }.items():
            file.writestr(name, content)
    open_tab(page, "Batch")
    upload(page, "#pictures", archive, picture)
    page.locator("#start-batch").click()
    expect(page.locator("#said-batch")).to_contain_text("3 done, 1 failed")
    expect(page.locator("#start-batch")).to_be_enabled()
    assert page.locator("b", has_text="dog").count() == 0, "a file's name is text"
    table = page.locator("#table-batch")
    for name, state in {"sea/one.png": "done", "sea/broken.png": "failed", "two.png": "done"}.items():
        row = table.get_by_role("row").filter(has_text=name).first
        expect(row).to_contain_text(state)
    with zipfile.ZipFile(download(page, "#download-batch", tmp_path)) as results:
        assert "sea/one_x4.png" in results.namelist()
        assert results.read("two_x4.png") == command_line_result(picture, tmp_path / "cli")
        assert len(results.namelist()) == 3


@needs_browser
def test_models_are_compared_with_bicubic_on_one_place_and_measured(page, tmp_path):
    original, picture = tmp_path / "original.png", tmp_path / "small.png"
    pixels = PillowImage.fromarray(generated_photograph(400, 480))
    pixels.save(original)
    pixels.resize((120, 100), PillowImage.Resampling.BICUBIC).save(picture)
    open_tab(page, "Compare")
    upload(page, "#compared", picture)
    figures = page.locator("#sheet figure")
    expect(figures).to_have_count(1 + min(MOST_MODELS, len(models_of_scale(4))))
    expect(figures.nth(0)).to_contain_text("bicubic")
    network = figures.filter(has_text="trinas-xs-x4")
    expect(network).to_contain_text("s per megapixel")
    first = network.locator("img").get_attribute("src")
    page.locator("#overview img").click(position={"x": 5, "y": 5})
    expect(network.locator("img")).not_to_have_attribute("src", first or "")
    page.get_by_text("Measure against an original").click()
    upload(page, "#original", original)
    page.locator("#measure").click()
    expect(figures.nth(0)).to_contain_text("PSNR")
    expect(network).to_contain_text("SSIM")
    upload_wrong = tmp_path / "wrong.png"
    pixels.resize((300, 300)).save(upload_wrong)
    page.locator("#original").get_by_label("Clear").first.click()
    upload(page, "#original", upload_wrong)
    page.locator("#measure").click()
    said = page.locator("#said-compare .bad")
    expect(said).to_contain_text("4 times as wide")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture at all")
    page.locator("#compared").get_by_label("Clear").first.click()
    expect(figures).to_have_count(0)
    upload(page, "#compared", bad)
    expect(said).to_have_text(re.compile("^bad.png: not a PNG"))  # and no word of where it lies


@needs_browser
def test_models_are_listed_and_a_folder_can_be_loaded(page, tiny_model_dir):
    open_tab(page, "Models")
    expect(page.locator("#models")).to_contain_text("trinas-xs-x4")
    where = page.locator("#where textarea, #where input").first
    where.fill(str(tiny_model_dir / "missing"))
    page.locator("#load").click()
    expect(page.locator("#said-models .bad")).to_contain_text("no such folder")
    where.fill(str(tiny_model_dir))
    page.locator("#load").click()
    expect(page.locator("#models")).to_contain_text("tiny-model")
    open_tab(page, "Upscale")
    page.get_by_label("Model", exact=True).first.click()
    expect(page.get_by_role("option", name="tiny-model")).to_be_visible()
    usual = page.get_by_role("option", name="trinas-xs-x4")
    expect(usual).to_have_text(
        re.compile(r"very small · \d+k parameters · \d+\.\d+ dB · .* s per megapixel · Apache-2\.0")
    )
    page.keyboard.press("Escape")


@needs_browser
def test_a_page_for_others_takes_no_folders_and_does_not_tell_of_them(browser, tmp_path, tiny_model_dir):
    server = Server(tmp_path / "server", "--host", "0.0.0.0")
    try:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.url)
        expect(page.locator("#about")).to_contain_text("sent to this server")
        open_tab(page, "Models")
        shutil.copytree(tiny_model_dir, server.folder / "here/tiny")  # where the server runs; "here" may be a user too
        answers = {tiny_model_dir: "not user/name of the Hub", tmp_path / "missing": "not user/name of the Hub"}
        for wish, answer in (answers | {"here/tiny": "cannot be reached", "here/missing": "cannot be reached"}).items():
            page.locator("#where textarea, #where input").first.fill(str(wish))
            page.locator("#load").click()
            expect(page.locator("#said-models .bad")).to_contain_text(str(wish))
            expect(page.locator("#said-models .bad")).to_contain_text(answer)
        page.close()
    finally:
        server.close()


@needs_browser
def test_what_cannot_be_searched_is_said_before_it_starts(page, tmp_path, picture):
    open_tab(page, "Search")
    expect(page.locator("#params")).to_contain_text("possible: 3.")
    wrong = page.locator("#wrong-search .bad")
    field = page.get_by_label("Parameters, in thousands")
    for budget, complaint in (("2", "no network has at most 2,000 parameters"), ("0", "give at least one budget")):
        field.fill(budget)
        field.press("Tab")
        page.locator("#start-search").click()
        expect(wrong).to_contain_text(complaint)
    field.fill("6")
    field.press("Tab")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture at all")
    other = tmp_path / "other.png"
    shutil.copy(picture, other)
    upload(page, "#photographs", picture, other, bad)
    expect(page.locator("#photographs").get_by_text(".png")).to_have_count(3)
    page.locator("#start-search").click()
    expect(wrong).to_contain_text("bad.png: not a PNG")
    expect(page.locator("#stop-search")).not_to_be_visible()


@pytest.mark.slow
@needs_browser
def test_a_search_survives_a_reload_and_its_network_is_used_and_shared(page, tmp_path, hub):
    photos = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(photos):
        PillowImage.fromarray(generated_photograph(120, 120, seed=number)).save(path)
    open_tab(page, "Search")
    expect(page.locator("#params")).to_contain_text("possible")
    page.get_by_label("2×").last.check()
    page.get_by_label("Parameters, in thousands").fill("6")
    page.locator("#minutes input").fill("0.34")
    page.locator("#minutes input").press("Tab")
    upload(page, "#photographs", *photos)
    expect(page.locator("#photographs").get_by_text(".png")).to_have_count(4)
    page.locator("#start-search").click()
    expect(page.locator("#said-search")).to_contain_text("x2-6000-params")
    expect(page.locator("#start-search")).to_be_disabled()
    expect(page.locator("#drawings svg").first).to_be_visible()
    page.reload()
    open_tab(page, "Search")
    expect(page.locator("#said-search")).to_contain_text("x2-6000-params")
    expect(page.locator("#said-search")).to_contain_text("Finished after")
    expect(page.locator("#drawings")).to_contain_text("The network")
    with zipfile.ZipFile(download(page, "#download-search", tmp_path)) as run:
        assert {"report.html", "model.safetensors", "config.json"} <= set(run.namelist())
    page.get_by_text("Share it").click()
    page.locator("#repo input, #repo textarea").first.fill("ann/found")
    page.locator("#token input").fill("wrong")
    page.locator("#push").click()
    expect(page.locator("#pushed .bad")).to_contain_text("cannot be uploaded")
    page.locator("#token input").fill("right")
    page.locator("#push").click()
    expect(page.locator("#pushed .good")).to_contain_text(f"{hub.url}/ann/found")
    assert set(hub.files["ann/found"]) == {"model.safetensors", "config.json", "README.md"}
    open_tab(page, "Models")
    page.locator("#where textarea, #where input").first.fill("ann/found")
    page.locator("#load").click()
    expect(page.locator("#models")).to_contain_text("ann/found")
    open_tab(page, "Search")
    page.locator("#use").click()
    expect(page.locator("#start")).to_be_visible()
    upload(page, "#picture", photos[0])
    expect(page.locator("#plan")).to_contain_text("x2-6000-params")
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_tab_fits_the_screen(browser, server, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server.url)
    expect(page.locator("#about")).to_be_visible()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3]))
    assert (brightness < 384) == (scheme == "dark")
    for name in TABS:
        open_tab(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    if width > 1000:
        card = page.evaluate(f"getComputedStyle({CARD}).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", card)[:3])) < 384) == (scheme == "dark"), "drawings follow"
    context.close()


def page_after_enlarging(browser: Browser, server: Server, picture: Path) -> Page:
    """A visitor's page that shows a result."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server.url)
    upload(page, "#picture", picture)
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")
    return page


@needs_browser
def test_a_visitors_files_are_gone_when_the_page_is_left(browser, server, tmp_path):
    picture = tmp_path / "leaving.png"
    PillowImage.fromarray(generated_photograph(40, 40)).save(picture)
    page = page_after_enlarging(browser, server, picture)
    assert [path for path in server.files() if path.name == "leaving_x4.png"]
    page.close()
    end = time.monotonic() + 30
    while [path for path in server.files() if path.name == "leaving_x4.png"]:
        assert time.monotonic() < end
        time.sleep(0.2)


def test_programs_get_the_command_lines_bytes(server, picture, tmp_path):
    client = Client(server.url, verbose=False, download_files=str(tmp_path))
    result = client.predict(handle_file(str(picture)), 3, "", api_name="/upscale")
    assert Path(result).read_bytes() == command_line_result(picture, tmp_path / "cli", "-s", "3")
    compressed = tmp_path / "boat.jpg"
    PillowImage.fromarray(generated_photograph(50, 70)).save(compressed, quality=62)
    chosen, usual = (
        client.predict(handle_file(str(compressed)), 4, name, api_name="/upscale") for name in ("", "trinas-xs-x4")
    )
    expected = command_line_result(compressed, tmp_path / "compressed", "--model", "trinas-s-photo-x4")
    assert Path(chosen).read_bytes() == expected != Path(usual).read_bytes()
    listed = client.predict(api_name="/models")
    assert {"trinas-xs-x2", "trinas-xs-x3", "trinas-xs-x4"} <= {model["name"] for model in listed}
    client.close()


def test_nothing_else_is_public(server):
    client = Client(server.url, verbose=False)
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/upscale", "/models"}
    assert client.view_api(return_format="dict")["unnamed_endpoints"] == {}
    client.close()


@pytest.mark.parametrize(
    ("scale", "model", "complaint"),
    [(99, "", "between 1 and 16"), (2, "/etc", "no such model"), (2, "../models", "no such model")],
)
def test_programs_are_told_what_is_wrong(server, picture, scale, model, complaint):
    client = Client(server.url, verbose=False)
    with pytest.raises(Exception, match=complaint):
        client.predict(handle_file(str(picture)), scale, model, api_name="/upscale")
    client.close()


@pytest.mark.parametrize("path", ["/monitoring", "/gradio_api/runs", "/gradio_api/file=/etc/passwd"])
def test_what_gradio_would_show_of_others_is_not_there(server, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(server.url + path)
    refused.value.close()
    assert refused.value.code in (401, 403, 404)


def test_a_name_and_password_can_be_asked_for_and_limits_set_behind_a_proxy(tmp_path, monkeypatch):
    with monkeypatch.context() as changed:
        changed.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody is there: it is for other addresses
        server = Server(
            tmp_path / "server", "--auth", "ann:secret", "--max-search-minutes", "0", "--max-upload-mb", "0.5"
        )  # fmt: skip
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}/config")
        refused.value.close()
        assert refused.value.code == 401
        client = Client(server.url, verbose=False, auth=("ann", "secret"))
        assert client.predict(api_name="/models")
        tabs = [part["props"].get("label") for part in client.config["components"] if part["type"] == "tabitem"]
        assert "Search" not in tabs
        large = tmp_path / "large.png"
        large.write_bytes(bytes(600_000))
        with pytest.raises(Exception, match="size"):
            client.predict(handle_file(str(large)), 4, "", api_name="/upscale")
        client.close()
    finally:
        server.close()


@needs_browser
def test_only_the_servers_own_limits_hold(browser, picture, tmp_path):
    """Pillow's would refuse to read results of more than 179 megapixels back; here it is lowered to show that."""
    lowered = "import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = 10_000; from trinas_app.cli import main; main()"
    server = Server(tmp_path / "server", python=("-c", lowered))
    try:
        page = page_after_enlarging(browser, server, picture)
        expect(page.locator("#slider")).to_be_visible()
        expect(page.locator("#download")).to_be_visible()
        page.close()
    finally:
        server.close()


def test_a_port_that_is_taken_is_said_to_be(server, tmp_path):
    port = server.url.rpartition(":")[2]
    command = [sys.executable, "-m", "trinas_app", "web", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr
