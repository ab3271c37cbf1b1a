"""The quality of models against their speed, as drawings."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trinas.reports.charts import (
    Axis,
    keep_inside,
    linear_ticks,
    log_ticks,
    svg_dot,
    svg_line,
    svg_text,
)
from trinas.text import shorten_text

from ..words import format_short
from .catalogue import Offer

TEST_SET = "Set5"
"""Only models that were measured on it are drawn."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 240, 44, 16, 20, 24
"""Size and margins of a drawing, in its own units."""

LETTER = 6
"""Approximate width of a letter, in the same units."""

LONGEST_NAME = 24
"""Letters of a model's name. There is room for a name at each of about three models side by side."""

TEXT_SIZE, TEXT_COLOUR = 11, "var(--faint)"
"""Of the drawing alone; the style sheet of the page overrides the size."""


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
                shorten_text(name.removeprefix("trinas-").removesuffix(f"-x{scale}"), LONGEST_NAME),
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


def draw_points(points: Sequence[Point], title: str) -> str:
    """Draw at least one model as a point; return an SVG.

    Args:
        title: read to those who do not see the drawing.
    """
    costs, psnrs = [point.cost for point in points], [point.psnr for point in points]
    x_axis = Axis(min(costs) / 1.5, max(costs) * 1.5, LEFT, WIDTH - RIGHT, logarithmic=True)
    y_axis = Axis(min(psnrs) - 0.2, max(psnrs) + 0.2, HEIGHT - BOTTOM, TOP)
    parts = [*_draw_grid(x_axis, y_axis), *(_draw_point(point, x_axis, y_axis) for point in points)]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'


def _draw_grid(x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    ticks, decimals = linear_ticks(y_axis.low, y_axis.high)
    for tick in ticks:
        y = y_axis.place(tick)
        yield svg_line((LEFT, y), (WIDTH - RIGHT, y), "var(--grid)")
        yield svg_text(LEFT - 8, y + 4, f"{tick:.{decimals}f}", TEXT_SIZE, TEXT_COLOUR, "end")
    for tick in log_ticks(x_axis.low, x_axis.high):
        yield svg_text(x_axis.place(tick), HEIGHT - 6, format_short(tick), TEXT_SIZE, TEXT_COLOUR, "middle")


def _draw_point(point: Point, x_axis: Axis, y_axis: Axis) -> str:
    x, y = x_axis.place(point.cost), y_axis.place(point.psnr)
    middle = keep_inside(x, LETTER * len(point.name), LEFT, WIDTH)
    name = svg_text(middle, y - 10, point.name, TEXT_SIZE, TEXT_COLOUR, "middle")
    dot = svg_dot(x, y, 5, "var(--card)" if point.restores else "var(--line-1)", "var(--line-1)", 2)
    return f'{dot}<g class="name">{name}</g>'
