"""Parts that several tabs show: choices of size, model and format, job buttons, notes, tables, progress."""

import html
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gradio as gr

from trinas.config import DEFAULT_PRESET, DEFAULT_QUALITY, MAX_SCALE, PRESETS, SaveConfig, UpscaleOptions
from trinas.errors import ImageError

from ..words import format_duration, format_psnr, format_seconds
from .catalogue import Catalogue, Offer
from .runner import Request, Runner
from .uploads import Sessions

NETWORKS: dict[str, Any] = {"concurrency_id": "networks", "concurrency_limit": 1}
"""Options of events that upscale images. One runs at a time, and the others wait in the queue."""

READING: dict[str, Any] = {"concurrency_id": "reading", "concurrency_limit": 1}
"""Options of other events that decode whole images. One runs at a time, so that memory for one image is enough."""

SETTING_UP: dict[str, Any] = {"concurrency_id": "setting up", "concurrency_limit": 1}
"""Options of events that load and measure models, start searches or share their networks. One runs at a time."""

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""Options of all events of the page, because programs have their own endpoints."""

QUIET: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
"""Options of fast events."""

PROGRESS = gr.Progress()
"""Default of a handler's parameter. Gradio then passes the progress of the call."""

AUTOMATIC = ""
"""The choice by which models are chosen for each image."""

OTHER_SCALE, LONG_SIDE, WIDTH, HEIGHT = "other", "longer side", "width", "height"
SCALES: list[tuple[Any, Any]] = [("2×", 2), ("3×", 3), ("4×", 4)]
SIZES: list[tuple[Any, Any]] = [
    *SCALES, ("Other…", OTHER_SCALE), ("Longer side…", LONG_SIDE), ("Width…", WIDTH), ("Height…", HEIGHT)
]  # fmt: skip
FORMATS = [
    ("as the image", ""), ("PNG", ".png"), ("JPEG", ".jpg"), ("WebP", ".webp"), ("TIFF", ".tiff"), ("AVIF", ".avif")
]  # fmt: skip


class Picker:
    """Dropdowns of models. They always show the models on offer."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._singles: list[gr.Dropdown] = []
        self._of_scale: list[tuple[gr.Dropdown, gr.Radio]] = []

    @property
    def first(self) -> gr.Dropdown:
        """The dropdown of the first tab."""
        return self._singles[0]

    def add_dropdown(self) -> gr.Dropdown:
        """Add a dropdown of all models to the page."""
        dropdown = gr.Dropdown(self._list_choices(), value=AUTOMATIC, label="Model", elem_classes="models")
        self._singles.append(dropdown)
        return dropdown

    def add_dropdown_of_scale(self, scale: gr.Radio, most: int) -> gr.Dropdown:
        """Add a dropdown of the models of a scale. Up to `most` can be chosen; at the start, the first ones are."""
        names = self._catalogue.list_names(scale.value)
        dropdown = gr.Dropdown(
            names, value=names[:most], multiselect=True, max_choices=most, label=f"Models, up to {most}"
        )
        self._of_scale.append((dropdown, scale))
        return dropdown

    def refresh_on(self, event: Callable[..., Any]) -> Any:
        """Refresh all dropdowns when the event happens. The chosen models stay chosen."""
        outputs = [*self._singles, *(dropdown for dropdown, _ in self._of_scale)]
        inputs = [scale for _, scale in self._of_scale]
        return event(self._refresh, inputs, outputs, **QUIET)

    def _refresh(self, *scales: int) -> Any:
        updates = [gr.update(choices=self._list_choices()) for _ in self._singles]
        return [*updates, *(gr.update(choices=self._catalogue.list_names(scale)) for scale in scales)]

    def _list_choices(self) -> list[tuple[str, str]]:
        automatic = ("Automatic: by preset, size and compression", AUTOMATIC)
        speeds = self._catalogue.speeds
        offers = self._catalogue.offers().items()
        return [automatic, *((label_offer(offer, name, speeds.get(name)), name) for name, offer in offers)]


def label_offer(offer: Offer, name: str, seconds_per_mp: float | None) -> str:
    """Return a model in one line: size, quality, speed and licence. Quality and speed are only there if measured."""
    parts = [name, offer.tier, f"{offer.cost.params / 1e3:,.0f}k parameters"]
    if offer.config.restores:
        parts[1] += ", for noise and compression"
    if "Set5" in offer.config.metrics:
        parts.append(format_psnr(offer.config.metrics["Set5"].psnr))
    if seconds_per_mp is not None:
        parts.append(f"{format_seconds(seconds_per_mp)} per megapixel")
    return " · ".join([*filter(None, parts), offer.licence])


class Controls:
    """The choices of size and model, and of how results are written."""

    def __init__(self, picker: Picker) -> None:
        """Add the choices to the page at the present place."""
        size = gr.Radio(SIZES, value=4, label="Size", elem_classes="choices")
        amount = gr.Number(None, label="Times", visible=False, minimum=1, elem_id=None)
        presets = [(preset.capitalize(), preset) for preset in PRESETS]
        preset = gr.Radio(presets, value=DEFAULT_PRESET, label="Preset", elem_classes="choices")
        model = picker.add_dropdown()
        with gr.Accordion("More options", open=False):
            file_format = gr.Dropdown(FORMATS, value="", label="Format")
            quality = gr.Slider(1, 100, DEFAULT_QUALITY, step=1, label="Quality", info="of JPEG, WebP and AVIF files")
            strength = gr.Slider(0, 1, 1, step=0.05, label="Strength", info="how much the network adds; 0 is bicubic")
            self_ensemble = gr.Checkbox(
                False,
                label="Self-ensemble",
                info="the mean over 8 turns and flips: 8 times slower, about 0.2 dB better",
            )
            keep_metadata = gr.Checkbox(
                True, label="Keep metadata", info="EXIF, XMP and resolution; the colour profile is always kept"
            )
        size.input(show_amount, [size], [amount], queue=False, **QUIET)
        self.components: list[Any] = [
            size, amount, preset, model, file_format, quality, strength, self_ensemble, keep_metadata
        ]  # fmt: skip
        """In the order of the arguments of `read_controls`."""


def show_amount(size: Any) -> Any:
    """Show the number field for a size that needs a number, and hide it for all others."""
    if size == OTHER_SCALE:
        return gr.update(visible=True, label=f"Times, 1 to {MAX_SCALE}", value=2.5)
    if isinstance(size, str):
        return gr.update(visible=True, label=f"{size.capitalize()} in pixels", value=1920)
    return gr.update(visible=False)


def read_controls(
    runner: Runner, size: Any, amount: float | None, preset: str, model: str, file_format: str, quality: float,
    strength: float, self_ensemble: bool, keep_metadata: bool,
) -> Request:  # fmt: skip
    """Return the request that the values of `Controls.components` mean.

    Raises:
        ImageError: a number is out of range.
    """
    try:
        pixels = amount and round(amount)
        sizes = {
            OTHER_SCALE: {"scale": amount},
            LONG_SIDE: {"long_side": pixels},
            WIDTH: {"width": pixels},
            HEIGHT: {"height": pixels},
        }
        save = SaveConfig(
            suffix=file_format or None,
            quality=int(quality) if quality != DEFAULT_QUALITY else None,
            background="white" if file_format == ".jpg" else None,
            strip_metadata=not keep_metadata,
        )
        asked_size = runner.size(**(sizes[size] if isinstance(size, str) else {"scale": float(size)}))
        return Request(asked_size, save, model, preset, UpscaleOptions(strength, self_ensemble))
    except (TypeError, ValueError):  # what the page would not send
        raise ImageError("choose a size, and numbers within their limits") from None


class JobButtons:
    """A button that starts a job, and one that stops it. The latter is only visible while the job runs."""

    def __init__(
        self, sessions: Sessions, job: str, label: str, elem_id: str, stop_id: str, variant: Any = "primary"
    ) -> None:
        """Add the buttons to the page at the present place.

        Args:
            sessions: of the visitors.
            job: the kind of job, as for `Session.stop_request`.
            label, variant: text and look of the start button.
            elem_id, stop_id: ids of both buttons in the page.
        """
        self._sessions, self._job = sessions, job
        self.start = gr.Button(label, variant=variant, interactive=False, elem_id=elem_id)
        self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id=stop_id)

    def connect(
        self, run: Callable[..., Any], inputs: list[Any], outputs: list[Any], said: gr.HTML,
        cleared: Mapping[Any, Any] | None = None,
    ) -> Any:  # fmt: skip
        """Run a handler when the job starts.

        Args:
            run: the handler.
            inputs, outputs: of the handler.
            said: where its progress is shown.
            cleared: component -> its value while the job runs.
        Returns:
            The event after the job.
        """
        buttons = [self.start, self.stop]
        cleared = cleared or {}

        def begin(request: gr.Request) -> tuple[Any, ...]:
            self._sessions.get(request.session_hash).stop_request(self._job).clear()
            return *update_buttons(running=True), *cleared.values()

        def stop(request: gr.Request) -> None:
            self._sessions.get(request.session_hash).stop_request(self._job).set()

        running = self.start.click(begin, None, [*buttons, *cleared], queue=False, **QUIET)
        running = running.then(run, inputs, outputs, show_progress_on=said, **NETWORKS, **PRIVATE)
        self.stop.click(stop, None, None, queue=False, **QUIET)
        return running.then(lambda: update_buttons(running=False), None, buttons, queue=False, **QUIET)


def update_buttons(running: bool) -> tuple[Any, Any]:
    """Return updates of a start button and a stop button.

    Args:
        running: whether the job runs.
    """
    return gr.update(interactive=not running), gr.update(visible=running)


class TileProgress:
    """Shows the progress after each tile, with the time left."""

    def __init__(self, progress: gr.Progress, names: list[str]) -> None:
        self._progress, self._names = progress, names
        self._start = time.monotonic()
        progress(0, desc="Reading")

    def __call__(self, number: int, share: float) -> None:
        done = (number + share) / len(self._names)
        left = (time.monotonic() - self._start) * (1 - done) / done
        which = f"{number + 1} of {len(self._names)}, {self._names[number]}; " if len(self._names) > 1 else ""
        # Gradio itself adds the finished share. After the last tile, the file is written.
        self._progress(done, desc=f"{which}{f'about {format_duration(left)} left' if done < 1 else 'writing the file'}")


def render_note(text: str, kind: str = "") -> str:
    """Return a text in a box, as HTML.

    Args:
        text: HTML.
        kind: good, bad, or empty.
    """
    return f'<div class="note {kind}">{text}</div>' if text else ""


def render_table(headers: dict[str, str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table as HTML, in a box that scrolls.

    Args:
        headers: name of each column -> its class in page.css.
        rows: cells, as text.
    """
    kinds = list(headers.values())
    head = "".join(f'<th class="{kind}">{html.escape(name)}</th>' for name, kind in headers.items())
    lines = (
        "".join(f'<td class="{kind}">{html.escape(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scrolled"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def render_facts(rows: dict[str, str]) -> str:
    """Return names and values as HTML.

    Args:
        rows: name -> value, both as text.
    """
    items = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows.items())
    return f'<dl class="facts">{items}</dl>'
