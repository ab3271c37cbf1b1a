"""Scatter plots as one SVG: quality against a cost on a logarithmic axis, with a readable label at every point."""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from PIL import ImageFont
from trinas_app.words import format_short

from trinas.reports.charts import (
    Axis,
    linear_ticks,
    log_ticks,
    pad_log_range,
    pad_range,
    svg_dot,
    svg_line,
    svg_text,
)

INK, FAINT_INK, GRID, PAPER = "#1f2933", "#616e7c", "#e4e7eb", "#ffffff"
OURS, THEIRS = "#2563eb", "#9aa5b1"
PANEL_WIDTH, PANEL_HEIGHT = 416, 215
"""Size of the area between the axes, in pixels."""
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 40, 48
"""Space around this area for ticks and titles, in pixels."""
EDGE, HEADER = 12, 28
"""Space around all panels and for the legend above them, in pixels."""
TICK_SIZE, LABEL_SIZE, OUR_LABEL_SIZE, TITLE_SIZE = 11, 10.5, 12, 14  # of fonts, in pixels
RADIUS, OUR_RADIUS = 3.5, 5.0
DISTANCES = (4, 9, 14, 21, 29, 38, 48)
"""Distances from a point's edge to its label, in pixels, nearest first."""
LEADER_FROM = 9
"""From this distance on, a line connects a label to its point."""
ATTEMPTS = 16
"""How many orders of placing the labels are tried. The order that keeps them nearest is used."""


@dataclass(frozen=True)
class Point:
    """A network in a panel."""

    x: float
    y: float
    label: str
    ours: bool


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    x_label: str
    y_label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Return whether two boxes share any area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )  # fmt: skip

    def inside(self, other: "Box") -> bool:
        """Return whether this box lies within `other`."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Label:
    """A position of a point's label."""

    box: Box
    distance: float
    leader: tuple[float, float]
    """The end of its line, at the label."""


def scatter_svg(rows: Sequence[Sequence[Panel]], description: str, our_name: str, their_name: str) -> str:
    """Draw panels in rows on a white card, readable on light and dark pages. Panels of a row share their y axis.

    Args:
        description: what screen readers read out.
        our_name, their_name: for the legend.
    """
    cell_width, cell_height = LEFT + PANEL_WIDTH + RIGHT, TOP + PANEL_HEIGHT + BOTTOM
    width = 2 * EDGE + cell_width * max(len(row) for row in rows)
    height = 2 * EDGE + HEADER + cell_height * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">',
        f"<title>{escape(description)}</title>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="{PAPER}" stroke="{GRID}"/>',
        *_legend(our_name, their_name),
    ]
    for number, row in enumerate(rows):
        y_range = pad_range([point.y for panel in row for point in panel.points], 0.07, 0.5)
        for column, panel in enumerate(row):
            left = EDGE + column * cell_width + LEFT
            top = EDGE + HEADER + number * cell_height + TOP
            parts += _panel(panel, Box(left, top, left + PANEL_WIDTH, top + PANEL_HEIGHT), y_range)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(our_name: str, their_name: str) -> Iterator[str]:
    x, y = EDGE + LEFT + OUR_RADIUS, EDGE + 18
    for name, radius, colour in ((our_name, OUR_RADIUS, OURS), (their_name, RADIUS, THEIRS)):
        yield svg_dot(x, y - 4, radius, colour, PAPER, 1)
        yield svg_text(x + 10, y, name, OUR_LABEL_SIZE, INK)
        x += 36 + _text_width(name, OUR_LABEL_SIZE)
    yield svg_text(x, y, "up and to the left is better", OUR_LABEL_SIZE, FAINT_INK)


def _panel(panel: Panel, frame: Box, y_range: tuple[float, float]) -> Iterator[str]:
    x_range = pad_log_range([point.x for point in panel.points], 0.06, 2)
    x_axis = Axis(*x_range, frame.left, frame.right, logarithmic=True)
    y_axis = Axis(*y_range, frame.bottom, frame.top)
    yield svg_text(frame.left, frame.top - 16, panel.title, TITLE_SIZE, INK, weight=600)
    yield svg_text(frame.right, frame.bottom + 38, panel.x_label, TICK_SIZE, FAINT_INK, "end")
    yield svg_text(frame.right, frame.top - 16, panel.y_label, TICK_SIZE, FAINT_INK, "end")
    yield from _grid(frame, x_axis, y_axis)
    places = [(x_axis.place(point.x), y_axis.place(point.y)) for point in panel.points]
    yield from _our_line([place for point, place in zip(panel.points, places, strict=True) if point.ours])
    yield from _points(panel.points, places, frame)


def _grid(frame: Box, x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    for tick in log_ticks(x_axis.low, x_axis.high):
        x = x_axis.place(tick)
        yield svg_line((x, frame.top), (x, frame.bottom), GRID)
        yield svg_text(x, frame.bottom + 17, format_short(tick), TICK_SIZE, FAINT_INK, "middle")
    ticks, decimals = linear_ticks(y_axis.low, y_axis.high)
    for tick in ticks:
        y = y_axis.place(tick)
        yield svg_line((frame.left, y), (frame.right, y), GRID)
        yield svg_text(frame.left - 8, y + 4, f"{tick:.{decimals}f}", TICK_SIZE, FAINT_INK, "end")


def _our_line(places: Sequence[tuple[float, float]]) -> Iterator[str]:
    if len(places) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in sorted(places))
        yield f'<polyline points="{path}" fill="none" stroke="{OURS}" stroke-width="2" stroke-opacity="0.35"/>'


def _points(points: Sequence[Point], places: Sequence[tuple[float, float]], frame: Box) -> Iterator[str]:
    """Yield dots and labels; the labels come last, so that nothing covers them."""
    labels = place_labels(points, places, frame)
    for place, label in zip(places, labels, strict=True):
        if label.distance >= LEADER_FROM:
            yield svg_line(place, label.leader, THEIRS, 0.75)
    for point, (x, y) in zip(points, places, strict=True):
        radius, colour = (OUR_RADIUS, OURS) if point.ours else (RADIUS, THEIRS)
        yield svg_dot(x, y, radius, colour, PAPER, 1)
    for point, label in zip(points, labels, strict=True):
        size, colour, weight = (OUR_LABEL_SIZE, OURS, 600) if point.ours else (LABEL_SIZE, FAINT_INK, 400)
        middle = (label.box.left + label.box.right) / 2
        yield svg_text(middle, label.box.bottom - 0.25 * size, point.label, size, colour, "middle", weight)


def place_labels(points: Sequence[Point], places: Sequence[tuple[float, float]], frame: Box) -> list[Label]:
    """Return a position for each label. If possible, no label hides another one, a point or the frame."""
    ours = sorted(place for point, place in zip(points, places, strict=True) if point.ours)
    line = [Box(x - 1, y - 1, x + 1, y + 1) for ends in itertools.pairwise(ours) for x, y in _along(*ends)]
    dots = [
        square_around(place, OUR_RADIUS if point.ours else RADIUS) for point, place in zip(points, places, strict=True)
    ]
    candidates = [list(_candidates(point, place, frame)) for point, place in zip(points, places, strict=True)]
    shuffler, order = random.Random(0), list(range(len(points)))
    best: tuple[float, dict[int, Label]] = (math.inf, {})
    for _ in range(ATTEMPTS):
        cost, taken = 0.0, list[Box]()
        placed: dict[int, Label] = {}
        for index in sorted(order, key=lambda index: not points[index].ours):  # ours first, the others as shuffled
            own = dots[index]
            others = [dot for dot in dots if dot is not own]
            label, badness = min(
                ((label, _badness(label, places[index], others, taken, line)) for label in candidates[index]),
                key=lambda pair: pair[1],
            )
            placed[index] = label
            cost += badness
            taken.append(label.box)
            if label.distance >= LEADER_FROM:
                taken += [square_around(spot, 1) for spot in _along(places[index], label.leader)]
        best = min(best, (cost, placed), key=lambda pair: pair[0])
        shuffler.shuffle(order)
    return [best[1][index] for index in range(len(points))]


def _candidates(point: Point, place: tuple[float, float], frame: Box) -> Iterator[Label]:
    """Yield positions of a label all around its point, inside the frame."""
    size = OUR_LABEL_SIZE if point.ours else LABEL_SIZE
    width, height = _text_width(point.label, size) * (1.08 if point.ours else 1) + 2, size + 1  # bold is wider
    radius = OUR_RADIUS if point.ours else RADIUS
    for distance in DISTANCES:
        for step in range(24):
            across, down = math.cos(step * math.pi / 12), math.sin(step * math.pi / 12)
            x = place[0] + across * (radius + distance)
            y = place[1] + down * (radius + distance)
            # The label's nearest edge or corner lies there: beside the point its middle, below it its upper edge.
            left = x - width * (1 - across) / 2
            top = y - height * (1 - down) / 2
            box = Box(left, top, left + width, top + height)
            if box.inside(frame):
                yield Label(box, distance, (x, y))


def _badness(
    label: Label, place: tuple[float, float], dots: Sequence[Box], taken: Sequence[Box], line: Sequence[Box]
) -> float:
    """Return how bad a position is: its distance, and much more for everything that the label hides."""
    bad = label.distance + 1000 * sum(label.box.overlaps(box) for box in (*dots, *taken))
    bad += 6 * any(label.box.overlaps(box) for box in line)
    if label.distance >= LEADER_FROM:
        spots = [square_around(spot, 1) for spot in list(_along(place, label.leader))[2:]]
        bad += 300 * any(spot.overlaps(box) for spot in spots for box in (*dots, *taken))
    return bad


def _along(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Return positions on a line, about three pixels apart."""
    count = max(1, round(math.dist(start, end) / 3))
    return [
        (start[0] + (end[0] - start[0]) * step / count, start[1] + (end[1] - start[1]) * step / count)
        for step in range(count + 1)
    ]


def square_around(place: tuple[float, float], radius: float) -> Box:
    """Return the square of half side `radius` around a position."""
    return Box(place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius)


def _text_width(text: str, size: float) -> float:
    """Return about the width of the text in a browser's sans serif font, in pixels."""
    return ImageFont.load_default(size).getlength(text) * 1.03
