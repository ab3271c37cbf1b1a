"""The tab of the models on offer: a table, drawings of quality against speed, and a field to add a model."""

import asyncio
from pathlib import Path

import gradio as gr

from trinas.config import TEST_SETS
from trinas.errors import ModelError, TrinasError
from trinas.zoo.bundled import find_hub_model, list_presets
from trinas.zoo.hub import is_hub_id

from .backend import Backend
from .catalogue import Offer
from .components import PRIVATE, QUIET, SETTING_UP, Picker, render_note, render_table
from .messages import escape
from .trade_off import draw_trade_offs

COLUMNS = {
    "Model": "whole", "Size": "whole", "Preset": "whole", "Upscales": "number", "Parameters": "number",
    "Multiply-adds": "number", "Seconds per megapixel": "number", **dict.fromkeys(TEST_SETS, "number"),
    "Made for": "whole", "Licence": "whole",
}  # fmt: skip
ABOUT = (
    "Larger models are better and slower. Set5, Set14 and BSD100 are public test images; their columns say how near "
    "the results come to the originals, as PSNR in dB: higher is better. These images are clean: models for noise "
    "and compression have lower values there, and do better on compressed JPEGs. Multiply-adds are billions for a "
    "result of 1280×720. The seconds per megapixel of result were measured on this machine. The presets fast, balanced "
    "and best take the models that name them, unless a JPEG is strongly compressed."
)
POLL_S = 1
LONGEST_PLACE = 1000


class ModelsTab:
    """The tab that lists models and adds one."""

    def __init__(self, backend: Backend, picker: Picker, is_loopback: bool) -> None:
        """Add the tab's components to the page at the present place.

        Args:
            backend: of the page.
            picker: shows an added model in the other tabs.
            is_loopback: whether only users of this machine can reach the page. They may load its folders.
        """
        self._catalogue = backend.catalogue
        self._picker = picker
        self._is_loopback = is_loopback
        gr.Markdown(ABOUT)
        self._list = gr.HTML(elem_id="models")
        self._drawings = gr.HTML(elem_id="trade-off")
        with gr.Row():
            self._place = gr.Textbox(
                label="Another model, of the Hugging Face Hub"
                + (" or of a folder on this machine" if is_loopback else ""),
                placeholder="user/name" + (" or runs/small" if is_loopback else ""),
                scale=4, min_width=260, elem_id="model-place",
            )  # fmt: skip
            self._add = gr.Button("Load", scale=1, min_width=100, elem_id="load")
        self._said = gr.HTML(elem_id="said-models", elem_classes="words")

    def connect(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Connect events to handlers."""
        shown = [self._list, self._drawings]
        page.load(self._show, None, shown, **QUIET)
        tab.select(self._show, None, shown, queue=False, **QUIET)  # other visitors may have added some
        measured = page.load(self._wait_for_speeds, None, shown, queue=False, **QUIET)
        self._picker.refresh_on(measured.then)
        added = self._add.click(
            self._add_model, self._place, [self._said, *shown], show_progress_on=self._said, **SETTING_UP, **PRIVATE
        )
        self._picker.refresh_on(added.then)

    def _show(self) -> tuple[str, str]:
        offers, speeds = self._catalogue.offers(), self._catalogue.speeds
        return list_models(offers, speeds), draw_trade_offs(offers, speeds)

    async def _wait_for_speeds(self) -> tuple[str, str]:
        """Show the models again when all are measured, some seconds after the server's start."""
        while not self._catalogue.measured.is_set():
            await asyncio.sleep(POLL_S)
        return self._show()

    def _add_model(self, place: str) -> tuple[str, str, str]:
        """Add a model to all lists."""
        name = ""
        try:
            name = self._find(place.strip()[:LONGEST_PLACE])
            self._catalogue.seconds_per_mp(name)
        except TrinasError as error:
            self._catalogue.remove(name)
            return render_note(escape(error), "bad"), *self._show()
        return render_note(f"{escape(name)} can be chosen now, in every tab.", "good"), *self._show()

    def _find(self, place: str) -> str:
        """Put a folder or a model of the Hub on offer and return its name.

        Only users of this machine may name its folders, or reach private models of the Hub with its owner's login.
        """
        if self._is_loopback and place and (folder := _expand(place)).is_dir():
            return self._catalogue.add(str(folder), "folder")
        if is_hub_id(place):
            return self._catalogue.add(str(find_hub_model(place, anonymous=not self._is_loopback)), "Hub", place)
        known = "no such folder, nor " if self._is_loopback else "not "
        raise ModelError(f"{place or 'nothing'}: {known}user/name of the Hub")


def _expand(place: str) -> Path:
    try:
        return Path(place).expanduser()
    except RuntimeError:  # there is no such user
        return Path(place)


def list_models(offers: dict[str, Offer], speeds: dict[str, float]) -> str:
    """Return the table of all models as HTML.

    Args:
        offers, speeds: as in `Catalogue`.
    """
    rows = []
    for name, offer in offers.items():
        metrics = offer.config.metrics
        psnr = [f"{metrics[test].psnr:.2f}" if test in metrics else "" for test in TEST_SETS]
        speed = f"{speeds[name]:.2f}" if name in speeds else "…"
        made_for = "noise, compression" if offer.config.restores else "clean images"
        presets = ", ".join(list_presets(name))
        scale, macs = f"{offer.config.spec.scale}×", f"{offer.cost.macs / 1e9:.2f}"
        rows.append([name, offer.tier, presets, scale, f"{offer.cost.params:,}", macs, speed, *psnr, made_for])
        rows[-1].append(offer.config.licence)
    return render_table(COLUMNS, rows)
