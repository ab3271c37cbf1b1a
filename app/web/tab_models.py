"""The models there are: a table, what more time brings, and one more from the Hub or a folder."""

import asyncio
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from trinas.config import TEST_SETS
from trinas.errors import ModelError, TrinasError
from trinas.zoo.bundled import DEFAULT_MODELS, find_hub_model
from trinas.zoo.hub import is_hub_id

from .components import PRIVATE, Picker, note, table
from .service import Offer, Service, escaped

COLUMNS = {
    "Model": "whole", "Size": "whole", "Enlarges": "number", "Parameters": "number", "Multiply-adds": "number",
    "Seconds per megapixel": "number", **dict.fromkeys(TEST_SETS, "number"), "Made for": "whole",
    "Licence": "whole",
}  # fmt: skip
PLOTTED = "Set5"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 240, 44, 16, 20, 24
"""Of a drawing, in its own units."""
LETTER = 6
"""How wide a letter in it is, about."""
WORDS = (
    "Larger models are better and slower. Set5, Set14 and BSD100 are public test pictures; the figures say how near "
    "the results come to the originals, as PSNR in dB: higher is better. These pictures are clean: models for noise "
    "and compression have less there, and more on compressed JPEGs. Multiply-adds are billions for a result of "
    "1280×720; the seconds per megapixel of result were measured on this machine. * is what Automatic takes, unless a "
    "JPEG is strongly compressed."
)
POLL_S = 1


def models_tab(service: Service, picker: Picker, page: gr.Blocks, tab: gr.Tab, is_loopback: bool) -> None:
    """Lay out the tab and say what its parts do."""
    gr.Markdown(WORDS)
    listed = gr.HTML(elem_id="models")
    plot = gr.HTML(elem_id="trade-off")
    with gr.Row():
        where = gr.Textbox(
            label="Another model, of the Hugging Face Hub" + (" or of a folder on this machine" if is_loopback else ""),
            placeholder="user/name" + (" or runs/small" if is_loopback else ""),
            scale=4, min_width=260, elem_id="where",
        )  # fmt: skip
        load = gr.Button("Load", scale=1, min_width=100, elem_id="load")
    said = gr.HTML(elem_id="said-models", elem_classes="words")

    def shown() -> tuple[str, str]:
        offers, speeds = service.offers(), service.speeds
        return models_list(offers, speeds), trade_off(offers, speeds)

    async def measured() -> tuple[str, str]:
        """Once the speed of all is known, which it is some seconds after the server's start."""
        while not service.measured.is_set():
            await asyncio.sleep(POLL_S)
        return shown()

    def loaded(wish: str) -> tuple[Any, ...]:
        """One more model, in all lists."""
        try:
            wish = wish.strip()
            # Others must not learn what is on this machine, nor see with its owner's login.
            if is_loopback and wish and (folder := _folder(wish)).is_dir():
                name = service.add_model(str(folder), "folder")
            elif is_hub_id(wish):
                name = service.add_model(str(find_hub_model(wish, anonymous=not is_loopback)), "Hub", wish)
            else:
                raise ModelError(
                    f"{wish or 'nothing'}: {'no such folder, nor ' if is_loopback else 'not '}user/name of the Hub"
                )
            service.seconds_per_mp(name)
        except TrinasError as error:
            return note(escaped(error), "bad"), *shown()
        return note(f"{escaped(name)} can be chosen now, in every tab.", "good"), *shown()

    quiet: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
    page.load(shown, None, [listed, plot], **quiet)
    tab.select(shown, None, [listed, plot], queue=False, **quiet)  # others may have added some
    picker.refresh(page.load(measured, None, [listed, plot], queue=False, **quiet).then)
    picker.refresh(load.click(loaded, where, [said, listed, plot], show_progress_on=said, **PRIVATE).then)


def _folder(wish: str) -> Path:
    try:
        return Path(wish).expanduser()
    except RuntimeError:  # there is no such user
        return Path(wish)


def models_list(offers: dict[str, Offer], speeds: dict[str, float]) -> str:
    """The table of all models, as HTML."""
    rows = []
    for name, offer in offers.items():
        metrics = offer.config.metrics
        psnr = [f"{metrics[test].psnr:.2f}" if test in metrics else "" for test in TEST_SETS]
        speed = f"{speeds[name]:.2f}" if name in speeds else "…"
        made_for = "noise, compression" if offer.config.restores else "clean pictures"
        star = " *" if name in DEFAULT_MODELS.values() else ""
        scale, macs = f"{offer.config.spec.scale}×", f"{offer.cost.macs / 1e9:.2f}"
        rows.append([name + star, offer.tier, scale, f"{offer.cost.params:,}", macs, speed, *psnr, made_for])
        rows[-1].append(offer.config.licence)
    return table(COLUMNS, rows)


@dataclass(frozen=True)
class Point:
    """A model in the drawing."""

    name: str
    cost: float
    psnr: float
    restores: bool


def trade_off(offers: dict[str, Offer], speeds: dict[str, float]) -> str:
    """PSNR against time as drawings, one for each scale; against parameters while times are not known.

    Only models that were measured on the test set are shown.
    """
    timed = all(name in speeds for name, offer in offers.items() if PLOTTED in offer.config.metrics)
    panels = ""
    for scale in sorted({offer.config.spec.scale for offer in offers.values()}):
        points = [
            Point(
                name.removeprefix("trinas-").removesuffix(f"-x{scale}"),
                speeds[name] if timed else offer.cost.params,
                offer.config.metrics[PLOTTED].psnr,
                offer.config.restores,
            )
            for name, offer in offers.items()
            if PLOTTED in offer.config.metrics and offer.config.spec.scale == scale
        ]
        if points:
            unit = "seconds per megapixel here" if timed else "parameters"
            title = f"{scale}×: PSNR on {PLOTTED} in dB, against {unit}"
            panels += f'<div class="chart"><h3>{title}</h3>{_drawing(points, title)}</div>'
    if not panels:
        return ""
    legend = '<ul class="legend"><li>● for clean pictures</li><li>○ for noise and compression</li></ul>'
    return f'<div class="drawings"><div class="charts">{panels}</div>{legend}</div>'


def _drawing(points: Sequence[Point], title: str) -> str:
    costs, psnrs = [point.cost for point in points], [point.psnr for point in points]
    left, right = math.log(min(costs) / 1.5), math.log(max(costs) * 1.5)
    low, high = min(psnrs) - 0.2, max(psnrs) + 0.2

    def x(cost: float) -> float:
        return LEFT + (math.log(cost) - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def y(psnr: float) -> float:
        return TOP + (high - psnr) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10) if (high - low) / step <= 6)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        height = y(number * step)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" stroke="var(--grid)"/>'
            f'<text x="{LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{number * step:.1f}</text>'
        )
    for tick in _round_numbers(math.exp(left), math.exp(right)):
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{tick:,g}</text>')
    for point in points:
        across, height = x(point.cost), y(point.psnr)
        fill = "var(--card)" if point.restores else "var(--line-1)"
        half = LETTER * len(point.name) / 2
        middle = min(max(across, LEFT + half), WIDTH - half)
        parts.append(
            f'<circle cx="{across:.1f}" cy="{height:.1f}" r="5" fill="{fill}" stroke="var(--line-1)" stroke-width="2"/>'
            f'<text x="{middle:.1f}" y="{height - 10:.1f}" text-anchor="middle" class="name">'
            f"{html.escape(point.name)}</text>"
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'


def _round_numbers(low: float, high: float) -> list[float]:
    """Of 1, 2 and 5 times powers of ten, those between two numbers."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for decade in decades for digit in (1, 2, 5) if low <= (value := float(f"{digit}e{decade}")) <= high]
