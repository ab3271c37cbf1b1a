"""A line plot as a PNG, drawn with Pillow."""

import io
from collections.abc import Sequence
from math import floor, log10
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trinas.errors import RunError
from trinas.files import translate_os_errors, write_atomically
from trinas.training.run import read_validations

CURVE_FILE = "curve.png"
"""Name of the drawing that `write_training_curve` puts into a run folder."""

WIDTH_PX, HEIGHT_PX = 960, 540
_MARGIN_PX = 72
_INK, _PAPER, _GRID, _LINE = "#1f2933", "#ffffff", "#e4e7eb", "#2563eb"
_OVERSAMPLING = 2  # Pillow draws without antialiasing


def write_training_curve(run_dir: Path) -> None:
    """Draw curve.png in a training's run folder: validation PSNR by steps, from its metrics.jsonl.

    Raises:
        RunError: nothing was validated there yet, or the folder cannot be written.
    """
    validations = read_validations(run_dir)
    best_psnr = max(validation.psnr for validation in validations)
    points = [(validation.step, validation.psnr) for validation in validations]
    curve = line_plot(points, f"Validation PSNR on Y, dB (best {best_psnr:.3f})", "steps")
    with translate_os_errors(RunError, run_dir, "written", "resume once it can"):
        write_atomically(run_dir / CURVE_FILE, curve)


def line_plot(points: Sequence[tuple[float, float]], title: str, x_label: str) -> bytes:
    """Draw `points` (x, y), at least one, as a line with a grid; return the PNG file's bytes."""
    factor = _OVERSAMPLING
    canvas = Image.new("RGB", (WIDTH_PX * factor, HEIGHT_PX * factor), _PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(16 * factor)
    x_low, x_high = _range([x for x, _ in points])
    y_low, y_high = _range([y for _, y in points])
    decimals = max(0, 2 - floor(log10(y_high - y_low)))
    left, right = _MARGIN_PX * factor, (WIDTH_PX - _MARGIN_PX // 2) * factor
    top, bottom = _MARGIN_PX * factor, (HEIGHT_PX - _MARGIN_PX) * factor

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x_low) / (x_high - x_low) * (right - left),
            bottom - (y - y_low) / (y_high - y_low) * (bottom - top),
        )

    for tick in range(5):
        x, y = x_low + tick / 4 * (x_high - x_low), y_low + tick / 4 * (y_high - y_low)
        draw.line([place(x_low, y), place(x_high, y)], fill=_GRID, width=factor)
        draw.text((left - 8 * factor, place(x, y)[1]), f"{y:.{decimals}f}", fill=_INK, font=font, anchor="rm")
        draw.text((place(x, y)[0], bottom + 12 * factor), f"{x:,.0f}", fill=_INK, font=font, anchor="mt")
    draw.line([place(x, y) for x, y in points], fill=_LINE, width=3 * factor, joint="curve")
    draw.text((left, top // 2), title, fill=_INK, font=ImageFont.load_default(20 * factor), anchor="lm")
    draw.text((right, bottom + 44 * factor), x_label, fill=_INK, font=font, anchor="rm")
    buffer = io.BytesIO()
    canvas.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
