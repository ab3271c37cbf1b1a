"""The real server, used by a real browser and by a real client."""

import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from PIL import Image as PillowImage
from playwright.sync_api import Browser, Page, expect
from trinas_app.cli import cli
from trinas_app.web.tab_compare import MOST_MODELS
from typer.testing import CliRunner

from support.images import generated_photograph
from support.processes import PATIENCE_S
from support.web_server import PATIENCE_MS, Server, download, fill, open_tab, upload
from trinas.zoo.bundled import PRESET_MODELS, list_models_of_scale

pytestmark = pytest.mark.slow

CARD = "document.querySelector('#trade-off .chart')"
TABS = ("Upscale", "Batch", "Compare", "Models", "Search")


def command_line_result(path: Path, folder: Path, *options: str) -> bytes:
    """Return what `trinas-upscale` writes for the same wishes."""
    arguments = [str(path), "-o", str(folder), "--device", "cpu", *options]
    ended = CliRunner().invoke(cli, arguments)
    assert ended.exit_code == 0, ended.output
    (result,) = folder.iterdir()
    return result.read_bytes()


def test_an_image_becomes_the_file_that_the_command_line_writes(page, rgba_image, tmp_path):
    upload(page, "#image-file", rgba_image)
    expect(page.locator("#plan")).to_contain_text("320 × 240 pixels")
    expect(page.locator("#plan")).to_contain_text(PRESET_MODELS["best"][4])
    page.get_by_label("Fast", exact=True).first.check()
    expect(page.locator("#plan")).to_contain_text(PRESET_MODELS["fast"][4])
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")
    expect(page.locator("#slider")).to_be_visible()
    file = download(page, "#download", tmp_path)
    assert file.read_bytes() == command_line_result(rgba_image, tmp_path / "cli", "-s", "4", "--preset", "fast")
    assert page.locator("b", has_text="dog").count() == 0, "a file's name is text"


def test_other_sizes_and_formats_are_the_command_lines_too(page, tmp_path):
    boat = tmp_path / "boat.jpg"
    PillowImage.fromarray(generated_photograph(50, 70)).save(boat, quality=90)
    upload(page, "#image-file", boat)
    page.get_by_label("Longer side…").first.check()
    fill(page, "Longer side in pixels", "200")
    expect(page.locator("#plan")).to_contain_text("200 × 143 pixels")
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("boat_long200.jpg")
    file = download(page, "#download", tmp_path)
    assert file.read_bytes() == command_line_result(boat, tmp_path / "cli", "--long-side", "200")


def test_a_compressed_jpeg_gets_another_model_and_the_page_says_why(page, tmp_path):
    boat = tmp_path / "boat.jpg"
    PillowImage.fromarray(generated_photograph(50, 70)).save(boat, quality=62)
    upload(page, "#image-file", boat)
    plan = page.locator("#plan")
    expect(plan).to_contain_text("JPEG of quality 62: trinas-s-photo-x4, which smooths compression away")
    page.get_by_label("Other…").first.check()
    fill(page, "Times, 1 to 16", "8")
    expect(plan).to_contain_text("trinas-s-photo-x2, which smooths compression away, then trinas-m-x4")
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("boat_x8.jpg")
    file = download(page, "#download", tmp_path)
    assert file.read_bytes() == command_line_result(boat, tmp_path / "cli", "-s", "8")


def test_a_file_that_is_no_image_is_refused(page, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image at all")
    upload(page, "#image-file", bad)
    expect(page.locator("#plan .bad")).to_contain_text("bad.png")
    expect(page.locator("#start")).to_be_disabled()
    assert str(tmp_path) not in page.locator("#plan").inner_text()


def test_stop_ends_a_run_within_a_tile_and_the_next_one_works(page, rgba_image, tmp_path, server):
    large = tmp_path / "large.png"
    PillowImage.fromarray(generated_photograph(1800, 1800)).save(large)
    upload(page, "#image-file", large)
    expect(page.locator("#start")).to_be_enabled()
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("left")  # the first tile is done
    page.locator("#stop").click()
    expect(page.locator("#said .note")).to_contain_text("Stopped.")
    expect(page.locator("#download")).not_to_be_visible()
    assert not server.find_files("large_x4.png")
    upload_another(page, rgba_image)
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")


def upload_another(page: Page, path: Path) -> None:
    """Replace the image that is there by one of 80x60 pixels."""
    page.locator("#image-file").get_by_label("Clear").first.click()
    expect(page.locator("#start")).to_be_disabled()
    upload(page, "#image-file", path)
    expect(page.locator("#plan")).to_contain_text("80 × 60 pixels")
    expect(page.locator("#start")).to_be_enabled()


def test_a_batch_goes_on_past_a_bad_file_and_keeps_folders(page, rgba_image, tmp_path):
    archive = tmp_path / "holiday.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in {
            "sea/one.png": rgba_image.read_bytes(),
            "sea/broken.png": b"x",
            "two.png": rgba_image.read_bytes(),
        }.items():
            file.writestr(name, content)
    open_tab(page, "Batch")
    upload(page, "#image-files", archive, rgba_image)
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
        assert results.read("two_x4.png") == command_line_result(rgba_image, tmp_path / "cli")
        assert len(results.namelist()) == 3


def test_models_are_compared_with_bicubic_on_one_place_and_measured(page, tmp_path):
    original, reduced = tmp_path / "original.png", tmp_path / "small.png"
    pixels = PillowImage.fromarray(generated_photograph(400, 480))
    pixels.save(original)
    pixels.resize((120, 100), PillowImage.Resampling.BICUBIC).save(reduced)
    open_tab(page, "Compare")
    upload(page, "#compared", reduced)
    figures = page.locator("#sheet figure")
    expect(figures).to_have_count(1 + min(MOST_MODELS, len(list_models_of_scale(4))))
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
    bad.write_bytes(b"no image at all")
    page.locator("#compared").get_by_label("Clear").first.click()
    expect(figures).to_have_count(0)
    upload(page, "#compared", bad)
    expect(said).to_have_text(re.compile("^bad.png: not a PNG"))  # and no word of where it lies


def test_models_are_listed_and_a_folder_can_be_loaded(page, tiny_model_dir):
    open_tab(page, "Models")
    expect(page.locator("#models")).to_contain_text("trinas-xs-x4")
    where = page.locator("#model-place textarea, #model-place input").first
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


def test_a_page_for_others_takes_no_folders_and_does_not_tell_of_them(
    browser, guarded_server, tmp_path, tiny_model_dir
):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.request.post(f"{guarded_server.url}/login", form={"username": "ann", "password": "secret"})
    page.goto(guarded_server.url)
    expect(page.locator("#about")).to_contain_text("sent to this server")
    open_tab(page, "Models")
    # Where the server runs; "here" may be a user of the Hub too.
    shutil.copytree(tiny_model_dir, guarded_server.folder / "here/tiny")
    no_id, unknown = "not user/name of the Hub", "nor such a model on the Hub"
    answers = {tiny_model_dir: no_id, tmp_path / "missing": no_id, "here/tiny": unknown, "here/missing": unknown}
    for wish, answer in answers.items():
        page.locator("#model-place textarea, #model-place input").first.fill(str(wish))
        page.locator("#load").click()
        expect(page.locator("#said-models .bad")).to_contain_text(str(wish))
        expect(page.locator("#said-models .bad")).to_contain_text(answer)
    page.close()


def test_what_cannot_be_searched_is_said_before_it_starts(page, tmp_path, rgba_image):
    open_tab(page, "Search")
    expect(page.locator("#params")).to_contain_text("possible: 3.")
    wrong = page.locator("#wrong-search .bad")
    for budget, complaint in (("2", "no network has at most 2,000 parameters"), ("0", "give at least one budget")):
        fill(page, "Parameters, in thousands", budget)
        page.locator("#start-search").click()
        expect(wrong).to_contain_text(complaint)
    fill(page, "Parameters, in thousands", "6")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image at all")
    other = tmp_path / "other.png"
    shutil.copy(rgba_image, other)
    upload(page, "#photographs", rgba_image, other, bad)
    expect(page.locator("#photographs").get_by_text(".png")).to_have_count(3)
    page.locator("#start-search").click()
    expect(wrong).to_contain_text("bad.png: not a PNG")
    expect(page.locator("#stop-search")).not_to_be_visible()


def test_a_search_survives_a_reload_and_its_network_is_used_and_shared(page, tmp_path, hub, photographs):
    open_tab(page, "Search")
    expect(page.locator("#params")).to_contain_text("possible")
    page.get_by_label("2×").last.check()
    page.get_by_label("Parameters, in thousands").fill("6")
    page.locator("#minutes input").fill("0.2")
    page.locator("#minutes input").press("Tab")
    upload(page, "#photographs", *photographs)
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
    page.locator("#model-place textarea, #model-place input").first.fill("ann/found")
    page.locator("#load").click()
    expect(page.locator("#models")).to_contain_text("ann/found")
    open_tab(page, "Search")
    page.locator("#use").click()
    expect(page.locator("#start")).to_be_visible()
    upload(page, "#image-file", photographs[0])
    expect(page.locator("#plan")).to_contain_text("x2-6000-params")
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")


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


def test_a_visitors_files_are_gone_when_the_page_is_left(browser: Browser, server: Server, tmp_path):
    path = tmp_path / "leaving.png"
    PillowImage.fromarray(generated_photograph(40, 40)).save(path)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server.url)
    upload(page, "#image-file", path)
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")
    assert server.find_files("leaving_x4.png")
    page.close()
    end = time.monotonic() + PATIENCE_S
    while server.find_files("leaving_x4.png"):
        assert time.monotonic() < end
        time.sleep(0.2)


def test_programs_get_the_bytes_that_the_command_line_writes(server, rgba_image, tmp_path):
    client = Client(server.url, verbose=False, download_files=str(tmp_path))
    result = client.predict(handle_file(str(rgba_image)), 3, "", api_name="/upscale")
    assert Path(result).read_bytes() == command_line_result(rgba_image, tmp_path / "cli", "-s", "3")
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
def test_programs_are_told_what_is_wrong(server, rgba_image, scale, model, complaint):
    client = Client(server.url, verbose=False)
    with pytest.raises(Exception, match=complaint):
        client.predict(handle_file(str(rgba_image)), scale, model, api_name="/upscale")
    client.close()


@pytest.mark.parametrize("path", ["/monitoring", "/gradio_api/runs", "/gradio_api/file=/etc/passwd"])
def test_what_gradio_would_show_of_others_is_not_there(server, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(server.url + path)
    refused.value.close()
    assert refused.value.code in (401, 403, 404)


def test_a_name_and_password_can_be_asked_for_and_limits_set_behind_a_proxy(guarded_server, tmp_path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{guarded_server.url}/config")
    refused.value.close()
    assert refused.value.code == 401
    client = Client(guarded_server.url, verbose=False, auth=("ann", "secret"))
    assert client.predict(api_name="/models")
    tabs = [part["props"].get("label") for part in client.config["components"] if part["type"] == "tabitem"]
    assert tabs == ["Upscale", "Batch", "Compare", "Models"]
    large = tmp_path / "large.png"
    large.write_bytes(bytes(600_000))
    with pytest.raises(Exception, match="size"):
        client.predict(handle_file(str(large)), 4, "", api_name="/upscale")
    client.close()


def test_a_port_that_is_taken_is_reported(server, tmp_path):
    """As a process: Gradio leaves the sockets that it has tried open."""
    port = server.url.rpartition(":")[2]
    command = [sys.executable, "-m", "trinas_app", "web", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr
