"""Generated training images, called dead leaves, for users without photographs.

They consist of shapes that hide each other. The sizes of the shapes follow a power law, so the images have edges and
statistics like natural images at every scale (Lee, Mumford & Huang 2001). Restoration networks can learn from them
(Achddou, Gousseau & Ladjal 2021). Here the shapes are ellipses and polygons, filled with an even colour, a gradient, a
grating or grain. Between them are strokes like those of print and hair.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Canvas = NDArray[np.float32]

OVERSAMPLING = 2
"""Images are drawn so many times larger and then reduced, so that edges are as soft as in photographs."""

SMALLEST_RADIUS = (3.0, 24.0)
"""The range of an image's smallest leaf radius, in drawn pixels."""

LARGEST_SHARE = 0.5
"""The largest leaf radius as a share of the drawn side."""

COVERAGE = 3.0
"""Area of all leaves divided by the area of the image. Little of the background stays visible."""

STROKES = 6.0
"""Groups of strokes in an image, on average."""


def draw_dead_leaves(side_px: int, seed: int) -> NDArray[np.uint8]:
    """Draw one generated image.

    Args:
        side_px: of the square image.
        seed: the same two numbers always give the same image.
    Returns:
        uint8 (side_px, side_px, 3).
    """
    random = np.random.default_rng((seed, side_px))
    side = side_px * OVERSAMPLING
    palette = _draw_palette(random)
    canvas = np.tile(_draw_colour(random, palette), (side, side, 1)).astype(np.float32)
    radii = _draw_radii(random, side)
    strokes = set(random.choice(len(radii), size=min(len(radii), random.poisson(STROKES)), replace=False).tolist())
    for number, radius in enumerate(radii):
        outline = _make_polygon(random, radius) if random.random() < 0.5 else _make_ellipse(random, radius)
        _fill_leaf(canvas, random, outline, _make_texture(random, palette))
        if number in strokes:
            _draw_strokes(canvas, random, _draw_colour(random, palette))
    reduced = canvas.reshape(side_px, OVERSAMPLING, side_px, OVERSAMPLING, 3).mean(axis=(1, 3))
    return np.clip(reduced, 0, 255).round().astype(np.uint8)


def _draw_palette(random: np.random.Generator) -> NDArray[np.float64]:
    """Return a few colours near one line through the colour cube, because images rarely have all colours at once."""
    ends = random.uniform(0, 255, size=(2, 3))
    grey = ends.mean(axis=1, keepdims=True)
    ends = grey + (ends - grey) * random.uniform(0.1, 0.8)
    shares = random.uniform(-0.3, 1.3, size=(24, 1))
    return ends[0] + shares * (ends[1] - ends[0]) + random.normal(0, 12, size=(24, 3))


def _draw_colour(random: np.random.Generator, palette: NDArray[np.float64]) -> NDArray[np.float64]:
    return palette[random.integers(len(palette))] + random.normal(0, 6, size=3)


def _draw_radii(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Return enough radii to cover the image. With their density r ** -3 the image looks the same at every scale."""
    smallest = float(np.exp(random.uniform(*np.log(SMALLEST_RADIUS))))
    largest = max(LARGEST_SHARE * side, 2 * smallest)
    mean_area = 2 * np.pi * smallest**2 * np.log(largest / smallest) / (1 - (smallest / largest) ** 2)
    shares = random.random(int(COVERAGE * side**2 / mean_area))
    return (smallest**-2 - shares * (smallest**-2 - largest**-2)) ** -0.5


def _make_ellipse(random: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """Return corners (K, 2) around the origin."""
    angles = np.linspace(0, 2 * np.pi, max(12, int(2 * radius)), endpoint=False)
    corners = radius * np.stack([np.cos(angles), np.sin(angles) * random.uniform(0.3, 1)], axis=1)
    return _rotate(corners, random.uniform(0, np.pi))


def _make_polygon(random: np.random.Generator, radius: float) -> NDArray[np.float64]:
    angles = np.sort(random.uniform(0, 2 * np.pi, size=random.integers(3, 8)))
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rotate(corners: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return corners @ np.array([[cos, sin], [-sin, cos]])


Texture = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Colours (H, W, 3) at rows (H, 1) and columns (1, W)."""


def _make_texture(random: np.random.Generator, palette: NDArray[np.float64]) -> Texture:
    """Return an even colour (often), a gradient, a grating, or grain."""
    first, second = _draw_colour(random, palette), _draw_colour(random, palette)
    kind = random.choice(["even", "gradient", "grating", "grain"], p=[0.4, 0.3, 0.15, 0.15])
    along_rows, along_columns = _rotate(np.array([[1.0, 0.0]]), random.uniform(0, 2 * np.pi))[0]
    period = random.uniform(4, 24)
    sigma = random.uniform(4, 24)

    def colours(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        shape = (rows.size, columns.size, 1)
        if kind == "even":
            return np.broadcast_to(first, (rows.size, columns.size, 3))
        if kind == "grain":
            return first + random.normal(0, sigma, size=shape)
        position = (along_rows * rows + along_columns * columns)[..., None]
        if kind == "gradient":
            share = (position - position.min()) / max(1.0, np.ptp(position))
        else:
            share = 0.5 + 0.5 * np.sin(2 * np.pi * position / period)
        return first + share * (second - first)

    return colours


def _fill_leaf(canvas: Canvas, random: np.random.Generator, corners: NDArray[np.float64], texture: Texture) -> None:
    """Draw a leaf with these corners at a random position. It may cross the border of the canvas."""
    side = len(canvas)
    corners = corners + random.uniform(0, side, size=2)
    first = np.floor(corners.min(axis=0)).astype(int).clip(0, side)
    last = (np.floor(corners.max(axis=0)).astype(int) + 1).clip(0, side)
    if (first >= last).any():
        return
    width, height = (last - first).tolist()
    mask = Image.new("1", (width, height))
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners - first], fill=1)
    rows, columns = np.arange(height, dtype=float)[:, None], np.arange(width, dtype=float)[None]
    area = canvas[first[1] : last[1], first[0] : last[0]]
    covered = np.asarray(mask)
    area[covered] = texture(rows, columns)[covered]


def _draw_strokes(canvas: Canvas, random: np.random.Generator, colour: NDArray[np.float64]) -> None:
    """Draw a line of glyph-like strokes in one colour, each of a few straight or bent segments."""
    side = len(canvas)
    size, thickness = random.uniform(8, 40), int(random.integers(1, 6))
    mask = Image.new("1", (side, side))
    draw = ImageDraw.Draw(mask)
    place, heading = random.uniform(0, side, size=2), random.normal(0, 0.3)
    for _ in range(random.integers(3, 16)):
        for _ in range(random.integers(1, 4)):
            corners = _rotate(random.uniform(0, size, size=(random.integers(2, 4), 2)), heading) + place
            draw.line([tuple(corner) for corner in corners], fill=1, width=thickness, joint="curve")
        place = place + _rotate(np.array([[1.2 * size, 0.0]]), heading)[0]
    canvas[np.asarray(mask)] = colour
