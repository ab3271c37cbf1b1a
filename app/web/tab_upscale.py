"""One picture: drop it, see what it will come to, enlarge it, look at it beside bicubic, download the file."""

from pathlib import Path
from typing import Any

import gradio as gr

from trinas.errors import Stopped, TrinasError
from trinas.images.read_write import read_header

from .components import (
    NETWORKS,
    PRIVATE,
    PROGRESS,
    READING,
    Controls,
    Picker,
    TileProgress,
    facts,
    idle,
    note,
    read_controls,
)
from .previews import pairs, shown_copy
from .service import Preview, Service, bytes_text, escaped, pixels_text, seconds_text, shown

JOB = "picture"
WHOLE, DETAIL = "Whole picture", "Detail, pixel by pixel"
SIDES = (
    '<p class="sides-note"><span>← as usual (bicubic)</span><span>TriNAS →</span>'
    '<span class="faint">Drag the line. The wheel, or two fingers, zoom.</span></p>'
)
EMPTY = "Choose a picture first: here it will say how large it becomes, and how long that takes."
LOOKING = "Looking at the picture…"
WELCOME = """<ol class="steps">
<li>Drop a photograph into the box.</li>
<li>Choose how large it is to become. The rest can stay as it is.</li>
<li>Press <b>Upscale</b>, see what has changed, and download the file.</li>
</ol>"""


def upscale_tab(service: Service, picker: Picker) -> None:
    """Lay out the tab and say what its parts do."""
    views = gr.State(None)  # the pairs of the slider
    with gr.Row(elem_classes="sides"):
        with gr.Column(scale=2, min_width=320):
            picture = gr.File(
                label="Picture", show_label=False, height=130, elem_id="picture", elem_classes=["drop", "one"]
            )
            controls = Controls.shown(picker)
            plan = gr.HTML(note(EMPTY), elem_id="plan")
            with gr.Row():
                start = gr.Button("Upscale", variant="primary", interactive=False, elem_id="start")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
        with gr.Column(scale=3, min_width=320):
            # First what is told: on a phone it then follows the buttons.
            said = gr.HTML(elem_id="said", elem_classes="words")
            download = gr.DownloadButton("Download", variant="primary", visible=False, elem_id="download")
            welcome = gr.HTML(WELCOME, elem_id="welcome")
            preview = gr.Image(
                label="Your picture", show_label=False, interactive=False, type="filepath", format="png",
                buttons=["fullscreen"], visible=False, elem_id="preview",
            )  # fmt: skip
            slider = gr.ImageSlider(
                label="Result", show_label=False, type="filepath", format="png", visible=False,
                buttons=["fullscreen"], interactive=False, max_height=640, elem_id="slider",
            )  # fmt: skip
            sides = gr.HTML(SIDES, visible=False)
            view = gr.Radio(
                [WHOLE, DETAIL], value=WHOLE, show_label=False, visible=False, container=False, elem_classes="choices"
            )

    def described(path: str | None, *values: Any) -> tuple[Any, Any]:
        """What the picture will come to, and whether it can be enlarged."""
        if not path:
            return note(EMPTY), gr.update(interactive=False)
        try:
            size, save, enlarger, options = read_controls(service, list(values))
            found = service.preview(Path(path), enlarger, size, save, options)
        except TrinasError as error:
            return note(escaped(error), "bad"), gr.update(interactive=False)
        rows = {"Picture": pixels_text(found.size), "Result": pixels_text(found.result)}
        rows["Time"] = f"about {seconds_text(found.seconds)} on this machine"
        rows["Model"] = _chosen(service, found, named=bool(values[2]))
        for where in dict.fromkeys(found.models):
            name = service.name_of(where)
            rows[name] = ", ".join(_details(service, name))
        return facts(rows), gr.update(interactive=True)

    def received(path: str | None, request: gr.Request) -> tuple[Any, ...]:
        """A new picture: show it, and nothing of an earlier one."""
        hidden = (gr.update(value=None, visible=False), *(gr.update(visible=False),) * 2, "", gr.update(visible=False))
        none = gr.update(visible=True), gr.update(value=None, visible=False)
        if not path:
            return *none, *hidden, note(EMPTY)
        try:
            read_header(Path(path), service.limits.input_px)
            copy = shown_copy(Path(path), service.session(request.session_hash).new_folder(), service.limits.input_px)
        except TrinasError:
            return *none, *hidden, ""  # `described` says why
        return gr.update(visible=False), gr.update(value=str(copy), visible=True), *hidden, note(LOOKING)

    def begin(request: gr.Request) -> tuple[Any, ...]:
        service.session(request.session_hash).stop(JOB).clear()
        return *idle(running=True), ""

    def run(path: str, request: gr.Request, progress: gr.Progress = PROGRESS, *values: Any) -> tuple[Any, ...]:
        """The picture enlarged: both views, words, the file."""
        same = gr.update()
        session = service.session(request.session_hash)
        try:
            size, save, enlarger, options = read_controls(service, list(values))
            outcome = service.upscale(
                session,
                session.stop(JOB),
                Path(path),
                enlarger,
                size,
                save,
                TileProgress(progress, [Path(path).name]),
                options,
            )
        except Stopped as stopped:
            return *(same,) * 5, note(escaped(stopped)), same
        except TrinasError as error:
            return *(same,) * 5, note(escaped(error), "bad"), same
        result = outcome.job.result
        notes = list(outcome.notes)
        try:
            found = pairs(Path(path), result, session.new_folder(), service.limits.input_px, service.limits.output_px)
        except TrinasError as error:  # the file is there all the same
            found = {}
            notes.append(f"it cannot be shown here ({shown(str(error), Path(path).parent, result.parent)})")
        seconds = outcome.read_seconds + outcome.upscale_seconds + outcome.write_seconds
        words = f"{escaped(result.name)}, {bytes_text(result.stat().st_size)}, done in {seconds_text(seconds)}"
        words += "".join(f"<br>Note: {escaped(text)}" for text in notes)
        paths = {name: (str(pair.before), str(pair.after)) for name, pair in found.items()}
        first = "detail" if "detail" in paths else "whole"
        return (
            gr.update(visible=not paths),
            gr.update(value=paths.get(first), visible=bool(paths)),
            gr.update(visible=bool(paths)),
            gr.update(visible="detail" in paths, value=DETAIL if first == "detail" else WHOLE),
            paths,
            note(words, "good"),
            gr.update(value=str(result), visible=True, label=f"Download {result.name}"),
        )

    def switched(wish: str, paths: dict[str, tuple[str, str]]) -> Any:
        return paths["detail" if wish == DETAIL else "whole"]

    def stopped(request: gr.Request) -> None:
        service.session(request.session_hash).stop(JOB).set()

    inputs = [picture, *controls.list()]
    quiet: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
    estimates: dict[str, Any] = {
        "trigger_mode": "always_last",
        **READING,
        **quiet,
    }
    for change in (picture.upload, picture.clear):
        outputs = [welcome, preview, slider, sides, view, said, download, plan]
        change(received, picture, outputs, **READING, **quiet).then(described, inputs, [plan, start], **estimates)
    for control in controls.list():
        control.change(described, inputs, [plan, start], **estimates)
    running = start.click(begin, None, [start, stop, said], queue=False, **quiet)
    running = running.then(
        run, inputs, [preview, slider, sides, view, views, said, download], show_progress_on=said, **NETWORKS, **PRIVATE
    )
    running.then(lambda: idle(running=False), None, [start, stop], queue=False, **quiet)
    stop.click(stopped, None, None, queue=False, **quiet)
    view.input(switched, [view, views], slider, **quiet)


def _chosen(service: Service, found: Preview, named: bool) -> str:
    """Which models, and why; `named` where the visitor chose."""
    names = list(map(service.name_of, found.models))
    if not names:
        return "none: it is only reduced"
    if found.why:
        return ", then ".join([f"{found.why}: {names[0]}, which smooths compression away", *names[1:]])
    return f"{', then '.join(names)} ({'your choice' if named else 'the one for this size'})"


def _details(service: Service, name: str) -> list[str]:
    """What there is to know of a model on offer."""
    offer = service.offers()[name]
    details = [f"{offer.tier}: {offer.cost.params:,} parameters"]
    details += [f"{metrics.psnr:.2f} dB on {test}" for test, metrics in list(offer.config.metrics.items())[:1]]
    return [*details, f"{service.seconds_per_mp(name):.2f} s per megapixel here", offer.licence]
