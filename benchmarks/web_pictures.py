"""Screenshots of the page for docs/: each tab, light and dark, and one as on a phone.

    python benchmarks/web_pictures.py docs/

Needs Chromium. The script starts the server on a free port and uses public-domain photographs of scikit-image. The
search of the last tab takes two minutes.
"""

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image as PillowImage
from playwright.sync_api import Browser, Page, expect, sync_playwright
from skimage import data
from trinas_app.web.tab_compare import MOST_MODELS
from web_load import start_server

from trinas.zoo.bundled import list_models_of_scale

WIDTH, HEIGHT, PHONE = 1280, 900, (390, 844)
MINUTES = 2
PATIENCE_MS = 120_000
SETTLE_MS = 1500
"""Time for animations to end before a screenshot."""
QUALITY = 85


def main() -> None:
    """Start the server and save all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("docs", type=Path)
    target = parser.parse_args().docs
    expect.set_options(timeout=PATIENCE_MS)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        photographs = write_photographs(folder / "photos")
        server, url = start_server(folder)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            search(browser.new_page(), url, photographs)
            for scheme in ("light", "dark"):
                save_tabs(browser, url, photographs, target, scheme)
            save_phone(browser, url, photographs, target)
        finally:
            browser.close()
            server.terminate()
            server.wait()


def save_tabs(browser: Browser, url: str, photographs: list[Path], target: Path, scheme: str) -> None:
    """Save a screenshot of each tab, light or dark."""
    size = {"width": WIDTH, "height": HEIGHT}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    for tab, prepare in TABS.items():
        page.get_by_role("tab", name=tab.capitalize(), exact=True).click()
        prepare(page, photographs)
        page.wait_for_timeout(SETTLE_MS)
        save_screenshot(page, target / f"web-{tab}-{scheme}.webp")
    context.close()


def save_phone(browser: Browser, url: str, photographs: list[Path], target: Path) -> None:
    """Save a screenshot of the first tab as on a phone."""
    context = browser.new_context(viewport={"width": PHONE[0], "height": PHONE[1]})
    page = context.new_page()
    page.goto(url)
    prepare_upscale(page, photographs)
    save_screenshot(page, target / "web-phone.webp")
    context.close()


def write_photographs(folder: Path) -> list[Path]:
    """Write four photographs, reduced so that upscaling gains something."""
    folder.mkdir()
    found = {"chelsea": data.cat(), "coffee": data.coffee(), "astronaut": data.astronaut(), "rocket": data.rocket()}
    for name, pixels in found.items():
        image = PillowImage.fromarray(pixels)
        size = image.width // 2, image.height // 2
        image.resize(size, PillowImage.Resampling.BICUBIC).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


def upload(page: Page, box: str, *paths: Path) -> None:
    """Choose files in the box of a CSS selector."""
    page.locator(f"{box} input[type=file]").first.set_input_files([str(path) for path in paths])


def prepare_upscale(page: Page, photographs: list[Path]) -> None:
    """Upscale an image."""
    upload(page, "#image-file", photographs[1])
    expect(page.locator("#plan")).to_contain_text("Result")
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")
    page.wait_for_timeout(SETTLE_MS)


def prepare_batch(page: Page, photographs: list[Path]) -> None:
    """Upscale a batch with one bad file."""
    bad = photographs[0].parent.parent / "scanned.png"
    bad.write_bytes(b"no image")
    upload(page, "#image-files", *photographs, bad)
    page.locator("#start-batch").click()
    expect(page.locator("#said-batch")).to_contain_text("4 done, 1 failed")


def prepare_compare(page: Page, photographs: list[Path]) -> None:
    """Compare models on an image."""
    upload(page, "#compared", photographs[1])
    expect(page.locator("#sheet figure")).to_have_count(1 + min(MOST_MODELS, len(list_models_of_scale(4))))


def prepare_models(page: Page, photographs: list[Path]) -> None:
    """Wait until all speeds are known."""
    expect(page.locator("#models")).to_contain_text("trinas-xs-x4")
    expect(page.locator("#models")).not_to_contain_text("…")


def prepare_search(page: Page, photographs: list[Path]) -> None:
    """Wait until the finished search is shown."""
    expect(page.locator("#said-search")).to_contain_text("Finished after")


def search(page: Page, url: str, photographs: list[Path]) -> None:
    """Run the search that all screenshots of the last tab show."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    page.get_by_role("tab", name="Search", exact=True).click()
    page.get_by_label("2×").last.check()
    page.get_by_label("Parameters, in thousands").fill("20")
    page.locator("#minutes input").fill(str(MINUTES))
    page.locator("#minutes input").press("Tab")
    upload(page, "#photographs", *photographs)
    expect(page.locator("#photographs").get_by_text(".png")).to_have_count(len(photographs))
    page.locator("#start-search").click()
    expect(page.locator("#said-search")).to_contain_text("Finished after", timeout=60_000 * (MINUTES + 2))
    page.close()


def save_screenshot(page: Page, path: Path) -> None:
    """Save the whole page as a small file."""
    with PillowImage.open(io.BytesIO(page.screenshot(full_page=True))) as image:
        image.save(path, quality=QUALITY)


TABS = {
    "upscale": prepare_upscale,
    "batch": prepare_batch,
    "compare": prepare_compare,
    "models": prepare_models,
    "search": prepare_search,
}

if __name__ == "__main__":
    main()
