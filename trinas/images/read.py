"""Open an image file once, and read its header and its pixels from the same bytes."""

import io
from dataclasses import astuple, dataclass
from pathlib import Path

from trinas.config import MAX_INPUT_PX
from trinas.errors import ImageError
from trinas.images.formats import _sniffed
from trinas.images.metadata import exif_orientation
from trinas.images.read_write import (
    Header,
    Image,
    _damage_named,
    _is_transparent,
    _jpeg_quality,
    _opened,
    _read_bytes,
    _read_tiff,
    _read_with_pillow,
)
from trinas.images.tiff import read_tiff_header


@dataclass(frozen=True)
class ImageFile:
    """The content of an image file."""

    path: Path
    header: Header
    _content: bytes

    def read(self) -> Image:
        """Decode the pixels.

        Raises:
            ImageError: as for `read_image`.
        """
        with _damage_named(self.path):
            if _sniffed(self._content[:64]) == "TIFF":
                return _read_tiff(self._content)
            return _read_with_pillow(self.path, self._content)


def open_image(path: Path, max_px: int = MAX_INPUT_PX) -> ImageFile:
    """Read a file's bytes and parse its header.

    Raises:
        ImageError: as for `read_header`.
    """
    content = _read_bytes(path)
    file = io.BytesIO(content)
    with _damage_named(path):
        if _sniffed(content[:64]) == "TIFF":
            width, height, has_alpha, is_gray, orientation = astuple(read_tiff_header(file))
            quality = None
        else:
            with _opened(path, file) as opened:
                width, height = opened.size
                has_alpha = _is_transparent(opened)
                is_gray = opened.mode in ("1", "L", "LA") or opened.mode.startswith("I")
                orientation = exif_orientation(opened.info.get("exif"))
                quality = _jpeg_quality(opened)
    if width * height > max_px:
        raise ImageError(f"{path}: {width}x{height} is too large; the limit is {max_px:,} pixels (--max-input-mp)")
    if orientation >= 5:
        width, height = height, width
    return ImageFile(path, Header(width, height, has_alpha, (1 if is_gray else 3) + has_alpha, quality), content)
