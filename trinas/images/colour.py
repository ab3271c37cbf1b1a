"""Colour profiles, through LittleCMS."""

import io
from collections.abc import Sequence
from functools import cache

from PIL import Image as PillowImage
from PIL import ImageCms

_PRINT_TO_SCREEN = ImageCms.Intent.RELATIVE_COLORIMETRIC
_BLACK_POINT_COMPENSATION = ImageCms.Flags.BLACKPOINTCOMPENSATION


@cache
def srgb_profile() -> bytes:
    """The ICC profile of sRGB, which files without a profile are taken for."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_space(profile: bytes | None) -> str | None:
    """What a profile describes, from its header: RGB, GRAY, CMYK, Lab and others; None without a profile."""
    return profile[16:20].decode("ascii", "replace").strip() if profile else None


def to_srgb(picture: PillowImage.Image, profile: bytes) -> PillowImage.Image | None:
    """Convert an 8-bit picture (L, RGB or CMYK) from its profile to sRGB, relative colorimetric.

    Returns:
        An RGB picture, or None where the profile is damaged or describes another kind of picture.
    """
    if picture.mode == "L" and profile_space(profile) == "RGB":  # gray described by a profile for colour
        picture = picture.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(
            picture,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=_PRINT_TO_SCREEN,
            outputMode="RGB",
            flags=_BLACK_POINT_COMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        return None


def from_srgb(colour: Sequence[int], profile: bytes) -> tuple[int, ...]:
    """A colour of sRGB, red, green and blue of 255, in the values of another profile: three, or one of a gray profile.

    Returns:
        The colour as it is where the profile is damaged or describes neither.
    """
    mode = {"RGB": "RGB", "GRAY": "L"}.get(profile_space(profile) or "")
    if mode is None:
        return tuple(colour)
    patch = PillowImage.new("RGB", (1, 1), tuple(colour))
    try:
        target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            patch, ImageCms.createProfile("sRGB"), target, renderingIntent=_PRINT_TO_SCREEN, outputMode=mode
        )
    except (ImageCms.PyCMSError, OSError):
        return tuple(colour)
    assert converted is not None
    value = converted.getpixel((0, 0))
    return value if isinstance(value, tuple) else (int(value or 0),)
