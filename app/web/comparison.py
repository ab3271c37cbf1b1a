"""Bicubic and models on the same place of an image, and their PSNR and SSIM if there is an original."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trinas.errors import ImageError
from trinas.images.image import Image, flatten, to_levels, to_rgb, to_srgb
from trinas.images.read import ImageFile
from trinas.inference.compare import upscale_place
from trinas.inference.tensors import resize
from trinas.inference.tiled import TiledUpscaler
from trinas.training.metrics import psnr_y, ssim_y, upscale_bicubic

from ..words import format_duration, format_pixels, format_psnr, format_seconds
from .catalogue import Catalogue
from .previews import encode_data_url

BICUBIC = "bicubic"
FEWEST_PX = 16
"""Shortest side of an image that can be measured."""

Metrics = dict[str, tuple[float, float]]
"""PSNR and SSIM by the name of the model, or `BICUBIC`."""

Upscale = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Column:
    """One column: the place, upscaled by one method."""

    name: str
    details: list[str]
    crop: Tensor


def read_displayed(file: ImageFile) -> Image:
    """Decode an image as all columns show it: as RGB in sRGB, laid on white.

    Raises:
        ImageError: the file is damaged.
    """
    image = file.read()
    return Image(to_rgb(flatten(to_srgb(image) or image, "white").pixels))


def compare_place(
    catalogue: Catalogue, image: Image, place: tuple[int, int], side: int, scale: int, names: list[str],
    metrics: Metrics,
) -> list[Column]:  # fmt: skip
    """Upscale a square of an image by bicubic and by each model.

    Args:
        catalogue: has the models.
        image: from `read_displayed`.
        place: top left corner (y, x) of the square, in the image's pixels.
        side: of the square, in the image's pixels.
        scale: output pixels per input pixel.
        names: models of the scale.
        metrics: of the whole image, as far as they are known.
    """
    y, x = place
    low = image.pixels[:, y : y + side, x : x + side]
    width, height = (length * scale for length in image.size)
    result = f"as usual; the whole image becomes {format_pixels((width, height))}"
    columns = [Column(BICUBIC, [result], resize(low, low.shape[1] * scale, low.shape[2] * scale))]
    for name in names:
        upscaler, offer = catalogue.upscaler(name), catalogue.offers()[name]
        crop = upscale_place(partial(_upscale_part, upscaler), image.pixels, place, side, offer.config.spec)
        seconds = catalogue.seconds_per_mp(name)
        time = (
            f"{format_duration(seconds * width * height / 1e6)} for all of it, {format_seconds(seconds)} per megapixel"
        )
        columns.append(Column(name, [f"{offer.cost.params:,} parameters", time], crop))
    for column in columns:
        if column.name in metrics:
            psnr, ssim = metrics[column.name]
            column.details.append(f"PSNR {format_psnr(psnr)}, SSIM {ssim:.4f}")
    return columns


def _upscale_part(upscaler: TiledUpscaler, part: Tensor) -> Tensor:
    return upscaler(Image(part)).pixels


def render_columns(columns: list[Column]) -> str:
    """Return the columns as HTML."""
    figures = "".join(
        f'<figure><img src="{encode_data_url(column.crop)}" alt="{html.escape(column.name)}">'
        f"<figcaption><b>{html.escape(column.name)}</b>{''.join(f'<br>{html.escape(line)}' for line in column.details)}"
        "</figcaption></figure>"
        for column in columns
    )
    return f'<div class="sheet">{figures}</div>'


def read_measured(low_file: ImageFile, high_file: ImageFile, scale: int) -> tuple[NDArray[np.uint8], ...]:
    """Decode an image and its original, both uint8 (H, W, 3).

    Raises:
        ImageError: one of them is damaged, or they cannot be compared.
    """
    low, high = low_file.read_rgb8(), high_file.read_rgb8()
    if high.shape != (low.shape[0] * scale, low.shape[1] * scale, 3):
        sizes = [format_pixels((shape[1], shape[0])) for shape in (high.shape, low.shape)]
        raise ImageError(
            f"the original has {sizes[0]}: it must be {scale} times as wide and high as the image's {sizes[1]}"
        )
    if min(low.shape[:2]) < FEWEST_PX:
        raise ImageError(f"the image is too small to measure: it needs at least {FEWEST_PX} pixels a side")
    return low, high


def measure_models(
    catalogue: Catalogue, low: NDArray[np.uint8], high: NDArray[np.uint8], scale: int, names: list[str],
    check: Callable[[], None], on_model: Callable[[float, str], None],
) -> Metrics:  # fmt: skip
    """Measure PSNR and SSIM on Y of bicubic and of each model, by the field's protocol.

    Args:
        catalogue: has the models.
        low, high: from `read_measured`.
        scale: of the models.
        names: of the models.
        check: called after each tile. It raises `Stopped` to end the work.
        on_model: called before each model with the share that is done and the name of the model.
    """
    ways: dict[str, Upscale] = {BICUBIC: partial(upscale_bicubic, scale=scale)}
    ways |= {name: partial(_upscale_rgb8, catalogue.upscaler(name), check) for name in names}
    metrics = {}
    for number, (name, upscale) in enumerate(ways.items()):
        on_model(number / len(ways), name)
        result = upscale(low)
        metrics[name] = (psnr_y(result, high, scale), ssim_y(result, high, scale))
    return metrics


def _upscale_rgb8(upscaler: TiledUpscaler, check: Callable[[], None], low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pixels = torch.from_numpy(np.ascontiguousarray(low)).permute(2, 0, 1).float() / 255
    return to_levels(upscaler(Image(pixels), on_tile=lambda done, total: check()).pixels, 8)
