"""Colour profiles, through LittleCMS."""

import io
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
