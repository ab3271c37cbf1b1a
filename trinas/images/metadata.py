"""The metadata of an image file: EXIF, XMP and resolution."""

from dataclasses import dataclass, replace
from typing import Any

from PIL.ExifTags import IFD, Base

from trinas.images.exif import Directory, Exif, parse_exif
from trinas.images.exif_tags import LONG, SHORT
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
"""The tags of a TIFF file that describe the image. The others say how its pixels are stored."""


@dataclass(frozen=True)
class Metadata:
    """The metadata of an image. EXIF and XMP are those of the input file until `fit_metadata` changes them."""

    exif: bytes | None = None
    """A TIFF structure, with or without "Exif" and two zeros before it."""
    xmp: bytes | None = None
    """An XMP packet."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontally and vertically, of the upright image."""

    def list_names(self) -> list[str]:
        """Return the names of the parts that are there, for messages."""
        named = {"EXIF": self.exif, "XMP": self.xmp}
        return [name for name, value in named.items() if value]


def parse_dpi(values: Any) -> tuple[float, float] | None:
    """Return pixels per inch in both directions; None if the value in the file makes no sense."""
    try:
        horizontal, vertical = (float(value) for value in values)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        return None
    return (horizontal, vertical) if 1 <= min(horizontal, vertical) <= max(horizontal, vertical) < 65_536 else None


def read_exif_dpi(exif: bytes | None) -> tuple[float, float] | None:
    """Return pixels per inch in both directions from EXIF; None if it has none, or if they make no sense."""
    parsed = parse_exif(exif)
    if parsed is None:
        return None
    unit = parsed.get_integer(Base.ResolutionUnit) if Base.ResolutionUnit in parsed.tags else _INCHES
    factor = {_INCHES: 1, _CENTIMETRES: 2.54}.get(unit or 0)
    dpi = parse_dpi([parsed.get_ratio(tag) for tag in _RESOLUTION_TAGS])
    return (dpi[0] * factor, dpi[1] * factor) if dpi and factor else None


def read_exif_orientation(exif: bytes | None) -> int:
    """Return how the image is turned, from 1 (upright) to 8; 1 if EXIF does not say it or is damaged."""
    parsed = parse_exif(exif)
    return _get_orientation(parsed) if parsed else 1


def turn_resolution(metadata: Metadata) -> Metadata:
    """Return the metadata of an image whose rows became columns. EXIF does not change."""
    return replace(metadata, dpi=(metadata.dpi[1], metadata.dpi[0])) if metadata.dpi else metadata


def fit_metadata(metadata: Metadata, width: int, height: int) -> tuple[Metadata, list[str]]:
    """Change the metadata to that of an upright image of a new size.

    The orientation becomes upright, and the resolution is turned with it. Sizes become the new ones. The thumbnail is
    left out. Parts that are damaged or too large are left out too.

    Args:
        metadata: that of the input file.
        width, height: of the new image, in pixels.
    Returns:
        The metadata, and notes on what was left out.
    """
    notes = []
    parsed = parse_exif(metadata.exif)
    if metadata.exif and not (parsed and parsed.is_whole):
        notes.append(f"{'part of its' if parsed else 'its'} EXIF was damaged and is left out")
    # If EXIF has no orientation, the image was not turned, and the orientation in XMP is still right.
    was_turned = parsed is not None and Base.Orientation in parsed.tags
    xmp = metadata.xmp
    try:
        xmp = rewrite_xmp(xmp, width, height, set_upright=was_turned) if xmp else None
    except XmpError as error:
        xmp = None
        notes.append(f"its XMP is {error} and is left out")
    return replace(metadata, exif=_fit_exif(parsed, width, height) if parsed else None, xmp=xmp), notes


def add_resolution(metadata: Metadata) -> bytes | None:
    """Return EXIF with the resolution, for formats that have no other place for it."""
    if metadata.dpi is None:
        return metadata.exif
    exif = parse_exif(metadata.exif) or Exif("<", {})
    exif.tags |= make_resolution_tags(exif, metadata.dpi)
    return exif.to_bytes()


def remove_orientation(exif: bytes | None) -> bytes | None:
    """Return EXIF without the orientation, for formats that have another place for it; None if nothing is left."""
    parsed = parse_exif(exif)
    if parsed is None:
        return None
    parsed.tags.pop(Base.Orientation, None)
    return parsed.to_bytes() if parsed.tags else None


def make_resolution_tags(exif: Exif, dpi: tuple[float, float]) -> Directory:
    """Return the tags of the resolution, in the byte order of `exif`."""
    horizontally, vertically = (exif.make_rational(value) for value in dpi)
    unit = exif.make_integers(SHORT, _INCHES)
    return {Base.XResolution: horizontally, Base.YResolution: vertically, Base.ResolutionUnit: unit}


def keep_descriptive_exif(tiff: bytes) -> bytes | None:
    """Return the EXIF of a TIFF file without the tags that say how its pixels are stored."""
    exif = parse_exif(tiff, _DESCRIPTIVE_TAGS)
    kept = keep_descriptive_tags(exif) if exif else None
    return Exif(exif.order, kept).to_bytes() if exif and kept else None


def keep_descriptive_tags(exif: Exif) -> Directory:
    """Return the tags that describe the image, and not how its pixels are stored."""
    return {tag: value for tag, value in exif.tags.items() if tag in _DESCRIPTIVE_TAGS}


def _get_orientation(exif: Exif) -> int:
    orientation = exif.get_integer(Base.Orientation) or 1
    return orientation if orientation <= 8 else 1


def _fit_exif(exif: Exif, width: int, height: int) -> bytes:
    if _get_orientation(exif) >= 5 and all(tag in exif.tags for tag in _RESOLUTION_TAGS):
        horizontally, vertically = (exif.tags[tag] for tag in _RESOLUTION_TAGS)
        exif.tags |= {Base.XResolution: vertically, Base.YResolution: horizontally}
    if Base.Orientation in exif.tags:
        exif.tags[Base.Orientation] = exif.make_integers(SHORT, 1)
    details = exif.tags.get(IFD.Exif)
    for tags, names in ((exif.tags, _SIZE_TAGS), (details, _EXIF_SIZE_TAGS)):
        for name, size in zip(names, (width, height), strict=True):
            if isinstance(tags, dict) and name in tags:
                tags[name] = exif.make_integers(LONG, size)
    return exif.to_bytes()
