"""Pictures for the page: copies that a browser can show, however large and of whatever kind the file is."""

import base64
import io
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image as PillowImage
from torch import Tensor

from trinas.images.read_write import Image, in_srgb, read_image, rgb_of, to_levels, write_image
from trinas.inference.cascade import resize_image
from trinas.inference.compare import find_detailed_places

PREVIEW_PX = 1600
"""Longest side of a copy."""

OVERVIEW_PX = 800
"""Longest side of the picture in which a place is marked; small ones are enlarged to it."""

DETAIL_PX = 800
"""Side of the piece that is shown pixel by pixel where the copy of a whole result is smaller than the result."""

SQUARE_PX = 16
"""Side of the light squares that transparency is shown as."""


@dataclass(frozen=True)
class Pair:
    """Two pictures of one size for a slider: bicubic, and the result."""

    before: Path
    after: Path


def shown_copy(picture: Path, folder: Path, max_px: int) -> Path:
    """A copy of a picture file that a browser can show, in sRGB.

    Raises:
        ImageError: it is no picture, or too large.
    """
    return _shown(_capped(read_image(picture, max_px)), folder, "preview")


def pairs(picture: Path, result: Path, folder: Path, max_input_px: int, max_output_px: int) -> dict[str, Pair]:
    """What shows a result beside bicubic: as a whole, and where that is a smaller copy, a piece in full size.

    Args:
        picture, result: the files.
        folder: for the copies.
    Returns:
        `whole`, and `detail` where the result is larger than its copy.
    """
    low, high = (read_image(path, limit) for path, limit in ((picture, max_input_px), (result, max_output_px)))
    whole = _capped(high)
    found = {"whole": Pair(_shown(resize_image(low, whole.size), folder, "bicubic"), _shown(whole, folder, "enlarged"))}
    if whole.size != high.size:
        found["detail"] = _detail(low, high, folder)
    return found


def _detail(low: Image, high: Image, folder: Path) -> Pair:
    """The most detailed piece; bicubic is of the pixels around it only."""
    factor = high.size[0] / low.size[0]
    side = max(1, min(round(DETAIL_PX / factor), *low.size))
    y, x = find_detailed_places(rgb_of(low.pixels), side)[0]
    piece = replace(low, pixels=low.pixels[:, y : y + side, x : x + side])
    top, left, extent = round(y * factor), round(x * factor), round(side * factor)
    enlarged = replace(high, pixels=high.pixels[:, top : top + extent, left : left + extent])
    return Pair(
        _shown(resize_image(piece, enlarged.size), folder, "bicubic-detail"),
        _shown(enlarged, folder, "enlarged-detail"),
    )


def data_url(pixels: Tensor) -> str:
    """(3, H, W) in [0, 1] as a PNG within the page."""
    buffer = io.BytesIO()
    PillowImage.fromarray(to_levels(pixels, 8)).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def marked(picture: Image, place: tuple[int, int], side: int) -> Tensor:
    """A copy of a picture, `OVERVIEW_PX` large, with a frame around a square.

    Args:
        place: top left corner (y, x) in the picture's pixels.
        side: of the square, in the same.
    """
    copy = _sized(picture, OVERVIEW_PX)
    pixels = rgb_of(copy.pixels).clone()
    factor = copy.size[0] / picture.size[0]
    top, left = (int(start * factor) for start in place)
    bottom, right = (
        min(end - 1, int(start + side * factor)) for start, end in zip((top, left), pixels.shape[1:], strict=True)
    )
    for thickness, level in ((3, 0.0), (0, 1.0)):  # white around black: seen on any picture
        for offset in range(thickness, thickness + 3):
            _frame(pixels, top + offset, bottom - offset, left + offset, right - offset, level)
    return pixels


def _frame(pixels: Tensor, top: int, bottom: int, left: int, right: int, level: float) -> None:
    height, width = pixels.shape[1:]  # of a thin picture they may be less than a frame's thickness
    top, bottom, left, right = min(top, height - 1), max(bottom, 0), min(left, width - 1), max(right, 0)
    pixels[:, [top, bottom], left : right + 1] = level
    pixels[:, top : bottom + 1, [left, right]] = level


def _capped(image: Image) -> Image:
    return image if max(image.size) <= PREVIEW_PX else _sized(image, PREVIEW_PX)


def _sized(image: Image, longest_px: int) -> Image:
    width, height = (max(1, round(side * longest_px / max(image.size))) for side in image.size)
    return resize_image(image, (width, height))


def _shown(image: Image, folder: Path, name: str) -> Path:
    """A file in sRGB, 8 bits, with nothing besides.

    Args:
        image: a copy or a piece: converting a whole picture takes more memory than enlarging it.
    """
    path = folder / f"{name}.png"
    write_image(path, _on_squares(Image((in_srgb(image) or image).pixels)))
    return path


def _on_squares(image: Image) -> Image:
    """Transparency as light squares, whatever the page's colour is, and whatever the slider has underneath."""
    if not image.has_alpha:
        return image
    width, height = image.size
    rows, columns = torch.arange(height)[:, None] // SQUARE_PX, torch.arange(width) // SQUARE_PX
    squares = torch.where((rows + columns) % 2 == 0, 1.0, 0.85)
    return Image(torch.lerp(squares.expand_as(image.pixels[:-1]), image.pixels[:-1], image.pixels[-1:]))
