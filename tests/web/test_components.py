"""What the page says of models and files, as HTML and as words."""

import re
from dataclasses import replace

import pytest
from PIL import Image as PillowImage
from trinas_app.web.components import label, table
from trinas_app.web.limits import Limits
from trinas_app.web.service import Offer, Service, bytes_text, seconds_text
from trinas_app.web.tab_compare import _measured
from trinas_app.web.tab_models import models_list, trade_off

from support.images import generated_photograph
from trinas.device import pick_device
from trinas.errors import ImageError, Stopped
from trinas.training.degrade import downscale
from trinas.zoo.bundled import bundled_models
from trinas.zoo.folder import load_config


@pytest.fixture
def offers() -> dict[str, Offer]:
    return {name: Offer(load_config(name), "bundled") for name in bundled_models()}


def test_a_model_in_one_line_says_size_quality_speed_and_licence(offers):
    offer = offers["trinas-xs-x4"]
    psnr, params = offer.config.metrics["Set5"].psnr, round(offer.cost.params / 1e3)
    expected = f"trinas-xs-x4 · very small · {params}k parameters · {psnr:.2f} dB"
    assert label(offer, "trinas-xs-x4", 0.25) == f"{expected} · 0.25 s per megapixel · Apache-2.0"
    assert label(offer, "trinas-xs-x4", None) == f"{expected} · Apache-2.0"


def test_a_model_of_somebody_else_says_where_it_came_from(offers):
    config = replace(offers["trinas-xs-x4"].config, metrics={}, licence="MIT")
    assert label(Offer(config, "Hub"), "ann/small", None).startswith("ann/small · Hub · ")
    assert label(Offer(config, "Hub"), "ann/small", None).endswith("parameters · MIT")


def test_a_comparison_runs_where_the_server_does_and_within_its_limits(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("trinas.inference.tiled.pick_device", lambda name: asked.append(name) or pick_device(name))
    high = generated_photograph(80, 96)
    for name, levels in {"low": downscale(high, 4), "high": high}.items():
        PillowImage.fromarray(levels).save(tmp_path / f"{name}.png")

    def measured(service):
        paths = (tmp_path / "low.png", tmp_path / "high.png")
        return _measured(service, "a", *paths, 4, ["trinas-xs-x4"], lambda share, desc: None)

    assert set(measured(Service(tmp_path / "visitors", device="cpu"))) == {"bicubic", "trinas-xs-x4"}
    assert set(asked) == {"cpu"}
    with pytest.raises(ImageError, match="too large"):
        measured(Service(tmp_path / "visitors", Limits(output_px=1000), "cpu"))
    with pytest.raises(Stopped, match="limit of this server"):
        measured(Service(tmp_path / "visitors", Limits(seconds=0), "cpu"))


def test_cells_of_a_table_are_text():
    shown = table({"File": "long", "State": ""}, [["<b>a & b</b>.png", "✓ done"]])
    assert "<b>" not in shown
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;.png" in shown


def test_every_model_is_in_the_list_and_those_measured_are_in_the_drawing(offers):
    speeds = dict.fromkeys(offers, 0.5)
    rows = models_list(offers, speeds)
    assert rows.count("<tr>") == 1 + len(offers)
    assert "…" not in rows
    assert "…" in models_list(offers, {})
    drawn = trade_off(offers, speeds)
    assert drawn.count("<circle") == len(offers)
    assert "seconds per megapixel" in drawn
    assert "parameters" in trade_off(offers, {}), "until the speeds are known"
    strangers = {"<i>x": Offer(replace(offers["trinas-xs-x4"].config, name="<i>x"), "folder")}
    assert "<i>" not in trade_off(strangers, {}) + models_list(strangers, {})
    assert trade_off({"x": Offer(replace(offers["trinas-xs-x4"].config, figures={}), "Hub")}, {}) == ""


def test_points_of_a_drawing_are_inside_of_it(offers):
    drawn = trade_off(offers, {name: 10.0**number for number, name in enumerate(offers)})
    assert all(44 <= float(x) <= 440 for x in re.findall(r'cx="([\d.-]+)"', drawn))
    assert all(0 <= float(y) <= 240 for y in re.findall(r'cy="([\d.-]+)"', drawn))


@pytest.mark.parametrize(("seconds", "words"), [(0, "0.1 s"), (3.21, "3.2 s"), (47, "47 s"), (250, "4 min 10 s")])
def test_times_in_words(seconds, words):
    assert seconds_text(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(10, "1 KB"), (24_400, "24 KB"), (1_340_000, "1.3 MB")])
def test_sizes_of_files_in_words(count, words):
    assert bytes_text(count) == words
