"""Convert colours between ICC profiles, by LittleCMS."""

import io
from collections.abc import Sequence
from functools import cache

from PIL import Image as PillowImage
from PIL import ImageCms

from trinas.images.stored import DecodeError

MAX_PROFILE_BYTES = 16 << 20
"""Larger profiles are refused. The profile of a printer has some megabytes."""

_PRINT_TO_SCREEN = ImageCms.Intent.RELATIVE_COLORIMETRIC
_DATE = range(24, 36)
"""Bytes of a profile's header that hold the time when it was made. They would differ from run to run."""
_BLACK_POINT_COMPENSATION = ImageCms.Flags.BLACKPOINTCOMPENSATION


@cache
def make_srgb_profile() -> bytes:
    """Return the ICC profile of sRGB. A file without a profile counts as sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[: _DATE.start] + bytes(len(_DATE)) + profile[_DATE.stop :]


def read_profile_space(profile: bytes | None) -> str | None:
    """Return the colour space in a profile's header, such as RGB, GRAY, CMYK or Lab; None without a profile."""
    return profile[16:20].decode("ascii", "replace").strip() if profile else None


def check_profile_size(profile: bytes | None) -> None:
    """Refuse a profile of more than `MAX_PROFILE_BYTES`.

    Raises:
        DecodeError: the profile is too large.
    """
    if profile is not None and len(profile) > MAX_PROFILE_BYTES:
        raise DecodeError(f"its colour profile is larger than {MAX_PROFILE_BYTES >> 20} MB")


def convert_to_srgb(image: PillowImage.Image, profile: bytes) -> PillowImage.Image | None:
    """Convert an 8-bit image (L, RGB or CMYK) from its profile to sRGB, relative colorimetric.

    Returns:
        An RGB image, or None if the profile is damaged or is not for this kind of image.
    """
    if image.mode == "L" and read_profile_space(profile) == "RGB":  # a gray image with a colour profile
        image = image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=_PRINT_TO_SCREEN,
            outputMode="RGB",
            flags=_BLACK_POINT_COMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        return None


def convert_from_srgb(colour: Sequence[int], profile: bytes) -> tuple[int, ...]:
    """Convert one colour from sRGB to another profile.

    Args:
        colour: red, green and blue, 0 to 255.
        profile: an ICC profile of RGB or gray.
    Returns:
        Three values, or one for a gray profile, 0 to 255. If the profile is damaged or of another colour space, the
        colour is returned unchanged.
    """
    mode = {"RGB": "RGB", "GRAY": "L"}.get(read_profile_space(profile) or "")
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
