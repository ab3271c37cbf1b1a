"""Images that small trainings learn from."""

import pytest
from PIL import Image as PillowImage

from support.images import generated_photograph
from trinas.training.data import load_photographs


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed in range(6):
        PillowImage.fromarray(generated_photograph(64, 80, seed)).save(folder / f"{seed}.png")
    return load_photographs([folder])
