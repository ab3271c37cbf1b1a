"""Write image files. What a format cannot hold is left out or converted, and a note says so."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import PngImagePlugin

from trinas.config import DEFAULT_QUALITY, SaveConfig
from trinas.errors import ImageError
from trinas.files import translate_os_errors, write_atomically
from trinas.images.colour import make_srgb_profile, read_profile_space
from trinas.images.formats import FORMATS, Format, find_format
from trinas.images.image import Image, to_levels, to_pillow, to_srgb
from trinas.images.metadata import Metadata, add_resolution, fit_metadata, remove_orientation
from trinas.images.pillow import mute_pillow
from trinas.images.png import encode_png16
from trinas.images.tiff import encode_tiff

_JPEG_SEGMENT_BYTES = 65_533
"""How many bytes a segment of a JPEG can hold, with its name."""


@dataclass(frozen=True)
class Effort:
    """How much time encoders take to make files small."""

    png_compression: int = 4
    """Deflate level: against Pillow's 6 less than half the time for 3 % more bytes (docs/benchmarks.md)."""

    avif_speed: int = 8
    """Of libavif, 0 to 10: against its 6 less than half the time for 5 % more bytes (docs/benchmarks.md)."""


def write_image(path: Path | str, image: Image, config: SaveConfig | None = None) -> list[str]:
    """Encode an image in the format of the suffix of `path`, and write it. The file is either whole or absent.

    Args:
        path: the file. An existing file is replaced.
        image: from `read_image` or an upscaler, for example.
        config: quality, and what to leave out. None: the defaults.
    Returns:
        Notes on what was left out or converted, because it is damaged or the format cannot hold it.
    Raises:
        ImageError: the suffix is unknown, the format cannot hold the image, or the file cannot be written.
    """
    path = Path(path)
    check_fits(path, *image.size, image.has_alpha)
    content, notes = encode_image(path, image, config or SaveConfig())
    with translate_os_errors(ImageError, path, "written"):
        write_atomically(path, content)
    return notes


def encode_image(path: Path, image: Image, config: SaveConfig, effort: Effort | None = None) -> tuple[bytes, list[str]]:
    """Return the bytes of the file that `write_image` writes, and its notes.

    Args:
        path: its suffix names the format; nothing is written.
        image, config: as of `write_image`; the format can hold the image.
        effort: of the encoders; the defaults where it is None.
    Raises:
        ImageError: the suffix is unknown, or the encoder fails.
    """
    known, effort = find_format(path), effort or Effort()
    image, notes = _adapt(image, known, config)
    try:
        if known.name == "TIFF":
            return encode_tiff(to_levels(image.pixels, image.depth), image.icc_profile, image.metadata), notes
        if image.depth == 16:
            return _encode_png16(image, config, effort), notes
        return _encode_with_pillow(image, known, config, effort), notes
    except MemoryError:
        raise
    except Exception as error:  # encoders have limits of their own, and raise all kinds
        raise ImageError(f"{path}: cannot be encoded as {known.name} ({str(error) or type(error).__name__})") from None


def check_fits(path: Path, width: int, height: int, has_alpha: bool) -> None:
    """Refuse an image that the format of `path` cannot hold.

    Args:
        path: its suffix names the format.
        width, height: in pixels.
        has_alpha: whether the image has transparency.
    Raises:
        ImageError: the format cannot hold the image.
    """
    known = find_format(path)
    if max(width, height) > known.max_side_px:
        raise ImageError(
            f"{path}: a result of {width}x{height} is too large for {known.name}, "
            f"which holds {known.max_side_px} pixels a side; choose --format png"
        )
    if has_alpha and not known.has_alpha:
        raise ImageError(
            f"{path}: {known.name} cannot hold transparency; choose --format png, or give --background white"
        )


def _adapt(image: Image, known: Format, config: SaveConfig) -> tuple[Image, list[str]]:
    """Return the image without what the format cannot hold, and notes on what was left out."""
    notes = []
    if image.depth == 16 and not known.has_16_bit:
        image = replace(image, depth=8)
        notes.append(f"{known.name} holds 8 bits per channel, not 16")
    metadata = Metadata() if config.strip_metadata else image.metadata
    left_out = []
    if not known.has_metadata:
        left_out = metadata.list_names()
        metadata = replace(metadata, exif=None, xmp=None)
    metadata, damage = fit_metadata(metadata, *image.size)
    notes += damage
    if known.name == "JPEG":
        metadata, too_long = _fit_segments(metadata)
        left_out += too_long
    if left_out:
        notes.append(f"{known.name} cannot hold this {' and '.join(left_out)}")
    image, profile_notes = _fit_profile(replace(image, metadata=metadata), known)
    return image, notes + profile_notes


def _fit_segments(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Return the metadata that fits into the segments of a JPEG, 64 KB each, and the names of the rest."""
    long_exif = len(metadata.exif or b"") > _JPEG_SEGMENT_BYTES
    long_xmp = len(metadata.xmp or b"") > _JPEG_SEGMENT_BYTES - len(b"http://ns.adobe.com/xap/1.0/\0")
    kept = replace(metadata, exif=None if long_exif else metadata.exif, xmp=None if long_xmp else metadata.xmp)
    return kept, ["EXIF"] * long_exif + ["XMP"] * long_xmp


def _fit_profile(image: Image, known: Format) -> tuple[Image, list[str]]:
    """Convert to sRGB if the format cannot hold the profile with this image. Return the image and notes."""
    if image.icc_profile is None:
        return image, []
    becomes_colour = image.pixels.shape[0] <= 2 and not known.has_gray
    if known.has_metadata and not (becomes_colour and read_profile_space(image.icc_profile) == "GRAY"):
        return image, []
    converted = to_srgb(image)
    if converted is None:
        return replace(image, icc_profile=None), ["its colour profile is damaged and is left out"]
    is_srgb = image.icc_profile == make_srgb_profile()
    notes = [] if is_srgb else [f"{known.name} cannot hold its colour profile: colours were converted to sRGB"]
    pixels = converted.pixels
    if image.pixels.shape[0] == 1 and known.has_gray:
        pixels = pixels[1:2]
    return replace(converted, pixels=pixels, icc_profile=make_srgb_profile() if known.has_metadata else None), notes


def _encode_with_pillow(image: Image, known: Format, config: SaveConfig, effort: Effort) -> bytes:
    encoded = to_pillow(to_levels(image.pixels, 8))
    if not known.has_gray:
        encoded = encoded.convert("RGBA" if image.has_alpha else "RGB")
    buffer = io.BytesIO()
    with mute_pillow():
        encoded.save(buffer, known.name, **_make_pillow_options(image, known, config, effort))
    return buffer.getvalue()


def _make_pillow_options(image: Image, known: Format, config: SaveConfig, effort: Effort) -> dict[str, Any]:
    """Return the arguments for Pillow's `save`."""
    metadata = image.metadata
    options: dict[str, Any] = {"dpi": metadata.dpi} if metadata.dpi else {}
    if not known.has_metadata:
        return options
    exif = add_resolution(metadata) if known.name in ("WEBP", "AVIF") else metadata.exif
    if known.name == "AVIF":
        exif = remove_orientation(exif)  # otherwise Pillow removes it and rewrites all other tags
    options |= {"icc_profile": image.icc_profile, "exif": exif or b""}
    if known.name == "PNG":
        return options | {"compress_level": effort.png_compression, "pnginfo": _make_png_text(metadata)}
    options["xmp"] = metadata.xmp or b""
    if known.name == "WEBP" and (config.lossless or (image.is_lossless_webp and config.quality is None)):
        return options | {"lossless": True, "exact": True}
    options["quality"] = config.quality or DEFAULT_QUALITY
    if known.name == "WEBP":
        return options
    if known.name == "AVIF":
        options["speed"] = effort.avif_speed
    return options | {"subsampling": "4:4:4"}


def _make_png_text(metadata: Metadata) -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    if metadata.xmp:
        text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return text


def _encode_png16(image: Image, config: SaveConfig, effort: Effort) -> bytes:
    small = replace(image, pixels=image.pixels[:, :1, :1], depth=8)  # Pillow writes its profile and metadata
    template = _encode_with_pillow(small, FORMATS["PNG"], config, effort)
    return encode_png16(to_levels(image.pixels, 16), effort.png_compression, template)
