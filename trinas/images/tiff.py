"""TIFF files of 8 and 16 bits.

tifffile reads them. They are written here, because tifffile cannot write EXIF, and Pillow cannot write colours of 16
bits, or EXIF in compressed files. The byte order is that of the EXIF.
"""

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.ExifTags import Base
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from trinas.images.exif import BYTE, LONG, SHORT, UNDEFINED, Directory, Exif, Value, parse_exif, serialise
from trinas.images.metadata import (
    Metadata,
    keep_descriptive_exif,
    keep_descriptive_tags,
    make_resolution_tags,
    parse_dpi,
)
from trinas.images.stored import DecodeError, StoredHeader, StoredImage

Levels = NDArray[Any]
"""uint8 or uint16, (H, W, C)."""

# Without a handler, tifffile logs to standard error. Everything that matters is raised as an exception.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_HEADER_BYTES = 8
_STRIP_BYTES = 1 << 20
_MAX_FILE_BYTES = 2**32 - 1  # offsets have 32 bits
_PREDICT_DIFFERENCES = 2
_UNASSOCIATED_ALPHA = 2
_ADOBE_DEFLATE = 8
_DNG_VERSION = 50706
_COLOUR_CHANNELS = {
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.SEPARATED: 4,
}
_ALPHA_KINDS = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)


@contextmanager
def _name_damage() -> Iterator[None]:
    """Turn every error inside the block into a DecodeError."""
    try:
        yield
    except (DecodeError, MemoryError):
        raise
    except Exception as error:  # tifffile and its codecs raise many kinds of errors for damaged files
        raise DecodeError(f"damaged ({error})") from None


class TiffFile:
    """An open TIFF file."""

    def __init__(self, file: IO[bytes]) -> None:
        """Parse the header.

        Args:
            file: at its beginning. It must stay open until `decode` ends.
        Raises:
            DecodeError: the header shows that `decode` would fail.
        """
        self._file = file
        with _name_damage():
            self._page = page = _find_image_page(tifffile.TiffFile(file))
            has_alpha = any(kind in _ALPHA_KINDS for kind in page.extrasamples)
            is_gray = page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
            width, height = int(page.imagewidth), int(page.imagelength)
            self.header = StoredHeader(
                width, height, has_alpha, is_gray, _estimate_decoding_bytes(page), _read_orientation(page)
            )

    def decode(self) -> StoredImage:
        """Decode the pixels.

        Raises:
            DecodeError: the file is damaged, or this kind of image is not supported; the text says which.
        """
        page = self._page
        with _name_damage():
            has_resolution = Base.XResolution in page.tags and page.resolutionunit != tifffile.RESUNIT.NONE
            dpi = parse_dpi(page.get_resolution(tifffile.RESUNIT.INCH)) if has_resolution else None
            note = "its extra channels are no transparency and are left out"
            self._file.seek(0)
            exif = keep_descriptive_exif(self._file.read())
            return StoredImage(
                _read_levels(page),
                page.photometric == PHOTOMETRIC.SEPARATED,
                _to_bytes(page.tags.valueof(Base.InterColorProfile)),
                Metadata(exif, _to_bytes(page.tags.valueof(Base.XMLPacket)), dpi),
                notes=(note,) if _has_strange_channels(page) else (),
            )


def encode_tiff(levels: Levels, icc_profile: bytes | None, metadata: Metadata) -> bytes:
    """Encode an image as a TIFF file, compressed without losses (Deflate with differences).

    Args:
        levels: (H, W, C). C is 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha; alpha is not premultiplied.
        icc_profile: is written as it is.
        metadata: EXIF, XMP and resolution.
    Raises:
        ValueError: the file would be larger than 4 GB, the limit of the format.
    """
    height, width, channels = levels.shape
    exif = parse_exif(metadata.exif) or Exif("<", {})
    rows_per_strip = max(1, _STRIP_BYTES // (width * channels * levels.itemsize))
    strips = [_pack(levels[top : top + rows_per_strip], exif.order) for top in range(0, height, rows_per_strip)]
    sizes = [len(strip) for strip in strips]
    if sum(sizes) + (1 << 20) > _MAX_FILE_BYTES:
        raise ValueError("the result is larger than the 4 GB that a TIFF file can have")
    exif.tags = _make_description_tags(exif, icc_profile, metadata) | {
        Base.ImageWidth: exif.make_integers(LONG, width),
        Base.ImageLength: exif.make_integers(LONG, height),
        Base.BitsPerSample: exif.make_integers(SHORT, *(levels.itemsize * 8,) * channels),
        Base.Compression: exif.make_integers(SHORT, _ADOBE_DEFLATE),
        Base.PhotometricInterpretation: exif.make_integers(SHORT, 1 if channels < 3 else 2),
        Base.SamplesPerPixel: exif.make_integers(SHORT, channels),
        Base.RowsPerStrip: exif.make_integers(LONG, rows_per_strip),
        Base.StripByteCounts: exif.make_integers(LONG, *sizes),
        Base.Predictor: exif.make_integers(SHORT, _PREDICT_DIFFERENCES),
        Base.StripOffsets: exif.make_integers(LONG, *sizes),  # a placeholder until the length of all tags is known
    }
    if channels in (2, 4):
        exif.tags[Base.ExtraSamples] = exif.make_integers(SHORT, _UNASSOCIATED_ALPHA)
    start = _HEADER_BYTES + len(serialise(exif.tags, exif.order, _HEADER_BYTES))
    offsets = (int(offset) for offset in np.cumsum([start, *sizes[:-1]]))
    exif.tags[Base.StripOffsets] = exif.make_integers(LONG, *offsets)
    return b"".join([exif.make_tiff_header(), serialise(exif.tags, exif.order, _HEADER_BYTES), *strips])


def _find_image_page(tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    """Return the page of the image. Smaller versions of it do not count."""
    if any(_is_raw(page.aspage()) for page in tiff.pages):
        raise DecodeError("raw files are not supported; export it as TIFF first")
    pages = [page for page in tiff.pages if not page.aspage().is_reduced]
    if not pages:
        raise DecodeError("damaged (there is no image in it)")
    if len(pages) > 1:
        raise DecodeError(f"holds {len(pages)} images; split it into files of one image each")
    page = pages[0].aspage()
    if page.imagedepth != 1:
        raise DecodeError("holds a volume, not an image")
    return page


def _is_raw(page: tifffile.TiffPage) -> bool:
    """Return whether the file is a camera's raw file. Its page is only a preview."""
    try:
        behind = [inner.aspage() for inner in page.pages or ()]
    except Exception:  # the pages behind an undamaged image may be damaged
        behind = []
    return _DNG_VERSION in page.tags or any(inner.photometric == PHOTOMETRIC.CFA for inner in (page, *behind))


def _estimate_decoding_bytes(page: tifffile.TiffPage) -> int:
    """Return the most memory that decoding takes: the samples of the file as numbers, and copies of them."""
    sample_bytes = 1 if np.max(page.bitspersample) <= 8 else 2
    return 4 * int(page.imagewidth * page.imagelength * page.samplesperpixel * sample_bytes)


def _read_orientation(page: tifffile.TiffPage) -> int:
    orientation = page.tags.valueof(Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _to_bytes(value: object) -> bytes | None:
    """Return the value of a tag as bytes, because its type differs between files; None if it is not text or bytes."""
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) and value else None


def _has_strange_channels(page: tifffile.TiffPage) -> bool:
    return any(kind not in _ALPHA_KINDS for kind in page.extrasamples)


def _read_levels(page: tifffile.TiffPage) -> Levels:
    colours = _COLOUR_CHANNELS.get(PHOTOMETRIC(page.photometric))
    if colours is None or (page.photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG):
        name = getattr(page.photometric, "name", page.photometric)
        raise DecodeError(f"{name} images are not supported; convert it to RGB first")
    planes = page.asarray(squeeze=False)[:, 0]  # (S, H, W, C), where S or C is 1
    levels = np.moveaxis(planes[..., 0], 0, 2) if planes.shape[0] > 1 else planes[0]
    if levels.dtype == bool:
        levels = levels.astype(np.uint8)
    if levels.dtype not in (np.uint8, np.uint16):
        raise DecodeError(f"{levels.dtype} values are not supported; convert it to 8 or 16 bits first")
    if page.photometric == PHOTOMETRIC.PALETTE:
        return _join_alpha(_apply_palette(levels, page), 3, page.extrasamples)
    if levels.shape[2] < colours:
        raise DecodeError(f"{levels.shape[2]} channels are not supported where {colours} are needed; convert it to RGB")
    levels = _stretch(levels, page.bitspersample)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        levels[..., 0] = np.iinfo(levels.dtype).max - levels[..., 0]
    return _join_alpha(levels, colours, page.extrasamples)


def _apply_palette(levels: Levels, page: tifffile.TiffPage) -> Levels:
    """Replace the first channel, which refers to the palette, by the RGB of the palette. Return uint8."""
    palette = page.colormap
    if palette is None:
        raise DecodeError("has no palette, though its pixels refer to one")
    surplus_bits = 8 if palette.max() > 255 else 0  # some programs write 8 bits where the format has 16
    others = _stretch(levels[..., 1:], page.bitspersample)
    others = others if others.dtype == np.uint8 else others >> 8
    return np.concatenate([(palette >> surplus_bits).T[levels[..., 0]], others], axis=2).astype(np.uint8)


def _stretch(levels: Levels, bits: int) -> Levels:
    """Stretch values of 1 to 7 bits to 8 bits, and values of 9 to 15 bits to 16."""
    highest, wanted = 2**bits - 1, np.iinfo(levels.dtype).max
    return levels if highest == wanted else np.round(levels * (wanted / highest)).astype(levels.dtype)


def _join_alpha(levels: Levels, colours: int, extra: tuple[int, ...]) -> Levels:
    """Return the colours, with alpha if one of the extra channels is alpha. Premultiplied colours are divided by it."""
    colour = levels[..., :colours]
    for number, kind in enumerate(extra):
        if kind in _ALPHA_KINDS:
            alpha = levels[..., colours + number : colours + number + 1]
            if kind == EXTRASAMPLE.ASSOCALPHA:
                highest = np.iinfo(levels.dtype).max
                divided = colour.astype(np.float64) * highest / np.maximum(alpha, 1)
                colour = np.minimum(divided.round(), highest).astype(levels.dtype)
            return np.concatenate([colour, alpha], axis=2)
    return colour


def _pack(strip: Levels, order: Literal["<", ">"]) -> bytes:
    """Take the differences along each row, modulo the range of the type, and compress them with Deflate."""
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    return zlib.compress(differences.astype(differences.dtype.newbyteorder(order), copy=False).tobytes(), 6)


def _make_description_tags(exif: Exif, icc_profile: bytes | None, metadata: Metadata) -> Directory:
    """Return the tags that describe the image, and not how its pixels are stored."""
    tags = keep_descriptive_tags(exif)
    if icc_profile:
        tags[Base.InterColorProfile] = Value(UNDEFINED, icc_profile)
    if metadata.xmp:
        tags[Base.XMLPacket] = Value(BYTE, metadata.xmp)
    return tags | make_resolution_tags(exif, metadata.dpi) if metadata.dpi else tags
