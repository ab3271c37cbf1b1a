"""TIFF files of 8 and 16 bits.

tifffile reads them. They are written here, because tifffile cannot write EXIF, and Pillow cannot write colours of 16
bits, or EXIF in compressed files. The byte order is that of the EXIF.
"""

import io
import logging
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import IO, Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.ExifTags import Base
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG, PREDICTOR

from trinas.images.colour import MAX_PROFILE_BYTES
from trinas.images.exif import Directory, Exif, Value, parse_exif, serialise
from trinas.images.exif_tags import ASCII, BYTE, LONG, SHORT, UNDEFINED
from trinas.images.jpeg import check_scans, read_frame
from trinas.images.metadata import (
    Metadata,
    keep_descriptive_exif,
    keep_descriptive_tags,
    make_resolution_tags,
    parse_dpi,
)
from trinas.images.stored import DecodeError, StoredHeader, StoredImage
from trinas.images.tiff_directory import TiffDirectory
from trinas.images.webp import read_size
from trinas.images.xmp import MAX_XMP_BYTES

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
_MAX_SEGMENTS = 100_000  # strips or tiles
_LARGE_TILE_PX = 1 << 24  # a tile may be larger than its image
_LARGEST_BLOCK_PX = 32  # a JPEG may fill the last blocks of a strip or tile, on both sides
_BAND_PX = 1 << 18
_SEGMENT_COPIES = 4  # decompressed, unpacked, in the byte order of the machine; coefficients of a progressive JPEG
_SHORT_VALUE_BYTES = 16
_JFIF_BYTES = 16  # how much tifffile reads of a JPEG to know its kind
_WEBP_HEADER_BYTES = 30

_BILEVEL = (COMPRESSION.CCITTRLE, COMPRESSION.CCITTFAX3, COMPRESSION.CCITTFAX4)
_JPEG = (COMPRESSION.OJPEG, COMPRESSION.JPEG)
_COMPRESSIONS = (
    *(COMPRESSION.NONE, COMPRESSION.PACKBITS, COMPRESSION.LZW, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE),
    *(COMPRESSION.LZMA, COMPRESSION.ZSTD, COMPRESSION.WEBP, *_BILEVEL, *_JPEG),
)
"""Those that people have. tifffile knows more, but the decoders of some crash on damaged files."""

_COLOUR_CHANNELS: dict[int, int] = {
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.SEPARATED: 4,
}
_MAY_OMIT_EXTRA = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB)
"""Colours whose alpha is not announced by some programs."""
_ALPHA_KINDS = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)


class TiffFile:
    """An open TIFF file."""

    def __init__(self, file: IO[bytes]) -> None:
        """Parse the header.

        Args:
            file: at its beginning. It must stay open until `decode` ends.
        Raises:
            DecodeError: the file is damaged, or this kind of image is not supported; the text says which. tifffile
                raises other errors for damaged files.
        """
        self._file = file
        self._directory = TiffDirectory(file)
        self._page = page = _describe_image(self._directory)
        self._channels = _choose_channels(page)
        self._positions, self._byte_counts = _find_segments(self._directory, page)
        self.header = StoredHeader(
            int(page.imagewidth),
            int(page.imagelength),
            has_alpha=len(self._channels) > _COLOUR_CHANNELS[page.photometric],
            is_gray=page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE),
            level_bytes=_count_level_bytes(page, len(self._channels)),
            is_cmyk=page.photometric == PHOTOMETRIC.SEPARATED,
            decoding_bytes=_estimate_decoding_bytes(page, len(self._channels)),
            samples_per_px=int(page.samplesperpixel),
            orientation=_read_orientation(page),
        )

    def decode(self) -> StoredImage:
        """Decode the pixels.

        Raises:
            DecodeError: the file is damaged. tifffile and its codecs raise other errors.
        """
        page = self._page
        has_resolution = Base.XResolution in page.tags and page.resolutionunit != tifffile.RESUNIT.NONE
        dpi = parse_dpi(page.get_resolution(tifffile.RESUNIT.INCH)) if has_resolution else None
        profile = _read_bytes(self._directory, Base.InterColorProfile, MAX_PROFILE_BYTES + 1)
        self._file.seek(0)
        content = self._file.read()
        return StoredImage(
            _convert(self._read_samples(memoryview(content)), page),
            page.photometric == PHOTOMETRIC.SEPARATED,
            profile,
            Metadata(
                keep_descriptive_exif(content), _read_bytes(self._directory, Base.XMLPacket, MAX_XMP_BYTES + 1), dpi
            ),
            notes=tuple(self._find_notes()),
        )

    def _read_samples(self, content: memoryview) -> Levels:
        """Return colours and alpha as the file stores them. Strips or tiles are decoded one after the other."""
        page = self._page
        samples = np.empty((page.imagelength, page.imagewidth, len(self._channels)), _choose_type(page))
        by_channel = page.planarconfig == PLANARCONFIG.SEPARATE
        segments_per_plane = len(self._positions) // (page.samplesperpixel if by_channel else 1)
        for number, (position, size) in enumerate(zip(self._positions, self._byte_counts, strict=True)):
            plane = number // segments_per_plane
            if by_channel and plane not in self._channels:
                continue
            segment = content[position : position + size]
            _check_segment(segment, page)
            decoded, (_, _, top, left, _), _ = page.decode(segment, number, jpegtables=page.jpegtables)
            assert decoded is not None
            target = samples[top : top + decoded.shape[1], left : left + decoded.shape[2]]
            fitting = decoded[0, : target.shape[0], : target.shape[1]]
            if by_channel:
                target[..., self._channels.index(plane)] = fitting[..., 0]
            else:
                target[:] = fitting if fitting.shape == target.shape else fitting[..., self._channels]
        return samples

    def _find_notes(self) -> Iterator[str]:
        page = self._page
        if len(self._channels) < page.samplesperpixel:
            yield "its extra channels are no transparency and are left out"
        if self.header.has_alpha and not page.extrasamples:
            yield "its last channel is taken for transparency, though the file does not say what it is"


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


def _describe_image(directory: TiffDirectory) -> tifffile.TiffPage:
    """Return tifffile's description of an image that is supported.

    tifffile gets a file of one directory, with the tags that say how pixels are stored and nothing else. So it does not
    follow what other tags refer to.
    """
    exif = Exif(directory.order, dict(directory.read_storage()))
    if exif.get_integer(Base.SamplesPerPixel) == 0:
        raise DecodeError("damaged (it has no channels)")
    for tag in (Base.Orientation, Base.XResolution, Base.YResolution, Base.ResolutionUnit):
        value = directory.read_value(tag, _SHORT_VALUE_BYTES)
        exif.tags |= {tag: value} if value else {}
    exif.tags[Base.StripByteCounts] = exif.make_integers(LONG, _JFIF_BYTES)
    exif.tags[Base.StripOffsets] = exif.make_integers(LONG, 0)  # a placeholder until the length of all tags is known
    end = _HEADER_BYTES + len(serialise(exif.tags, exif.order, _HEADER_BYTES))
    exif.tags[Base.StripOffsets] = exif.make_integers(LONG, end)
    small = [
        exif.make_tiff_header(),
        serialise(exif.tags, exif.order, _HEADER_BYTES),
        directory.read_first_bytes(_JFIF_BYTES),
    ]
    page = tifffile.TiffFile(io.BytesIO(b"".join(small))).pages[0].aspage()
    _check_supported(page)
    return page


def _check_supported(page: tifffile.TiffPage) -> None:
    """Refuse an image of a kind that cannot be decoded."""
    if not min(page.imagewidth, page.imagelength, page.samplesperpixel):
        raise DecodeError(f"damaged ({page.imagewidth}x{page.imagelength} pixels of {page.samplesperpixel} channels)")
    if page.imagedepth != 1:
        raise DecodeError("holds a volume, not an image")
    if page.compression not in _COMPRESSIONS:
        name = getattr(page.compression, "name", page.compression)
        raise DecodeError(f"compression by {name} is not supported; save it with LZW or Deflate first")
    if page.photometric not in _COLOUR_CHANNELS or (
        page.photometric == PHOTOMETRIC.YCBCR and page.compression not in _JPEG
    ):
        name = getattr(page.photometric, "name", page.photometric)
        raise DecodeError(f"{name} images are not supported; convert it to RGB first")
    if page.predictor not in (PREDICTOR.NONE, PREDICTOR.HORIZONTAL):
        raise DecodeError(f"the predictor {page.predictor} is not supported; save it with LZW or Deflate first")
    if page.dtype not in (np.bool_, np.uint8, np.uint16) or not isinstance(page.bitspersample, int):
        kind = page.dtype or f"{page.bitspersample}-bit"
        raise DecodeError(f"{kind} values are not supported; convert it to 8 or 16 bits first")
    if page.compression in _BILEVEL and (page.bitspersample, page.samplesperpixel) != (1, 1):
        raise DecodeError("damaged (a compression for black and white, but other pixels)")
    if page.samplesperpixel < _COLOUR_CHANNELS[page.photometric]:
        needed = _COLOUR_CHANNELS[page.photometric]
        raise DecodeError(
            f"{page.samplesperpixel} channels are not supported where {needed} are needed; convert it to RGB"
        )


def _choose_channels(page: tifffile.TiffPage) -> list[int]:
    """Return the numbers of the channels of colour and, if there is one, of alpha."""
    colours = _COLOUR_CHANNELS[page.photometric]
    extra = page.extrasamples[: page.samplesperpixel - colours]
    if not page.extrasamples and page.samplesperpixel == colours + 1 and page.photometric in _MAY_OMIT_EXTRA:
        return [*range(colours + 1)]  # other programs take it for alpha too
    alpha = [colours + number for number, kind in enumerate(extra) if kind in _ALPHA_KINDS][:1]
    return [*range(colours), *alpha]


def _find_segments(directory: TiffDirectory, page: tifffile.TiffPage) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of all strips or tiles in the file, and how many bytes they have."""
    positions, byte_counts = directory.read_segments()
    number = prod(page.chunked)
    if number > _MAX_SEGMENTS or _count_segment_px(page) > max(page.imagewidth * page.imagelength, _LARGE_TILE_PX):
        raise DecodeError("damaged (strips or tiles of an impossible size)")
    are_known = byte_counts is not None and byte_counts.any()
    if not are_known and (number, page.compression) == (
        1,
        COMPRESSION.NONE,
    ):  # some programs leave them out, or write 0
        byte_counts = directory.file_bytes - positions
    if byte_counts is None or min(len(positions), len(byte_counts)) < number:
        raise DecodeError("damaged (it does not say where all of its pixels are)")
    positions, byte_counts = positions[:number], byte_counts[:number]
    if (positions <= 0).any() or (byte_counts <= 0).any() or (positions > directory.file_bytes - byte_counts).any():
        raise DecodeError("damaged or cut short (not all of its pixels are in the file)")
    return positions, byte_counts


def _count_segment_px(page: tifffile.TiffPage) -> int:
    """Return the pixels of a strip or tile."""
    width, rows = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    return int(width * rows)


def _check_segment(segment: memoryview, page: tifffile.TiffPage) -> None:
    """Refuse a strip or tile that is an image file itself, if it has another size or is cut short.

    Raises:
        DecodeError: decoding it would take much memory or time, or invent pixels.
    """
    if page.compression in _JPEG:
        stream = bytes(segment)
        frame = read_frame(stream)
        check_scans(stream)
        if stream.rfind(b"\xff\xd9") < stream.rfind(b"\xff\xda"):
            raise DecodeError("damaged or cut short (JPEG without its end)")
        size, is_fitting = (frame.width, frame.height), frame.bits == page.bitspersample
    elif page.compression == COMPRESSION.WEBP:
        size, is_fitting = read_size(bytes(segment[:_WEBP_HEADER_BYTES])), page.bitspersample == 8
    else:
        return
    if not is_fitting or prod(size) > _count_segment_px(page) + _LARGEST_BLOCK_PX * sum(size):
        raise DecodeError(f"damaged (an image of {size[0]}x{size[1]} pixels as strip or tile)")


def _estimate_decoding_bytes(page: tifffile.TiffPage, channels: int) -> int:
    """Return the most memory that decoding takes: the image, and a strip or tile with its copies."""
    bytes_per_sample = _choose_type(page).itemsize
    sample_bytes = int(page.imagewidth * page.imagelength) * channels * bytes_per_sample
    samples = int(page.samplesperpixel) if page.planarconfig == PLANARCONFIG.CONTIG else 1
    segment_bytes = _SEGMENT_COPIES * _count_segment_px(page) * samples * bytes_per_sample
    palette_bytes = _count_level_bytes(page, channels) if page.photometric == PHOTOMETRIC.PALETTE else 0
    return sample_bytes + max(segment_bytes, palette_bytes)


def _count_level_bytes(page: tifffile.TiffPage, channels: int) -> int:
    """Return the size of the decoded image. Palettes become three channels of 8 bits."""
    bytes_per_px = channels + 2 if page.photometric == PHOTOMETRIC.PALETTE else channels * _choose_type(page).itemsize
    return int(page.imagewidth * page.imagelength) * bytes_per_px


def _choose_type(page: tifffile.TiffPage) -> np.dtype[Any]:
    return np.dtype(np.uint8 if page.bitspersample <= 8 else np.uint16)


def _read_orientation(page: tifffile.TiffPage) -> int:
    orientation = page.tags.valueof(Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _read_bytes(directory: TiffDirectory, tag: int, limit: int) -> bytes | None:
    """Return up to `limit` bytes of a value, whose type differs between files; None if it is not text or bytes."""
    value = directory.read_value(tag, limit)
    if value is None or value.kind not in (BYTE, ASCII, UNDEFINED):
        return None
    return (value.content.rstrip(b"\0") if value.kind == ASCII else value.content) or None


def _convert(samples: Levels, page: tifffile.TiffPage) -> Levels:
    """Return samples as levels: palettes applied, stretched to 8 or 16 bits, black as 0, alpha not premultiplied.

    It is done in bands, because it needs eight times as much memory.
    """
    steps = list(_list_conversions(page, samples.shape[2]))
    if not steps:
        return samples
    is_palette = page.photometric == PHOTOMETRIC.PALETTE
    levels = np.empty((*samples.shape[:2], samples.shape[2] + 2), np.uint8) if is_palette else samples
    pixels, converted = samples.reshape(-1, samples.shape[2]), levels.reshape(-1, levels.shape[2])
    for start in range(0, len(pixels), _BAND_PX):
        band = pixels[start : start + _BAND_PX]
        for step in steps:
            band = step(band)
        converted[start : start + _BAND_PX] = band
    return levels


def _list_conversions(page: tifffile.TiffPage, channels: int) -> Iterator[Callable[[Levels], Levels]]:
    """Yield the functions from pixels to pixels, (N, C), that turn samples into levels."""
    if page.photometric == PHOTOMETRIC.PALETTE:
        yield partial(_apply_palette, palette=_read_palette(page), bits=page.bitspersample)
    elif page.bitspersample not in (8, 16):
        yield partial(_stretch, bits=page.bitspersample)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        yield _invert_gray
    if channels > _COLOUR_CHANNELS[page.photometric] and _is_premultiplied(page):
        yield _divide_by_alpha


def _is_premultiplied(page: tifffile.TiffPage) -> bool:
    return next((kind for kind in page.extrasamples if kind in _ALPHA_KINDS), None) == EXTRASAMPLE.ASSOCALPHA


def _read_palette(page: tifffile.TiffPage) -> NDArray[np.uint8]:
    """Return the palette as (colours, 3)."""
    palette = page.colormap
    if palette is None:
        raise DecodeError("has no palette, though its pixels refer to one")
    surplus_bits = 8 if palette.max() > 255 else 0  # some programs write 8 bits where the format has 16
    return (palette >> surplus_bits).T.astype(np.uint8)


def _apply_palette(samples: Levels, palette: NDArray[np.uint8], bits: int) -> Levels:
    """Replace the first channel, which refers to the palette, by the RGB of the palette. Return uint8."""
    others = _stretch(samples[..., 1:], bits)
    others = others if others.dtype == np.uint8 else (others >> 8).astype(np.uint8)
    return np.concatenate([palette[samples[..., 0]], others], axis=-1)


def _stretch(levels: Levels, bits: int) -> Levels:
    """Stretch values of 1 to 7 bits to 8 bits, and values of 9 to 15 bits to 16."""
    highest, wanted = 2**bits - 1, np.iinfo(levels.dtype).max
    return levels if highest == wanted else np.round(levels * (wanted / highest)).astype(levels.dtype)


def _invert_gray(levels: Levels) -> Levels:
    inverted = levels.copy()
    inverted[..., 0] = np.iinfo(levels.dtype).max - levels[..., 0]
    return inverted


def _divide_by_alpha(levels: Levels) -> Levels:
    """Divide premultiplied colours by alpha, the last channel."""
    highest, alpha = np.iinfo(levels.dtype).max, levels[..., -1:]
    divided = levels[..., :-1].astype(np.float64) * highest / np.maximum(alpha, 1)
    return np.concatenate([np.minimum(divided.round(), highest).astype(levels.dtype), alpha], axis=-1)


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
