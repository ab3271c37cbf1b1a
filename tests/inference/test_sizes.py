from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trinas.config import SizeConfig
from trinas.errors import UpscaleError
from trinas.inference.sizes import choose_scales, compute_target_size


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, (1200, 800)),
        ({"scale": 1.5}, (450, 300)),
        ({"scale": 1}, (300, 200)),
        ({"width": 1000}, (1000, 667)),
        ({"height": 1000}, (1500, 1000)),
        ({"width": 900, "height": 900}, (900, 600)),
        ({"long_side": 601}, (601, 401)),
        ({"long_side": 30}, (30, 20)),
    ],
)
def test_sizes_keep_the_aspect(wish, expected):
    assert compute_target_size(SizeConfig(**wish), 300, 200) == expected


def test_no_side_vanishes():
    assert compute_target_size(SizeConfig(long_side=10), 10_000, 1) == (10, 1)


def test_more_than_sixteen_times_is_refused():
    with pytest.raises(UpscaleError, match=r"100x50 would have to grow 20\.0 times; the most is 16"):
        compute_target_size(SizeConfig(width=2000), 100, 50)


@pytest.mark.parametrize(
    "wish",
    [{"scale": 0.9}, {"scale": 17}, {"scale": 2, "width": 5}, {"width": 5, "long_side": 5}, {"height": 0}],
)
def test_wishes_that_make_no_sense_are_refused(wish):
    with pytest.raises(ValueError, match=r"scale|width|height"):
        SizeConfig(**wish)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1, ()), (0.5, ()), (1.01, (2,)), (2, (2,)), (2.5, (3,)), (3.5, (4,)), (5, (2, 3)), (8, (2, 4)), (16, (4, 4))],
)
def test_the_nearest_networks_are_chosen(factor, expected):
    size = (round(400 * factor), round(300 * factor))
    assert choose_scales(400, 300, size, (4, 2, 3)) == expected


@pytest.mark.parametrize(
    ("factor", "expected"), [(1, ()), (2, (2,)), (2.5, (4,)), (4, (4,)), (5, (2, 3)), (8, (2, 4)), (9, (4, 3))]
)
def test_the_first_network_may_be_of_other_scales(factor, expected):
    size = (round(400 * factor), round(300 * factor))
    assert choose_scales(400, 300, size, (4, 2, 3), (4, 2)) == expected


def test_a_single_network_is_applied_again():
    assert choose_scales(100, 100, (1600, 1600), [2]) == (2, 2, 2, 2)
    assert choose_scales(100, 100, (1000, 1000), [4]) == (4, 4)


@given(st.integers(1, 500), st.integers(1, 500), st.floats(1, 16), st.sets(st.sampled_from([2, 3, 4]), min_size=1))
def test_passes_always_reach_the_size_with_the_least_work(width, height, scale, scales):
    size = compute_target_size(SizeConfig(scale=scale), width, height)
    passes = choose_scales(width, height, size, scales)
    assert prod(passes) * width >= size[0]
    assert prod(passes) * height >= size[1]
    for count in range(4):
        for other in product(scales, repeat=count):
            if prod(other) < prod(passes):
                assert prod(other) * width < size[0] or prod(other) * height < size[1]
