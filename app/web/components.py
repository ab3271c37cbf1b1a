"""What several tabs have in common: choices of size, model and format, words for people, progress."""

import html
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from trinas.config import DEFAULT_QUALITY, MAX_SCALE, SaveConfig, SizeConfig, UpscaleOptions
from trinas.inference.cascade import CascadeUpscaler

from .service import Offer, Service, seconds_text

NETWORKS: dict[str, Any] = {"concurrency_id": "networks", "concurrency_limit": 1}
"""Of every event that enlarges pictures: one at a time, the others wait in the queue."""

READING: dict[str, Any] = {"concurrency_id": "reading", "concurrency_limit": 1}
"""Of every other event that decodes whole pictures: memory for one of the largest is enough."""

PRIVATE: dict[str, Any] = {"api_visibility": "private"}

PROGRESS = gr.Progress()
"""As the default of a handler's parameter: Gradio then hands in the progress of that call."""

AUTOMATIC = ""
"""The choice that leaves the model to the picture."""

OTHER_SCALE, LONG_SIDE, WIDTH, HEIGHT = "other", "longer side", "width", "height"
SIZES: list[tuple[Any, Any]] = [
    ("2×", 2),
    ("3×", 3),
    ("4×", 4),
    ("Other…", OTHER_SCALE),
    ("Longer side…", LONG_SIDE),
    ("Width…", WIDTH),
    ("Height…", HEIGHT),
]
FORMATS = [
    ("as the picture", ""), ("PNG", ".png"), ("JPEG", ".jpg"), ("WebP", ".webp"), ("TIFF", ".tiff"), ("AVIF", ".avif")
]  # fmt: skip


class Picker:
    """Dropdowns of models, kept up to date with what is on offer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._singles: list[gr.Dropdown] = []
        self._of_scale: list[tuple[gr.Dropdown, gr.Radio]] = []

    @property
    def first(self) -> gr.Dropdown:
        """That of the first tab."""
        return self._singles[0]

    def dropdown(self) -> gr.Dropdown:
        """One of all models."""
        dropdown = gr.Dropdown(self._all(), value=AUTOMATIC, label="Model", elem_classes="models")
        self._singles.append(dropdown)
        return dropdown

    def dropdown_of_scale(self, scale: gr.Radio, most: int) -> gr.Dropdown:
        """One of the models of a scale, of which several can be chosen; the first ones are to begin with."""
        names = self._named(scale.value)
        dropdown = gr.Dropdown(
            names, value=names[:most], multiselect=True, max_choices=most, label=f"Models, up to {most}"
        )
        self._most = most
        self._of_scale.append((dropdown, scale))
        return dropdown

    def refresh(self, event: Callable[..., Any]) -> Any:
        """Let all dropdowns show what is on offer whenever the event happens."""
        outputs = [*self._singles, *(dropdown for dropdown, _ in self._of_scale)]
        inputs = [scale for _, scale in self._of_scale]
        return event(self._refreshed, inputs, outputs, show_progress="hidden", **PRIVATE)

    def _refreshed(self, *scales: int) -> Any:
        """What was chosen stays chosen."""
        updates = [gr.update(choices=self._all()) for _ in self._singles]
        return [*updates, *(gr.update(choices=self._named(scale)) for scale in scales)]

    def of_scale(self, scale: int) -> Any:
        """What a dropdown of several models becomes when the scale does."""
        names = self._named(scale)
        return gr.update(choices=names, value=names[: self._most])

    def _all(self) -> list[tuple[str, str]]:
        automatic = ("Automatic: by size and compression", AUTOMATIC)
        speeds = self._service.speeds
        offers = self._service.offers().items()
        return [automatic, *((label(offer, name, speeds.get(name)), name) for name, offer in offers)]

    def _named(self, scale: int) -> list[str]:
        return [name for name, offer in self._service.offers().items() if offer.config.spec.scale == scale]


def label(offer: Offer, name: str, seconds_per_mp: float | None) -> str:
    """A model in one line: size, quality where it was measured, speed here once it is, licence."""
    parts = [name, offer.tier, f"{offer.cost.params / 1e3:,.0f}k parameters"]
    if offer.config.restores:
        parts[1] += ", for noise and compression"
    if "Set5" in offer.config.metrics:
        parts.append(f"{offer.config.metrics['Set5'].psnr:.2f} dB")
    if seconds_per_mp is not None:
        parts.append(f"{seconds_per_mp:.2f} s per megapixel")
    return " · ".join([*filter(None, parts), offer.licence])


@dataclass(frozen=True)
class Controls:
    """How large, by which model, and how written."""

    size: gr.Radio
    amount: gr.Number
    model: gr.Dropdown
    file_format: gr.Dropdown
    quality: gr.Slider
    strength: gr.Slider
    tta: gr.Checkbox
    keep_metadata: gr.Checkbox

    def list(self) -> list[Any]:
        """The components, in the order that `read_controls` takes their values in."""
        return [
            self.size, self.amount, self.model, self.file_format, self.quality, self.strength, self.tta,
            self.keep_metadata,
        ]  # fmt: skip

    @staticmethod
    def shown(picker: Picker) -> "Controls":
        """Put them on the page, here."""
        size = gr.Radio(SIZES, value=4, label="Size", elem_classes="choices")
        amount = gr.Number(None, label="Times", visible=False, minimum=1, elem_id=None)
        model = picker.dropdown()
        with gr.Accordion("More options", open=False):
            file_format = gr.Dropdown(FORMATS, value="", label="Format")
            quality = gr.Slider(1, 100, DEFAULT_QUALITY, step=1, label="Quality", info="of JPEG, WebP and AVIF files")
            strength = gr.Slider(0, 1, 1, step=0.05, label="Strength", info="how much the network adds; 0 is bicubic")
            tta = gr.Checkbox(
                False, label="Best quality", info="the mean over 8 turns and flips: 8 times slower, about 0.2 dB better"
            )
            keep = gr.Checkbox(
                True, label="Keep metadata", info="EXIF, XMP and resolution; the colour profile is always kept"
            )
        size.input(_amount, [size], [amount], show_progress="hidden", queue=False, **PRIVATE)
        return Controls(size, amount, model, file_format, quality, strength, tta, keep)


def _amount(size: Any) -> Any:
    """The field for a size that is not on the list."""
    if size == OTHER_SCALE:
        return gr.update(visible=True, label=f"Times, 1 to {MAX_SCALE}", value=2.5)
    if isinstance(size, str):
        return gr.update(visible=True, label=f"{size.capitalize()} in pixels", value=1920)
    return gr.update(visible=False)


def read_controls(
    service: Service, values: list[Any]
) -> tuple[SizeConfig, SaveConfig, CascadeUpscaler, UpscaleOptions]:
    """What the controls say.

    Raises:
        TrinasError: a number is out of range, or the model cannot be loaded.
    """
    size, amount, model, file_format, quality, strength, tta, keep_metadata = values
    if isinstance(size, str):
        wishes = {
            OTHER_SCALE: {"scale": amount},
            LONG_SIDE: {"long_side": amount and round(amount)},
            WIDTH: {"width": amount and round(amount)},
            HEIGHT: {"height": amount and round(amount)},
        }[size]
    else:
        wishes = {"scale": float(size)}
    save = SaveConfig(
        suffix=file_format or None,
        quality=int(quality) if quality != DEFAULT_QUALITY else None,
        background="white" if file_format == ".jpg" else None,
        strip_metadata=not keep_metadata,
    )
    options = UpscaleOptions(strength, tta)
    return service.size(**wishes), save, service.enlarger(model or None), options


class TileProgress:
    """Progress per tile with the time left, for `on_tile`."""

    def __init__(self, progress: gr.Progress, names: list[str]) -> None:
        self._progress, self._names = progress, names
        self._start = time.monotonic()
        progress(0, desc="Reading")

    def __call__(self, number: int, share: float) -> None:
        done = (number + share) / len(self._names)
        left = (time.monotonic() - self._start) * (1 - done) / done
        which = f"{number + 1} of {len(self._names)}, {self._names[number]}; " if len(self._names) > 1 else ""
        # Gradio adds how much is done, in percent. After the last tile comes the file.
        self._progress(done, desc=f"{which}{f'about {seconds_text(left)} left' if done < 1 else 'writing the file'}")


def note(text: str, kind: str = "") -> str:
    """Words in a box; kind is good, bad or nothing. The text is HTML already."""
    return f'<div class="note {kind}">{text}</div>' if text else ""


def table(headers: dict[str, str], rows: Iterable[Iterable[str]]) -> str:
    """A table as HTML, in a box that scrolls; cells are text.

    Args:
        headers: of each column, with its class in page.css.
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
    """Names and values, as HTML; both are text."""
    items = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows.items())
    return f'<dl class="facts">{items}</dl>'


def models_table(service: Service) -> list[dict[str, object]]:
    """What is on offer, for programs."""
    return [
        {
            "name": name,
            "scale": offer.config.spec.scale,
            "params": offer.cost.params,
            "macs": offer.cost.macs,
            "figures": {test_set: metrics.model_dump() for test_set, metrics in offer.config.metrics.items()},
            "licence": offer.config.licence,
        }
        for name, offer in service.offers().items()
    ]


def idle(running: bool) -> tuple[Any, Any]:
    """The buttons that start and stop, as they are while something runs, or not; what does not run needs no Stop."""
    return gr.update(interactive=not running), gr.update(visible=running)
