"""The models there are: a table, what more parameters bring, and one more from a folder."""

import html
import math
from pathlib import Path
from typing import Any

import gradio as gr

from trinas.errors import ModelError, TrinasError
from trinas.hub import is_hub_id

from .parts import NETWORKS, PRIVATE, Picker, note
from .service import Offer, Service, escaped

COLUMNS = [
    "model", "tier", "scale", "parameters", "G multiply-adds", "s per megapixel", "Set5", "Set14", "BSD100", "licence"
]  # fmt: skip
TEST_SETS = ("Set5", "Set14", "BSD100")
PLOTTED = "Set5"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 320, 48, 120, 16, 32
"""Of the drawing, in its own units."""
WORDS = (
    "PSNR in dB on the brightness of three public test sets, by the field's protocol: higher is better. Multiply-adds "
    "are for a result of 1280 by 720 pixels. Seconds per megapixel of result are of this machine, once measured."
)


def models_tab(service: Service, picker: Picker, page: gr.Blocks, is_loopback: bool) -> None:
    """Lay out the tab and say what its parts do."""
    seconds: dict[str, float] = {}  # measured so far, for everybody: it is the machine's

    def rows() -> list[list[str]]:
        table = []
        for name, offer in service.offers().items():
            cost, figures = offer.cost, offer.config.figures
            psnr = [f"{figures[test]['psnr']:.2f}" if test in figures else "" for test in TEST_SETS]
            speed = f"{seconds[name]:.3f}" if name in seconds else ""
            kind, scale = offer.tier or offer.source, f"{offer.config.spec.scale}×"
            macs = f"{cost.macs / 1e9:.2f}"
            table.append([name, kind, scale, f"{cost.params:,}", macs, speed, *psnr, offer.config.licence])
        return table

    gr.Markdown(WORDS)
    table = gr.Dataframe(
        rows(), headers=COLUMNS, datatype="str", interactive=False, show_label=False, buttons=[], elem_id="models"
    )
    with gr.Row():
        measure = gr.Button("Measure their speed here")
    plot = gr.HTML(elem_id="trade-off")

    def measured() -> list[list[str]]:
        for name in service.offers():
            seconds[name] = service.seconds_per_mp(name)
        return rows()

    page.load(lambda: (rows(), trade_off(service.offers())), None, [table, plot], show_progress="hidden", **PRIVATE)
    measure.click(measured, None, table, **NETWORKS, **PRIVATE)
    with gr.Row(equal_height=True):
        where = gr.Textbox(
            label="Another model, of the Hugging Face Hub" + (" or of a folder on this machine" if is_loopback else ""),
            placeholder="user/name" + (" or runs/small" if is_loopback else ""), scale=4, elem_id="where",
        )  # fmt: skip
        load = gr.Button("Load", scale=1, elem_id="load")
    said = gr.HTML(elem_id="said-models")

    def loaded(wish: str) -> tuple[Any, ...]:
        """One more model, in all lists."""
        try:
            wish = wish.strip()
            folder = Path(wish).expanduser()
            if is_loopback and wish and folder.is_dir():
                name = service.add_model(str(folder), "folder")
            elif is_hub_id(wish) and not folder.exists():  # a visitor must not learn what is on this machine
                name = service.add_model(wish, "Hub", wish)
            else:
                raise ModelError(
                    f"{wish or 'nothing'}: {'no such folder, nor ' if is_loopback else 'not '}user/name of the Hub"
                )
        except TrinasError as error:
            return note(escaped(error), "bad"), rows(), trade_off(service.offers())
        words = f"{escaped(name)} can be chosen now, in every tab."
        return note(words, "good"), rows(), trade_off(service.offers())

    picker.refresh(load.click(loaded, where, [said, table, plot], **PRIVATE).then)


def trade_off(offers: dict[str, Offer]) -> str:
    """PSNR against parameters as a drawing, with a colour for each scale; models that were measured only."""
    points = [
        (offer.cost.params, offer.config.figures[PLOTTED]["psnr"], name, offer.config.spec.scale)
        for name, offer in offers.items()
        if PLOTTED in offer.config.figures
    ]
    if not points:
        return ""
    sizes, psnrs = [point[0] for point in points], [point[1] for point in points]
    decades = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    low, high = math.floor(min(psnrs)), math.ceil(max(psnrs))

    def x(params: float) -> float:
        return LEFT + (math.log10(params) - decades[0]) / max(1, decades[1] - decades[0]) * (WIDTH - LEFT - RIGHT)

    def y(psnr: float) -> float:
        return TOP + (high - psnr) / max(1, high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in range(low, high + 1):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="var(--grid)"/>'
        )
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    for params in (digit * 10**decade for decade in range(*decades) for digit in (1, 2, 5)):
        parts.append(f'<text x="{x(params):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{params:,}</text>')
    for params, psnr, name, scale in points:
        parts.append(
            f'<circle cx="{x(params):.1f}" cy="{y(psnr):.1f}" r="5" fill="var(--line-{(scale - 2) % 3 + 1})"/>'
        )
        parts.append(f'<text x="{x(params) + 9:.1f}" y="{y(psnr) + 4:.1f}">{html.escape(name)}</text>')
    drawing = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="PSNR against parameters">{"".join(parts)}</svg>'
    )
    title = f"PSNR on {PLOTTED}, in dB, against parameters"
    return f'<div class="drawings"><div class="chart"><h3>{title}</h3>{drawing}</div></div>'
