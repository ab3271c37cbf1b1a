"""Decode image files with Pillow: all formats except TIFF. PNG of 16 bits needs another codec.

Pillow has settings for the whole process. They belong to the program that uses this library, so they are not changed
here. Files are opened by the plugin of their format, which has no limit of pixels. Warnings are muted only in our own
calls.
"""

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from trinas.images.formats import FORMAT_NAMES
from trinas.images.jpeg import check_header
from trinas.images.jpeg_quality import estimate_quality
from trinas.images.metadata import Metadata, parse_dpi, read_exif_dpi, read_exif_orientation
from trinas.images.png import PNG16_COPIES, decode_png16, has_16_bits, is_gray_png, split_png
from trinas.images.stored import DecodeError, StoredHeader, StoredImage
from trinas.images.webp import is_lossless


class _JpegFile(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Do not parse EXIF. Pillow would copy all values, also those that lie over each other."""


_PLUGINS = {
    "PNG": PngImageFile,
    "JPEG": _JpegFile,  # also for MPO, which is a JPEG of a phone with previews or depth maps behind it
    "WEBP": WebPImageFile,
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
}
_DECODER_BYTES_PER_PX = {"PNG": 0, "JPEG": 8, "WEBP": 12, "AVIF": 16, "BMP": 0}
"""For the decoder itself: coefficients of a progressive JPEG, frames of WebP, planes of AVIF of up to 12 bits."""
_PILLOW_BYTES_PER_PX = 4 + 4  # an image, and another one with its palette applied

_NOT_THIS_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)
"""What Pillow's plugins raise for a file that is not of their format."""

_UNSPECIFIED = 2
_SRGB_PRIMARIES = (1, _UNSPECIFIED)
_SRGB_TRANSFERS = (1, _UNSPECIFIED, 6, 13, 14, 15)
"""Codes of ITU-T H.273 that count as sRGB. Programs commonly take those of television for sRGB too."""


class _MutedThreads(threading.local):
    """Takes the place of the message pattern in a filter of warnings. It matches in threads that are muted."""

    is_muted = False

    def match(self, message: str) -> bool:
        """Return whether a warning is to be ignored."""
        return self.is_muted


_MUTED = _MutedThreads()
_FILTER: Any = ("ignore", _MUTED, UserWarning, None, 0)


@contextmanager
def mute_pillow() -> Iterator[None]:
    """Ignore Pillow's warnings in this thread, such as those about damaged EXIF. Notes say what is wrong.

    `warnings.catch_warnings` would change the filters of all threads, and several threads read images. So a filter is
    added once and stays. It only has an effect inside such a block.
    """
    if warnings.filters[:1] != [_FILTER]:  # also if the program has put another filter before it
        warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    was_muted, _MUTED.is_muted = _MUTED.is_muted, True
    try:
        yield
    finally:
        _MUTED.is_muted = was_muted


class PillowFile:
    """An open file of any format except TIFF."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Parse the header.

        Args:
            file: at its beginning. It must stay open until `decode` ends.
            name: Pillow's name of the format.
        Raises:
            DecodeError: the file is animated, or not of this format. Decoders raise other errors for damaged files.
        """
        if name == "JPEG":
            check_header(file)
            file.seek(0)
        self._png = split_png(file.read()) if name == "PNG" else None
        self._file = io.BytesIO(self._png.bare) if self._png else file
        self._name = name
        opened = self._open()
        self._opened: PillowImage.Image | None = opened
        self.header = self._describe(opened)

    def decode(self) -> StoredImage:
        """Decode the pixels.

        Raises:
            DecodeError: this kind of image is not supported. Decoders raise other errors for damaged files.
        """
        opened, self._opened = self._opened or self._open(), None  # so that Pillow's copy of the pixels is not kept
        with mute_pillow():
            return StoredImage(
                self._decode_levels(opened),
                opened.mode == "CMYK",
                self._png.icc_profile if self._png else opened.info.get("icc_profile"),
                self._read_metadata(opened),
                self._name == "WEBP" and is_lossless(self._read_content()),
                tuple(self._find_notes(opened)),
            )

    def _describe(self, opened: PillowImage.Image) -> StoredHeader:
        is_gray = is_gray_png(self._png.bare) if self._png else opened.mode in ("1", "L", "LA")
        has_alpha, is_cmyk = _is_transparent(opened), opened.mode == "CMYK"
        pixels = opened.width * opened.height
        level_bytes = pixels * ((1 if is_gray else 4 if is_cmyk else 3) + has_alpha)
        decoding_bytes = 2 * level_bytes + pixels * (_PILLOW_BYTES_PER_PX + _DECODER_BYTES_PER_PX[self._name])
        if self._png and has_16_bits(self._png.bare):
            level_bytes *= 2
            decoding_bytes = PNG16_COPIES * level_bytes
        return StoredHeader(
            *opened.size,
            has_alpha=has_alpha,
            is_gray=is_gray,
            is_cmyk=is_cmyk,
            level_bytes=level_bytes,
            decoding_bytes=decoding_bytes,
            orientation=read_exif_orientation(self._read_exif(opened)),
            jpeg_quality=_estimate_jpeg_quality(opened),
        )

    def _open(self) -> PillowImage.Image:
        self._file.seek(0)
        try:
            with mute_pillow():
                opened = _PLUGINS[self._name](self._file)
        except _NOT_THIS_FORMAT:
            raise DecodeError(f"not a {FORMAT_NAMES} image, or damaged at its start") from None
        if getattr(opened, "n_frames", 1) > 1:
            raise DecodeError("animated; only still images can be upscaled")
        return opened

    def _read_content(self) -> bytes:
        self._file.seek(0)
        return self._file.read()

    def _decode_levels(self, opened: PillowImage.Image) -> NDArray[Any]:
        """Return (H, W, C), uint16 if the file has 16 bits, otherwise uint8."""
        if self._png and has_16_bits(self._png.bare):
            return decode_png16(self._png.bare)
        _stretch_transparency(opened)
        mode = _choose_mode(opened)
        pixels = np.asarray(opened if opened.mode == mode else opened.convert(mode))
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def _read_exif(self, opened: PillowImage.Image) -> bytes | None:
        return self._png.exif if self._png else opened.info.get("exif")

    def _read_metadata(self, opened: PillowImage.Image) -> Metadata:
        """Return the metadata of the file, before any turn. Damaged parts are left out."""
        exif = self._read_exif(opened)
        xmp = self._png.xmp if self._png else opened.info.get("xmp")
        dpi = opened.info.get("dpi")
        if self._name == "JPEG" and opened.info.get("jfif_unit") not in (1, 2):
            dpi = None  # Pillow's value is wrong then: half of that in EXIF, or 72 without EXIF
        dpi = parse_dpi(dpi) or read_exif_dpi(exif)  # WebP and AVIF have no other place for it
        return Metadata(exif or None, xmp.encode() if isinstance(xmp, str) else xmp or None, dpi)

    def _find_notes(self, opened: PillowImage.Image) -> Iterator[str]:
        if _has_extended_xmp(opened):
            yield "its XMP beyond 64 KB is left out"
        primaries, transfer = self._read_colour_codes(opened)
        if primaries not in _SRGB_PRIMARIES or transfer not in _SRGB_TRANSFERS:
            yield f"its colours are given by a code ({primaries}/{transfer}) and no profile, and are taken for sRGB"

    def _read_colour_codes(self, opened: PillowImage.Image) -> tuple[int, int]:
        """Return the codes of primaries and transfer function of AVIF and PNG files without a profile."""
        unspecified = (_UNSPECIFIED, _UNSPECIFIED)
        if self._png:
            return unspecified if self._png.icc_profile else self._png.colour_codes or unspecified
        if self._name != "AVIF" or "icc_profile" in opened.info:
            return unspecified
        content = self._read_content()
        start = content.find(b"colrnclx")
        return struct.unpack(">HH", content[start + 8 : start + 12]) if start >= 0 else unspecified


def _choose_mode(opened: PillowImage.Image) -> str:
    """Return the Pillow mode in which the image is decoded."""
    if opened.mode == "CMYK":
        return "CMYK"
    if opened.mode in ("1", "L", "LA"):
        return "LA" if _is_transparent(opened) else "L"
    if opened.mode in ("P", "PA") and opened.palette is None:
        raise DecodeError("has no palette, though its pixels refer to one")
    if opened.mode in ("P", "PA", "RGB", "RGBA"):
        return "RGBA" if _is_transparent(opened) else "RGB"
    raise DecodeError(f"{opened.mode} images are not supported; convert it to RGB first")


def _is_transparent(opened: PillowImage.Image) -> bool:
    return "transparency" in opened.info or opened.mode in ("LA", "PA", "RGBA")


def _stretch_transparency(opened: PillowImage.Image) -> None:
    """Stretch the gray value that means transparency to 8 bits. Of 2 or 4 bits, Pillow only stretches the pixels."""
    if isinstance(opened, PngImageFile) and opened.mode == "L" and "transparency" in opened.info:
        opened.info["transparency"] *= {"L;2": 85, "L;4": 17}.get(str(opened.tile[0].args), 1)


def _estimate_jpeg_quality(opened: PillowImage.Image) -> int | None:
    """Return 1 to 100; None for all formats except JPEG."""
    tables: dict[int, list[int]] = getattr(opened, "quantization", {})
    return estimate_quality(tables[min(tables)]) if tables else None  # the first table is that of brightness


def _has_extended_xmp(opened: PillowImage.Image) -> bool:
    """Return whether a JPEG has XMP beyond its first segment of 64 KB. Further segments are not read."""
    segments = getattr(opened, "applist", [])
    return any(content.startswith(b"http://ns.adobe.com/xmp/extension/\0") for _, content in segments)
