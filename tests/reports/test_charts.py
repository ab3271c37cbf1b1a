import io

import numpy as np
import pytest
from PIL import Image

from trinas.reports.charts import HEIGHT_PX, WIDTH_PX, line_plot


def drawn(points):
    with Image.open(io.BytesIO(line_plot(points, "a title", "steps"))) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape == (HEIGHT_PX, WIDTH_PX, 3)
    return pixels


def line_of(pixels):
    """Rows and columns where the plot's blue line is."""
    return np.nonzero((pixels[:, :, 2] > 180) & (pixels[:, :, 0] < 120))


def test_a_rising_line_rises():
    rows, columns = line_of(drawn([(0, 1.0), (10, 2.0)]))
    assert rows[columns.argmin()] > rows[columns.argmax()]
    assert np.ptp(columns) > WIDTH_PX / 2


@pytest.mark.parametrize("points", [[(5, 30.0), (9, 30.0)], [(1, 2.0), (1, 3.0)], [(1, 2.0)]])
def test_flat_and_single_points_can_be_drawn(points):
    drawn(points)
