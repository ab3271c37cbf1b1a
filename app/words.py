"""Numbers, sizes and durations as text, for the terminal and the page."""

from collections.abc import Sequence
from math import isnan, prod
from pathlib import Path

SUFFIXES = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def format_count(number: int, thing: str) -> str:
    """Return the number and its noun: 1 image, 1,234 images."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def format_short(number: float) -> str:
    """Return three digits and a suffix: 98.3k, 1.2M, 60G."""
    for suffix, size in SUFFIXES:
        if number >= size:
            return f"{number / size:.3g}{suffix}"
    return f"{number:.3g}"


def parse_short(text: str) -> float:
    """Return the number that a text such as 500k, 1.2M, 3G or 20000 means.

    Raises:
        ValueError: `text` is not such a number.
    """
    sizes = {suffix.lower(): size for suffix, size in SUFFIXES}
    size = sizes.get(text[-1:].lower())
    try:
        return float(text[:-1]) * size if size else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number such as 500k, 1.2M or 3G") from None


def format_duration(seconds: float) -> str:
    """Return a duration: 3.2 s, 45 s, 4 min 10 s, 2 h 05 min. NaN becomes "unknown time"."""
    if isnan(seconds):
        return "unknown time"
    if seconds < 10:
        return f"{max(0.1, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_seconds(seconds: float) -> str:
    """Return a time with hundredths, for comparing it with others: 0.28 s, 75.03 s."""
    return f"{seconds:,.2f} s"


def format_bytes(count: int) -> str:
    """Return the size of a file: 24 KB, 1.3 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{max(1, round(count / 1e3))} KB"


def format_megabytes(count: int) -> str:
    """Return the size of memory or of a download in whole megabytes: 389 MB, 3,530 MB."""
    return f"{count / 1e6:,.0f} MB"


def format_pixels(size: tuple[int, int]) -> str:
    """Return width and height in pixels, and the megapixels if there are at least 0.1: 4,000 × 3,000 pixels (12 MP)."""
    megapixels = prod(size) / 1e6
    text = f"{size[0]:,} × {size[1]:,} pixels"
    return f"{text} ({megapixels:.{1 if megapixels < 10 else 0}f} MP)" if megapixels >= 0.1 else text


def format_psnr(decibels: float, decimals: int = 2) -> str:
    """Return a PSNR: 31.42 dB."""
    return f"{decibels:.{decimals}f} dB"


def format_list(paths: Sequence[Path | str], shown: int = 3) -> str:
    """Return the first paths, and how many more there are."""
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return f"{', '.join(map(str, paths[:shown]))}{more}"
