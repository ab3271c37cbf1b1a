"""The tab for one image: drop it, see what it will become, upscale it, compare it with bicubic, download the file."""

from pathlib import Path
from typing import Any

import gradio as gr

from trinas.errors import Stopped, TrinasError
from trinas.images.read import read_image
from trinas.inference.batch import Outcome

from ..words import format_bytes, format_duration, format_pixels, format_psnr, format_seconds
from .backend import Backend
from .components import (
    PROGRESS,
    QUIET,
    READING,
    Controls,
    JobButtons,
    Picker,
    TileProgress,
    read_controls,
    render_facts,
    render_note,
)
from .messages import escape, hide_paths
from .previews import Pair, write_pairs, write_preview
from .runner import Preview

JOB = "image"
WHOLE, DETAIL = "Whole image", "Detail, pixel by pixel"
SIDES = (
    '<p class="sides-note"><span>← as usual (bicubic)</span><span>TriNAS →</span>'
    '<span class="faint">Drag the line. The wheel, or two fingers, zoom.</span></p>'
)
EMPTY = "Choose an image first. Then you will see here how large it becomes, and how long that takes."
LOOKING = "Looking at the image…"
WELCOME = """<ol class="steps">
<li>Drop an image into the box.</li>
<li>Choose how large it should become. The rest can stay as it is.</li>
<li>Press <b>Upscale</b>, see what has changed, and download the file.</li>
</ol>"""


class UpscaleTab:
    """The tab for one image."""

    def __init__(self, backend: Backend, picker: Picker) -> None:
        """Add the tab's components to the page at the present place."""
        self._backend = backend
        self._views = gr.State(None)  # view -> the files that the slider shows
        with gr.Row(elem_classes="sides"):
            with gr.Column(scale=2, min_width=320):
                self._lay_out_controls(picker)
            with gr.Column(scale=3, min_width=320):
                self._lay_out_result()

    def _lay_out_controls(self, picker: Picker) -> None:
        self._image = gr.File(
            label="Image", show_label=False, height=130, elem_id="image-file", elem_classes=["drop", "one"]
        )
        self._controls = Controls(picker)
        self._plan = gr.HTML(render_note(EMPTY), elem_id="plan")
        with gr.Row():
            self._buttons = JobButtons(self._backend.sessions, JOB, "Upscale", "start", "stop")

    def _lay_out_result(self) -> None:
        # The message comes first, so that on a phone it follows the buttons.
        self._said = gr.HTML(elem_id="said", elem_classes="words")
        self._download = gr.DownloadButton("Download", variant="primary", visible=False, elem_id="download")
        self._welcome = gr.HTML(WELCOME, elem_id="welcome")
        self._preview = gr.Image(
            label="Your image", show_label=False, interactive=False, type="filepath", format="png",
            buttons=["fullscreen"], visible=False, elem_id="preview",
        )  # fmt: skip
        self._slider = gr.ImageSlider(
            label="Result", show_label=False, type="filepath", format="png", visible=False,
            buttons=["fullscreen"], interactive=False, max_height=640, elem_id="slider",
        )  # fmt: skip
        self._sides = gr.HTML(SIDES, visible=False)
        self._view = gr.Radio(
            [WHOLE, DETAIL], value=WHOLE, show_label=False, visible=False, container=False, elem_classes="choices"
        )

    def connect(self) -> None:
        """Connect events to handlers."""
        inputs = [self._image, *self._controls.components]
        planned = [self._plan, self._buttons.start]
        planning: dict[str, Any] = {"trigger_mode": "always_last", **READING, **QUIET}
        shown = [
            self._welcome, self._preview, self._slider, self._sides, self._view, self._said, self._download, self._plan
        ]  # fmt: skip
        for change in (self._image.upload, self._image.clear):
            received = change(self._receive, self._image, shown, **READING, **QUIET)
            received.then(self._describe, inputs, planned, **planning)
        for control in self._controls.components:
            control.change(self._describe, inputs, planned, **planning)
        results = [
            self._preview, self._slider, self._sides, self._view, self._views, self._said, self._download
        ]  # fmt: skip
        self._buttons.connect(self._run, inputs, results, self._said, {self._said: ""})
        self._view.input(self._switch, [self._view, self._views], self._slider, **QUIET)

    def _receive(self, path: str | None, request: gr.Request) -> tuple[Any, ...]:
        """Show a new image, and hide the result of an earlier one."""
        hidden = (gr.update(value=None, visible=False), *(gr.update(visible=False),) * 2, "", gr.update(visible=False))
        none = gr.update(visible=True), gr.update(value=None, visible=False)
        if not path:
            return *none, *hidden, render_note(EMPTY)
        try:
            image = self._backend.decoders.open_image(path, self._backend.limits.input_px).read()
            copy = write_preview(image, self._backend.sessions.get(request.session_hash).new_folder())
        except TrinasError:
            return *none, *hidden, ""  # `_describe` says why
        return gr.update(visible=False), gr.update(value=str(copy), visible=True), *hidden, render_note(LOOKING)

    def _describe(self, path: str | None, *values: Any) -> tuple[Any, Any]:
        """Say what the image will become. Enable the button if it can be upscaled."""
        if not path:
            return render_note(EMPTY), gr.update(interactive=False)
        try:
            wanted = read_controls(self._backend.runner, *values)
            preview = self._backend.runner.preview(Path(path), wanted)
        except TrinasError as error:
            return render_note(escape(error), "bad"), gr.update(interactive=False)
        rows = {
            "Image": format_pixels(preview.size),
            "Result": format_pixels(preview.result_size),
            "Time": describe_time(preview, wanted.preset),
            "Model": describe_models(preview, is_named=bool(wanted.model)),
        }
        for name in dict.fromkeys(preview.models):
            rows[name] = ", ".join(self._model_details(name))
        return render_facts(rows), gr.update(interactive=True)

    def _model_details(self, name: str) -> list[str]:
        catalogue = self._backend.catalogue
        offer = catalogue.offers()[name]
        details = [f"{offer.tier}: {offer.cost.params:,} parameters"]
        details += [
            f"{format_psnr(metrics.psnr)} on {test}" for test, metrics in list(offer.config.metrics.items())[:1]
        ]
        return [*details, f"{format_seconds(catalogue.seconds_per_mp(name))} per megapixel here", offer.licence]

    def _run(self, path: str, request: gr.Request, progress: gr.Progress = PROGRESS, *values: Any) -> tuple[Any, ...]:
        """Upscale the image. Show both views, a message and the file."""
        session = self._backend.sessions.get(request.session_hash)
        runner = self._backend.runner
        unchanged = gr.update()
        try:
            wanted = read_controls(runner, *values)
            on_tile = TileProgress(progress, [Path(path).name])
            outcome = runner.upscale(session, session.stop_request(JOB), Path(path), wanted, on_tile)
        except Stopped as stopped:
            return *(unchanged,) * 5, render_note(escape(stopped)), unchanged
        except TrinasError as error:
            return *(unchanged,) * 5, render_note(escape(error), "bad"), unchanged
        pairs, notes = self._write_views(Path(path), outcome.job.result, session.new_folder())
        paths = {name: (str(pair.before), str(pair.after)) for name, pair in pairs.items()}
        first = "detail" if "detail" in paths else "whole"
        return (
            gr.update(visible=not paths),
            gr.update(value=paths.get(first), visible=bool(paths)),
            gr.update(visible=bool(paths)),
            gr.update(visible="detail" in paths, value=DETAIL if first == "detail" else WHOLE),
            paths,
            render_note(describe_result(outcome, notes), "good"),
            gr.update(value=str(outcome.job.result), visible=True, label=f"Download {outcome.job.result.name}"),
        )

    def _write_views(self, path: Path, result: Path, folder: Path) -> tuple[dict[str, Pair], list[str]]:
        """Return the pairs of the slider, and a note if the result cannot be shown. It can still be downloaded."""
        limits = self._backend.limits
        try:
            low = self._backend.decoders.open_image(path, limits.input_px).read()
            return write_pairs(low, read_image(result, limits.output_px), folder), []
        except TrinasError as error:
            return {}, [f"it cannot be shown here ({hide_paths(str(error), path.parent, result.parent)})"]

    def _switch(self, view: str, paths: dict[str, tuple[str, str]] | None) -> Any:
        """Show the other view in the slider, if there is one."""
        return paths and paths["detail" if view == DETAIL else "whole"]


def describe_time(preview: Preview, preset: str) -> str:
    """Return how long an image takes, also with the other presets if no model was named.

    Args:
        preview: of the image.
        preset: that the visitor chose.
    """
    words = f"about {format_duration(preview.seconds)} on this machine"
    if not preview.seconds_of_other_presets:
        return words
    others = (f"{name} {format_duration(seconds)}" for name, seconds in preview.seconds_of_other_presets.items())
    return f"{words} ({preset}); {', '.join(others)}"


def describe_models(preview: Preview, is_named: bool) -> str:
    """Return which models an image goes through, and why.

    Args:
        preview: of the image.
        is_named: whether the visitor chose a model.
    """
    names = preview.models
    if not names:
        return "none: it is only reduced"
    if preview.reason:
        return ", then ".join([f"{preview.reason}: {names[0]}, which smooths compression away", *names[1:]])
    return f"{', then '.join(names)} ({'your choice' if is_named else 'the one for this size'})"


def describe_result(outcome: Outcome, notes: list[str]) -> str:
    """Return a result as HTML: file, size, time, and notes.

    Args:
        outcome: of the job.
        notes: further notes than those of the outcome.
    """
    result = outcome.job.result
    seconds = outcome.read_seconds + outcome.upscale_seconds + outcome.write_seconds
    text = f"{escape(result.name)}, {format_bytes(result.stat().st_size)}, done in {format_duration(seconds)}"
    return text + "".join(f"<br>Note: {escape(each)}" for each in (*outcome.notes, *notes))
