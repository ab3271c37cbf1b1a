"""The result of a decoder: an image as its file stores it, not turned upright and not converted to RGB."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from trinas.images.metadata import Metadata


class DecodeError(ValueError):
    """A file cannot be decoded. The text says why, but does not name the file."""


@dataclass(frozen=True)
class StoredHeader:
    """The header of an image file."""

    width: int
    height: int
    """In pixels, before any turn."""
    has_alpha: bool
    is_gray: bool
    level_bytes: int
    """Of `StoredImage.levels`."""
    decoding_bytes: int
    """The most memory that `decode` takes at once with its result, in bytes, without the bytes of the file."""
    is_cmyk: bool = False
    samples_per_px: int = 4
    """Numbers that the file stores for a pixel at most, with those that are left out."""
    orientation: int = 1
    """As in EXIF: 1 (upright) to 8."""
    jpeg_quality: int | None = None
    """1 to 100; None for all formats except JPEG."""


@dataclass(frozen=True)
class StoredImage:
    """The content of an image file."""

    levels: NDArray[Any]
    """uint8 or uint16, (H, W, C). C is 1 for gray, 3 for RGB and 4 for CMYK, and one more with alpha. Alpha is not
    premultiplied."""
    is_cmyk: bool
    icc_profile: bytes | None
    metadata: Metadata
    is_lossless_webp: bool = False
    notes: tuple[str, ...] = ()
    """What the user should know about parts that were left out."""
