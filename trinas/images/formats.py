"""Which image files there are: what they are called, how they begin, what they can hold. No pixels here."""

from dataclasses import dataclass
from pathlib import Path

from trinas.errors import ImageError


@dataclass(frozen=True)
class Format:
    """What one kind of image file can hold."""

    name: str
    """As Pillow calls it."""
    suffixes: tuple[str, ...]
    """In lower case, the usual one first."""
    max_side_px: int
    """The longest side that the format, or the library that writes it, can hold."""
    has_gray: bool = True
    has_alpha: bool = True
    has_16_bit: bool = False
    has_metadata: bool = True
    """EXIF, XMP and ICC profile."""
    has_quality: bool = False
    """Whether it is lossy, at a quality of 1 to 100."""
    has_lossless: bool = False
    """Whether it is lossy unless asked not to be."""


FORMATS = {
    known.name: known
    for known in (
        Format("PNG", (".png",), 1_000_000, has_16_bit=True),
        Format("JPEG", (".jpg", ".jpeg", ".jfif"), 65_500, has_alpha=False, has_quality=True),
        Format("WEBP", (".webp",), 16_383, has_gray=False, has_quality=True, has_lossless=True),
        Format("TIFF", (".tif", ".tiff"), 1_000_000, has_16_bit=True),
        Format("AVIF", (".avif",), 32_768, has_gray=False, has_quality=True),
        Format("BMP", (".bmp",), 1_000_000, has_alpha=False, has_metadata=False),
    )
}

IMAGE_SUFFIXES = tuple(suffix for known in FORMATS.values() for suffix in known.suffixes)

_NAMES = [known.name.replace("WEBP", "WebP") for known in FORMATS.values()]
FORMAT_NAMES = f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
"""For messages."""


def format_of_suffix(path: Path) -> Format:
    """The format that a file of this name is written in.

    Raises:
        ImageError: the suffix names none of them.
    """
    for known in FORMATS.values():
        if path.suffix.lower() in known.suffixes:
            return known
    raise ImageError(f"{path}: cannot write this format; choose one of {', '.join(IMAGE_SUFFIXES)}")


def sniff_format(path: Path) -> Format | None:
    """The format by a file's first bytes; None for anything else, a missing file included."""
    try:
        with path.open("rb") as file:
            name = _sniffed(file.read(64))
    except OSError:
        return None
    return FORMATS[name] if name else None


def _sniffed(start: bytes) -> str | None:
    if start.startswith(b"\x89PNG"):
        return "PNG"
    if start.startswith(b"\xff\xd8"):
        return "JPEG"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if start[4:8] == b"ftyp" and (b"avif" in start[8:] or b"avis" in start[8:]):
        return "AVIF"
    return "BMP" if start.startswith(b"BM") else None


def is_hidden(path: Path) -> bool:
    """Whether the file's own name begins with a dot: what systems and this program itself leave in folders."""
    return path.name.startswith(".")


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder by their suffix, sorted; hidden ones and sub-folders are left out."""
    return [path for path in sorted(folder.iterdir()) if is_image_file(path)]


def is_image_file(path: Path) -> bool:
    """Whether a file in a folder is taken for an image: by its suffix, and not if it is hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path) and path.is_file()
