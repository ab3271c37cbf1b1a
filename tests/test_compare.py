import numpy as np
import torch
from conftest import faithful_network, generated_photograph

from trinas.compare import compare_models, detailed_places
from trinas.config import UpscaleConfig
from trinas.images import Image, to_levels
from trinas.store import Model, ModelConfig
from trinas.upscale import Upscaler, resize


def test_the_places_with_most_detail_are_shown():
    pixels = torch.zeros(3, 300, 400)
    pixels[:, 200:290, 300:390] = torch.rand(3, 90, 90)
    places = detailed_places(pixels)
    assert len(places) == 3
    assert any(y <= 205 and x <= 305 and y + 96 >= 280 and x + 96 >= 380 for y, x in places)
    for first in places:
        for second in places:
            assert first == second or max(abs(first[0] - second[0]), abs(first[1] - second[1])) >= 96


def test_small_pictures_are_shown_whole():
    assert detailed_places(torch.rand(3, 20, 30))[0][0] == 0


def test_the_sheet_shows_every_network_beside_bicubic(tiny_spec):
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), faithful_network(tiny_spec))
    upscaler = Upscaler(model, UpscaleConfig(device="cpu", precision="fp32"))
    pixels = torch.from_numpy(generated_photograph(96, 96)).permute(2, 0, 1) / 255
    sheet = np.asarray(compare_models(Image(pixels), [("first", upscaler), ("second", upscaler)]))
    expected = [resize(pixels, 192, 192), upscaler(Image(pixels)).pixels, upscaler(Image(pixels)).pixels]
    for column, enlarged in enumerate(expected):
        left = 16 + column * 400
        shown = sheet[72 : 72 + 384, left : left + 384]
        np.testing.assert_array_equal(shown[::2, ::2], to_levels(enlarged, 8))
        assert (sheet[:72, left : left + 384] < 128).any(), "a label"


def test_gray_with_alpha_can_be_compared_too(tiny_spec):
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), faithful_network(tiny_spec))
    upscaler = Upscaler(model, UpscaleConfig(device="cpu"))
    assert compare_models(Image(torch.rand(2, 40, 50)), [("only", upscaler)]).width == 2 * 400 + 16
