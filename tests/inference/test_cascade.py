from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from trinas.config import PRESETS, UpscaleOptions
from trinas.errors import InconsistentResultError, MemoryShortageError, UpscaleError
from trinas.images.image import Image
from trinas.images.read import read_image
from trinas.inference.cascade import RESTORATION_FAILED, CascadeUpscaler, resize_image
from trinas.inference.tensors import resize
from trinas.zoo.bundled import PRESET_MODELS, RESTORATION_MAX_JPEG_QUALITY, RESTORATION_MODELS
from trinas.zoo.folder import load_model

SMALL_TILES = UpscaleOptions(tile_px=16)


def upscaler_of(name=None):
    return CascadeUpscaler(name, "cpu", "fp32", "fast")


def random_image(channels, height, width):
    return Image(
        torch.nn.functional.interpolate(torch.rand(1, channels, 4, 4), (height, width), mode="bicubic")[0].clamp(0, 1)
    )


def models_of(upscaler, factor, jpeg_quality=None):
    """Names of the networks for an image of 30x20."""
    size = (round(30 * factor), round(20 * factor))
    return [step.model for step in upscaler.choose_passes(30, 20, size, jpeg_quality)]


def test_networks_follow_each_other_and_one_resize_comes_last():
    upscaler = upscaler_of()
    image = random_image(3, 20, 30)
    twice = upscaler.load_upscaler("trinas-xs-x3")(upscaler.load_upscaler("trinas-xs-x2")(image))
    expected = resize(twice.pixels, 100, 150)
    assert models_of(upscaler, 5) == ["trinas-xs-x2", "trinas-xs-x3"]
    torch.testing.assert_close(upscaler(image, (150, 100)).pixels, expected)


def test_a_native_scale_is_left_as_the_network_made_it():
    upscaler = upscaler_of("trinas-xs-x4")
    image = random_image(4, 20, 30)
    torch.testing.assert_close(upscaler(image, (120, 80)).pixels, upscaler.load_upscaler("trinas-xs-x4")(image).pixels)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (1, []),
        (0.5, []),
        (1.5, ["trinas-s-photo-x2"]),
        (2, ["trinas-s-photo-x2"]),
        (2.5, ["trinas-s-photo-x4"]),
        (3, ["trinas-s-photo-x4"]),
        (4, ["trinas-s-photo-x4"]),
        (6, ["trinas-s-photo-x2", "trinas-xs-x3"]),
        (8, ["trinas-s-photo-x2", "trinas-xs-x4"]),
        (9, ["trinas-s-photo-x4", "trinas-xs-x3"]),
        (16, ["trinas-s-photo-x4", "trinas-xs-x4"]),
    ],
)
def test_a_compressed_jpeg_goes_through_a_restoration_model_first(factor, expected):
    assert models_of(upscaler_of(), factor, RESTORATION_MAX_JPEG_QUALITY) == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_chooses_among_the_bundled_models(preset):
    models = PRESET_MODELS[preset]
    upscaler = CascadeUpscaler(None, "cpu", "fp32", preset)
    assert [models_of(upscaler, scale) for scale in (2, 3, 4, 8)] == [
        [models[2]], [models[3]], [models[4]], [models[2], models[4]],
    ]  # fmt: skip
    assert models_of(upscaler, 2, RESTORATION_MAX_JPEG_QUALITY) == [RESTORATION_MODELS[2]]
    assert models_of(CascadeUpscaler("trinas-xs-x4", "cpu", "fp32", preset), 4) == ["trinas-xs-x4"]


def test_the_best_preset_is_the_default_and_others_are_refused():
    assert models_of(CascadeUpscaler(device="cpu"), 4) == [PRESET_MODELS["best"][4]]
    with pytest.raises(ValueError, match="one of fast, balanced, best, got 'good'"):
        CascadeUpscaler(preset="good")


@pytest.mark.parametrize("factor", [0.5, 1.5, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("quality", [RESTORATION_MAX_JPEG_QUALITY + 1, 100, None])
def test_a_jpeg_that_is_hardly_compressed_is_like_any_other_image(factor, quality):
    passes = upscaler_of().choose_passes(30, 20, (round(30 * factor), round(20 * factor)), quality)
    assert passes == upscaler_of().choose_passes(30, 20, (round(30 * factor), round(20 * factor)))
    assert not any(step.restores for step in passes)


@pytest.mark.parametrize("name", ["trinas-xs-x4", "trinas-s-photo-x4"])
def test_a_model_that_is_named_is_the_only_one(name):
    image = replace(random_image(3, 20, 30), jpeg_quality=1)
    upscaler = upscaler_of(name)
    (step,) = upscaler.choose_passes(30, 20, (90, 60), 1)
    assert (step.model, step.restores) == (name, False)
    torch.testing.assert_close(
        upscaler(image, (90, 60)).pixels, resize(upscaler.load_upscaler(name)(image).pixels, 60, 90), rtol=0, atol=0
    )


def test_the_jpeg_quality_decides_and_no_result_has_one():
    image = random_image(3, 20, 30)
    upscaler = upscaler_of()
    compressed = upscaler(replace(image, jpeg_quality=1), (120, 80))
    expected = upscaler.load_upscaler("trinas-s-photo-x4")(image)
    torch.testing.assert_close(compressed.pixels, expected.pixels, rtol=0, atol=0)
    assert (upscaler(image, (120, 80)).pixels != compressed.pixels).any()
    assert compressed.jpeg_quality is None, "upscaled again, it is a clean image"
    assert resize_image(replace(image, jpeg_quality=1), (15, 10)).jpeg_quality is None


def test_a_pattern_that_is_taken_for_compression_is_upscaled_by_the_usual_model(tmp_path):
    """Stripes of single pixels: the restoration model makes them gray, and is refused."""
    stripes = np.zeros((40, 60, 3), np.uint8)
    stripes[:, ::2] = 255
    PillowImage.fromarray(stripes).save(tmp_path / "stripes.jpg", quality=50)
    image = read_image(tmp_path / "stripes.jpg")
    with pytest.raises(InconsistentResultError, match="try another model"):
        upscaler_of("trinas-s-photo-x4")(image, (240, 160))
    upscaler = upscaler_of()
    result, passes = upscaler.upscale(image, (240, 160))
    assert [(step.model, step.restores) for step in passes] == [("trinas-xs-x4", False)]
    assert result.notes == (RESTORATION_FAILED,)
    torch.testing.assert_close(result.pixels, upscaler.load_upscaler("trinas-xs-x4")(image).pixels, rtol=0, atol=0)


def test_memory_shortage_in_a_restoration_model_is_reported(monkeypatch):
    """Only a failed check may fall back to the usual models: they would give a worse result and a false note."""
    image = replace(random_image(3, 20, 30), jpeg_quality=1)
    upscaler = upscaler_of()
    restoration = upscaler.load_upscaler("trinas-s-photo-x4")

    def run_out_of_memory(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(restoration, "run_network", run_out_of_memory)
    with pytest.raises(MemoryShortageError, match="memory is too small for this image"):
        upscaler.upscale(image, (120, 80))


def test_options_of_a_call_leave_loaded_networks_alone(monkeypatch):
    upscaler = upscaler_of()
    image = random_image(3, 20, 30)
    plain = upscaler(image, (120, 80)).pixels
    loaded = upscaler.load_upscaler("trinas-xs-x4")
    monkeypatch.setattr("trinas.inference.cascade.load_model", None)
    monkeypatch.setattr("trinas.inference.cascade.TiledUpscaler", None)
    for options in (UpscaleOptions(strength=0.3), UpscaleOptions(self_ensemble=True)):
        assert not torch.equal(upscaler(image, (120, 80), options).pixels, plain)
    torch.testing.assert_close(upscaler(image, (120, 80), SMALL_TILES).pixels, plain, rtol=0, atol=1e-5)
    assert upscaler.load_upscaler("trinas-xs-x4") is loaded
    torch.testing.assert_close(upscaler(image, (120, 80)).pixels, plain, rtol=0, atol=0)


def test_each_network_is_loaded_once(monkeypatch):
    loaded = []
    monkeypatch.setattr("trinas.inference.cascade.load_model", lambda name: loaded.append(name) or load_model(name))
    upscaler = upscaler_of()
    for _ in range(2):
        for quality in (1, 100, None):
            upscaler(replace(random_image(3, 8, 8), jpeg_quality=quality), (64, 64))
    assert sorted(loaded) == ["trinas-s-photo-x2", "trinas-xs-x2", "trinas-xs-x4"]


def test_its_own_size_leaves_an_image_as_it_is():
    image = random_image(3, 20, 30)
    assert upscaler_of()(image, (30, 20)) is image


def test_a_smaller_size_needs_no_network():
    image = random_image(3, 20, 30)
    torch.testing.assert_close(upscaler_of()(image, (15, 10)).pixels, resize(image.pixels, 10, 15))


def test_colour_under_transparency_does_not_shine_through():
    pixels = torch.zeros(4, 40, 40)
    pixels[0] = 1  # red, unseen
    pixels[:, 10:30, 10:30] = torch.tensor([0.0, 0, 1, 1]).view(4, 1, 1)
    for size in ((70, 70), (23, 23)):
        result = upscaler_of()(Image(pixels), size).pixels
        seen = result[3] > 0.02
        assert result[0][seen].max() < 0.1, "no red"
        assert result[2][seen].min() > 0.9, "all blue"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: x")]
)
def test_too_little_memory_is_one_clear_error(monkeypatch, error):
    def failing(*arguments):
        raise error

    monkeypatch.setattr("trinas.inference.tiled.tile_grid", failing)
    with pytest.raises(UpscaleError, match="memory is too small for this image; a smaller --tile or -s takes less"):
        upscaler_of()(random_image(3, 20, 30), (60, 40))


def test_progress_counts_the_tiles_of_all_passes():
    seen = []
    upscaler_of()(random_image(3, 20, 30), (150, 100), SMALL_TILES, lambda done, total: seen.append((done, total)))
    count = 2 * 2 + 3 * 4
    assert seen == [(number, count) for number in range(1, count + 1)]
