import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from support.icc_profiles import gray_profile, rgb_profile
from trinas.errors import ImageError
from trinas.images.colour import convert_to_srgb, make_srgb_profile
from trinas.images.image import Image, flatten, to_levels


def test_transparent_images_are_laid_on_a_colour():
    alpha = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 3)
    image = Image(torch.cat([torch.ones(3, 1, 3), alpha]))
    assert flatten(image, "#ff0000").pixels[:, 0].T.tolist() == [[1, 0, 0], [1, 0.5, 0.5], [1, 1, 1]]
    wide = flatten(Image(torch.cat([torch.ones(3, 1, 3), alpha]), icc_profile=rgb_profile()), "#ff8000")
    seen = np.asarray(convert_to_srgb(PillowImage.fromarray(to_levels(wide.pixels, 8)), rgb_profile()))
    assert np.abs(seen[0, 0].astype(int) - [255, 128, 0]).max() <= 8, "8-bit values of a linear profile are coarse"
    gray = Image(torch.cat([torch.ones(1, 1, 3), alpha]))
    coloured = flatten(Image(gray.pixels, icc_profile=gray_profile()), "red")
    assert (coloured.pixels.shape, coloured.icc_profile) == ((3, 1, 3), make_srgb_profile())
    assert flatten(gray, "black").pixels.tolist() == [[[0, 0.5, 1]]]
    assert flatten(gray, "red").pixels.shape == (3, 1, 3)
    assert flatten(Image(torch.ones(3, 2, 2)), "red").pixels.min() == 1
    with pytest.raises(ImageError, match="'reddish' is no colour"):
        flatten(image, "reddish")


def test_levels_are_rounded_and_clipped():
    pixels = torch.tensor([-0.1, 0.0, 0.5 / 255 + 1e-4, 1.0, 1.7]).view(1, 1, 5)
    assert to_levels(pixels, 8).flatten().tolist() == [0, 0, 1, 255, 255]
    assert to_levels(pixels, 16).flatten().tolist()[3:] == [65535, 65535]
