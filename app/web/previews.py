"""Copies of images that every browser can show."""

import base64
import io
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from trinas.images.image import Image, to_levels, to_rgb, to_srgb
from trinas.images.write import write_image
from trinas.inference.cascade import resize_image
from trinas.inference.compare import find_detailed_places

PREVIEW_PX = 1600
"""Longest side of a copy."""

OVERVIEW_PX = 800
"""Longest side of the image in which a place is marked. Small images are made so large too."""

DETAIL_PX = 800
"""Side of the piece that is shown pixel by pixel if the copy of the whole result is smaller than the result."""

SQUARE_PX = 16
"""Side of the light squares that show transparency."""


@dataclass(frozen=True)
class Pair:
    """Two files of the same size for the slider: bicubic, and the result."""

    before: Path
    after: Path


def write_preview(image: Image, folder: Path) -> Path:
    """Write a copy of an image that a browser can show, in sRGB, and return its path."""
    return _write_shown(_cap(image), folder, "preview")


def write_pairs(low: Image, high: Image, folder: Path) -> dict[str, Pair]:
    """Write the files that show a result beside bicubic.

    Args:
        low, high: the image and its result.
        folder: for the copies.
    Returns:
        `whole`. If it is smaller than the result, also `detail`, a piece in full size.
    """
    whole = _cap(high)
    pairs = {
        "whole": Pair(
            _write_shown(_resize(low, whole.size), folder, "bicubic"), _write_shown(whole, folder, "upscaled")
        )
    }
    if whole.size != high.size:
        pairs["detail"] = _write_detail(low, high, folder)
    return pairs


def _write_detail(low: Image, high: Image, folder: Path) -> Pair:
    """Write the most detailed piece. Bicubic only sees the pixels of the piece."""
    factor = high.size[0] / low.size[0]
    side = max(1, min(round(DETAIL_PX / factor), *low.size))
    y, x = find_detailed_places(to_rgb(low.pixels), side)[0]
    low_piece = replace(low, pixels=low.pixels[:, y : y + side, x : x + side])
    top, left, extent = round(y * factor), round(x * factor), round(side * factor)
    high_piece = replace(high, pixels=high.pixels[:, top : top + extent, left : left + extent])
    bicubic = resize_image(low_piece, high_piece.size)
    return Pair(_write_shown(bicubic, folder, "bicubic-detail"), _write_shown(high_piece, folder, "upscaled-detail"))


def encode_data_url(pixels: Tensor) -> str:
    """Return an image as the data URL of a PNG.

    Args:
        pixels: (3, H, W) in [0, 1].
    """
    buffer = io.BytesIO()
    PillowImage.fromarray(to_levels(pixels, 8)).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def fit_size(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    """Return the size (width, height) whose longer side is `longest_px`, at least 1x1."""
    width, height = (max(1, round(side * longest_px / max(size))) for side in size)
    return width, height


def mark_place(image: Image, place: tuple[int, int], side: int) -> Tensor:
    """Draw a frame around a square on a copy of the image. The longer side of the copy is `OVERVIEW_PX`.

    Args:
        image: the image.
        place: top left corner (y, x) in the image's pixels.
        side: of the square, in the image's pixels.
    Returns:
        (3, H, W) in [0, 1].
    """
    copy = _resize(image, fit_size(image.size, OVERVIEW_PX))
    pixels = to_rgb(copy.pixels).clone()
    factor = copy.size[0] / image.size[0]
    top, left = (int(start * factor) for start in place)
    bottom, right = (
        min(end - 1, int(start + side * factor)) for start, end in zip((top, left), pixels.shape[1:], strict=True)
    )
    for thickness, level in ((3, 0.0), (0, 1.0)):  # black inside white is visible on every image
        for offset in range(thickness, thickness + 3):
            _draw_frame(pixels, top + offset, bottom - offset, left + offset, right - offset, level)
    return pixels


def _draw_frame(pixels: Tensor, top: int, bottom: int, left: int, right: int, level: float) -> None:
    height, width = pixels.shape[1:]  # a thin image may be narrower than the lines of the frame
    top, bottom, left, right = min(top, height - 1), max(bottom, 0), min(left, width - 1), max(right, 0)
    pixels[:, [top, bottom], left : right + 1] = level
    pixels[:, top : bottom + 1, [left, right]] = level


def _cap(image: Image) -> Image:
    return image if max(image.size) <= PREVIEW_PX else _resize(image, fit_size(image.size, PREVIEW_PX))


def _resize(image: Image, size: tuple[int, int]) -> Image:
    """Reduce an image by averaging areas, or make it larger by bicubic interpolation.

    OpenCV's area filter needs no copy of the image, and is faster than bicubic with antialiasing. Images with alpha go
    through `resize_image`, which weights colours by alpha.
    """
    width, height = size
    if image.has_alpha or width > image.size[0] or height > image.size[1]:
        return resize_image(image, size)
    planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in image.pixels.numpy()]
    return replace(image, pixels=torch.from_numpy(np.stack(planes)), jpeg_quality=None)


def _write_shown(image: Image, folder: Path, name: str) -> Path:
    """Write a PNG in sRGB with 8 bits and without metadata.

    Args:
        image: a copy or a piece. To convert a whole image takes more memory than to upscale it.
    """
    path = folder / f"{name}.png"
    write_image(path, _lay_on_squares(Image((to_srgb(image) or image).pixels)))
    return path


def _lay_on_squares(image: Image) -> Image:
    """Show transparency as light squares, which do not depend on the colours of the page."""
    if not image.has_alpha:
        return image
    width, height = image.size
    rows, columns = torch.arange(height)[:, None] // SQUARE_PX, torch.arange(width) // SQUARE_PX
    squares = torch.where((rows + columns) % 2 == 0, 1.0, 0.85)
    return Image(torch.lerp(squares.expand_as(image.pixels[:-1]), image.pixels[:-1], image.pixels[-1:]))
