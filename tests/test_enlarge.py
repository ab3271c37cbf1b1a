import pytest
import torch

from trinas.config import UpscaleConfig
from trinas.enlarge import Enlarger
from trinas.errors import UpscaleError
from trinas.images import Image
from trinas.upscale import resize

CPU = UpscaleConfig(tile_px=16, device="cpu", precision="fp32")


def smooth(channels, height, width):
    return Image(
        torch.nn.functional.interpolate(torch.rand(1, channels, 4, 4), (height, width), mode="bicubic")[0].clamp(0, 1)
    )


def test_networks_follow_each_other_and_one_resize_comes_last():
    enlarger = Enlarger(None, CPU)
    image = smooth(3, 20, 30)
    twice = enlarger.upscaler(3)(enlarger.upscaler(2)(image))
    expected = resize(twice.pixels, 100, 150)
    assert enlarger.passes(30, 20, (150, 100)) == (2, 3)
    torch.testing.assert_close(enlarger(image, (150, 100)).pixels, expected)


def test_a_native_scale_is_left_as_the_network_made_it():
    enlarger = Enlarger("trinas-xs-x4", CPU)
    image = smooth(4, 20, 30)
    torch.testing.assert_close(enlarger(image, (120, 80)).pixels, enlarger.upscaler(4)(image).pixels)


def test_a_size_of_its_own_leaves_a_picture_as_it_is():
    image = smooth(3, 20, 30)
    assert Enlarger(None, CPU)(image, (30, 20)) is image


def test_a_smaller_size_needs_no_network():
    image = smooth(3, 20, 30)
    torch.testing.assert_close(Enlarger(None, CPU)(image, (15, 10)).pixels, resize(image.pixels, 10, 15))


def test_colour_under_transparency_does_not_shine_through():
    pixels = torch.zeros(4, 40, 40)
    pixels[0] = 1  # red, unseen
    pixels[:, 10:30, 10:30] = torch.tensor([0.0, 0, 1, 1]).view(4, 1, 1)
    for size in ((70, 70), (23, 23)):
        result = Enlarger(None, CPU)(Image(pixels), size).pixels
        seen = result[3] > 0.02
        assert result[0][seen].max() < 0.1, "no red"
        assert result[2][seen].min() > 0.9, "all blue"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: x")]
)
def test_too_little_memory_is_one_clear_error(monkeypatch, error):
    def failing(*arguments):
        raise error

    monkeypatch.setattr("trinas.upscale.tile_grid", failing)
    with pytest.raises(UpscaleError, match="memory is too small for this picture; a smaller --tile or -s takes less"):
        Enlarger(None, CPU)(smooth(3, 20, 30), (60, 40))


def test_progress_counts_the_tiles_of_all_passes():
    seen = []
    Enlarger(None, CPU)(smooth(3, 20, 30), (150, 100), lambda done, total: seen.append((done, total)))
    count = 2 * 2 + 3 * 4
    assert seen == [(number, count) for number in range(1, count + 1)]
