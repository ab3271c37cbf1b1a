"""The tab that compares models. It shows bicubic and models on the same place of an image, with PSNR and SSIM."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from trinas.errors import Stopped, TrinasError
from trinas.images.image import to_levels
from trinas.inference.compare import find_detailed_places

from .backend import Backend
from .comparison import Metrics, compare_place, measure_models, read_displayed, read_measured, render_columns
from .components import NETWORKS, PRIVATE, PROGRESS, QUIET, READING, SCALES, JobButtons, Picker, render_note
from .messages import escape, hide_paths
from .previews import OVERVIEW_PX, fit_size, mark_place

JOB = "comparison"
MOST_MODELS = 4
ZOOMS = [("Far", 192), ("Middle", 96), ("Near", 48)]
"""Names and sides of the place, in the image's own pixels."""
EMPTY = "Choose an image. The same place of it is shown here as usual (bicubic) and as each model upscales it."
TAP = '<p class="faint">Tap the image where you want to look closely.</p>'
ABOUT_ORIGINAL = (
    "If your image is a reduced copy, choose here the image that it was reduced from. It must be exactly 2, 3 or 4 "
    "times as large, as chosen above. PSNR and SSIM then say how near each result comes to it: higher is better."
)


class CompareTab:
    """The tab that compares models."""

    def __init__(self, backend: Backend, picker: Picker) -> None:
        """Add the tab's components to the page at the present place."""
        self._backend = backend
        self._catalogue = backend.catalogue
        self._metrics = gr.State({})  # of the image; empty until they are measured
        self._place = gr.State(None)  # top left corner (y, x), in the image's pixels
        with gr.Row(elem_classes="sides"):
            with gr.Column(scale=2, min_width=320):
                self._lay_out_choices(picker)
                with gr.Accordion("Measure against an original", open=False):
                    self._lay_out_original()
            with gr.Column(scale=3, min_width=320):
                self._said = gr.HTML(render_note(EMPTY), elem_id="said-compare", elem_classes="words")
                self._sheet = gr.HTML(elem_id="sheet")

    def _lay_out_choices(self, picker: Picker) -> None:
        self._image = gr.File(
            label="Image", show_label=False, height=130, elem_id="compared", elem_classes=["drop", "one"]
        )
        self._tap = gr.HTML(TAP, visible=False)
        self._overview = gr.Image(
            label="Your image", show_label=False, interactive=False, type="filepath", format="png", buttons=[],
            visible=False, elem_id="overview",
        )  # fmt: skip
        self._zoom = gr.Radio(ZOOMS, value=96, label="How near", elem_classes="choices")
        self._scale = gr.Radio(SCALES, value=4, label="Size", elem_classes="choices")
        self._models = picker.add_dropdown_of_scale(self._scale, MOST_MODELS)

    def _lay_out_original(self) -> None:
        gr.Markdown(ABOUT_ORIGINAL)
        self._original = gr.File(
            label="Original", show_label=False, height=110, elem_id="original", elem_classes=["drop", "original"]
        )
        self._buttons = JobButtons(
            self._backend.sessions, JOB, "Measure", "measure", "stop-measure", variant="secondary"
        )

    def connect(self) -> None:
        """Connect events to handlers."""
        drawing: dict[str, Any] = {
            "fn": self._draw,
            "inputs": [self._image, self._place, self._scale, self._models, self._zoom, self._metrics],
            "outputs": [self._sheet, self._tap, self._overview, self._place, self._said],
            "show_progress_on": self._said,
            "trigger_mode": "always_last",
            **NETWORKS,
            **PRIVATE,
        }
        forgetting: dict[str, Any] = {
            "fn": lambda: (None, {}),
            "inputs": None,
            "outputs": [self._place, self._metrics],
            "queue": False,
            **QUIET,
        }
        for change in (self._image.upload, self._image.clear):
            change(**forgetting).then(**drawing)
        offered = self._scale.input(self._offer_models, self._scale, self._models, **QUIET)
        offered.then(**forgetting).then(**drawing)
        self._models.input(**drawing)
        self._zoom.input(**drawing)
        tapped = self._overview.select(self._choose_place, [self._image, self._zoom], self._place, **READING, **QUIET)
        tapped.then(**drawing)
        self._original.change(self._enable_measuring, self._original, self._buttons.start, queue=False, **QUIET)
        measured = [self._image, self._original, self._scale, self._models]
        self._buttons.connect(self._measure, measured, [self._metrics, self._said], self._said).then(**drawing)

    def _offer_models(self, scale: int) -> Any:
        names = self._catalogue.list_names(scale)
        return gr.update(choices=names, value=names[:MOST_MODELS])

    def _enable_measuring(self, original: str | None) -> Any:
        return gr.update(interactive=bool(original))

    def _draw(
        self, path: str | None, place: tuple[int, int] | None, scale: int, names: list[str], side: int,
        metrics: Metrics,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Draw the columns, and the image with the place marked."""
        hidden = gr.update(visible=False), gr.update(visible=False)
        if not path or not side:
            return "", *hidden, None, render_note(EMPTY)
        try:
            image = read_displayed(self._backend.decoders.open_image(path, self._backend.limits.input_px))
            side = min(side, *image.size)
            y, x = place or find_detailed_places(image.pixels, side)[0]
            place = (max(0, min(y, image.size[1] - side)), max(0, min(x, image.size[0] - side)))
            columns = compare_place(self._catalogue, image, place, side, scale, names, metrics)
        except TrinasError as error:
            return "", *hidden, None, render_note(escape(hide_paths(str(error), Path(path).parent)), "bad")
        overview = gr.update(value=to_levels(mark_place(image, place, side), 8), visible=True)
        words = "" if names else render_note("Choose a model to see it beside bicubic.")
        return render_columns(columns), gr.update(visible=True), overview, place, words

    def _choose_place(self, path: str | None, side: int | None, event: gr.SelectData) -> Any:
        """Return the place around a point of the overview; None if there is no such point."""
        if not path or not side:
            return None
        header = self._backend.decoders.open_image(path, self._backend.limits.input_px).header
        factor = header.width / fit_size((header.width, header.height), OVERVIEW_PX)[0]
        try:
            x, y = (round(position * factor - side / 2) for position in event.index)
        except (TypeError, ValueError):  # what the page would not send
            return None
        return y, x

    def _measure(
        self, path: str | None, original: str | None, scale: int, names: list[str], request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> tuple[Metrics, str]:  # fmt: skip
        """Measure every column."""
        if not path or not original:
            return {}, render_note("Choose an image and its original.", "bad")
        session = self._backend.sessions.get(request.session_hash)
        check = self._backend.runner.begin_job(session, session.stop_request(JOB))
        try:
            limits, open_image = self._backend.limits, partial(self._backend.decoders.open_image, check=check)
            files = open_image(path, limits.input_px), open_image(original, limits.output_px)
            low, high = read_measured(*files, scale)
            metrics = measure_models(
                self._catalogue, low, high, scale, names, check, lambda share, name: progress(share, desc=name)
            )
        except TrinasError as error:
            return {}, render_note(escape(hide_paths(str(error), Path(path).parent, Path(original).parent)), "bad")
        except Stopped as stopped:
            return {}, render_note(escape(stopped))
        return metrics, ""
