"""Parts that several tabs show: choices of size, model and format, job buttons, notes, tables, progress."""

import html
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gradio as gr

from trinas.config import DEFAULT_QUALITY, MAX_SCALE, SaveConfig, UpscaleOptions

from ..words import format_duration
from .catalogue import Catalogue, Offer
from .runner import Request, Runner
from .uploads import Sessions

NETWORKS: dict[str, Any] = {"concurrency_id": "networks", "concurrency_limit": 1}
"""For every event that upscales images: one runs at a time, the others wait in the queue."""

READING: dict[str, Any] = {"concurrency_id": "reading", "concurrency_limit": 1}
"""For every other event that decodes whole images: memory for one of the largest is enough."""

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""For every event of the page: programs have endpoints of their own."""

QUIET: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
"""For events that are fast."""

PROGRESS = gr.Progress()
"""The default of a handler's parameter; Gradio then passes the progress of that call."""

AUTOMATIC = ""
"""The choice that lets each image decide on the models."""

OTHER_SCALE, LONG_SIDE, WIDTH, HEIGHT = "other", "longer side", "width", "height"
SCALES: list[tuple[Any, Any]] = [("2×", 2), ("3×", 3), ("4×", 4)]
SIZES: list[tuple[Any, Any]] = [
    *SCALES, ("Other…", OTHER_SCALE), ("Longer side…", LONG_SIDE), ("Width…", WIDTH), ("Height…", HEIGHT)
]  # fmt: skip
FORMATS = [
    ("as the image", ""), ("PNG", ".png"), ("JPEG", ".jpg"), ("WebP", ".webp"), ("TIFF", ".tiff"), ("AVIF", ".avif")
]  # fmt: skip


class Picker:
    """Dropdowns of models that always show what is on offer."""

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
        dropdown = gr.Dropdown(self._all(), value=AUTOMATIC, label="Model", elem_classes="models")
        self._singles.append(dropdown)
        return dropdown

    def add_dropdown_of_scale(self, scale: gr.Radio, most: int) -> gr.Dropdown:
        """Add a dropdown of the models of a scale. Up to `most` can be chosen; at first these are the first ones."""
        names = self._catalogue.list_names(scale.value)
        dropdown = gr.Dropdown(
            names, value=names[:most], multiselect=True, max_choices=most, label=f"Models, up to {most}"
        )
        self._of_scale.append((dropdown, scale))
        return dropdown

    def refresh_on(self, event: Callable[..., Any]) -> Any:
        """Refresh all dropdowns whenever the event happens; what is chosen stays chosen."""
        outputs = [*self._singles, *(dropdown for dropdown, _ in self._of_scale)]
        inputs = [scale for _, scale in self._of_scale]
        return event(self._refreshed, inputs, outputs, **QUIET)

    def _refreshed(self, *scales: int) -> Any:
        updates = [gr.update(choices=self._all()) for _ in self._singles]
        return [*updates, *(gr.update(choices=self._catalogue.list_names(scale)) for scale in scales)]

    def _all(self) -> list[tuple[str, str]]:
        automatic = ("Automatic: by size and compression", AUTOMATIC)
        speeds = self._catalogue.speeds
        offers = self._catalogue.offers().items()
        return [automatic, *((label_offer(offer, name, speeds.get(name)), name) for name, offer in offers)]


def label_offer(offer: Offer, name: str, seconds_per_mp: float | None) -> str:
    """Return a model in one line: size, quality and speed where they were measured, licence."""
    parts = [name, offer.tier, f"{offer.cost.params / 1e3:,.0f}k parameters"]
    if offer.config.restores:
        parts[1] += ", for noise and compression"
    if "Set5" in offer.config.metrics:
        parts.append(f"{offer.config.metrics['Set5'].psnr:.2f} dB")
    if seconds_per_mp is not None:
        parts.append(f"{seconds_per_mp:.2f} s per megapixel")
    return " · ".join([*filter(None, parts), offer.licence])


class Controls:
    """The choices of size, model, and how results are written."""

    def __init__(self, picker: Picker) -> None:
        """Add them to the page, here."""
        size = gr.Radio(SIZES, value=4, label="Size", elem_classes="choices")
        amount = gr.Number(None, label="Times", visible=False, minimum=1, elem_id=None)
        model = picker.add_dropdown()
        with gr.Accordion("More options", open=False):
            file_format = gr.Dropdown(FORMATS, value="", label="Format")
            quality = gr.Slider(1, 100, DEFAULT_QUALITY, step=1, label="Quality", info="of JPEG, WebP and AVIF files")
            strength = gr.Slider(0, 1, 1, step=0.05, label="Strength", info="how much the network adds; 0 is bicubic")
            self_ensemble = gr.Checkbox(
                False, label="Best quality", info="the mean over 8 turns and flips: 8 times slower, about 0.2 dB better"
            )
            keep_metadata = gr.Checkbox(
                True, label="Keep metadata", info="EXIF, XMP and resolution; the colour profile is always kept"
            )
        size.input(show_amount, [size], [amount], queue=False, **QUIET)
        self.components: list[Any] = [
            size, amount, model, file_format, quality, strength, self_ensemble, keep_metadata
        ]  # fmt: skip
        """In the order of the arguments of `read_controls`."""


def show_amount(size: Any) -> Any:
    """Show the number field of a size that is not on the list, and hide it for the others."""
    if size == OTHER_SCALE:
        return gr.update(visible=True, label=f"Times, 1 to {MAX_SCALE}", value=2.5)
    if isinstance(size, str):
        return gr.update(visible=True, label=f"{size.capitalize()} in pixels", value=1920)
    return gr.update(visible=False)


def read_controls(
    runner: Runner, size: Any, amount: float | None, model: str, file_format: str, quality: float, strength: float,
    self_ensemble: bool, keep_metadata: bool,
) -> Request:  # fmt: skip
    """Return what the values of `Controls.components` ask for.

    Raises:
        ImageError: a number is out of range.
    """
    pixels = amount and round(amount)
    wishes = {
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
    asked_size = runner.size(**(wishes[size] if isinstance(size, str) else {"scale": float(size)}))
    return Request(asked_size, save, model, UpscaleOptions(strength, self_ensemble))


class JobButtons:
    """The button that starts a job and the one that stops it, which is only seen while the job runs."""

    def __init__(
        self, sessions: Sessions, job: str, label: str, elem_id: str, stop_id: str, variant: Any = "primary"
    ) -> None:
        """Add them to the page, here.

        Args:
            job: the kind of job, as for `Session.stop_request`.
            label, variant: text and look of the button that starts.
            elem_id, stop_id: their ids in the page.
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
            run: the handler, with its inputs and outputs.
            said: where its progress is shown.
            cleared: components and their values while the job runs.
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
    """Return updates of a start button and a stop button, for while something runs or not."""
    return gr.update(interactive=not running), gr.update(visible=running)


class TileProgress:
    """Shows progress after each tile, with the time left."""

    def __init__(self, progress: gr.Progress, names: list[str]) -> None:
        self._progress, self._names = progress, names
        self._start = time.monotonic()
        progress(0, desc="Reading")

    def __call__(self, number: int, share: float) -> None:
        done = (number + share) / len(self._names)
        left = (time.monotonic() - self._start) * (1 - done) / done
        which = f"{number + 1} of {len(self._names)}, {self._names[number]}; " if len(self._names) > 1 else ""
        # Gradio adds the share that is done. After the last tile the file is written.
        self._progress(done, desc=f"{which}{f'about {format_duration(left)} left' if done < 1 else 'writing the file'}")


def note(text: str, kind: str = "") -> str:
    """Return words in a box.

    Args:
        text: HTML.
        kind: good, bad or nothing.
    """
    return f'<div class="note {kind}">{text}</div>' if text else ""


def table(headers: dict[str, str], rows: Iterable[Iterable[str]]) -> str:
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


def facts(rows: dict[str, str]) -> str:
    """Return names and values, both text, as HTML."""
    items = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows.items())
    return f'<dl class="facts">{items}</dl>'
