"""What several tabs show: models and tables as HTML and words, and what the controls ask for."""

from dataclasses import replace

import pytest
from trinas_app.web.catalogue import Catalogue, Offer
from trinas_app.web.components import LONG_SIDE, OTHER_SCALE, WIDTH, label_offer, read_controls, render_table
from trinas_app.web.tab_models import list_models
from trinas_app.web.trade_off import draw_trade_offs

from trinas.config import DEFAULT_QUALITY
from trinas.errors import ImageError


@pytest.fixture(scope="module")
def offers() -> dict[str, Offer]:
    return Catalogue().offers()


def test_a_model_in_one_line_has_size_quality_speed_and_licence(offers):
    offer = offers["trinas-xs-x4"]
    psnr, params = offer.config.metrics["Set5"].psnr, round(offer.cost.params / 1e3)
    expected = f"trinas-xs-x4 · very small · {params}k parameters · {psnr:.2f} dB"
    assert label_offer(offer, "trinas-xs-x4", 0.25) == f"{expected} · 0.25 s per megapixel · Apache-2.0"
    assert label_offer(offer, "trinas-xs-x4", None) == f"{expected} · Apache-2.0"


def test_a_model_of_somebody_else_says_where_it_came_from(offers):
    config = replace(offers["trinas-xs-x4"].config, metrics={}, licence="MIT")
    assert label_offer(Offer(config, "Hub"), "ann/small", None).startswith("ann/small · Hub · ")
    assert label_offer(Offer(config, "Hub"), "ann/small", None).endswith("parameters · MIT")


def read(backend, size, amount=None, file_format="", quality=DEFAULT_QUALITY, keep_metadata=True, preset="best"):
    return read_controls(backend.runner, size, amount, preset, "", file_format, quality, 1.0, False, keep_metadata)


def test_controls_ask_for_a_size_and_how_it_is_written(backend):
    assert read(backend, 4).size.scale == 4
    assert read(backend, OTHER_SCALE, 2.5).size.scale == 2.5
    assert read(backend, LONG_SIDE, 1920).size.long_side == 1920
    assert read(backend, WIDTH, 640.2).size.width == 640
    assert read(backend, 4, preset="fast").preset == "fast"
    request = read(backend, 2, file_format=".jpg", quality=80, keep_metadata=False)
    assert (request.save.suffix, request.save.quality, request.save.background) == (".jpg", 80, "white")
    assert request.save.strip_metadata
    with pytest.raises(ImageError):
        read(backend, OTHER_SCALE, 99)


def test_cells_of_a_table_are_text():
    shown = render_table({"File": "long", "State": ""}, [["<b>a & b</b>.png", "✓ done"]])
    assert "<b>" not in shown
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;.png" in shown


def test_every_model_is_in_the_list(offers):
    rows = list_models(offers, dict.fromkeys(offers, 0.5))
    assert rows.count("<tr>") == 1 + len(offers)
    assert "…" not in rows
    assert "…" in list_models(offers, {})


def test_a_models_name_is_text(offers):
    strangers = {"<i>x": Offer(replace(offers["trinas-xs-x4"].config, name="<i>x"), "folder")}
    assert "<i>" not in draw_trade_offs(strangers, {}) + list_models(strangers, {})
