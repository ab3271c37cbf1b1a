"""What an image file says besides pixels and colours: EXIF, XMP, resolution."""

from dataclasses import dataclass, replace
from typing import Any

from PIL.ExifTags import IFD, Base

from trinas.images.exif import LONG, SHORT, Directory, Exif, parse_exif
from trinas.images.xmp import XmpError, rewrite_xmp

_SIZE_TAGS = (Base.ImageWidth, Base.ImageLength)
_EXIF_SIZE_TAGS = (Base.ExifImageWidth, Base.ExifImageHeight)
_RESOLUTION_TAGS = (Base.XResolution, Base.YResolution)
_INCHES, _CENTIMETRES = 2, 3

_DESCRIPTIVE_TAGS = frozenset(
    {
        *(Base[name] for name in ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist")),
        *(Base[name] for name in ("HostComputer", "Rating", "RatingPercent", "Copyright", "Orientation")),
        *range(Base.XPTitle, Base.XPSubject + 1),
        IFD.Exif,
        IFD.GPSInfo,
    }
)
"""The tags of a TIFF file that are about the image; the others say how its pixels are stored."""


@dataclass(frozen=True)
class Metadata:
    """What is kept of an image's description. EXIF and XMP stay as the input file has them until `fit_metadata`."""

    exif: bytes | None = None
    """A TIFF structure, with or without "Exif" and two zeros before it."""
    xmp: bytes | None = None
    """An XMP packet."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontally and vertically, of the upright image."""

    def kinds(self) -> list[str]:
        """Return the names of what is there, for messages."""
        named = {"EXIF": self.exif, "XMP": self.xmp}
        return [name for name, value in named.items() if value]


def parse_dpi(values: Any) -> tuple[float, float] | None:
    """Return pixels per inch in both directions, from whatever a file has in their place; None for nonsense."""
    try:
        horizontal, vertical = (float(value) for value in values)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        return None
    return (horizontal, vertical) if 1 <= min(horizontal, vertical) <= max(horizontal, vertical) < 65_536 else None


def read_exif_dpi(exif: bytes | None) -> tuple[float, float] | None:
    """Return pixels per inch in both directions as EXIF says it; None where it says nothing, or nonsense."""
    parsed = parse_exif(exif)
    if parsed is None:
        return None
    unit = parsed.integer(Base.ResolutionUnit) if Base.ResolutionUnit in parsed.tags else _INCHES
    factor = {_INCHES: 1, _CENTIMETRES: 2.54}.get(unit or 0)
    dpi = parse_dpi([parsed.ratio(tag) for tag in _RESOLUTION_TAGS])
    return (dpi[0] * factor, dpi[1] * factor) if dpi and factor else None


def read_exif_orientation(exif: bytes | None) -> int:
    """Return how the image is turned, 1 (upright) to 8; 1 where nothing, or nothing sensible, is said."""
    parsed = parse_exif(exif)
    return _get_orientation(parsed) if parsed else 1


def turn_resolution(metadata: Metadata) -> Metadata:
    """Return the metadata of an image whose rows became columns; EXIF stays as it is."""
    return replace(metadata, dpi=(metadata.dpi[1], metadata.dpi[0])) if metadata.dpi else metadata


def fit_metadata(metadata: Metadata, width: int, height: int) -> tuple[Metadata, list[str]]:
    """Make the metadata that of an upright image of a new size.

    Orientation becomes upright, and the resolution is turned accordingly. Sizes become those given. The thumbnail is
    left out, and so is what is damaged, or too large.

    Args:
        metadata: as the input file has it.
        width, height: of the new image, in pixels.
    Returns:
        The metadata, and notes on what was left out.
    """
    notes = []
    parsed = parse_exif(metadata.exif)
    if metadata.exif and not (parsed and parsed.is_whole):
        notes.append(f"{'part of its' if parsed else 'its'} EXIF was damaged and is left out")
    # Where EXIF says nothing of a turn, none was made, and what XMP says of it still holds.
    was_turned = parsed is not None and Base.Orientation in parsed.tags
    xmp = metadata.xmp
    try:
        xmp = rewrite_xmp(xmp, width, height, set_upright=was_turned) if xmp else None
    except XmpError as error:
        xmp = None
        notes.append(f"its XMP is {error} and is left out")
    return replace(metadata, exif=_fit_exif(parsed, width, height) if parsed else None, xmp=xmp), notes


def add_resolution(metadata: Metadata) -> bytes | None:
    """Return EXIF that says the resolution too, for formats that have no other place for it."""
    if metadata.dpi is None:
        return metadata.exif
    exif = parse_exif(metadata.exif) or Exif("<", {})
    exif.tags |= make_resolution_tags(exif, metadata.dpi)
    return exif.tobytes()


def remove_orientation(exif: bytes | None) -> bytes | None:
    """Return EXIF without the orientation, for formats that have another place for it; None where nothing is left."""
    parsed = parse_exif(exif)
    if parsed is None:
        return None
    parsed.tags.pop(Base.Orientation, None)
    return parsed.tobytes() if parsed.tags else None


def make_resolution_tags(exif: Exif, dpi: tuple[float, float]) -> Directory:
    """Return the tags that say the resolution, in the byte order of `exif`."""
    horizontally, vertically = (exif.rational(value) for value in dpi)
    unit = exif.integers(SHORT, _INCHES)
    return {Base.XResolution: horizontally, Base.YResolution: vertically, Base.ResolutionUnit: unit}


def keep_descriptive_exif(tiff: bytes) -> bytes | None:
    """Return the EXIF of a TIFF file, without the tags that say how its pixels are stored."""
    exif = parse_exif(tiff)
    kept = keep_descriptive_tags(exif) if exif else None
    return Exif(exif.order, kept).tobytes() if exif and kept else None


def keep_descriptive_tags(exif: Exif) -> Directory:
    """Return the tags that are about the image, not about its pixels."""
    return {tag: value for tag, value in exif.tags.items() if tag in _DESCRIPTIVE_TAGS}


def _get_orientation(exif: Exif) -> int:
    orientation = exif.integer(Base.Orientation) or 1
    return orientation if orientation <= 8 else 1


def _fit_exif(exif: Exif, width: int, height: int) -> bytes:
    if _get_orientation(exif) >= 5 and all(tag in exif.tags for tag in _RESOLUTION_TAGS):
        horizontally, vertically = (exif.tags[tag] for tag in _RESOLUTION_TAGS)
        exif.tags |= {Base.XResolution: vertically, Base.YResolution: horizontally}
    if Base.Orientation in exif.tags:
        exif.tags[Base.Orientation] = exif.integers(SHORT, 1)
    details = exif.tags.get(IFD.Exif)
    for tags, names in ((exif.tags, _SIZE_TAGS), (details, _EXIF_SIZE_TAGS)):
        for name, size in zip(names, (width, height), strict=True):
            if isinstance(tags, dict) and name in tags:
                tags[name] = exif.integers(LONG, size)
    return exif.tobytes()
