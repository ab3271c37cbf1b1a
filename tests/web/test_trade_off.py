"""Drawings of the models' quality against their speed."""

import re
from dataclasses import replace

import pytest
from trinas_app.web.catalogue import Catalogue, Offer
from trinas_app.web.trade_off import HEIGHT, LEFT, WIDTH, draw_trade_offs


@pytest.fixture(scope="module")
def offers() -> dict[str, Offer]:
    return Catalogue().offers()


def test_measured_models_are_drawn_against_time_once_all_times_are_known(offers):
    drawn = draw_trade_offs(offers, dict.fromkeys(offers, 0.5))
    assert drawn.count("<circle") == len(offers)
    assert "seconds per megapixel" in drawn
    assert "parameters" in draw_trade_offs(offers, {})


def test_without_metrics_nothing_is_drawn(offers):
    unknown = Offer(replace(offers["trinas-xs-x4"].config, metrics={}), "Hub")
    assert draw_trade_offs({"x": unknown}, {}) == ""


def test_points_are_inside_the_drawing(offers):
    drawn = draw_trade_offs(offers, {name: 10.0**number for number, name in enumerate(offers)})
    assert all(LEFT <= float(x) <= WIDTH for x in re.findall(r'cx="([\d.-]+)"', drawn))
    assert all(0 <= float(y) <= HEIGHT for y in re.findall(r'cy="([\d.-]+)"', drawn))
