import io

import numpy as np
import torch
from PIL import Image as PillowImage

from support.icc_profiles import gray_profile, rgb_profile
from support.images import generated_photograph
from support.networks import faithful_network
from trinas.images.image import Image, to_levels
from trinas.inference.compare import compare_models, find_detailed_places
from trinas.inference.tensors import resize
from trinas.inference.tiled import TiledUpscaler
from trinas.zoo.folder import Model
from trinas.zoo.record import ModelConfig


def opened(content):
    with PillowImage.open(io.BytesIO(content)) as image:
        return np.asarray(image).astype(int)


def test_the_places_with_most_detail_are_shown():
    pixels = torch.zeros(3, 300, 400)
    pixels[:, 200:290, 300:390] = torch.rand(3, 90, 90)
    places = find_detailed_places(pixels)
    assert len(places) == 3
    assert any(y <= 205 and x <= 305 and y + 96 >= 280 and x + 96 >= 380 for y, x in places)
    for first in places:
        for second in places:
            assert first == second or max(abs(first[0] - second[0]), abs(first[1] - second[1])) >= 96


def test_small_images_are_shown_whole():
    assert find_detailed_places(torch.rand(3, 20, 30))[0][0] == 0


def test_the_sheet_shows_every_network_beside_bicubic(tiny_spec):
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), faithful_network(tiny_spec))
    pixels = torch.from_numpy(generated_photograph(200, 240)).permute(2, 0, 1) / 255
    sheet = opened(compare_models(Image(pixels), [model, model], "cpu", "fp32"))
    upscaled = to_levels(TiledUpscaler(model, "cpu", "fp32")(Image(pixels)).pixels, 8)
    for row, (y, x) in enumerate(sorted(find_detailed_places(pixels))):
        crop = pixels[:, y : y + 96, x : x + 96]
        network = upscaled[2 * y : 2 * y + 192, 2 * x : 2 * x + 192].astype(int)
        for column, expected in enumerate((to_levels(resize(crop, 192, 192), 8).astype(int), network, network)):
            left, top = 16 + column * 400, 72 + row * 400
            shown = sheet[top : top + 384, left : left + 384]
            assert np.abs(shown[::2, ::2] - expected).max() <= 1, "a crop is as it is in the whole image"
    for column in range(3):
        assert (sheet[:72, 16 + column * 400 : 400 + column * 400] < 128).any(), "a label"


def test_gray_with_alpha_can_be_compared_too(tiny_spec):
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), faithful_network(tiny_spec))
    image = Image(torch.rand(2, 40, 50), icc_profile=gray_profile())
    assert opened(compare_models(image, [model])).shape == (72 + 400, 2 * 400 + 16, 3)


def test_colours_are_shown_as_they_are_meant(tiny_spec):
    """The sheet has no profile, so they are converted to sRGB."""
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), faithful_network(tiny_spec))
    image = Image(torch.full((3, 96, 96), 0.5), icc_profile=rgb_profile())
    sheet = opened(compare_models(image, [model]))
    assert np.abs(sheet[100, 100] - 188).max() <= 1, "half of the light is 188 of 255 in sRGB"
