"""Image files to float tensors and back: every ordinary format; gray or colour, with or without alpha, 8 or 16 bit."""

import io
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageColor, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from trinas.config import DEFAULT_QUALITY, MAX_INPUT_PX, SaveConfig
from trinas.errors import ImageError
from trinas.files import write_atomically
from trinas.images.colour import from_srgb, profile_space, srgb_profile, to_srgb
from trinas.images.exif import parsed_exif
from trinas.images.formats import FORMAT_NAMES, FORMATS, Format, format_of_suffix, sniff_format
from trinas.images.jpeg_quality import estimated_quality
from trinas.images.metadata import (
    Metadata,
    exif_orientation,
    fitted,
    has_extended_xmp,
    read_metadata,
    turned,
    with_resolution,
    without_orientation,
)
from trinas.images.tiff import TiffError, decode_tiff, encode_tiff, read_tiff_header

PNG_COMPRESSION = 4
"""Deflate level: against Pillow's 6 less than half the time for 3 % more bytes (docs/benchmarks.md)."""

AVIF_SPEED = 8
"""Of libavif, 0 to 10: against its 6 less than half the time for 5 % more bytes (docs/benchmarks.md)."""

PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20  # of a profile or text once decompressed; a printer's profile has megabytes

# What Pillow warns of, damaged EXIF and large pictures, this module says itself. Once for all, since pictures are read
# and written in several threads, which `warnings.catch_warnings` is not made for.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=PillowImage.DecompressionBombWarning)

_UNSPECIFIED = 2
_SRGB_PRIMARIES = (1, _UNSPECIFIED)
_SRGB_TRANSFERS = (1, _UNSPECIFIED, 6, 13, 14, 15)
"""Of the codes of ITU-T H.273; those of television are taken for sRGB by everybody."""

_CICP_CHUNK_BYTES = 16
_JPEG_SEGMENT_BYTES = 65_533  # that a marker can hold, its name included
_BAND_ROWS = 256
_ORIENT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
"""EXIF orientation -> the turn of (H, W, C) that sets the picture upright."""


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded picture, upright."""

    pixels: Tensor
    """(C, H, W), float32 in [0, 1]; C is 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha (not premultiplied)."""
    depth: int = 8
    """Bits per channel in the file, 8 or 16."""
    icc_profile: bytes | None = None
    """Colour profile that the values are to be read in; None means sRGB."""
    metadata: Metadata = field(default_factory=Metadata)
    """EXIF, XMP and resolution."""
    is_lossless_webp: bool = False
    """Whether it came from a WebP file without losses; it is then written as one too."""
    jpeg_quality: int | None = None
    """1 to 100, of the JPEG file that these very pixels come from; None for all others, enlarged ones too."""
    notes: tuple[str, ...] = ()
    """What decoding had to change, for the user to know."""

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.pixels.shape[0] in (2, 4)

    @property
    def is_opaque(self) -> bool:
        """Whether nothing is transparent."""
        return not self.has_alpha or bool((self.pixels[-1] == 1).all())

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.pixels.shape[2], self.pixels.shape[1]


@dataclass(frozen=True)
class Header:
    """What the beginning of an image file says."""

    width: int
    height: int
    """Of the upright picture, in pixels."""
    has_alpha: bool
    channels: int
    """1 to 4, as `Image.pixels` will have."""
    jpeg_quality: int | None
    """As `Image.jpeg_quality` will be."""


def read_image(path: Path | str, max_px: int = MAX_INPUT_PX) -> Image:
    """Decode an image file, whatever its suffix says.

    The EXIF orientation is applied; palettes become colour, CMYK becomes sRGB through its profile; PNG and
    TIFF of 16 bits keep their depth.

    Args:
        path: the file.
        max_px: larger pictures are refused before they are decoded.
    Raises:
        ImageError: the file is missing, empty, damaged, too large, animated, or of no format that can be read.
    """
    path = Path(path)
    content = _read_bytes(path)
    read_header(path, max_px)
    with _damage_named(path):
        return _read_tiff(content) if _is_tiff(path) else _read_with_pillow(path, content)


def _read_with_pillow(path: Path, content: bytes) -> Image:
    with _opened(path, io.BytesIO(content)) as opened:
        _stretch_transparency(opened)
        opened.load()
        metadata = read_metadata(opened)
        orientation = exif_orientation(metadata.exif)
        image = Image(
            torch.empty(0),
            16 if _is_deep_png(content) else 8,
            opened.info.get("icc_profile"),
            metadata,
            is_lossless_webp=_is_lossless_webp(content),
            jpeg_quality=_jpeg_quality(opened),
            notes=tuple(_reading_notes(opened, content)),
        )
        if image.depth == 16:
            return _finished(image, _decode_deep_png(content, opened.info.get("transparency")), orientation)
        if opened.mode == "CMYK":
            return _from_cmyk(image, opened, orientation)
        return _finished(image, _pixels_of(path, opened), orientation)


def _reading_notes(opened: PillowImage.Image, content: bytes) -> Iterator[str]:
    if has_extended_xmp(opened):
        yield "its XMP beyond 64 KB is left out"
    primaries, transfer = _coded_colours(opened, content)
    if primaries not in _SRGB_PRIMARIES or transfer not in _SRGB_TRANSFERS:
        yield f"its colours are told by a code ({primaries}/{transfer}) and no profile, and are taken for sRGB"


def read_header(path: Path, max_px: int = MAX_INPUT_PX) -> Header:
    """What an image file's header says, without decoding it.

    Raises:
        ImageError: as for `read_image`, as far as the header shows it.
    """
    try:
        with path.open("rb") as file, _damage_named(path):
            if _is_tiff(path):
                width, height, has_alpha, is_gray, orientation = astuple(read_tiff_header(file))
                quality = None
            else:
                with _opened(path, file) as opened:
                    width, height = opened.size
                    has_alpha = _is_transparent(opened)
                    is_gray = opened.mode in ("1", "L", "LA") or opened.mode.startswith("I")
                    orientation = exif_orientation(opened.info.get("exif"))
                    quality = _jpeg_quality(opened)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    if width * height > max_px:
        raise ImageError(f"{path}: {width}x{height} is too large; the limit is {max_px:,} pixels (--max-input-mp)")
    if orientation >= 5:
        width, height = height, width
    return Header(width, height, has_alpha, (1 if is_gray else 3) + has_alpha, quality)


def read_rgb8(path: Path, max_px: int = MAX_INPUT_PX) -> NDArray[np.uint8]:
    """Decode an image file to uint8 (H, W, 3): gray repeated, alpha ignored, 16 bits rounded to 8.

    Args:
        max_px: as for `read_image`.
    Raises:
        ImageError: as for `read_image`.
    """
    return np.ascontiguousarray(to_levels(rgb_of(read_image(path, max_px).pixels), 8))


def rgb_of(pixels: Tensor) -> Tensor:
    """(3, H, W) of (C, H, W): gray repeated, alpha left out."""
    return pixels[:3] if pixels.shape[0] >= 3 else pixels[:1].expand(3, -1, -1)


def in_srgb(image: Image) -> Image | None:
    """The picture's colours converted from its profile to sRGB, as 8-bit RGB with its alpha; itself without a profile.

    Returns:
        None where the profile is damaged or does not fit the picture.
    """
    if image.icc_profile is None:
        return image
    colour = image.pixels[:-1] if image.has_alpha else image.pixels
    levels = to_levels(colour, 8)
    picture = PillowImage.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
    converted = to_srgb(picture, image.icc_profile)
    if converted is None:
        return None
    pixels = torch.from_numpy(np.array(converted)).permute(2, 0, 1).float() / 255
    return replace(image, pixels=torch.cat([pixels, image.pixels[colour.shape[0] :]]), icc_profile=srgb_profile())


def flattened(image: Image, background: str) -> Image:
    """Lay a transparent picture onto a colour of sRGB: a name such as white, or #rrggbb.

    Gray pictures stay gray on gray, and become colour on colour.

    Raises:
        ImageError: there is no such colour.
    """
    if not image.has_alpha:
        return image
    red_green_blue = parse_colour(background)
    if image.pixels.shape[0] == 2 and len(set(red_green_blue)) > 1:
        image = (in_srgb(image) if profile_space(image.icc_profile) == "GRAY" else None) or image
        image = replace(image, pixels=torch.cat([rgb_of(image.pixels), image.pixels[-1:]]))
    values = from_srgb(red_green_blue, image.icc_profile) if image.icc_profile else red_green_blue
    pixels, alpha = image.pixels[:-1], image.pixels[-1:]
    colour = torch.tensor(values[: len(pixels)]).view(-1, 1, 1) / 255
    return replace(image, pixels=torch.lerp(colour.expand(-1, *alpha.shape[1:]), pixels, alpha))


def parse_colour(text: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour's name, or of #rrggbb.

    Raises:
        ImageError: there is no such colour.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ImageError(f"{text!r} is no colour; give a name such as white, or #rrggbb") from None
    return red, green, blue


def write_image(path: Path | str, image: Image, config: SaveConfig | None = None) -> list[str]:
    """Encode `image` in the format that the suffix of `path` names; the file is whole or absent.

    Returns:
        What the format cannot hold and was left out or converted, for the user to know.
    Raises:
        ImageError: the suffix is unknown, the format cannot hold the picture, or the file cannot be written.
    """
    path = Path(path)
    check_fits(path, *image.size, image.has_alpha)
    content, notes = _encode(path, image, config or SaveConfig())
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror})") from None
    return notes


def check_fits(path: Path, width: int, height: int, has_alpha: bool) -> None:
    """Refuse a result that the format of `path` cannot hold.

    Raises:
        ImageError: it cannot.
    """
    known = format_of_suffix(path)
    if max(width, height) > known.max_side_px:
        raise ImageError(
            f"{path}: a result of {width}x{height} is too large for {known.name}, "
            f"which holds {known.max_side_px} pixels a side; choose --format png"
        )
    if has_alpha and not known.has_alpha:
        raise ImageError(
            f"{path}: {known.name} cannot hold transparency; choose --format png, or a --background to lay it on"
        )


def to_levels(pixels: Tensor, depth: int) -> NDArray[Any]:
    """(C, H, W) in [0, 1] to rounded uint8 or uint16 (H, W, C); values outside are clipped."""
    channels, height, width = pixels.shape
    levels = np.empty((height, width, channels), np.uint8 if depth == 8 else np.uint16)
    for top in range(0, height, _BAND_ROWS):  # in bands, since a float copy of a large result is large
        band = pixels[:, top : top + _BAND_ROWS].clamp(0, 1).mul_(2**depth - 1).round_()
        levels[top : top + _BAND_ROWS] = band.permute(1, 2, 0).cpu().numpy()
    return levels


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None


def _is_tiff(path: Path) -> bool:
    return sniff_format(path) is FORMATS["TIFF"]


def _opened(path: Path, file: IO[bytes]) -> PillowImage.Image:
    try:
        opened = PillowImage.open(file, formats=[name for name in FORMATS if name != "TIFF"])
    except UnidentifiedImageError:
        if file.seek(0, io.SEEK_END) == 0:
            raise ImageError(f"{path}: the file is empty") from None
        raise ImageError(f"{path}: not a {FORMAT_NAMES} image, or damaged at its start") from None
    except PillowImage.DecompressionBombError:
        raise ImageError(f"{path}: larger than Pillow reads (PIL.Image.MAX_IMAGE_PIXELS)") from None
    # An MPO is a photograph as phones store it: a JPEG with previews or depth maps behind it.
    if opened.format != "MPO" and getattr(opened, "n_frames", 1) > 1:
        raise ImageError(f"{path}: animated; only still pictures can be enlarged")
    return opened


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Whatever goes wrong within is the file's fault, and is said so."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except TiffError as error:
        raise ImageError(f"{path}: {error}") from None
    except Exception as error:  # decoders raise all kinds on damaged files, RuntimeError and TypeError among them
        raise ImageError(f"{path}: damaged or cut short ({str(error) or type(error).__name__})") from None


def _jpeg_quality(opened: PillowImage.Image) -> int | None:
    """None for what is no JPEG."""
    tables: dict[int, list[int]] = getattr(opened, "quantization", {})  # an MPO has them too
    return estimated_quality(tables[min(tables)]) if tables else None  # brightness comes first


def _coded_colours(opened: PillowImage.Image, content: bytes) -> tuple[int, int]:
    """Primaries and transfer function by the codes of ITU-T H.273, as AVIF and PNG without a profile may tell them."""
    if "icc_profile" not in opened.info:
        if opened.format == "PNG":
            for kind, chunk in _png_chunks(content[: content.find(b"IDAT")]):
                if kind == b"cICP" and len(chunk) == _CICP_CHUNK_BYTES:
                    return chunk[8], chunk[9]
        start = content.find(b"colrnclx") if opened.format == "AVIF" else -1
        if start >= 0:
            return struct.unpack(">HH", content[start + 8 : start + 12])
    return _UNSPECIFIED, _UNSPECIFIED


def _is_deep_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG") and content[24] == 16


def _is_lossless_webp(content: bytes) -> bool:
    """Whether the pixels are in a VP8L chunk; a VP8 chunk is lossy."""
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP" and b"VP8L" in _webp_chunks(content)


def _webp_chunks(content: bytes) -> list[bytes]:
    chunks, position = [], 12
    while position + 8 <= len(content):
        chunks.append(content[position : position + 4])
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return chunks


def _finished(image: Image, pixels: NDArray[Any], orientation: int) -> Image:
    """`image` with (H, W, C) levels of its depth as upright pixels."""
    upright = _ORIENT.get(orientation, lambda pixels: pixels)(pixels)
    levels = np.ascontiguousarray(np.moveaxis(upright, 2, 0), dtype=np.float32)
    metadata = turned(image.metadata) if orientation >= 5 else image.metadata
    return replace(image, pixels=torch.from_numpy(levels).div_(2**image.depth - 1), metadata=metadata)


def _is_transparent(opened: PillowImage.Image) -> bool:
    return "transparency" in opened.info or opened.mode in ("LA", "PA", "RGBA")


def _stretch_transparency(opened: PillowImage.Image) -> None:
    """Pillow stretches a PNG's gray of 2 or 4 bits to 8, but not the gray that stands for transparency."""
    if isinstance(opened, PngImagePlugin.PngImageFile) and opened.mode == "L" and "transparency" in opened.info:
        opened.info["transparency"] *= {"L;2": 85, "L;4": 17}.get(str(opened.tile[0].args), 1)


def _pixels_of(path: Path, opened: PillowImage.Image) -> NDArray[Any]:
    """8-bit (H, W, C)."""
    if opened.mode in ("1", "L", "LA"):
        mode = "LA" if _is_transparent(opened) else "L"
    elif opened.mode in ("P", "PA", "RGB", "RGBA"):
        mode = "RGBA" if _is_transparent(opened) else "RGB"
    else:
        raise ImageError(f"{path}: {opened.mode} pictures are not supported; convert it to RGB first")
    pixels = np.asarray(opened.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _from_cmyk(image: Image, picture: PillowImage.Image, orientation: int, alpha: NDArray[Any] | None = None) -> Image:
    """sRGB from CMYK: through its profile, or, without a sound one, by the simple inversion of the inks."""
    profile = image.icc_profile
    converted = to_srgb(picture, profile) if profile and profile_space(profile) == "CMYK" else None
    how = "through its profile" if converted else "without a profile, so that colours may differ from print"
    pixels = np.asarray(converted or picture.convert("RGB"))
    if alpha is not None:
        pixels = np.concatenate([pixels, alpha], axis=2)
    notes = (*image.notes, f"CMYK was converted to sRGB {how}")
    image = replace(image, depth=8, icc_profile=srgb_profile(), notes=notes)
    return _finished(image, pixels, orientation)


def _decode_deep_png(content: bytes, transparent: object) -> NDArray[Any]:
    """16-bit (H, W, C) of a PNG, since Pillow reduces colour to 8 bits in silence.

    `transparent` is the gray value that stands for transparency, if there is one.
    """
    pixels = imagecodecs.png_decode(content)
    if pixels.ndim == 3:
        return pixels
    if not isinstance(transparent, int):
        return pixels[:, :, None]
    return np.stack([pixels, np.where(pixels == transparent, 0, 65535).astype(np.uint16)], axis=2)


def _read_tiff(content: bytes) -> Image:
    picture = decode_tiff(content)
    levels = picture.levels
    notes = (picture.note,) if picture.note else ()
    image = Image(torch.empty(0), levels.itemsize * 8, picture.icc_profile, picture.metadata, notes=notes)
    if not picture.is_cmyk:
        return _finished(image, levels, picture.orientation)
    levels = levels if levels.dtype == np.uint8 else (levels >> 8).astype(np.uint8)  # LittleCMS gets 8 bits
    inks = PillowImage.fromarray(np.ascontiguousarray(levels[..., :4]), "CMYK")
    return _from_cmyk(image, inks, picture.orientation, levels[..., 4:] if levels.shape[2] == 5 else None)


def _encode(path: Path, image: Image, config: SaveConfig) -> tuple[bytes, list[str]]:
    known = format_of_suffix(path)
    image, notes = _adapted(image, known, config)
    try:
        if known.name == "TIFF":
            return encode_tiff(to_levels(image.pixels, image.depth), image.icc_profile, image.metadata), notes
        if image.depth == 16:
            return _encode_deep_png(image), notes
        buffer = io.BytesIO()
        _picture(image, known).save(buffer, known.name, **_options(image, known, config))
        return buffer.getvalue(), notes
    except MemoryError:
        raise
    except Exception as error:  # encoders have limits of their own, and raise all kinds
        raise ImageError(f"{path}: cannot be encoded as {known.name} ({str(error) or type(error).__name__})") from None


def _adapted(image: Image, known: Format, config: SaveConfig) -> tuple[Image, list[str]]:
    """The picture as the format can hold it, and what had to go."""
    notes = []
    if image.depth == 16 and not known.has_16_bit:
        image = replace(image, depth=8)
        notes.append(f"{known.name} holds 8 bits per channel, not 16")
    metadata = Metadata() if config.strip_metadata else image.metadata
    left_out = []
    if not known.has_metadata:
        left_out = metadata.kinds()
        metadata = replace(metadata, exif=None, xmp=None)
    new = fitted(metadata, *image.size)
    parsed = parsed_exif(metadata.exif)
    if metadata.exif and not (parsed and parsed.is_whole):
        notes.append(f"{'part of its' if parsed else 'its'} EXIF was damaged and is left out")
    if known.name == "JPEG":
        new, too_long = _fitting_segments(new)
        left_out += too_long
    if left_out:
        notes.append(f"{known.name} cannot hold this {' and '.join(left_out)}")
    return _with_fitting_profile(replace(image, metadata=new), known, notes), notes


def _fitting_segments(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """What fits into JPEG's segments of 64 KB, and what does not."""
    long_exif = len(metadata.exif or b"") > _JPEG_SEGMENT_BYTES
    long_xmp = len(metadata.xmp or b"") > _JPEG_SEGMENT_BYTES - len(b"http://ns.adobe.com/xap/1.0/\0")
    kept = replace(metadata, exif=None if long_exif else metadata.exif, xmp=None if long_xmp else metadata.xmp)
    return kept, ["EXIF"] * long_exif + ["XMP"] * long_xmp


def _with_fitting_profile(image: Image, known: Format, notes: list[str]) -> Image:
    """Where the file cannot hold the profile, or not with this picture, sRGB instead."""
    if image.icc_profile is None:
        return image
    becomes_colour = image.pixels.shape[0] <= 2 and not known.has_gray
    if known.has_metadata and not (becomes_colour and profile_space(image.icc_profile) == "GRAY"):
        return image
    converted = in_srgb(image)
    if converted is None:
        notes.append("its colour profile is damaged and is left out")
        return replace(image, icc_profile=None)
    if image.icc_profile != srgb_profile():
        notes.append(f"{known.name} cannot hold its colour profile: colours were converted to sRGB")
    pixels = converted.pixels
    if image.pixels.shape[0] == 1 and known.has_gray:
        pixels = pixels[1:2]
    return replace(converted, pixels=pixels, icc_profile=srgb_profile() if known.has_metadata else None)


def _picture(image: Image, known: Format) -> PillowImage.Image:
    levels = to_levels(image.pixels, 8)
    picture = PillowImage.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
    return picture if known.has_gray else picture.convert("RGBA" if image.has_alpha else "RGB")


def _options(image: Image, known: Format, config: SaveConfig) -> dict[str, Any]:
    """What Pillow is told when it encodes 8 bits."""
    metadata = image.metadata
    options: dict[str, Any] = {"dpi": metadata.dpi} if metadata.dpi else {}
    if not known.has_metadata:
        return options
    exif = with_resolution(metadata) if known.name in ("WEBP", "AVIF") else metadata.exif
    if known.name == "AVIF":
        exif = without_orientation(exif)  # or Pillow takes it out, and writes all the rest anew by its own lights
    options |= {"icc_profile": image.icc_profile, "exif": exif or b""}
    if known.name == "PNG":
        return options | {"compress_level": PNG_COMPRESSION, "pnginfo": _png_text(metadata)}
    options["xmp"] = metadata.xmp or b""
    if known.name == "WEBP" and (config.lossless or (image.is_lossless_webp and config.quality is None)):
        return options | {"lossless": True, "exact": True}
    options["quality"] = config.quality or DEFAULT_QUALITY
    if known.name == "WEBP":
        return options
    if known.name == "AVIF":
        options["speed"] = AVIF_SPEED
    return options | {"subsampling": "4:4:4"}


def _png_text(metadata: Metadata) -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    if metadata.xmp:
        text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return text


def _encode_deep_png(image: Image) -> bytes:
    """16-bit PNG; profile and metadata are taken from a tiny one that Pillow writes, since the codec writes none."""
    levels = to_levels(image.pixels, 16)
    content = bytes(imagecodecs.png_encode(levels[:, :, 0] if levels.shape[2] == 1 else levels, level=PNG_COMPRESSION))
    known = FORMATS["PNG"]
    buffer = io.BytesIO()
    small = replace(image, pixels=image.pixels[:, :1, :1], depth=8)
    _picture(small, known).save(buffer, "PNG", **_options(small, known, SaveConfig()))
    chunks = _png_chunks(buffer.getvalue())
    extra = b"".join(body for kind, body in chunks if kind not in (b"IHDR", b"IDAT", b"IEND"))
    return content[:33] + extra + content[33:]  # behind the header, which is 33 bytes long


def _png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Each chunk's kind, and all its bytes."""
    chunks, position = [], 8
    while position < len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        chunks.append((content[position + 4 : position + 8], content[position:end]))
        position = end
    return chunks
