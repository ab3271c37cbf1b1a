"""The pictures of the page in docs/: each tab, light and dark, and one as on a phone.

    python benchmarks/web_pictures.py docs/

Needs Chromium. Starts the server itself, on a free port, and works with public-domain photographs of scikit-image. The
search of the last tab takes two minutes.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image as PillowImage
from playwright.sync_api import Page, expect, sync_playwright
from skimage import data
from trinas_app.web.tab_compare import MOST_MODELS
from web_load import started

from trinas.zoo.bundled import models_of_scale

WIDTH, HEIGHT, PHONE = 1280, 900, (390, 844)
MINUTES = 2
PATIENCE_MS = 120_000
QUALITY = 85


def main() -> None:
    target = Path(sys.argv[1])
    expect.set_options(timeout=PATIENCE_MS)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        photos = photographs(folder / "photos")
        server, url = started(folder)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            search(browser.new_page(), url, photos)
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
                page = context.new_page()
                page.set_default_timeout(PATIENCE_MS)
                page.goto(url)
                for tab, prepare in TABS.items():
                    page.get_by_role("tab", name=tab.capitalize(), exact=True).click()
                    prepare(page, photos)
                    page.wait_for_timeout(1500)
                    keep(page, target / f"web-{tab}-{scheme}.webp")
                context.close()
            context = browser.new_context(viewport={"width": PHONE[0], "height": PHONE[1]})
            page = context.new_page()
            page.goto(url)
            upscaled(page, photos)
            keep(page, target / "web-phone.webp")
            context.close()
        finally:
            browser.close()
            server.terminate()
            server.wait()


def photographs(folder: Path) -> list[Path]:
    """Four photographs at a size that leaves something to gain."""
    folder.mkdir()
    found = {"chelsea": data.cat(), "coffee": data.coffee(), "astronaut": data.astronaut(), "rocket": data.rocket()}
    for name, pixels in found.items():
        picture = PillowImage.fromarray(pixels)
        picture.resize((picture.width // 2, picture.height // 2), PillowImage.Resampling.BICUBIC).save(
            folder / f"{name}.png"
        )
    return sorted(folder.iterdir())


def upload(page: Page, box: str, *paths: Path) -> None:
    page.locator(f"{box} input[type=file]").first.set_input_files([str(path) for path in paths])


def upscaled(page: Page, photos: list[Path]) -> None:
    upload(page, "#picture", photos[1])
    expect(page.locator("#plan")).to_contain_text("Result")
    page.locator("#start").click()
    expect(page.locator("#said")).to_contain_text("done in")
    page.wait_for_timeout(1500)


def batch(page: Page, photos: list[Path]) -> None:
    bad = photos[0].parent.parent / "scanned.png"
    bad.write_bytes(b"no picture")
    upload(page, "#pictures", *photos, bad)
    page.locator("#start-batch").click()
    expect(page.locator("#said-batch")).to_contain_text("4 done, 1 failed")


def compared(page: Page, photos: list[Path]) -> None:
    upload(page, "#compared", photos[1])
    expect(page.locator("#sheet figure")).to_have_count(1 + min(MOST_MODELS, len(models_of_scale(4))))


def measured(page: Page, photos: list[Path]) -> None:
    expect(page.locator("#models")).to_contain_text("trinas-xs-x4")
    expect(page.locator("#models")).not_to_contain_text("…")  # all speeds are known


def watched(page: Page, photos: list[Path]) -> None:
    expect(page.locator("#said-search")).to_contain_text("Finished after")


def search(page: Page, url: str, photos: list[Path]) -> None:
    """One for all pictures of the last tab."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    page.get_by_role("tab", name="Search", exact=True).click()
    page.get_by_label("2×").last.check()
    page.get_by_label("Parameters, in thousands").fill("20")
    page.locator("#minutes input").fill(str(MINUTES))
    page.locator("#minutes input").press("Tab")
    upload(page, "#photographs", *photos)
    expect(page.locator("#photographs").get_by_text(".png")).to_have_count(len(photos))
    page.locator("#start-search").click()
    expect(page.locator("#said-search")).to_contain_text("Finished after", timeout=60_000 * (MINUTES + 2))
    page.close()


def keep(page: Page, path: Path) -> None:
    """The whole page as a small file."""
    with PillowImage.open(io.BytesIO(page.screenshot(full_page=True))) as picture:
        picture.save(path, quality=QUALITY)


TABS = {"upscale": upscaled, "batch": batch, "compare": compared, "models": measured, "search": watched}

if __name__ == "__main__":
    main()
