"""Decode image files to upright pixels. torch is not needed, so that a process for decoding starts quickly."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from trinas.images.colour import check_profile_size, convert_to_srgb, make_srgb_profile, read_profile_space
from trinas.images.formats import FORMAT_NAMES, FORMATS, SNIFFED_BYTES, Format, sniff_bytes
from trinas.images.metadata import Metadata, turn_resolution
from trinas.images.pillow import PillowFile
from trinas.images.png import read_png_beginning
from trinas.images.stored import DecodeError, StoredHeader, StoredImage
from trinas.images.tiff import TiffFile
from trinas.images.webp import read_size

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
    """Channels of the decoded image, 1 to 4."""
    jpeg_quality: int | None
    """As `Image.jpeg_quality`."""
    reading_bytes: int
    """The most memory that opening and reading the file take at once, in bytes, beside what the process has already:
    the bytes of the file, the copies of the decoder, and `Image.pixels`."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image, upright, in gray or RGB."""

    levels: NDArray[Any]
    """uint8 or uint16, (H, W, C). C is 1 for gray, 3 for RGB, and one more with alpha. Alpha is not premultiplied."""
    icc_profile: bytes | None
    metadata: Metadata
    is_lossless_webp: bool
    notes: tuple[str, ...]
    """What the user should know about changes that decoding made."""


class EncodedImage:
    """An image file whose bytes are in memory, and whose header is parsed.

    Attributes:
        header: of the upright image.
    """

    def __init__(self, decoder: PillowFile | TiffFile, max_px: int, file_bytes: int) -> None:
        self.header = _check_header(decoder.header, max_px, file_bytes)
        self._decoder = decoder

    def decode(self) -> DecodedImage:
        """Decode the pixels.

        The EXIF orientation is applied. Palettes become colours. CMYK is converted to sRGB through its profile. PNG and
        TIFF of 16 bits keep their depth.

        Raises:
            DecodeError: the file is damaged, or this kind of image is not supported.
        """
        with _name_damage():
            stored = self._decoder.decode()
            check_profile_size(stored.icc_profile)
            stored = _convert_cmyk(stored)
            orientation = self._decoder.header.orientation
            turn = _TURNS.get(orientation)
            levels = turn(stored.levels) if turn else stored.levels
            if levels.shape != (self.header.height, self.header.width, self.header.channels):
                raise DecodeError("damaged (its header does not fit its pixels)")
            return DecodedImage(
                levels,
                stored.icc_profile,
                turn_resolution(stored.metadata) if orientation >= 5 else stored.metadata,
                stored.is_lossless_webp,
                stored.notes,
            )


def open_encoded(path: Path, max_px: int) -> EncodedImage:
    """Read the bytes of an image file and parse its header. Pixels are not decoded. The suffix does not matter.

    Args:
        path: the file.
        max_px: images with more pixels are refused.
    Raises:
        DecodeError: the file is missing, empty, too large or animated, its format cannot be read, or its header is
            damaged.
    """
    with _name_damage():
        # Without a buffer: a read behind buffered bytes takes twice the memory of the file for a moment.
        with path.open("rb", buffering=0) as file:
            known = _sniff(file, max_px)
            file_bytes = os.fstat(file.fileno()).st_size
            if file_bytes > _LARGE_FILE_BYTES:
                _check_header(_parse_beginning(file, known).header, max_px, file_bytes)
                file.seek(0)
            content = file.read()
        return EncodedImage(_parse(io.BytesIO(content), known), max_px, len(content))


def read_header(path: Path, max_px: int) -> Header:
    """Return the header of an image file. No more of the file is read than this takes.

    If a PNG file has its orientation behind the pixels, only `open_encoded` finds it.

    Args:
        path, max_px: as for `open_encoded`.
    Raises:
        DecodeError: as for `open_encoded`.
    """
    with _name_damage(), path.open("rb") as file:
        decoder = _parse_beginning(file, _sniff(file, max_px))
        return _check_header(decoder.header, max_px, os.fstat(file.fileno()).st_size)


def _sniff(file: IO[bytes], max_px: int) -> Format:
    """Return the format of an open file, and go back to its beginning.

    The size of WebP is checked at once, because its decoder takes memory for all pixels when it parses the header.
    """
    start = file.read(SNIFFED_BYTES)
    file.seek(0)
    known = sniff_bytes(start)
    if known is None:
        raise DecodeError(f"not a {FORMAT_NAMES} image, or damaged at its start" if start else "the file is empty")
    if known is FORMATS["WEBP"]:
        _check_size(*read_size(start), max_px)
    return known


def _parse(file: IO[bytes], known: Format) -> PillowFile | TiffFile:
    return TiffFile(file) if known is FORMATS["TIFF"] else PillowFile(file, known.name)


def _parse_beginning(file: IO[bytes], known: Format) -> PillowFile | TiffFile:
    """Parse the header. No more of the file is read than this takes."""
    return _parse(io.BytesIO(read_png_beginning(file)) if known is FORMATS["PNG"] else file, known)


@contextmanager
def _name_damage() -> Iterator[None]:
    """Turn every error inside the block into a DecodeError, except for too little memory."""
    try:
        yield
    except (DecodeError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:  # from the system; decoders raise OSErrors without a number
            raise DecodeError(f"cannot be read ({error.strerror})") from None
        raise DecodeError(_describe_damage(error)) from None
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        raise DecodeError(_describe_damage(error)) from None


def _describe_damage(error: Exception) -> str:
    return f"damaged or cut short ({str(error) or type(error).__name__})"


def _check_header(stored: StoredHeader, max_px: int, file_bytes: int) -> Header:
    """Return the header of the upright image. Raise DecodeError if the image is too large."""
    width, height = stored.width, stored.height
    _check_size(width, height, max_px, stored.samples_per_px)
    channels = (1 if stored.is_gray else 3) + stored.has_alpha
    converting_bytes = width * height * max(_FLOAT_BYTES * channels, _CMYK_BYTES_PER_PX * stored.is_cmyk)
    reading_bytes = file_bytes + max(stored.decoding_bytes, stored.level_bytes + converting_bytes) + _FIXED_BYTES
    if stored.orientation >= 5:
        width, height = height, width
    return Header(width, height, stored.has_alpha, channels, stored.jpeg_quality, reading_bytes)


def _check_size(width: int, height: int, max_px: int, samples_per_px: int = 1) -> None:
    """Refuse images without pixels, and too large ones. Many channels count as more pixels."""
    if min(width, height) < 1:
        raise DecodeError(f"damaged (its header says {width}x{height} pixels)")
    if width * height * max(1, samples_per_px / _MOST_SAMPLES_PER_PX) > max_px:
        many = f" with {samples_per_px} channels" if samples_per_px > _MOST_SAMPLES_PER_PX else ""
        raise DecodeError(f"{width}x{height}{many} is too large; the limit is {max_px:,} pixels (--max-input-mp)")


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
