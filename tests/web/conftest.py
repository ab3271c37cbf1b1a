"""The page's servers, a browser and small images, shared by all tests of the page."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as PillowImage
from playwright.sync_api import Browser, Page, expect, sync_playwright
from trinas_app.web.backend import Backend
from trinas_app.web.limits import Limits

from support.hub_server import HubServer
from support.images import generated_photograph
from support.web_server import PATIENCE_MS, STRANGER, Server

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {STRANGER} 127.0.0.1"]

LOWERED = "import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = 10_000; from trinas_app.cli import main; main()"
"""Pillow's own limit refuses to read back results above 179 megapixels; a lower one shows that it does not hold."""


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """What the tabs share, with low limits."""
    (tmp_path / "visitors").mkdir()
    made = Backend.create(tmp_path / "visitors", Limits(input_px=100_000, output_px=400_000), "cpu")
    yield made
    made.decoders.close()


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """An image of 60x48 pixels."""
    path = tmp_path / "cat.png"
    PillowImage.fromarray(generated_photograph(48, 60)).save(path)
    return path


@pytest.fixture
def rgba_image(tmp_path: Path) -> Path:
    """An image with transparency, a resolution and a strange name, none of which may be lost."""
    path = tmp_path / "a cat & <b>dog.png"
    image = PillowImage.fromarray(generated_photograph(60, 80)).convert("RGBA")
    image.putpixel((3, 3), (1, 2, 3, 0))
    image.save(path, dpi=(300, 300))
    return path


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Four images to learn from."""
    paths = [tmp_path / f"photo {number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        PillowImage.fromarray(generated_photograph(120, 120, seed=number)).save(path)
    return paths


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """A Hub on this machine."""
    with HubServer() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Server]:
    """The page for users of this machine. It may not fail, and leaves nothing on the disk."""
    running = Server(tmp_path_factory.mktemp("server"), hub=hub.url, python=("-c", LOWERED))
    yield running
    running.close()
    assert "Traceback" not in running.said()
    assert not list(running.folder.glob("trinas-web-*")), "visitors' files are gone with the server"


@pytest.fixture(scope="session")
def guarded_server(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Server]:
    """The page for others, with a password, low limits and no searches, on a machine with a proxy."""
    options = ("--host", "0.0.0.0", "--auth", "ann:secret", "--max-search-minutes", "0", "--max-upload-mb", "0.5")
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody is there: it is for other addresses
        running = Server(tmp_path_factory.mktemp("guarded"), *options, hub=hub.url)
    yield running
    running.close()
    assert "Traceback" not in running.said()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; tests that need it are skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: the page is not tested in a browser")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page, freshly opened. It may not report errors, and asks no other server for anything."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    strangers: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: strangers.append(request.url) if is_stranger(request.url, server) else None)
    opened.goto(server.url)
    expect(opened.get_by_role("tab", name="Upscale")).to_be_visible()
    yield opened
    opened.close()
    assert errors == []
    assert strangers == [], "works without internet"


def is_stranger(url: str, server: Server) -> bool:
    return url.startswith("http") and not url.startswith(server.url)
