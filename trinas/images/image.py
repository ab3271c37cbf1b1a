"""A decoded image, and functions on its pixels and colours."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageColor
from torch import Tensor

from trinas.errors import ImageError
from trinas.images.colour import convert_from_srgb, convert_to_srgb, make_srgb_profile, read_profile_space
from trinas.images.metadata import Metadata

_BAND_ROWS = 256


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded image, upright."""

    pixels: Tensor
    """(C, H, W), float32 in [0, 1]; C is 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha (not premultiplied)."""
    depth: int = 8
    """Bits per channel in the file, 8 or 16."""
    icc_profile: bytes | None = None
    """Colour profile of the values; None means sRGB."""
    metadata: Metadata = field(default_factory=Metadata)
    """EXIF, XMP and resolution."""
    is_lossless_webp: bool = False
    """Whether it comes from a lossless WebP file. Then a WebP result is lossless too."""
    jpeg_quality: int | None = None
    """Quality of the JPEG file whose pixels these are, 1 to 100; None for all other images, also for upscaled ones."""
    notes: tuple[str, ...] = ()
    """What the user should know about changes that decoding made."""

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.pixels.shape[0] in (2, 4)

    @property
    def is_opaque(self) -> bool:
        """Whether no pixel is transparent."""
        return not self.has_alpha or bool((self.pixels[-1] == 1).all())

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[2], self.pixels.shape[1]


def to_levels(pixels: Tensor, depth: int) -> NDArray[Any]:
    """Return (C, H, W) in [0, 1] as rounded uint8 or uint16 (H, W, C). Values outside are clipped.

    Args:
        pixels: floating-point values, on any device.
        depth: bits per channel, 8 or 16.
    """
    channels, height, width = pixels.shape
    levels = np.empty((height, width, channels), np.uint8 if depth == 8 else np.uint16)
    for top in range(0, height, _BAND_ROWS):  # in bands, to avoid a float copy of the whole image
        band = pixels[:, top : top + _BAND_ROWS].clamp(0, 1).mul_(2**depth - 1).round_()
        levels[top : top + _BAND_ROWS] = band.permute(1, 2, 0).cpu().numpy()
    return levels


def to_pillow(levels: NDArray[np.uint8]) -> PillowImage.Image:
    """Return uint8 (H, W, C) as a Pillow image of mode L, LA, RGB or RGBA."""
    return PillowImage.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)


def to_rgb(pixels: Tensor) -> Tensor:
    """Return (C, H, W) as (3, H, W): gray is repeated, alpha is left out."""
    return pixels[:3] if pixels.shape[0] >= 3 else pixels[:1].expand(3, -1, -1)


def to_srgb(image: Image) -> Image | None:
    """Convert an image's colours from its profile to sRGB, as 8-bit RGB with its alpha.

    Returns:
        The image itself if it has no profile; None if the profile is damaged or does not fit the image.
    """
    if image.icc_profile is None:
        return image
    colour = image.pixels[:-1] if image.has_alpha else image.pixels
    converted = convert_to_srgb(to_pillow(to_levels(colour, 8)), image.icc_profile)
    if converted is None:
        return None
    pixels = torch.from_numpy(np.array(converted)).permute(2, 0, 1).float() / 255
    return replace(image, pixels=torch.cat([pixels, image.pixels[colour.shape[0] :]]), icc_profile=make_srgb_profile())


def flatten(image: Image, background: str) -> Image:
    """Lay a transparent image onto a colour. An image without alpha is returned unchanged.

    A gray image stays gray on a gray background, and becomes RGB on a coloured one.

    Args:
        image: from `read_image`, for example.
        background: a colour in sRGB, as a name such as white or as #rrggbb.
    Raises:
        ImageError: there is no such colour.
    """
    if not image.has_alpha:
        return image
    background_rgb = parse_colour(background)
    if image.pixels.shape[0] == 2 and len(set(background_rgb)) > 1:
        image = (to_srgb(image) if read_profile_space(image.icc_profile) == "GRAY" else None) or image
        image = replace(image, pixels=torch.cat([to_rgb(image.pixels), image.pixels[-1:]]))
    values: Sequence[int] = background_rgb
    if image.icc_profile:
        values = convert_from_srgb(background_rgb, image.icc_profile)
    pixels, alpha = image.pixels[:-1], image.pixels[-1:]
    colour = torch.tensor(values[: len(pixels)]).view(-1, 1, 1) / 255
    return replace(image, pixels=torch.lerp(colour.expand(-1, *alpha.shape[1:]), pixels, alpha))


def parse_colour(text: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of a colour's name or of #rrggbb.

    Raises:
        ImageError: there is no such colour.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ImageError(f"{text!r} is no colour; give a name such as white, or #rrggbb") from None
    return red, green, blue
