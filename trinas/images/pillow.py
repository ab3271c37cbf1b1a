"""Image files as Pillow decodes them: all formats but TIFF, and PNG of 16 bits with another codec's help.

Pillow has settings for the whole process. None is changed here, since they belong to the program that uses the library:
files are opened by their own plugin, which has no limit of pixels, and warnings are muted in our own calls alone.
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
from trinas.images.jpeg_quality import estimate_quality
from trinas.images.metadata import Metadata, parse_dpi, read_exif_dpi, read_exif_orientation
from trinas.images.png import decode_png16, has_16_bits, split_png
from trinas.images.stored import DecodeError, StoredHeader, StoredImage

_PLUGINS = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,  # for MPO too: a JPEG as phones write it, with previews or depth maps behind it
    "WEBP": WebPImageFile,
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
}
_NOT_THIS_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)
"""What Pillow's plugins raise for a file that they do not take for one of theirs."""

_UNSPECIFIED = 2
_SRGB_PRIMARIES = (1, _UNSPECIFIED)
_SRGB_TRANSFERS = (1, _UNSPECIFIED, 6, 13, 14, 15)
"""Codes of ITU-T H.273. Everybody takes those of television for sRGB."""


class _MutedThreads(threading.local):
    """Stand in a filter of warnings where a pattern for the message stands. It matches in threads that are muted."""

    is_muted = False

    def match(self, message: str) -> bool:
        """Return whether a warning is to be ignored."""
        return self.is_muted


_MUTED = _MutedThreads()
_FILTER: Any = ("ignore", _MUTED, UserWarning, None, 0)


@contextmanager
def mute_pillow() -> Iterator[None]:
    """Ignore the warnings of Pillow in this thread, such as those about damaged EXIF; notes say what is wrong.

    `warnings.catch_warnings` would change the filters of all threads, and images are read in several. So the filter
    that is added here stays, and has an effect only inside such a block.
    """
    if _FILTER not in warnings.filters:
        warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    was_muted, _MUTED.is_muted = _MUTED.is_muted, True
    try:
        yield
    finally:
        _MUTED.is_muted = was_muted


class PillowFile:
    """An opened file of any format but TIFF."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Parse the header.

        Args:
            file: at its beginning. It must stay open until `decode` ends.
            name: of the format, as Pillow calls it.
        Raises:
            DecodeError: the file is animated, or not of this format. Decoders raise other errors too.
        """
        self._png = split_png(file.read()) if name == "PNG" else None
        self._file = io.BytesIO(self._png.bare) if self._png else file
        self._name = name
        opened = self._open()
        self._opened: PillowImage.Image | None = opened
        is_gray = opened.mode in ("1", "L", "LA") or opened.mode.startswith("I")
        orientation = read_exif_orientation(self._read_exif(opened))
        self.header = StoredHeader(
            *opened.size, _is_transparent(opened), is_gray, orientation, _estimate_jpeg_quality(opened)
        )

    def decode(self) -> StoredImage:
        """Decode the pixels.

        Raises:
            DecodeError: the image is of a kind that is not supported. Decoders raise other errors on damaged files.
        """
        opened, self._opened = self._opened or self._open(), None  # so that pixels are not kept beside the result
        with mute_pillow():
            return StoredImage(
                self._decode_levels(opened),
                opened.mode == "CMYK",
                self._png.icc_profile if self._png else opened.info.get("icc_profile"),
                self._read_metadata(opened),
                self._name == "WEBP" and b"VP8L" in _list_webp_chunks(self._read_content()),
                tuple(self._find_notes(opened)),
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
        """Return (H, W, C): uint16 where the file has 16 bits, else uint8."""
        if self._png and has_16_bits(self._png.bare):
            return decode_png16(self._png.bare, opened.info.get("transparency"))
        _stretch_transparency(opened)
        mode = _choose_mode(opened)
        pixels = np.asarray(opened if opened.mode == mode else opened.convert(mode))
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def _read_exif(self, opened: PillowImage.Image) -> bytes | None:
        return self._png.exif if self._png else opened.info.get("exif")

    def _read_metadata(self, opened: PillowImage.Image) -> Metadata:
        """Return what the file says, before any turn; what is damaged is left out."""
        exif = self._read_exif(opened)
        xmp = self._png.xmp if self._png else opened.info.get("xmp")
        dpi = opened.info.get("dpi")
        if self._name == "JPEG" and opened.info.get("jfif_unit") not in (1, 2):
            dpi = None  # Pillow then gives half of what EXIF says, or 72 where EXIF says nothing
        dpi = parse_dpi(dpi) or read_exif_dpi(exif)  # WebP and AVIF have no other place for it
        return Metadata(exif or None, xmp.encode() if isinstance(xmp, str) else xmp or None, dpi)

    def _find_notes(self, opened: PillowImage.Image) -> Iterator[str]:
        if _has_extended_xmp(opened):
            yield "its XMP beyond 64 KB is left out"
        primaries, transfer = self._read_colour_codes(opened)
        if primaries not in _SRGB_PRIMARIES or transfer not in _SRGB_TRANSFERS:
            yield f"its colours are told by a code ({primaries}/{transfer}) and no profile, and are taken for sRGB"

    def _read_colour_codes(self, opened: PillowImage.Image) -> tuple[int, int]:
        """Return primaries and transfer function, where AVIF or PNG say them and have no profile."""
        unspecified = (_UNSPECIFIED, _UNSPECIFIED)
        if self._png:
            return unspecified if self._png.icc_profile else self._png.colour_codes or unspecified
        if self._name != "AVIF" or "icc_profile" in opened.info:
            return unspecified
        content = self._read_content()
        start = content.find(b"colrnclx")
        return struct.unpack(">HH", content[start + 8 : start + 12]) if start >= 0 else unspecified


def _choose_mode(opened: PillowImage.Image) -> str:
    """Return the mode of Pillow that the image is converted to."""
    if opened.mode == "CMYK":
        return "CMYK"
    if opened.mode in ("1", "L", "LA"):
        return "LA" if _is_transparent(opened) else "L"
    if opened.mode in ("P", "PA", "RGB", "RGBA"):
        return "RGBA" if _is_transparent(opened) else "RGB"
    raise DecodeError(f"{opened.mode} images are not supported; convert it to RGB first")


def _is_transparent(opened: PillowImage.Image) -> bool:
    return "transparency" in opened.info or opened.mode in ("LA", "PA", "RGBA")


def _stretch_transparency(opened: PillowImage.Image) -> None:
    """Pillow stretches a PNG's gray of 2 or 4 bits to 8, but not the gray that stands for transparency: do it here."""
    if isinstance(opened, PngImageFile) and opened.mode == "L" and "transparency" in opened.info:
        opened.info["transparency"] *= {"L;2": 85, "L;4": 17}.get(str(opened.tile[0].args), 1)


def _estimate_jpeg_quality(opened: PillowImage.Image) -> int | None:
    """Return 1 to 100; None for all files but JPEG."""
    tables: dict[int, list[int]] = getattr(opened, "quantization", {})
    return estimate_quality(tables[min(tables)]) if tables else None  # brightness comes first


def _has_extended_xmp(opened: PillowImage.Image) -> bool:
    """Return whether a JPEG has XMP beyond its first segment of 64 KB. The further ones are not read."""
    segments = getattr(opened, "applist", [])
    return any(content.startswith(b"http://ns.adobe.com/xmp/extension/\0") for _, content in segments)


def _list_webp_chunks(content: bytes) -> Iterator[bytes]:
    """Yield the names of the chunks. Lossless pixels are in a VP8L chunk, lossy ones in a VP8 chunk."""
    position = 12
    while position + 8 <= len(content):
        yield content[position : position + 4]
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
