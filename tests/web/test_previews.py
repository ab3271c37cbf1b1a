"""Copies of images for the page."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from trinas_app.web import previews
from trinas_app.web.previews import mark_place, write_pairs, write_preview

from support.images import generated_photograph
from trinas.images.image import Image
from trinas.images.read import read_image

FEW_PX = 64


@pytest.fixture
def logo(tmp_path: Path) -> Path:
    """Black on nothing: the left half is opaque."""
    path = tmp_path / "logo.png"
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[:, :32, 3] = 255
    PillowImage.fromarray(pixels).save(path)
    return path


def levels(path: Path) -> np.ndarray:
    with PillowImage.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def test_transparency_is_shown_as_light_squares(logo, tmp_path):
    copy = levels(write_preview(read_image(logo), tmp_path))
    assert (copy[:, :32] == 0).all()
    assert set(np.unique(copy[:, 32:])) == {217, 255}


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_image_is_reduced_to_means_of_its_areas(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(previews, "PREVIEW_PX", 50)
    path = tmp_path / "large.png"
    pixels = PillowImage.fromarray(generated_photograph(60, 100)).convert(mode)
    pixels.save(path)
    means = np.asarray(pixels.convert("RGB"), np.float64).reshape(30, 2, 50, 2, 3).mean(axis=(1, 3))
    copy = levels(write_preview(read_image(path), tmp_path))
    assert np.abs(copy - means).max() <= 0.51


def test_large_results_have_a_smaller_copy_and_a_piece_in_full_size(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "PREVIEW_PX", FEW_PX)
    monkeypatch.setattr(previews, "DETAIL_PX", 32)
    low, high = tmp_path / "low.png", tmp_path / "high.png"
    pixels = PillowImage.fromarray(generated_photograph(120, 200))
    pixels.save(high)
    pixels.resize((50, 30)).save(low)
    pairs = write_pairs(read_image(low), read_image(high), tmp_path)
    assert {name: levels(pair.after).shape for name, pair in pairs.items()} == {
        "whole": (38, FEW_PX, 3), "detail": (32, 32, 3)
    }  # fmt: skip
    for pair in pairs.values():
        assert levels(pair.before).shape == levels(pair.after).shape
    piece = levels(pairs["detail"].after)
    windows = np.lib.stride_tricks.sliding_window_view(levels(high), piece.shape)
    assert (windows == piece).all(axis=(-1, -2, -3)).any(), "the file's own pixels"


def test_a_place_is_marked_at_the_same_size_on_small_and_large_images(logo):
    assert max(mark_place(read_image(logo), (4, 4), 16).shape[1:]) == previews.OVERVIEW_PX


@pytest.mark.parametrize(("height", "width", "side"), [(3000, 10, 10), (10, 3000, 10), (1, 800, 1), (2000, 30, 1)])
def test_a_place_is_marked_on_thin_images_too(height, width, side):
    copy = mark_place(Image(torch.full((3, height, width), 0.5)), (0, 0), side)
    assert max(copy.shape[1:]) == previews.OVERVIEW_PX
    assert (copy[:, 0, 0] == 1).all()
    assert copy[:, -1, -1] == pytest.approx(0.5)
