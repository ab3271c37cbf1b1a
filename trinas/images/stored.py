"""What the decoders hand on: an image as its file stores it, neither turned upright nor converted to RGB."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from trinas.images.metadata import Metadata


class DecodeError(ValueError):
    """A file cannot be decoded; the text says why, but not which file."""


@dataclass(frozen=True)
class StoredHeader:
    """What the beginning of an image file says."""

    width: int
    height: int
    """In pixels, before any turn."""
    has_alpha: bool
    is_gray: bool
    orientation: int = 1
    """As in EXIF: 1 (upright) to 8."""
    jpeg_quality: int | None = None
    """1 to 100; None for all files but JPEG."""


@dataclass(frozen=True)
class StoredImage:
    """What an image file holds."""

    levels: NDArray[Any]
    """uint8 or uint16, (H, W, C): C is 1 or 3, or 4 for CMYK; one more with alpha, not premultiplied."""
    is_cmyk: bool
    icc_profile: bytes | None
    metadata: Metadata
    is_lossless_webp: bool = False
    notes: tuple[str, ...] = ()
    """What had to be left out, for the user to know."""
