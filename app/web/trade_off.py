"""The quality of models against their speed, as drawings."""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .catalogue import Offer

TEST_SET = "Set5"
"""Only models that were measured on it are drawn."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 240, 44, 16, 20, 24
"""Size and margins of a drawing, in its own units."""

LETTER = 6
"""Approximate width of a letter, in the same units."""

STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Distances of grid lines, in dB; the first one that gives at most `MOST_LINES` lines is taken."""

MOST_LINES = 6


@dataclass(frozen=True)
class Point:
    """A model in a drawing."""

    name: str
    cost: float
    psnr: float
    restores: bool


def draw_trade_offs(offers: dict[str, Offer], speeds: dict[str, float]) -> str:
    """Draw PSNR against time, one drawing for each scale; against parameters until all times are known.

    Args:
        offers, speeds: as in `Catalogue`.
    Returns:
        HTML; empty where no model was measured.
    """
    measured = {name: offer for name, offer in offers.items() if TEST_SET in offer.config.metrics}
    is_timed = measured.keys() <= speeds.keys()
    unit = "seconds per megapixel here" if is_timed else "parameters"
    panels = ""
    for scale in sorted({offer.config.spec.scale for offer in measured.values()}):
        points = [
            Point(
                name.removeprefix("trinas-").removesuffix(f"-x{scale}"),
                speeds[name] if is_timed else offer.cost.params,
                offer.config.metrics[TEST_SET].psnr,
                offer.config.restores,
            )
            for name, offer in measured.items()
            if offer.config.spec.scale == scale
        ]
        title = f"{scale}×: PSNR on {TEST_SET} in dB, against {unit}"
        panels += f'<div class="chart"><h3>{title}</h3>{draw_points(points, title)}</div>'
    if not panels:
        return ""
    legend = '<ul class="legend"><li>● for clean images</li><li>○ for noise and compression</li></ul>'
    return f'<div class="drawings"><div class="charts">{panels}</div>{legend}</div>'


class _Axes:
    """Cost, on a logarithmic scale, and PSNR as places in the drawing."""

    def __init__(self, points: Sequence[Point]) -> None:
        costs, psnrs = [point.cost for point in points], [point.psnr for point in points]
        self.left, self.right = min(costs) / 1.5, max(costs) * 1.5
        self.low, self.high = min(psnrs) - 0.2, max(psnrs) + 0.2

    def x(self, cost: float) -> float:
        share = math.log(cost / self.left) / math.log(self.right / self.left)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, psnr: float) -> float:
        return TOP + (self.high - psnr) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def draw_points(points: Sequence[Point], title: str) -> str:
    """Draw at least one model as a point; return an SVG.

    Args:
        title: read to those who do not see the drawing.
    """
    axes = _Axes(points)
    parts = [*_draw_grid(axes), *_draw_ticks(axes), *(_draw_point(axes, point) for point in points)]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'


def _draw_grid(axes: _Axes) -> Iterator[str]:
    step = next(step for step in STEPS if (axes.high - axes.low) / step <= MOST_LINES)
    for number in range(math.ceil(axes.low / step), math.floor(axes.high / step) + 1):
        y = axes.y(number * step)
        yield (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number * step:.1f}</text>'
        )


def _draw_ticks(axes: _Axes) -> Iterator[str]:
    for tick in round_numbers(axes.left, axes.right):
        yield f'<text x="{axes.x(tick):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{tick:,g}</text>'


def _draw_point(axes: _Axes, point: Point) -> str:
    x, y = axes.x(point.cost), axes.y(point.psnr)
    fill = "var(--card)" if point.restores else "var(--line-1)"
    half = LETTER * len(point.name) / 2
    middle = min(max(x, LEFT + half), WIDTH - half)
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="var(--line-1)" stroke-width="2"/>'
        f'<text x="{middle:.1f}" y="{y - 10:.1f}" text-anchor="middle" class="name">{html.escape(point.name)}</text>'
    )


def round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two numbers."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for decade in decades for digit in (1, 2, 5) if low <= (value := float(f"{digit}e{decade}")) <= high]
