import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trinas.errors import RunError
from trinas.reports.charts import (
    HEIGHT_PX,
    WIDTH_PX,
    Axis,
    draw_chart,
    draw_png,
    linear_ticks,
    log_ticks,
    write_training_curve,
)
from trinas.training.run import ValidationRecord, write_validations


def drawn(points):
    with Image.open(io.BytesIO(draw_png(points, "a title", "steps"))) as picture:
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


def test_a_curve_is_drawn_from_the_validations_of_a_run(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be read"):
        write_training_curve(tmp_path)
    psnrs = [(0, 30.0), (10, 32.0), (20, 31.5)]
    validations = [
        ValidationRecord(step=step, loss=float("nan"), psnr=psnr, learning_rate=1e-3) for step, psnr in psnrs
    ]
    write_validations(tmp_path, validations)
    write_training_curve(tmp_path)
    title = "Validation PSNR on Y, dB (best 32.000)"
    assert (tmp_path / "curve.png").read_bytes() == draw_png(psnrs, title, "steps")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match="holds no validation"):
        write_training_curve(tmp_path)


@given(st.floats(1e-3, 1e3), st.floats(1.5, 1e6), st.booleans())
def test_an_axis_places_its_ends_and_its_ticks_between_them(low, factor, logarithmic):
    axis = Axis(low, low * factor, 100, 20, logarithmic)
    assert axis.place(axis.low) == 100
    assert abs(axis.place(axis.high) - 20) < 1e-9
    ticks = log_ticks(axis.low, axis.high) if logarithmic else linear_ticks(axis.low, axis.high)[0]
    places = [axis.place(tick) for tick in ticks]
    assert places == sorted(places, reverse=True)
    assert all(20 - 1e-6 <= place <= 100 + 1e-6 for place in places)


def test_equal_factors_are_equal_distances_on_a_logarithmic_axis():
    axis = Axis(1, 100, 0, 1, logarithmic=True)
    assert [round(axis.place(value), 9) for value in (1, 10, 100)] == [0, 0.5, 1]


def test_ticks_of_a_logarithmic_axis_are_1_2_and_5():
    assert log_ticks(1, 100) == [1, 2, 5, 10, 20, 50, 100]
    assert log_ticks(0.3, 25) == [0.5, 1, 2, 5, 10, 20]


def test_ticks_divide_an_axis_into_at_most_six():
    assert linear_ticks(0.25, 0.5) == (pytest.approx([0.25, 0.3, 0.35, 0.4, 0.45, 0.5]), 2)
    assert linear_ticks(0, 6.1) == ([0, 2, 4, 6], 0)
    assert linear_ticks(0, 50) == ([0, 10, 20, 30, 40, 50], 0)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_few_and_inside(low, extent):
    ticks, digits = linear_ticks(low, low + extent)
    assert 2 <= len(ticks) <= 7
    assert low - 1e-6 <= ticks[0] <= ticks[-1] <= low + extent + 1e-6
    assert len({f"{tick:.{digits}f}" for tick in ticks}) == len(ticks), "all read differently"


@pytest.mark.parametrize("steps", [(4, 11, 85), (5000, 500, 500), (1, 1, 10000), (10, 10, 10)])
def test_names_of_stages_stay_inside_and_apart(steps):
    starts = [0, steps[0], steps[0] + steps[1]]
    marks = list(zip(("warm-up", "search", "fine-tune"), starts, strict=True))
    names = draw_chart("", "", [], marks, sum(steps)).marks
    for name in names:
        assert name.text_x + name.extent <= 440
    for one, other in itertools.combinations(names, 2):
        apart = one.text_x + one.extent <= other.text_x
        assert one.row != other.row or apart
