"""What an image file says of its picture besides pixels and colours: EXIF, XMP, resolution."""

import re
import struct
import warnings
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image as PillowImage
from PIL.ExifTags import IFD, Base

Exif = PillowImage.Exif

_SIZE_TAGS = (Base.ImageWidth, Base.ImageLength)
_EXIF_SIZE_TAGS = (Base.ExifImageWidth, Base.ExifImageHeight)
_RESOLUTION_TAGS = (Base.XResolution, Base.YResolution)
_INCHES, _CENTIMETRES = 2, 3

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

_DAMAGE = (SyntaxError, ValueError, TypeError, KeyError, OSError, OverflowError, struct.error, AttributeError)
"""What Pillow raises on EXIF that is not what it should be."""


@dataclass(frozen=True)
class Metadata:
    """What is kept of it. EXIF and XMP are still as the input file has them until `fitted`."""

    exif: bytes | None = None
    """A TIFF structure, with or without "Exif" and two zeros before it."""
    xmp: bytes | None = None
    """An XMP packet."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontally and vertically."""

    def kinds(self) -> list[str]:
        """The names of what is there, for messages."""
        named = {"EXIF": self.exif, "XMP": self.xmp}
        return [name for name, value in named.items() if value]


def read_metadata(opened: PillowImage.Image) -> Metadata:
    """What an opened and loaded file says; damaged pieces are left out."""
    exif = opened.info.get("exif")
    xmp = opened.info.get("xmp")
    dpi = plausible_dpi(opened.info.get("dpi")) or _exif_dpi(exif)  # WebP and AVIF have no other place for it
    return Metadata(exif or None, xmp.encode() if isinstance(xmp, str) else xmp or None, dpi)


def plausible_dpi(values: Any) -> tuple[float, float] | None:
    """Pixels per inch in both directions, from whatever a file has in their place; None for nonsense."""
    try:
        horizontal, vertical = (float(value) for value in values)
    except (*_DAMAGE, ZeroDivisionError):
        return None
    return (horizontal, vertical) if 1 <= min(horizontal, vertical) <= max(horizontal, vertical) < 65_536 else None


def exif_orientation(exif: bytes | None) -> int:
    """How the picture is turned, 1 (upright) to 8; 1 where nothing, or nothing sensible, is said."""
    parsed = parsed_exif(exif)
    orientation = parsed.get(Base.Orientation, 1) if parsed is not None else 1
    return orientation if orientation in range(1, 9) else 1


def fitted(metadata: Metadata, width: int, height: int) -> Metadata:
    """The metadata for an upright picture of a new size in pixels.

    Orientation becomes upright, sizes are those given, the thumbnail is dropped. EXIF too damaged to be
    written again is dropped.
    """
    parsed = parsed_exif(metadata.exif)
    # Where EXIF says nothing of a turn, none was made, and what XMP says of it still holds.
    was_turned = parsed is not None and Base.Orientation in parsed
    exif = _fitted_exif(metadata.exif, width, height)
    return replace(metadata, exif=exif, xmp=_fitted_xmp(metadata.xmp, width, height, was_turned))


def with_resolution(metadata: Metadata) -> bytes | None:
    """EXIF that says the resolution too, for formats that have no other place for it."""
    if metadata.dpi is None:
        return metadata.exif
    exif = parsed_exif(metadata.exif)
    if exif is None:
        exif = Exif()
    exif[Base.XResolution], exif[Base.YResolution] = metadata.dpi
    exif[Base.ResolutionUnit] = _INCHES
    return exif.tobytes()


def descriptive_exif(tiff: bytes) -> bytes | None:
    """The EXIF of a TIFF file, without the tags that say how its pixels are stored."""
    exif = parsed_exif(tiff)
    if exif is None:
        return None
    kept = Exif()
    try:
        for tag, value in descriptive_tags(exif).items():
            kept[tag] = value
        return kept.tobytes() if len(kept) else None
    except _DAMAGE:
        return None


def descriptive_tags(exif: Exif) -> dict[int, Any]:
    """The tags about the picture, directories as Pillow writes them."""
    return {
        tag: _directory(exif, tag) if tag in (IFD.Exif, IFD.GPSInfo) else exif[tag]
        for tag in sorted(set(exif) & DESCRIPTIVE_TAGS)
    }


def _directory(exif: Exif, tag: int) -> dict[int, object]:
    """A directory within the EXIF, with the one that may be in it again, as Pillow writes it."""
    directory = dict(exif.get_ifd(tag))
    if isinstance(directory.get(IFD.Interop), int):
        directory[IFD.Interop] = exif.get_ifd(IFD.Interop)
    return directory


def parsed_exif(exif: bytes | None) -> Exif | None:
    """EXIF as Pillow represents it; None where there is none, or too damaged a one."""
    if not exif:
        return None
    parsed = Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "Corrupt EXIF data"
            parsed.load(exif)
            dict(parsed)  # values are only looked at when asked for
    except _DAMAGE:
        return None
    return parsed


def _fitted_exif(exif: bytes | None, width: int, height: int) -> bytes | None:
    parsed = parsed_exif(exif)
    if not parsed:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            if Base.Orientation in parsed:
                parsed[Base.Orientation] = 1
            _set_sizes(parsed, _SIZE_TAGS, width, height)
            if IFD.Exif in parsed:
                directory = _directory(parsed, IFD.Exif)
                _set_sizes(directory, _EXIF_SIZE_TAGS, width, height)
                parsed[IFD.Exif] = directory
            return parsed.tobytes()  # which leaves the thumbnail out
    except _DAMAGE:
        return None


def _set_sizes(tags: "Exif | dict[int, object]", names: tuple[int, int], width: int, height: int) -> None:
    for name, size in zip(names, (width, height), strict=True):
        if name in tags:
            tags[name] = size


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
    return re.sub(rb"<xmp:Thumbnails>.*?</xmp:Thumbnails>", b"", xmp, flags=re.DOTALL)


def _exif_dpi(exif: bytes | None) -> tuple[float, float] | None:
    parsed = parsed_exif(exif)
    if parsed is None or not all(tag in parsed for tag in _RESOLUTION_TAGS):
        return None
    factor = {_INCHES: 1, _CENTIMETRES: 2.54}.get(parsed.get(Base.ResolutionUnit, _INCHES))
    dpi = plausible_dpi([parsed[tag] for tag in _RESOLUTION_TAGS]) if factor else None
    return (dpi[0] * factor, dpi[1] * factor) if dpi and factor else None
