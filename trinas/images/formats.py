"""The file formats: their names, how their files begin, and what they can hold. Nothing is decoded here."""

from dataclasses import dataclass
from pathlib import Path

from trinas.errors import ImageError


@dataclass(frozen=True)
class Format:
    """A file format, and what its files can hold."""

    name: str
    """Pillow's name for it."""
    suffixes: tuple[str, ...]
    """In lower case, the usual one first."""
    max_side_px: int
    """The longest side that the format, or the library that writes it, allows."""
    has_gray: bool = True
    has_alpha: bool = True
    has_16_bit: bool = False
    has_metadata: bool = True
    """EXIF, XMP and ICC profile."""
    has_quality: bool = False
    """Whether it is lossy, with a quality of 1 to 100."""
    has_lossless: bool = False
    """Whether this lossy format can also be written without losses."""


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

SNIFFED_BYTES = 64
"""How many bytes at the beginning of a file show its format."""

_NAMES = [known.name.replace("WEBP", "WebP") for known in FORMATS.values()]
FORMAT_NAMES = f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
"""For messages."""


def find_format(path: Path) -> Format:
    """Return the format in which a file of this name is written.

    Raises:
        ImageError: no format has this suffix.
    """
    for known in FORMATS.values():
        if path.suffix.lower() in known.suffixes:
            return known
    raise ImageError(f"{path}: cannot write this format; choose one of {', '.join(IMAGE_SUFFIXES)}")


def sniff_format(path: Path) -> Format | None:
    """Return the format of a file by its first bytes; None for all other files, missing ones, and pipes."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return sniff_bytes(file.read(SNIFFED_BYTES))
    except OSError:
        return None


def sniff_bytes(start: bytes) -> Format | None:
    """Return the format of a file that starts with these `SNIFFED_BYTES` bytes; None for all other files."""
    name = _sniff_name(start)
    return FORMATS[name] if name else None


def _sniff_name(start: bytes) -> str | None:
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
    """Return whether the name of the file begins with a dot, as the names of temporary files do."""
    return path.name.startswith(".")


def list_image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder by their suffixes, sorted. Hidden files and sub-folders are left out."""
    return [path for path in sorted(folder.iterdir()) if is_image_file(path)]


def is_image_file(path: Path) -> bool:
    """Return whether a file counts as an image: it has the suffix of an image and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path) and path.is_file()
