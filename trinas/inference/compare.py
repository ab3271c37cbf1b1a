"""One picture that shows what several networks make of the same places."""

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from trinas.config import UpscaleConfig
from trinas.images.image import Image, flatten, in_srgb, rgb_of, to_levels
from trinas.inference.tiled import Upscaler, resize
from trinas.networks.cost import spec_cost
from trinas.networks.space import ArchSpec
from trinas.zoo.folder import Model

CROP_PX, CROPS = 96, 3
"""Side of a crop in input pixels, and how many places are shown."""

_SHOWN_PX = 384  # side of a crop on the sheet
_MARGIN_PX, _HEADER_PX = 16, 72
_INK, _FAINT_INK, _PAPER = "#1f2933", "#52606d", "#ffffff"


@dataclass(frozen=True)
class Contender:
    """One column of the sheet."""

    name: str
    details: str
    """The line below the name."""
    crops: list[Tensor]
    """The places enlarged, each (3, scale * h, scale * w)."""


def compare_models(image: Image, models: Sequence[Model], config: UpscaleConfig | None = None) -> bytes:
    """Enlarge the most detailed places of a picture by bicubic and by each network, side by side.

    Args:
        image: from `read_image`; shown on white, in sRGB.
        models: all of one scale, at least one.
        config: how the networks are run.
    Returns:
        A PNG file with a row for each place and a labelled column for each way of enlarging.
    Raises:
        UpscaleError: a network's result is not a picture of its input.
    """
    colour = rgb_of(flatten(in_srgb(image) or image, "white").pixels)
    places, scale = sorted(detailed_places(colour)), models[0].scale
    crops = [colour[:, y : y + CROP_PX, x : x + CROP_PX] for y, x in places]
    bicubic = [resize(crop, crop.shape[1] * scale, crop.shape[2] * scale) for crop in crops]
    factor = _SHOWN_PX / max(bicubic[0].shape[1:])
    columns = [Contender("bicubic", f"x{scale}, each pixel shown {factor:.2g} times as large", bicubic)]
    columns += [_contender(model, colour, places, config) for model in models]
    buffer = io.BytesIO()
    _sheet(columns).save(buffer, "PNG")
    return buffer.getvalue()


def detailed_places(pixels: Tensor, side_px: int = CROP_PX) -> list[tuple[int, int]]:
    """Top left corners (y, x) of up to three squares that do not overlap and hold the most detail, the first first.

    Args:
        pixels: (3, H, W).
        side_px: of a square.
    """
    gray = pixels.mean(dim=0)
    side = min(side_px, *gray.shape)
    detail = torch.zeros_like(gray)
    detail[1:] += gray.diff(dim=0).abs()
    detail[:, 1:] += gray.diff(dim=1).abs()
    step = max(1, side // 4)
    # The square root keeps one hard edge from outweighing a whole texture.
    sums = F.avg_pool2d(detail.sqrt()[None], side, stride=step)[0]
    places: list[tuple[int, int]] = []
    for _ in range(CROPS):
        row, column = divmod(int(sums.argmax()), sums.shape[1])
        if sums[row, column] < 0:
            break
        places.append((row * step, column * step))
        sums[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = -1
    return places


def enlarged_place(
    enlarge: Callable[[Tensor], Tensor], pixels: Tensor, place: tuple[int, int], side_px: int, spec: ArchSpec
) -> Tensor:
    """A square of a picture enlarged with as much around it as the network sees, so that it is as in the whole picture.

    Args:
        enlarge: (3, h, w) to (3, scale * h, scale * w), by a network of the spec.
        pixels: (3, H, W).
        place: top left corner (y, x).
    Returns:
        (3, scale * side_px, scale * side_px), less at the picture's edge.
    """
    (y, x), scale, radius = place, spec.scale, spec_cost(spec).radius_px
    top, left = max(0, y - radius), max(0, x - radius)
    high = enlarge(pixels[:, top : y + side_px + radius, left : x + side_px + radius])
    return high[:, (y - top) * scale :, (x - left) * scale :][:, : side_px * scale, : side_px * scale]


def _contender(
    model: Model, colour: Tensor, places: Sequence[tuple[int, int]], config: UpscaleConfig | None
) -> Contender:
    upscaler, spec = Upscaler(model, config), model.config.spec
    upscaler(Image(colour[:, :CROP_PX, :CROP_PX]))  # kernels are loaded once, whatever the picture
    fastest = math.inf

    def enlarge(low: Tensor) -> Tensor:
        nonlocal fastest
        start = time.perf_counter()
        high = upscaler(Image(low)).pixels
        fastest = min(fastest, (time.perf_counter() - start) / (high.shape[1] * high.shape[2]))
        return high

    crops = [enlarged_place(enlarge, colour, place, CROP_PX, spec) for place in places]
    details = f"x{model.scale}, {spec_cost(spec).params:,} parameters, {fastest * 1e6:.2f} s per output megapixel"
    return Contender(model.config.name, details, crops)


def _sheet(columns: Sequence[Contender]) -> PillowImage.Image:
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
            # Enlarged by repetition, so that nothing is smoothed which the networks did not smooth.
            factor = _SHOWN_PX / max(shown.size)
            shown = shown.resize(
                (round(shown.width * factor), round(shown.height * factor)), PillowImage.Resampling.NEAREST
            )
            sheet.paste(shown, (left, _HEADER_PX + row * pitch))
    return sheet
