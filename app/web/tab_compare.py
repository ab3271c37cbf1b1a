"""Bicubic and several models on the same place of a picture; with the original also PSNR and SSIM."""

import html
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from trinas.errors import ImageError, Stopped, TrinasError
from trinas.images.read_write import Image, flattened, in_srgb, read_image, read_rgb8, rgb_of, to_levels
from trinas.inference.compare import find_detailed_places, upscale_place
from trinas.inference.tensors import resize
from trinas.inference.tiled import TiledUpscaler
from trinas.training.metrics import psnr_y, ssim_y, upscale_bicubic
from trinas.zoo.folder import load_model

from .components import NETWORKS, PRIVATE, PROGRESS, READING, Picker, idle, note
from .previews import data_url, marked
from .service import Service, escaped, pixels_text, seconds_text, shown

JOB = "comparison"
MOST_MODELS = 4
ZOOMS = [("Far", 192), ("Middle", 96), ("Near", 48)]
"""Sides of the place, in the picture's own pixels."""
EMPTY = "Choose a picture: the same place of it is shown here as usual (bicubic) and as each model enlarges it."
TAP = '<p class="faint">Tap the picture where you want to look closely.</p>'


@dataclass(frozen=True)
class Column:
    """One way of enlarging."""

    name: str
    details: list[str]
    crop: Tensor


def compare_tab(service: Service, picker: Picker) -> None:
    """Lay out the tab and say what its parts do."""
    figures = gr.State({})  # name -> PSNR and SSIM, once they are measured
    place = gr.State(None)  # top left corner (y, x), in the picture's pixels
    with gr.Row(elem_classes="sides"):
        with gr.Column(scale=2, min_width=320):
            picture = gr.File(
                label="Picture", show_label=False, height=130, elem_id="compared", elem_classes=["drop", "one"]
            )
            tap = gr.HTML(TAP, visible=False)
            overview = gr.Image(
                label="Your picture", show_label=False, interactive=False, type="filepath", format="png", buttons=[],
                visible=False, elem_id="overview",
            )  # fmt: skip
            zoom = gr.Radio(ZOOMS, value=96, label="How near", elem_classes="choices")
            scale = gr.Radio([("2×", 2), ("3×", 3), ("4×", 4)], value=4, label="Size", elem_classes="choices")
            models = picker.dropdown_of_scale(scale, MOST_MODELS)
            with gr.Accordion("Measure against an original", open=False):
                gr.Markdown(
                    "If yours is a reduced copy: the picture that it was reduced from, exactly 2, 3 or 4 times as "
                    "large, as chosen above. PSNR and SSIM then say how near each result comes to it: higher is better."
                )
                original = gr.File(
                    label="Original", show_label=False, height=110, elem_id="original",
                    elem_classes=["drop", "original"],
                )  # fmt: skip
                measure = gr.Button("Measure", interactive=False, elem_id="measure")
                stop = gr.Button("Stop", variant="stop", visible=False)
        with gr.Column(scale=3, min_width=320):
            said = gr.HTML(note(EMPTY), elem_id="said-compare", elem_classes="words")
            sheet = gr.HTML(elem_id="sheet")

    def drawn(
        path: str | None, where: tuple[int, int] | None, wish: int, names: list[str], side: int, known: dict[str, Any]
    ) -> tuple[Any, ...]:
        """The columns, and the picture with the place marked."""
        hidden = gr.update(visible=False), gr.update(visible=False)
        if not path:
            return "", *hidden, None, note(EMPTY)
        try:
            image = _displayed(Path(path), service.limits.input_px)
            side = min(side, *image.size)
            y, x = where or find_detailed_places(image.pixels, side)[0]
            where = (max(0, min(y, image.size[1] - side)), max(0, min(x, image.size[0] - side)))
            columns = _columns(service, image, where, side, wish, names, known)
        except TrinasError as error:
            return "", *hidden, None, note(escaped(shown(str(error), Path(path).parent)), "bad")
        frame = marked(image, where, side)
        words = "" if names else note("Choose a model to see it beside bicubic.")
        return (
            _sheet(columns),
            gr.update(visible=True),
            gr.update(value=to_levels(frame, 8), visible=True),
            where,
            words,
        )

    def tapped(path: str, side: int, event: gr.SelectData) -> Any:
        """The place around a point of the overview."""
        image = _displayed(Path(path), service.limits.input_px)
        shown_width = marked(image, (0, 0), 1).shape[2]
        x, y = (round(position * image.size[0] / shown_width - side / 2) for position in event.index)
        return (y, x)

    def measured(
        path: str | None, other: str | None, wish: int, names: list[str], request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> tuple[Any, ...]:  # fmt: skip
        """PSNR and SSIM of every column."""
        if not path or not other:
            return {}, note("Choose a picture and its original.", "bad")
        try:
            found = _measured(service, request.session_hash, Path(path), Path(other), wish, names, progress)
        except TrinasError as error:
            return {}, note(escaped(shown(str(error), Path(path).parent, Path(other).parent)), "bad")
        except Stopped as stopped:
            return {}, note(escaped(stopped))
        return found, ""

    def begin(request: gr.Request) -> tuple[Any, ...]:
        service.session(request.session_hash).stop(JOB).clear()
        return idle(running=True)

    def stopped(request: gr.Request) -> None:
        service.session(request.session_hash).stop(JOB).set()

    inputs, outputs = [picture, place, scale, models, zoom, figures], [sheet, tap, overview, place, said]
    quiet: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
    drawing: dict[str, Any] = {"show_progress_on": said, "trigger_mode": "always_last", **NETWORKS, **PRIVATE}
    forget: dict[str, Any] = {
        "fn": lambda: (None, {}),
        "inputs": None,
        "outputs": [place, figures],
        "queue": False,
        **quiet,
    }
    for change in (picture.upload, picture.clear):
        change(**forget).then(drawn, inputs, outputs, **drawing)
    scale.input(picker.of_scale, scale, models, **quiet).then(**forget).then(drawn, inputs, outputs, **drawing)
    models.input(drawn, inputs, outputs, **drawing)
    zoom.input(drawn, inputs, outputs, **drawing)
    overview.select(tapped, [picture, zoom], place, **READING, **quiet).then(drawn, inputs, outputs, **drawing)
    original.change(lambda path: gr.update(interactive=bool(path)), original, measure, queue=False, **quiet)
    running = measure.click(begin, None, [measure, stop], queue=False, **quiet)
    running = running.then(
        measured, [picture, original, scale, models], [figures, said], show_progress_on=said, **NETWORKS, **PRIVATE
    )
    running = running.then(lambda: idle(running=False), None, [measure, stop], queue=False, **quiet)
    running.then(drawn, inputs, outputs, **drawing)
    stop.click(stopped, None, None, queue=False, **quiet)


def _displayed(path: Path, max_px: int) -> Image:
    """A picture as RGB in sRGB, on white where it is transparent, as all columns take it."""
    image = read_image(path, max_px)
    return Image(rgb_of(flattened(in_srgb(image) or image, "white").pixels))


def _columns(
    service: Service, image: Image, place: tuple[int, int], side: int, scale: int, names: list[str],
    figures: dict[str, tuple[float, float]],
) -> list[Column]:  # fmt: skip
    """Bicubic and each model, on a square of the picture."""
    y, x = place
    low = image.pixels[:, y : y + side, x : x + side]
    width, height = (side * scale for side in image.size)
    result = f"as usual; all of it becomes {pixels_text((width, height))}"
    columns = [Column("bicubic", [result], resize(low, low.shape[1] * scale, low.shape[2] * scale))]
    megapixels = width * height / 1e6
    for name in names:
        model = load_model(service.where(name) or name)
        upscaler = TiledUpscaler(model, service.device)

        def enlarge(part: Tensor, upscaler: TiledUpscaler = upscaler) -> Tensor:
            return upscaler(Image(part)).pixels

        crop = upscale_place(enlarge, image.pixels, place, side, model.config.spec)
        seconds = service.seconds_per_mp(name)
        details = [
            f"{service.offers()[name].cost.params:,} parameters",
            f"{seconds_text(seconds * megapixels)} for all of it, {seconds:.2f} s per megapixel",
        ]
        columns.append(Column(name, details, crop))
    for column in columns:
        if column.name in figures:
            psnr, ssim = figures[column.name]
            column.details.append(f"PSNR {psnr:.2f} dB, SSIM {ssim:.4f}")
    return columns


def _sheet(columns: list[Column]) -> str:
    figures = "".join(
        f'<figure><img src="{data_url(column.crop)}" alt="{html.escape(column.name)}">'
        f"<figcaption><b>{html.escape(column.name)}</b>{''.join(f'<br>{html.escape(line)}' for line in column.details)}"
        "</figcaption></figure>"
        for column in columns
    )
    return f'<div class="sheet">{figures}</div>'


def _measured(
    service: Service, session_hash: str | None, picture: Path, original: Path, scale: int, names: list[str],
    progress: gr.Progress,
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """PSNR and SSIM on Y by the field's protocol, of bicubic and of each model.

    Raises:
        ImageError: the original has not the right size, or one of the two cannot be read.
        Stopped: the visitor wished so.
    """
    limits = service.limits
    low, high = read_rgb8(picture, limits.input_px), read_rgb8(original, limits.output_px)
    if high.shape != (low.shape[0] * scale, low.shape[1] * scale, 3):
        sizes = [pixels_text((shape[1], shape[0])) for shape in (high.shape, low.shape)]
        raise ImageError(
            f"the original has {sizes[0]}: it must be {scale} times as wide and high as the picture's {sizes[1]}"
        )
    if min(low.shape[:2]) < 16:
        raise ImageError("the picture is too small to measure: 16 pixels a side are the least")
    session = service.session(session_hash)
    check = service.checked(session, session.stop(JOB))
    ways: dict[str, Any] = {"bicubic": partial(upscale_bicubic, scale=scale)}
    for name in names:
        upscaler = TiledUpscaler(load_model(service.where(name) or name), service.device)

        def enlarge(pixels: Any, upscaler: TiledUpscaler = upscaler) -> Any:
            tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 255
            return to_levels(upscaler(Image(tensor), on_tile=lambda done, total: check()).pixels, 8)

        ways[name] = enlarge
    found = {}
    for number, (name, enlarge) in enumerate(ways.items()):
        progress(number / len(ways), desc=name)
        result = enlarge(low)
        found[name] = (psnr_y(result, high, scale), ssim_y(result, high, scale))
    return found
