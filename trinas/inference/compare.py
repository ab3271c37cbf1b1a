"""Show side by side how several models upscale the same places of an image."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from trinas.config import DEFAULT_DEVICE, DEFAULT_PRECISION
from trinas.images.image import Image, flatten, to_levels, to_rgb, to_srgb
from trinas.inference.tensors import resize
from trinas.inference.tiled import TiledUpscaler
from trinas.networks.cost import compute_cost
from trinas.networks.space import ArchSpec
from trinas.timer import Timer
from trinas.zoo.folder import Model

CROP_PX, CROPS = 96, 3
"""The side of a crop in input pixels, and the number of places that are shown."""

_SHOWN_PX = 384  # side of a crop on the sheet
_MARGIN_PX, _HEADER_PX = 16, 72
_INK, _FAINT_INK, _PAPER = "#1f2933", "#52606d", "#ffffff"


@dataclass(frozen=True)
class _Column:
    """What the sheet shows of one method."""

    name: str
    details: str
    """The line below the name."""
    crops: list[Tensor]
    """The places after upscaling, each (3, scale * h, scale * w)."""


def compare_models(
    image: Image, models: Sequence[Model], device: str = DEFAULT_DEVICE, precision: str = DEFAULT_PRECISION
) -> bytes:
    """Upscale the most detailed places of an image by bicubic and by each model, side by side.

    Args:
        image: from `read_image`. It is shown on white, in sRGB.
        models: all of one scale, at least one.
        device: as for `TiledUpscaler`.
        precision: as for `TiledUpscaler`.
    Returns:
        A PNG file with one row for each place and one labelled column for each method.
    Raises:
        UpscaleError: a network's result does not match its input, or memory is too small.
    """
    colour = to_rgb(flatten(to_srgb(image) or image, "white").pixels)
    places, scale = sorted(find_detailed_places(colour)), models[0].scale
    crops = [colour[:, y : y + CROP_PX, x : x + CROP_PX] for y, x in places]
    bicubic = [resize(crop, crop.shape[1] * scale, crop.shape[2] * scale) for crop in crops]
    factor = _SHOWN_PX / max(bicubic[0].shape[1:])
    columns = [_Column("bicubic", f"x{scale}, each pixel shown {factor:.2g} times as large", bicubic)]
    columns += [_upscale_places(model, TiledUpscaler(model, device, precision), colour, places) for model in models]
    buffer = io.BytesIO()
    _draw_sheet(columns).save(buffer, "PNG")
    return buffer.getvalue()


def find_detailed_places(pixels: Tensor, side_px: int = CROP_PX) -> list[tuple[int, int]]:
    """Find up to three separate squares with the most detail.

    Args:
        pixels: (3, H, W).
        side_px: side of a square.
    Returns:
        Their top left corners (y, x), the most detailed square first.
    """
    gray = pixels.mean(dim=0)
    side = min(side_px, *gray.shape)
    detail = torch.zeros_like(gray)
    detail[1:] += gray.diff(dim=0).abs()
    detail[:, 1:] += gray.diff(dim=1).abs()
    step = max(1, side // 4)
    # With the square root, one hard edge does not outweigh a whole texture.
    sums = F.avg_pool2d(detail.sqrt()[None], side, stride=step)[0]
    places: list[tuple[int, int]] = []
    for _ in range(CROPS):
        row, column = divmod(int(sums.argmax()), sums.shape[1])
        if sums[row, column] < 0:
            break
        places.append((row * step, column * step))
        sums[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = -1
    return places


def upscale_place(
    upscale: Callable[[Tensor], Tensor], pixels: Tensor, place: tuple[int, int], side_px: int, spec: ArchSpec
) -> Tensor:
    """Upscale a square of an image. The network sees enough around it that the result equals that of the whole image.

    Args:
        upscale: maps (3, h, w) to (3, scale * h, scale * w) by a network of the spec.
        pixels: (3, H, W).
        place: top left corner (y, x).
        side_px: side of the square, in input pixels.
        spec: architecture of the network.
    Returns:
        (3, scale * side_px, scale * side_px), smaller at the image's border.
    """
    (y, x), scale, radius = place, spec.scale, compute_cost(spec).radius_px
    top, left = max(0, y - radius), max(0, x - radius)
    high = upscale(pixels[:, top : y + side_px + radius, left : x + side_px + radius])
    return high[:, (y - top) * scale :, (x - left) * scale :][:, : side_px * scale, : side_px * scale]


def _upscale_places(
    model: Model, upscaler: TiledUpscaler, colour: Tensor, places: Sequence[tuple[int, int]]
) -> _Column:
    spec = model.config.spec
    upscaler(Image(colour[:, :CROP_PX, :CROP_PX]))  # loads kernels, which must not be timed
    fastest = math.inf

    def upscale(low: Tensor) -> Tensor:
        nonlocal fastest
        with Timer() as timer:
            high = upscaler(Image(low)).pixels
        fastest = min(fastest, timer.seconds / (high.shape[1] * high.shape[2]))
        return high

    crops = [upscale_place(upscale, colour, place, CROP_PX, spec) for place in places]
    details = f"x{model.scale}, {compute_cost(spec).params:,} parameters, {fastest * 1e6:.2f} s per output megapixel"
    return _Column(model.config.name, details, crops)


def _draw_sheet(columns: Sequence[_Column]) -> PillowImage.Image:
    pitch = _SHOWN_PX + _MARGIN_PX
    size = (len(columns) * pitch + _MARGIN_PX, _HEADER_PX + len(columns[0].crops) * pitch)
    sheet = PillowImage.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, column in enumerate(columns):
        left = _MARGIN_PX + number * pitch
        draw.text((left, 26), column.name, fill=_INK, font=ImageFont.load_default(24), anchor="lm")
        draw.text((left, 54), column.details, fill=_FAINT_INK, font=ImageFont.load_default(16), anchor="lm")
        for row, crop in enumerate(column.crops):
            shown = PillowImage.fromarray(to_levels(crop, 8))
            # Pixels are repeated, so that the sheet itself smooths nothing.
            factor = _SHOWN_PX / max(shown.size)
            shown = shown.resize(
                (round(shown.width * factor), round(shown.height * factor)), PillowImage.Resampling.NEAREST
            )
            sheet.paste(shown, (left, _HEADER_PX + row * pitch))
    return sheet
