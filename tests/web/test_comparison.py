"""Comparing models, without the page."""

import pytest
from PIL import Image as PillowImage
from trinas_app.web.backend import Backend
from trinas_app.web.comparison import BICUBIC, compare_place, measure_models, read_displayed, read_measured
from trinas_app.web.limits import Limits

from support.images import generated_photograph
from trinas.device import pick_device
from trinas.errors import ImageError, Stopped
from trinas.images.read import open_image
from trinas.training.degrade import downscale


@pytest.fixture
def pair(tmp_path):
    """Files of an image and of its original, x4."""
    high = generated_photograph(80, 96)
    paths = tmp_path / "low.png", tmp_path / "high.png"
    for path, levels in zip(paths, (downscale(high, 4), high), strict=True):
        PillowImage.fromarray(levels).save(path)
    return paths


def measure(backend, pair):
    session = backend.sessions.get("a")
    low, high = read_measured(*map(open_image, pair), 4)
    check = backend.runner.begin_job(session, session.stop_request("comparison"))
    return measure_models(backend.catalogue, low, high, 4, ["trinas-xs-x4"], check, lambda share, name: None)


def test_a_comparison_runs_where_the_server_does_and_within_its_limits(tmp_path, pair, monkeypatch):
    asked = []
    monkeypatch.setattr("trinas.inference.tiled.pick_device", lambda name: asked.append(name) or pick_device(name))
    folder = tmp_path / "visitors"
    folder.mkdir()
    assert set(measure(Backend.create(folder, device="cpu"), pair)) == {BICUBIC, "trinas-xs-x4"}
    assert set(asked) == {"cpu"}
    with pytest.raises(Stopped, match="limit of this server"):
        measure(Backend.create(folder, Limits(seconds=0), "cpu"), pair)


def test_an_original_of_another_size_is_refused(pair):
    with pytest.raises(ImageError, match="3 times as wide"):
        read_measured(*map(open_image, pair), 3)
    with pytest.raises(ImageError, match="4 times as wide"):
        read_measured(open_image(pair[1]), open_image(pair[0]), 4)


def test_a_column_shows_the_place_as_it_is_in_the_whole_result(tmp_path, pair):
    catalogue = Backend.create(tmp_path / "visitors", device="cpu").catalogue
    image = read_displayed(open_image(pair[0]))
    metrics = {"trinas-xs-x4": (30.0, 0.9)}
    columns = compare_place(catalogue, image, (5, 7), 10, 4, ["trinas-xs-x4"], metrics)
    assert [column.name for column in columns] == [BICUBIC, "trinas-xs-x4"]
    whole = catalogue.upscaler("trinas-xs-x4")(image).pixels
    assert (columns[1].crop - whole[:, 20:60, 28:68]).abs().max() < 1e-5
    assert columns[1].details[-1] == "PSNR 30.00 dB, SSIM 0.9000"
    assert "PSNR" not in columns[0].details[-1]
