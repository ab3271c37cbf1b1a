"""The models there are: a table, what more parameters bring, and one more from a folder."""

import math
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from trinas.errors import TrinasError

from .parts import NETWORKS, PRIVATE, Picker, note
from .service import Service, escaped

COLUMNS = [
    "model", "tier", "scale", "parameters", "G multiply-adds", "s per megapixel", "Set5", "Set14", "BSD100", "licence"
]  # fmt: skip
TEST_SETS = ("Set5", "Set14", "BSD100")
PLOTTED = "Set5"
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

    def points() -> pd.DataFrame:
        measured = [offer for offer in service.offers().values() if PLOTTED in offer.config.figures]
        return pd.DataFrame(
            {
                "thousand parameters": [offer.cost.params / 1e3 for offer in measured],
                "PSNR, dB": [offer.config.figures[PLOTTED]["psnr"] for offer in measured],
                "scale": [f"{offer.config.spec.scale}×" for offer in measured],
            }
        )

    gr.Markdown(WORDS)
    table = gr.Dataframe(
        rows(), headers=COLUMNS, datatype="str", interactive=False, show_label=False, buttons=[], elem_id="models"
    )
    with gr.Row():
        measure = gr.Button("Measure their speed here")
    plot = gr.ScatterPlot(
        points(), x="thousand parameters", y="PSNR, dB", color="scale", x_lim=[0, None],
        y_lim=_around(points()["PSNR, dB"]), height=400, buttons=[], label=f"What parameters bring: PSNR on {PLOTTED}",
    )  # fmt: skip

    def measured() -> list[list[str]]:
        for name in service.offers():
            seconds[name] = service.seconds_per_mp(name)
        return rows()

    page.load(lambda: (rows(), points()), None, [table, plot], show_progress="hidden", **PRIVATE)
    measure.click(measured, None, table, **NETWORKS, **PRIVATE)
    if not is_loopback:
        return
    with gr.Row(equal_height=True):
        where = gr.Textbox(label="A model's folder on this machine", placeholder="such as runs/small", scale=4)
        load = gr.Button("Load", scale=1)
    said = gr.HTML()

    def loaded(path: str) -> tuple[Any, ...]:
        """One more model, in all lists."""
        try:
            folder = Path(path.strip()).expanduser()
            if not folder.is_dir():
                raise TrinasError(f"{path.strip() or 'nothing given'}: no such folder on this machine")
            name = service.add_model(str(folder), "folder")
        except TrinasError as error:
            return note(escaped(error), "bad"), rows(), points()
        return note(f"{escaped(name)} can be chosen now, in every tab.", "good"), rows(), points()

    picker.refresh(load.click(loaded, where, [said, table, plot], **PRIVATE).then)


def _around(values: "pd.Series[float]") -> list[float] | None:
    """Limits of an axis, a decibel beyond the values."""
    return [math.floor(values.min()) - 1, math.ceil(values.max()) + 1] if len(values) else None
