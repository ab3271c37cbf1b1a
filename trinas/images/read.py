"""Read image files: gray or colour, with or without alpha, with 8 or 16 bits."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from trinas.config import MAX_INPUT_PX
from trinas.errors import ImageError
from trinas.files import translate_os_errors
from trinas.images.colour import convert_to_srgb, make_srgb_profile, read_profile_space
from trinas.images.formats import FORMAT_NAMES, FORMATS, SNIFFED_BYTES, Format, sniff_bytes
from trinas.images.image import Image, to_levels, to_rgb
from trinas.images.metadata import turn_resolution
from trinas.images.pillow import PillowFile
from trinas.images.png import read_png_beginning
from trinas.images.stored import DecodeError, StoredHeader, StoredImage
from trinas.images.tiff import TiffFile

_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda levels: levels[:, ::-1],
    3: lambda levels: levels[::-1, ::-1],
    4: lambda levels: levels[::-1],
    5: lambda levels: levels.swapaxes(0, 1),
    6: lambda levels: levels.swapaxes(0, 1)[:, ::-1],
    7: lambda levels: levels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda levels: levels.swapaxes(0, 1)[::-1],
}
"""EXIF orientation -> the turn of (H, W, C) that makes the image upright."""

_BAND_ROWS = 64
_MOST_SAMPLES_PER_PX = 5  # CMYK and alpha; further channels count against the limit of pixels
_FLOAT_BYTES = 4
_CMYK_BYTES_PER_PX = 24  # of 8 bits, for LittleCMS, from it, without alpha, with it
_FIXED_BYTES = 64 << 20  # profile and metadata, decompressed; bands of rows; buffers of decoders
_LARGE_FILE_BYTES = 16 << 20  # of larger files the header is checked before the rest is read


@dataclass(frozen=True)
class Header:
    """The header of an image file, as it is known before decoding."""

    width: int
    height: int
    """Of the upright image, in pixels."""
    has_alpha: bool
    channels: int
    """Channels of the decoded `Image.pixels`, 1 to 4."""
    jpeg_quality: int | None
    """As `Image.jpeg_quality`."""
    reading_bytes: int
    """The most memory that opening and decoding the file take at once, in bytes, beside what the process has already:
    the bytes of the file, the copies of the decoder, and `Image.pixels`."""


@dataclass(frozen=True)
class ImageFile:
    """An image file from `open_image`. Its bytes are in memory, and its header is parsed."""

    path: Path
    header: Header
    _decoder: PillowFile | TiffFile

    def read(self) -> Image:
        """Decode the image.

        The EXIF orientation is applied. Palettes become colours. CMYK is converted to sRGB through its profile. PNG and
        TIFF of 16 bits keep their depth.

        Raises:
            ImageError: the file is damaged, or this kind of image is not supported.
        """
        with _name_file(self.path):
            stored = _convert_cmyk(self._decoder.decode())
            upright = self._set_upright(stored.levels)
            values = np.empty((upright.shape[2], *upright.shape[:2]), np.float32)
            for top in range(0, len(upright), _BAND_ROWS):  # in bands that fit into the cache, ten times as fast
                values[:, top : top + _BAND_ROWS] = np.moveaxis(upright[top : top + _BAND_ROWS], 2, 0)
            depth = stored.levels.itemsize * 8
            is_on_its_side = self._decoder.header.orientation >= 5
            return Image(
                torch.from_numpy(values).div_(2**depth - 1),
                depth,
                stored.icc_profile,
                turn_resolution(stored.metadata) if is_on_its_side else stored.metadata,
                stored.is_lossless_webp,
                self.header.jpeg_quality,
                stored.notes,
            )

    def read_rgb8(self) -> NDArray[np.uint8]:
        """Decode to uint8 (H, W, 3), upright. Gray is repeated, alpha is ignored, and 16 bits are rounded to 8.

        Raises:
            ImageError: as for `read`.
        """
        with _name_file(self.path):
            levels = self._set_upright(_convert_cmyk(self._decoder.decode()).levels)
            if levels.dtype == np.uint16:
                values = torch.from_numpy(levels.astype(np.float32)).permute(2, 0, 1).div_(2**16 - 1)
                return np.ascontiguousarray(to_levels(to_rgb(values), 8))
            rgb = levels[:, :, :3] if levels.shape[2] >= 3 else levels[:, :, :1].repeat(3, axis=2)
            return np.require(rgb, requirements=["C", "W"])  # torch only takes writable arrays

    def _set_upright(self, levels: NDArray[Any]) -> NDArray[Any]:
        turn = _TURNS.get(self._decoder.header.orientation)
        return turn(levels) if turn else levels


def open_image(path: Path | str, max_px: int = MAX_INPUT_PX) -> ImageFile:
    """Read the bytes of an image file and parse its header. Pixels are not decoded. The suffix does not matter.

    Args:
        path: the file.
        max_px: images with more pixels are refused.
    Raises:
        ImageError: the file is missing, empty, too large or animated, its format cannot be read, or its header is
            damaged.
    """
    path = Path(path)
    # Without a buffer: a read behind buffered bytes takes twice the memory of the file for a moment.
    with translate_os_errors(ImageError, path, "read"), path.open("rb", buffering=0) as file:
        known = _sniff(path, file)
        file_bytes = os.fstat(file.fileno()).st_size
        if file_bytes > _LARGE_FILE_BYTES:
            _check_header(path, _parse_beginning(path, file, known).header, max_px, file_bytes)
            file.seek(0)
        content = file.read()
    buffer = io.BytesIO(content)
    decoder = _parse(path, buffer, known)
    return ImageFile(path, _check_header(path, decoder.header, max_px, len(content)), decoder)


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
    path = Path(path)
    with translate_os_errors(ImageError, path, "read"), path.open("rb") as file:
        decoder = _parse_beginning(path, file, _sniff(path, file))
        return _check_header(path, decoder.header, max_px, os.fstat(file.fileno()).st_size)


def _sniff(path: Path, file: IO[bytes]) -> Format:
    """Return the format of an open file, and go back to its beginning."""
    start = file.read(SNIFFED_BYTES)
    file.seek(0)
    known = sniff_bytes(start)
    if known is None:
        problem = f"not a {FORMAT_NAMES} image, or damaged at its start" if start else "the file is empty"
        raise ImageError(f"{path}: {problem}")
    return known


def _parse(path: Path, file: IO[bytes], known: Format) -> PillowFile | TiffFile:
    with _name_file(path):
        return TiffFile(file) if known is FORMATS["TIFF"] else PillowFile(file, known.name)


def _parse_beginning(path: Path, file: IO[bytes], known: Format) -> PillowFile | TiffFile:
    """Parse the header. No more of the file is read than this takes."""
    return _parse(path, io.BytesIO(read_png_beginning(file)) if known is FORMATS["PNG"] else file, known)


@contextmanager
def _name_file(path: Path) -> Iterator[None]:
    """Turn every error inside the block into an ImageError with the name of the file."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except DecodeError as error:
        raise ImageError(f"{path}: {error}") from None
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        raise ImageError(f"{path}: damaged or cut short ({str(error) or type(error).__name__})") from None


def _check_header(path: Path, stored: StoredHeader, max_px: int, file_bytes: int) -> Header:
    """Return the header of the upright image. Raise ImageError if the image is too large."""
    width, height = stored.width, stored.height
    if not width * height:
        raise ImageError(f"{path}: damaged ({width}x{height} pixels)")
    if width * height * max(1, stored.samples_per_px / _MOST_SAMPLES_PER_PX) > max_px:
        many = f" with {stored.samples_per_px} channels" if stored.samples_per_px > _MOST_SAMPLES_PER_PX else ""
        raise ImageError(
            f"{path}: {width}x{height}{many} is too large; the limit is {max_px:,} pixels (--max-input-mp)"
        )
    channels = (1 if stored.is_gray else 3) + stored.has_alpha
    converting_bytes = width * height * max(_FLOAT_BYTES * channels, _CMYK_BYTES_PER_PX * stored.is_cmyk)
    reading_bytes = file_bytes + max(stored.decoding_bytes, stored.level_bytes + converting_bytes) + _FIXED_BYTES
    if stored.orientation >= 5:
        width, height = height, width
    return Header(width, height, stored.has_alpha, channels, stored.jpeg_quality, reading_bytes)


def _convert_cmyk(stored: StoredImage) -> StoredImage:
    """Convert CMYK to sRGB through its profile. Without a usable profile, simply invert the inks."""
    if not stored.is_cmyk:
        return stored
    levels = stored.levels
    levels = levels if levels.dtype == np.uint8 else (levels >> 8).astype(np.uint8)  # LittleCMS converts 8 bits
    inks = PillowImage.fromarray(np.ascontiguousarray(levels[..., :4]), "CMYK")
    profile = stored.icc_profile
    converted = convert_to_srgb(inks, profile) if profile and read_profile_space(profile) == "CMYK" else None
    how = "through its profile" if converted else "without a profile, so that colours may differ from print"
    rgb = np.concatenate([np.asarray(converted or inks.convert("RGB")), levels[..., 4:]], axis=2)
    notes = (*stored.notes, f"CMYK was converted to sRGB {how}")
    return replace(stored, levels=rgb, is_cmyk=False, icc_profile=make_srgb_profile(), notes=notes)
