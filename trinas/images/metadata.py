"""What an image file says of its picture besides pixels and colours: EXIF, XMP, resolution."""

import re
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image as PillowImage
from PIL.ExifTags import IFD, Base

from trinas.images.exif import LONG, SHORT, Directory, Exif, parsed_exif

_SIZE_TAGS = (Base.ImageWidth, Base.ImageLength)
_EXIF_SIZE_TAGS = (Base.ExifImageWidth, Base.ExifImageHeight)
_RESOLUTION_TAGS = (Base.XResolution, Base.YResolution)
_INCHES, _CENTIMETRES = 2, 3

_GONE_FROM_XMP = (
    rb"<xmp:Thumbnails>.*?</xmp:Thumbnails>",
    rb"\sxmpNote:HasExtendedXMP\s*=\s*([\"']).*?\1",  # that there is more of it, which is not read
    rb"<xmpNote:HasExtendedXMP>.*?</xmpNote:HasExtendedXMP>",
)

DESCRIPTIVE_TAGS = frozenset(
    {
        *(Base[name] for name in ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist")),
        *(Base[name] for name in ("HostComputer", "Rating", "RatingPercent", "Copyright", "Orientation")),
        *range(Base.XPTitle, Base.XPSubject + 1),
        IFD.Exif,
        IFD.GPSInfo,
    }
)
"""Of a TIFF file's own tags those that are about the picture; the others say how its pixels are stored."""


@dataclass(frozen=True)
class Metadata:
    """What is kept of it. EXIF and XMP are still as the input file has them until `fitted`."""

    exif: bytes | None = None
    """A TIFF structure, with or without "Exif" and two zeros before it."""
    xmp: bytes | None = None
    """An XMP packet."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontally and vertically, of the upright picture."""

    def kinds(self) -> list[str]:
        """The names of what is there, for messages."""
        named = {"EXIF": self.exif, "XMP": self.xmp}
        return [name for name, value in named.items() if value]


def read_metadata(opened: PillowImage.Image) -> Metadata:
    """What an opened and loaded file says, before any turn; damaged pieces are left out."""
    exif = opened.info.get("exif")
    xmp = opened.info.get("xmp")
    dpi = opened.info.get("dpi")
    if opened.format in ("JPEG", "MPO") and opened.info.get("jfif_unit") not in (1, 2):
        dpi = None  # what Pillow then gives is half of what EXIF says, or 72 where it says nothing
    dpi = plausible_dpi(dpi) or _exif_dpi(exif)  # WebP and AVIF have no other place for it
    return Metadata(exif or None, xmp.encode() if isinstance(xmp, str) else xmp or None, dpi)


def has_extended_xmp(opened: PillowImage.Image) -> bool:
    """Whether there is XMP beyond the 64 KB that a segment of a JPEG can hold: in further ones, which are not read."""
    segments = getattr(opened, "applist", [])
    return any(content.startswith(b"http://ns.adobe.com/xmp/extension/\0") for _, content in segments)


def turned(metadata: Metadata) -> Metadata:
    """The metadata, EXIF aside, of a picture of which rows became columns."""
    return replace(metadata, dpi=(metadata.dpi[1], metadata.dpi[0])) if metadata.dpi else metadata


def plausible_dpi(values: Any) -> tuple[float, float] | None:
    """Pixels per inch in both directions, from whatever a file has in their place; None for nonsense."""
    try:
        horizontal, vertical = (float(value) for value in values)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        return None
    return (horizontal, vertical) if 1 <= min(horizontal, vertical) <= max(horizontal, vertical) < 65_536 else None


def exif_orientation(exif: bytes | None) -> int:
    """How the picture is turned, 1 (upright) to 8; 1 where nothing, or nothing sensible, is said."""
    parsed = parsed_exif(exif)
    return _orientation(parsed) if parsed else 1


def _orientation(exif: Exif) -> int:
    orientation = exif.integer(Base.Orientation) or 1
    return orientation if orientation <= 8 else 1


def fitted(metadata: Metadata, width: int, height: int) -> Metadata:
    """The metadata for an upright picture of a new size in pixels.

    Orientation becomes upright, and the resolution is turned accordingly; sizes are those given, the thumbnail is
    dropped. EXIF too damaged to be read is dropped.
    """
    parsed = parsed_exif(metadata.exif)
    # Where EXIF says nothing of a turn, none was made, and what XMP says of it still holds.
    was_turned = parsed is not None and Base.Orientation in parsed.tags
    exif = _fitted_exif(parsed, width, height) if parsed else None
    return replace(metadata, exif=exif, xmp=_fitted_xmp(metadata.xmp, width, height, was_turned))


def with_resolution(metadata: Metadata) -> bytes | None:
    """EXIF that says the resolution too, for formats that have no other place for it."""
    if metadata.dpi is None:
        return metadata.exif
    exif = parsed_exif(metadata.exif) or Exif("<", {})
    exif.tags |= resolution_tags(exif, metadata.dpi)
    return exif.tobytes()


def without_orientation(exif: bytes | None) -> bytes | None:
    """For formats that have another place for it; None where nothing else is said."""
    parsed = parsed_exif(exif)
    if parsed is None:
        return None
    parsed.tags.pop(Base.Orientation, None)
    return parsed.tobytes() if parsed.tags else None


def resolution_tags(exif: Exif, dpi: tuple[float, float]) -> Directory:
    """What is to be said in `exif`."""
    horizontally, vertically = (exif.rational(value) for value in dpi)
    unit = exif.integers(SHORT, _INCHES)
    return {Base.XResolution: horizontally, Base.YResolution: vertically, Base.ResolutionUnit: unit}


def descriptive_exif(tiff: bytes) -> bytes | None:
    """The EXIF of a TIFF file, without the tags that say how its pixels are stored."""
    exif = parsed_exif(tiff)
    kept = descriptive_tags(exif) if exif else None
    return Exif(exif.order, kept).tobytes() if exif and kept else None


def descriptive_tags(exif: Exif) -> Directory:
    """The tags about the picture."""
    return {tag: value for tag, value in exif.tags.items() if tag in DESCRIPTIVE_TAGS}


def _fitted_exif(exif: Exif, width: int, height: int) -> bytes:
    if _orientation(exif) >= 5 and all(tag in exif.tags for tag in _RESOLUTION_TAGS):
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


def _fitted_xmp(xmp: bytes | None, width: int, height: int, was_turned: bool) -> bytes | None:
    """XMP repeats EXIF's orientation and sizes, as attributes or elements, and may hold thumbnails too."""
    if xmp is None:
        return None
    values = {
        b"tiff:ImageWidth": width,
        b"tiff:ImageLength": height,
        b"exif:PixelXDimension": width,
        b"exif:PixelYDimension": height,
    }
    if was_turned:
        values[b"tiff:Orientation"] = 1
    for name, value in values.items():
        xmp = re.sub(rb"(" + name + rb"(?:\s*=\s*[\"']|>\s*))\d+", rb"\g<1>%d" % value, xmp)
    for gone in _GONE_FROM_XMP:
        xmp = re.sub(gone, b"", xmp, flags=re.DOTALL)
    return xmp


def _exif_dpi(exif: bytes | None) -> tuple[float, float] | None:
    parsed = parsed_exif(exif)
    if parsed is None:
        return None
    unit = parsed.integer(Base.ResolutionUnit) if Base.ResolutionUnit in parsed.tags else _INCHES
    factor = {_INCHES: 1, _CENTIMETRES: 2.54}.get(unit or 0)
    dpi = plausible_dpi([parsed.ratio(tag) for tag in _RESOLUTION_TAGS])
    return (dpi[0] * factor, dpi[1] * factor) if dpi and factor else None
