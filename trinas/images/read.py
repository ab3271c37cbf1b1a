"""Read image files: gray or colour, with or without alpha, with 8 or 16 bits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from trinas.config import MAX_INPUT_PX
from trinas.errors import ImageError
from trinas.images import decode
from trinas.images.decode import DecodedImage, Header
from trinas.images.image import Image, to_levels, to_rgb
from trinas.images.stored import DecodeError
from trinas.text import shorten_text

_BAND_ROWS = 64


class Encoded(Protocol):
    """An open image file: `decode.EncodedImage`, or one that another process has opened."""

    header: Header

    def decode(self) -> DecodedImage:
        """Decode the pixels. Raise DecodeError as `EncodedImage.decode` does."""


@dataclass(frozen=True)
class ImageFile:
    """An image file from `open_image`. Its bytes are in memory, and its header is parsed."""

    path: Path
    header: Header
    _encoded: Encoded

    def read(self) -> Image:
        """Decode the image, as `EncodedImage.decode` says.

        Raises:
            ImageError: the file is damaged, or this kind of image is not supported.
        """
        with name_file(self.path):
            decoded = self._encoded.decode()
            depth = decoded.levels.itemsize * 8
            height, width, channels = decoded.levels.shape
            values = np.empty((channels, height, width), np.float32)
            for top in range(0, height, _BAND_ROWS):  # in bands that fit into the cache, which is much faster
                values[:, top : top + _BAND_ROWS] = np.moveaxis(decoded.levels[top : top + _BAND_ROWS], 2, 0)
            return Image(
                torch.from_numpy(values).div_(2**depth - 1),
                depth,
                decoded.icc_profile,
                decoded.metadata,
                decoded.is_lossless_webp,
                self.header.jpeg_quality,
                decoded.notes,
            )

    def read_rgb8(self) -> NDArray[np.uint8]:
        """Decode to uint8 (H, W, 3), upright. Gray is repeated, alpha is ignored, and 16 bits are rounded to 8.

        Raises:
            ImageError: as for `read`.
        """
        with name_file(self.path):
            levels = self._encoded.decode().levels
            if levels.dtype == np.uint16:
                values = torch.from_numpy(levels.astype(np.float32)).permute(2, 0, 1).div_(2**16 - 1)
                return np.ascontiguousarray(to_levels(to_rgb(values), 8))
            rgb = levels[:, :, :3] if levels.shape[2] >= 3 else levels[:, :, :1].repeat(3, axis=2)
            return np.require(rgb, requirements=["C", "W"])  # torch only takes writable arrays


OpenImage: TypeAlias = Callable[[Path, int], ImageFile]
"""`open_image`, or `DecoderPool.open_image`, which does the same in another process."""


def open_image(path: Path | str, max_px: int = MAX_INPUT_PX) -> ImageFile:
    """Read the bytes of an image file and parse its header. Pixels are not decoded. The suffix does not matter.

    Files of strangers are better opened by a `DecoderPool`, with limits on time and memory.

    Args:
        path: the file.
        max_px: images with more pixels are refused.
    Raises:
        ImageError: the file is missing, empty, too large or animated, its format cannot be read, or its header is
            damaged.
    """
    path = Path(path)
    with name_file(path):
        encoded = decode.open_encoded(path, max_px)
    return ImageFile(path, encoded.header, encoded)


def read_image(path: Path | str, max_px: int = MAX_INPUT_PX) -> Image:
    """Decode an image file.

    Args:
        path, max_px: as for `open_image`.
    Raises:
        ImageError: as for `open_image` and `ImageFile.read`.
    """
    return open_image(path, max_px).read()


def read_rgb8(path: Path | str, max_px: int = MAX_INPUT_PX) -> NDArray[np.uint8]:
    """Decode an image file to uint8 (H, W, 3), as `ImageFile.read_rgb8` does.

    Args:
        path, max_px: as for `open_image`.
    Raises:
        ImageError: as for `open_image` and `ImageFile.read`.
    """
    return open_image(path, max_px).read_rgb8()


def read_header(path: Path | str, max_px: int = MAX_INPUT_PX) -> Header:
    """Return the header of an image file. No more of the file is read than this takes.

    If a PNG file has its orientation behind the pixels, only `open_image` finds it.

    Args:
        path, max_px: as for `open_image`.
    Raises:
        ImageError: as for `open_image`.
    """
    with name_file(Path(path)):
        return decode.read_header(Path(path), max_px)


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Turn a DecodeError inside the block into an ImageError with the name of the file."""
    try:
        yield
    except DecodeError as error:
        raise ImageError(f"{path}: {shorten_text(str(error))}") from None
