"""Image files to float tensors and back: PNG, JPEG, WebP; gray or colour, with or without alpha, 8 or 16 bit."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError
from torch import Tensor

from trinas.errors import ImageError
from trinas.files import write_atomically

SUFFIXES = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "WEBP": (".webp",)}
"""File formats and the suffixes that name them, the usual one first."""

IMAGE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)

MAX_SIDE_PX = {"PNG": 1_000_000, "JPEG": 65_500, "WEBP": 16_383}
"""The longest side a format can hold."""

MAX_INPUT_PX = 100_000_000
"""Larger images are refused before they are decoded."""

MAX_OUTPUT_PX = 800_000_000
"""Larger results are refused before they are computed; this many take 9.6 GB of memory, with alpha 12.8 GB."""

QUALITY = 95
"""Of JPEG (with full colour resolution) and WebP."""

_BAND_ROWS = 256
_ORIENTATION_TAG = 0x0112
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
    """Colour profile that the values are to be read in."""

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.pixels.shape[0] in (2, 4)


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder by their suffix, sorted; hidden ones and sub-folders are left out."""
    return [path for path in sorted(folder.iterdir()) if is_image_file(path)]


def is_image_file(path: Path) -> bool:
    """Whether a file in a folder is taken for an image: by its suffix, and not if it is hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_image(path: Path | str) -> Image:
    """Decode an image file, whatever its suffix says.

    The EXIF orientation is applied; palettes become RGB (or RGB and alpha); 16-bit PNG keeps its depth.

    Raises:
        ImageError: the file is missing, empty, damaged, too large, animated, CMYK, or no PNG, JPEG or WebP.
    """
    path = Path(path)
    content = _read_bytes(path)
    with _opened(path, io.BytesIO(content)) as opened:
        _load(path, opened)
        orientation = _orientation(opened)
        icc_profile = opened.info.get("icc_profile")
        depth = 16 if opened.format == "PNG" and content[24] == 16 else 8
        if depth == 16:
            pixels = _decode_16_bit(path, content, opened.info.get("transparency"))
        else:
            pixels = _pixels_of(path, opened)
    pixels = _ORIENT.get(orientation, lambda pixels: pixels)(pixels)
    levels = np.ascontiguousarray(np.moveaxis(pixels, 2, 0), dtype=np.float32)
    return Image(torch.from_numpy(levels).div_(2**depth - 1), depth, icc_profile)


def read_size(path: Path) -> tuple[int, int]:
    """(width, height) from an image file's header, before any turn, without decoding it.

    Raises:
        ImageError: as for `read_image`, as far as the header shows it.
    """
    try:
        with path.open("rb") as file, _opened(path, file) as opened:
            return opened.size
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None


def sniff_format(path: Path) -> str | None:
    """PNG, JPEG or WEBP by a file's first bytes; None for anything else, a missing file included."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return None
    if start.startswith(b"\x89PNG"):
        return "PNG"
    if start.startswith(b"\xff\xd8"):
        return "JPEG"
    return "WEBP" if start[:4] == b"RIFF" and start[8:] == b"WEBP" else None


def read_rgb8(path: Path) -> NDArray[np.uint8]:
    """Decode an image file to uint8 (H, W, 3): gray repeated, alpha ignored, 16 bits rounded to 8.

    Raises:
        ImageError: as for `read_image`.
    """
    pixels = read_image(path).pixels
    colour = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1].expand(3, -1, -1)
    return np.ascontiguousarray(to_levels(colour, 8))


def write_image(path: Path | str, image: Image) -> None:
    """Encode `image` in the format that the suffix of `path` names; the file is whole or absent.

    JPEG and WebP hold 8 bits, and are written at quality 95; PNG holds 8 or 16. Gray with alpha at 16 bits
    is written as RGB with alpha.

    Raises:
        ImageError: the suffix is unknown, the format cannot hold the picture, or the file cannot be written.
    """
    path = Path(path)
    file_format = format_of_suffix(path)
    height, width = image.pixels.shape[1:]
    check_fits(path, width, height, image.has_alpha)
    deep = file_format == "PNG" and image.depth == 16
    content = _encode_16_bit(image) if deep else _encode_8_bit(image, file_format)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror})") from None


def format_of_suffix(path: Path) -> str:
    """PNG, JPEG or WEBP.

    Raises:
        ImageError: the suffix names none of them.
    """
    for file_format, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return file_format
    raise ImageError(f"{path}: cannot write this format; choose one of {', '.join(IMAGE_SUFFIXES)}")


def check_fits(path: Path, width: int, height: int, has_alpha: bool) -> None:
    """Refuse a result that the format of `path`, or memory, cannot hold.

    Raises:
        ImageError: it cannot.
    """
    file_format = format_of_suffix(path)
    limit = MAX_SIDE_PX[file_format]
    if max(width, height) > limit:
        raise ImageError(
            f"{path}: a result of {width}x{height} is too large for {file_format}, "
            f"which holds {limit} pixels a side; choose --format png"
        )
    if width * height > MAX_OUTPUT_PX:
        raise ImageError(f"{path}: a result of {width}x{height} is too large; the limit is {MAX_OUTPUT_PX:,} pixels")
    if file_format == "JPEG" and has_alpha:
        raise ImageError(f"{path}: JPEG cannot hold transparency; choose --format png or webp")


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


def _opened(path: Path, file: IO[bytes]) -> PillowImage.Image:
    try:
        with warnings.catch_warnings():  # our own limit follows
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
            opened = PillowImage.open(file, formats=tuple(SUFFIXES))
    except UnidentifiedImageError:
        if file.seek(0, io.SEEK_END) == 0:
            raise ImageError(f"{path}: the file is empty") from None
        raise ImageError(f"{path}: not a PNG, JPEG or WebP image, or damaged at its start") from None
    except PillowImage.DecompressionBombError:
        raise ImageError(f"{path}: too large; the limit is {MAX_INPUT_PX:,} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise ImageError(f"{path}: damaged ({error})") from None
    width, height = opened.size
    if width * height > MAX_INPUT_PX:
        raise ImageError(f"{path}: {width}x{height} is too large; the limit is {MAX_INPUT_PX:,} pixels")
    # An MPO is a photograph as phones store it: a JPEG with previews or depth maps behind it.
    if opened.format != "MPO" and getattr(opened, "n_frames", 1) > 1:
        raise ImageError(f"{path}: animated; only still pictures can be enlarged")
    return opened


def _load(path: Path, opened: PillowImage.Image) -> None:
    try:
        opened.load()
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise ImageError(f"{path}: damaged or cut short ({error})") from None


def _orientation(opened: PillowImage.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "Corrupt EXIF data"
            return int(opened.getexif().get(_ORIENTATION_TAG, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1  # damaged EXIF around a sound picture


def _pixels_of(path: Path, opened: PillowImage.Image) -> NDArray[Any]:
    """8-bit (H, W, C)."""
    transparent = "transparency" in opened.info or opened.mode in ("LA", "PA", "RGBA")
    if opened.mode in ("1", "L", "LA"):
        mode = "LA" if transparent else "L"
    elif opened.mode in ("P", "PA", "RGB", "RGBA"):
        mode = "RGBA" if transparent else "RGB"
    else:
        raise ImageError(f"{path}: {opened.mode} pictures are not supported; convert it to RGB first")
    pixels = np.asarray(opened.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _decode_16_bit(path: Path, content: bytes, transparent: object) -> NDArray[Any]:
    """16-bit (H, W, C) of a PNG, through OpenCV, since Pillow reduces colour to 8 bits in silence.

    Pillow has decoded it before: for half a file it raises an error, where OpenCV gives half a picture.
    `transparent` is the gray value that stands for transparency, if there is one.
    """
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ImageError(f"{path}: damaged 16-bit PNG")
    if pixels.ndim == 2:
        if not isinstance(transparent, int):
            return pixels[:, :, None]
        return np.stack([pixels, np.where(pixels == transparent, 0, 65535).astype(np.uint16)], axis=2)
    rgb_order = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    # OpenCV turns gray with alpha into RGB with alpha; the colour type in the PNG's header tells them apart.
    return rgb_order[:, :, [0, 3]] if content[25] == 4 else rgb_order


def _encode_8_bit(image: Image, file_format: str) -> bytes:
    levels = to_levels(image.pixels, 8)
    picture = PillowImage.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
    options: dict[str, Any] = {}
    if file_format == "JPEG":
        options |= {"quality": QUALITY, "subsampling": "4:4:4"}
    elif file_format == "WEBP":
        options |= {"quality": QUALITY}
        picture = picture.convert("RGBA" if image.has_alpha else "RGB")
    buffer = io.BytesIO()
    picture.save(
        buffer, file_format, icc_profile=_fitting_profile(image, is_gray=picture.mode in ("L", "LA")), **options
    )
    return buffer.getvalue()


def _encode_16_bit(image: Image) -> bytes:
    levels = to_levels(image.pixels, 16)
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[levels.shape[2]]
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(levels[:, :, order]))
    assert done, "OpenCV could not encode a PNG in memory"
    content = encoded.tobytes()
    profile = _fitting_profile(image, is_gray=len(order) == 1)
    if profile is None:
        return content
    # OpenCV cannot write a colour profile; its chunk goes behind the header, which is 33 bytes long.
    body = b"iCCP" + b"ICC profile\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return content[:33] + chunk + content[33:]


def _fitting_profile(image: Image, is_gray: bool) -> bytes | None:
    """The picture's profile, unless it is one for gray and the file holds colour."""
    profile = image.icc_profile
    return None if profile is not None and profile[16:20] == b"GRAY" and not is_gray else profile
