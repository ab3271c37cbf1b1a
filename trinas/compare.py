"""One picture that shows what several networks make of the same places."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from trinas.images import Image, to_levels
from trinas.upscale import Upscaler, resize

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
    pixels: Tensor
    """The whole enlarged picture, (3, scale * H, scale * W)."""


def compare_models(image: Image, upscalers: Sequence[tuple[str, Upscaler]]) -> PillowImage.Image:
    """Enlarge a picture by bicubic and by each network, and put crops of its most detailed places side by side.

    Args:
        image: from `read_image`; shown without its alpha.
        upscalers: name and network; all of one scale, at least one.
    Returns:
        A sheet with a row for each place and a labelled column for each way of enlarging.
    Raises:
        UpscaleError: a network's result is not a picture of its input.
    """
    colour = image.pixels[:3] if image.pixels.shape[0] >= 3 else image.pixels[:1].expand(3, -1, -1)
    scale = upscalers[0][1].scale
    contenders = [_bicubic(colour, scale)]
    for name, upscaler in upscalers:
        upscaler(Image(colour[:, :CROP_PX, :CROP_PX]))  # kernels are loaded once, whatever the picture
        start = time.perf_counter()
        pixels = upscaler(Image(colour)).pixels
        contenders.append(Contender(name, f"x{scale}, {time.perf_counter() - start:.2f} s", pixels))
    return _sheet(contenders, detailed_places(colour), scale)


def detailed_places(pixels: Tensor) -> list[tuple[int, int]]:
    """Top left corners (y, x) of up to three squares of 96 pixels that do not overlap and hold the most detail.

    Args:
        pixels: (3, H, W).
    """
    gray = pixels.mean(dim=0)
    side = min(CROP_PX, *gray.shape)
    detail = torch.zeros_like(gray)
    detail[1:] += gray.diff(dim=0).abs()
    detail[:, 1:] += gray.diff(dim=1).abs()
    # The square root keeps one hard edge from outweighing a whole texture.
    sums = F.avg_pool2d(detail.sqrt()[None], side, stride=max(1, side // 4))[0]
    step, places = max(1, side // 4), []
    for _ in range(CROPS):
        best = int(sums.argmax())
        row, column = divmod(best, sums.shape[1])
        if sums[row, column] < 0:
            break
        places.append((row * step, column * step))
        sums[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = -1
    return sorted(places)


def _bicubic(colour: Tensor, scale: int) -> Contender:
    pixels = resize(colour, colour.shape[1] * scale, colour.shape[2] * scale)
    return Contender("bicubic", f"x{scale}", pixels)


def _sheet(contenders: Sequence[Contender], places: Sequence[tuple[int, int]], scale: int) -> PillowImage.Image:
    side = min(CROP_PX, *(length // scale for length in contenders[0].pixels.shape[1:]))
    pitch = _SHOWN_PX + _MARGIN_PX
    size = (len(contenders) * pitch + _MARGIN_PX, _HEADER_PX + len(places) * pitch)
    sheet = PillowImage.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, contender in enumerate(contenders):
        left = _MARGIN_PX + column * pitch
        draw.text((left, 26), contender.name, fill=_INK, font=ImageFont.load_default(24), anchor="lm")
        draw.text((left, 54), contender.details, fill=_FAINT_INK, font=ImageFont.load_default(16), anchor="lm")
        for row, (y, x) in enumerate(places):
            crop = contender.pixels[:, y * scale : (y + side) * scale, x * scale : (x + side) * scale]
            shown = PillowImage.fromarray(to_levels(crop, 8))
            # Enlarged by repetition, so that nothing is smoothed which the networks did not smooth.
            shown = shown.resize((_SHOWN_PX, _SHOWN_PX), PillowImage.Resampling.NEAREST)
            sheet.paste(shown, (left, _HEADER_PX + row * pitch))
    return sheet
