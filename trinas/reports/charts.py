"""Charts: axes, ticks and scales, as SVG and as PNG."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trinas.errors import RunError
from trinas.files import translate_os_errors, write_atomically
from trinas.training.run import read_validations

CURVE_FILE = "curve.png"
"""Name of the drawing that `write_training_curve` puts into a run folder."""

WIDTH_PX, HEIGHT_PX = 960, 540
"""Of a PNG."""

_MARGIN_PX = 72
_INK, _PAPER, _GRID, _LINE = "#1f2933", "#ffffff", "#e4e7eb", "#2563eb"
_OVERSAMPLING = 2  # Pillow draws without antialiasing
_MOST_INTERVALS = 6


@dataclass(frozen=True)
class Axis:
    """Places values along one side of a chart.

    Attributes:
        low, high: the values at its ends, `low` smaller; both above 0 where it is logarithmic.
        start, end: the places of these values, in pixels or units of a drawing; `end` may be smaller, as of a y axis.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the place of a value."""
        return self.start + self.share(value) * (self.end - self.start)

    def share(self, value: float) -> float:
        """Return how far along a value is: 0 at `low`, 1 at `high`."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def pad_range(values: Sequence[float], share: float, margin: float) -> tuple[float, float]:
    """Return a range somewhat larger than that of the values.

    Args:
        share: of the range, added on both sides.
        margin: added instead where all values are equal.
    """
    low, high = min(values), max(values)
    added = share * (high - low)
    if low - added == high + added:
        added = max(margin, 1e-6 * abs(low))
    return low - added, high + added


def pad_log_range(values: Sequence[float], share: float, factor: float) -> tuple[float, float]:
    """Return a range somewhat larger than that of positive values, for a logarithmic axis.

    Args:
        share: of the logarithm's range, added on both sides.
        factor: taken instead where all values are equal.
    """
    low, high = min(values), max(values)
    added = (high / low) ** share if high > low else factor
    return low / added, high * added


def linear_ticks(low: float, high: float) -> tuple[list[float], int]:
    """Return the round numbers between two others, at most seven of them, and how many decimals they have."""
    exponent = math.floor(math.log10((high - low) / _MOST_INTERVALS))
    steps = [float(f"{digit}e{exponent}") for digit in (1, 2, 5)] + [float(f"1e{exponent + 1}")]
    step = next((step for step in steps if high - low <= _MOST_INTERVALS * step), steps[-1])
    decimals = max(0, -exponent - (step == steps[-1]))
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)], decimals


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times every power of ten between two positive numbers."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for decade in decades for digit in (1, 2, 5) if low <= (tick := float(f"{digit}e{decade}")) <= high]


@dataclass(frozen=True)
class Line:
    """One line of a chart; its colour follows its place among the lines."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Mark:
    """A vertical line with a name under the chart."""

    x: float
    text: str
    text_x: float
    extent: float
    """Of the text, along x."""
    row: int
    """Names that would overlap take turns on two rows."""


@dataclass(frozen=True)
class Tick:
    """A horizontal line with its value."""

    y: float
    text: str


@dataclass(frozen=True)
class PlacedLine:
    """A line of a chart in the units of its drawing."""

    name: str
    points: str
    """As of an SVG polyline."""
    last: tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """A line chart in the units of its drawing, ready for a template."""

    title: str
    words: str
    """How to read it."""
    end: str
    """What stands at the end of the x axis."""
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    lines: list[PlacedLine]
    ticks: list[Tick]
    marks: list[Mark]


_BEYOND_MEASURE = 1e12

_CHART_WIDTH, _CHART_HEIGHT = 440, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 42
_LETTER = 8  # about as wide as a letter


def draw_chart(title: str, words: str, lines: Sequence[Line], marks: Sequence[tuple[str, int]], end: int) -> Chart:
    """Lay out lines over steps, from 0 to `end`; points that are not numbers, or are beyond all measure, are left out.

    Args:
        words: how to read it.
        marks: names and steps, in ascending order.
    """
    finite = [Line(line.name, [point for point in line.points if abs(point[1]) < _BEYOND_MEASURE]) for line in lines]
    shown = [line for line in finite if line.points]
    low, high = pad_range([y for line in shown for _, y in line.points] or [0.0], 0.06, 0.5)
    x_axis = Axis(0, max(1, end), _LEFT, _CHART_WIDTH - _RIGHT)
    y_axis = Axis(low, high, _CHART_HEIGHT - _BOTTOM, _TOP)
    ticks, digits = linear_ticks(low, high)

    def place(x: float, y: float) -> tuple[float, float]:
        return round(x_axis.place(x), 1), round(y_axis.place(y), 1)

    return Chart(
        title=title,
        words=words,
        end=f"{end:,} steps",
        width=_CHART_WIDTH,
        height=_CHART_HEIGHT,
        left=_LEFT,
        right=_CHART_WIDTH - _RIGHT,
        top=_TOP,
        bottom=_CHART_HEIGHT - _BOTTOM,
        lines=[
            PlacedLine(line.name, " ".join(f"{x},{y}" for x, y in (place(*point) for point in line.points)),
                       place(*line.points[-1]))
            for line in shown
        ],
        ticks=[Tick(place(0, tick)[1], f"{tick:,.{digits}f}") for tick in ticks],
        marks=_place_marks([(name, place(start, low)[0]) for name, start in marks]),
    )  # fmt: skip


def _place_marks(marks: Sequence[tuple[str, float]]) -> list[Mark]:
    """Put names on a second row, and there further right, where they would overlap."""
    placed: list[Mark] = []
    ends = [0.0, 0.0]  # of both rows
    for name, x in marks:
        extent = _LETTER * (len(name) + 1)
        row = int(x < ends[0])
        text_x = min(max(x, ends[row]), _CHART_WIDTH - _RIGHT - extent)
        ends[row] = text_x + extent
        placed.append(Mark(x, name, text_x, extent, row))
    return placed


def write_training_curve(run_dir: Path) -> None:
    """Draw curve.png in a training's run folder: validation PSNR by steps, from its metrics.jsonl.

    Raises:
        RunError: nothing was validated there yet, or the folder cannot be written.
    """
    points = [(float(validation.step), validation.psnr) for validation in read_validations(run_dir)]
    if not points:
        raise RunError(f"{run_dir}: holds no validation yet; there is nothing to draw")
    best_psnr = max(psnr for _, psnr in points)
    curve = draw_png(points, f"Validation PSNR on Y, dB (best {best_psnr:.3f})", "steps")
    with translate_os_errors(RunError, run_dir, "written", "resume once it can"):
        write_atomically(run_dir / CURVE_FILE, curve)


def draw_png(points: Sequence[tuple[float, float]], title: str, x_label: str) -> bytes:
    """Draw `points` (x, y), at least one, as a line with a grid; return the PNG file's bytes."""
    factor = _OVERSAMPLING
    canvas = Image.new("RGB", (WIDTH_PX * factor, HEIGHT_PX * factor), _PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(16 * factor)
    left, right = _MARGIN_PX * factor, (WIDTH_PX - _MARGIN_PX // 2) * factor
    top, bottom = _MARGIN_PX * factor, (HEIGHT_PX - _MARGIN_PX) * factor
    x_axis = Axis(*pad_range([x for x, _ in points], 0, 0.5), left, right)
    y_axis = Axis(*pad_range([y for _, y in points], 0, 0.5), bottom, top)
    decimals = max(0, 2 - math.floor(math.log10(y_axis.high - y_axis.low)))
    for x, y in zip(_even_ticks(x_axis), _even_ticks(y_axis), strict=True):
        across, down = x_axis.place(x), y_axis.place(y)
        draw.line([(left, down), (right, down)], fill=_GRID, width=factor)
        draw.text((left - 8 * factor, down), f"{y:.{decimals}f}", fill=_INK, font=font, anchor="rm")
        draw.text((across, bottom + 12 * factor), f"{x:,.0f}", fill=_INK, font=font, anchor="mt")
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in points]
    draw.line(places, fill=_LINE, width=3 * factor, joint="curve")
    draw.text((left, top // 2), title, fill=_INK, font=ImageFont.load_default(20 * factor), anchor="lm")
    draw.text((right, bottom + 44 * factor), x_label, fill=_INK, font=font, anchor="rm")
    buffer = io.BytesIO()
    canvas.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def _even_ticks(axis: Axis) -> Iterator[float]:
    """Yield five values from one end of an axis to the other."""
    return (axis.low + tick / 4 * (axis.high - axis.low) for tick in range(5))


def svg_line(start: tuple[float, float], end: tuple[float, float], colour: str, width: float = 1) -> str:
    """Return a straight line as an SVG element; `colour` as of CSS."""
    (x1, y1), (x2, y2) = start, end
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def svg_text(x: float, y: float, text: str, size: float, colour: str, anchor: str = "start", weight: int = 400) -> str:
    """Return a text as an SVG element.

    Args:
        x, y: where its base line starts, has its middle or ends, as `anchor` says (start, middle or end).
        size: of the font, in pixels.
        colour, weight: as of CSS; a style sheet of the page overrides both and the size.
    """
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def svg_dot(x: float, y: float, radius: float, fill: str, stroke: str, stroke_width: float) -> str:
    """Return a point of a chart as an SVG element."""
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="{stroke_width}"/>'
    )


def keep_inside(middle: float, extent: float, low: float, high: float) -> float:
    """Return the middle of a label of this extent, moved as little as keeps it between two places."""
    return min(max(middle, low + extent / 2), high - extent / 2)
