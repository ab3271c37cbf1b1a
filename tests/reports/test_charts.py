import io

import numpy as np
import pytest
from PIL import Image

from trinas.errors import RunError
from trinas.reports.charts import HEIGHT_PX, WIDTH_PX, line_plot, write_training_curve
from trinas.training.run import ValidationRecord, write_validations


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


def test_the_curve_of_a_training_is_drawn_from_its_metrics(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be read"):
        write_training_curve(tmp_path)
    psnrs = [(0, 30.0), (10, 32.0), (20, 31.5)]
    validations = [
        ValidationRecord(step=step, loss=float("nan"), psnr=psnr, learning_rate=1e-3) for step, psnr in psnrs
    ]
    write_validations(tmp_path, validations)
    write_training_curve(tmp_path)
    title = "Validation PSNR on Y, dB (best 32.000)"
    assert (tmp_path / "curve.png").read_bytes() == line_plot(psnrs, title, "steps")
