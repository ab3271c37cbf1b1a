"""Small real things that tests share; test images come from TRINAS_DATA, or are generated."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, settings
from numpy.typing import NDArray

from trinas.network import Network
from trinas.space import ArchSpec, CellSpec, SlotSpec
from trinas.store import ModelConfig, save_model

# The same examples on every run; shrinking a network to the smallest failing one can take many minutes.
settings.register_profile(
    "trinas", deadline=None, derandomize=True, max_examples=40, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("trinas")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of training and test images, laid out as docs/data.md says."""
    if "TRINAS_DATA" not in os.environ:
        pytest.skip("TRINAS_DATA is not set: no test images")
    return Path(os.environ["TRINAS_DATA"])


@pytest.fixture
def tiny_spec() -> ArchSpec:
    """Two cells, every kind of width change, x2."""
    first = CellSpec((SlotSpec("conv3x3", 12), SlotSpec("gated", 8)))
    second = CellSpec((SlotSpec("mixer5", 4), SlotSpec("residual", 8)))
    return ArchSpec("edge", 2, 8, (first, second))


@pytest.fixture
def tiny_model_dir(tiny_spec: ArchSpec, tmp_path: Path) -> Path:
    """A really saved model whose output is not just its image skip."""
    folder = tmp_path / "tiny-model"
    save_model(folder, faithful_network(tiny_spec), ModelConfig("tiny-model", tiny_spec, "Apache-2.0"))
    return folder


def busy_network(spec: ArchSpec, dtype: torch.dtype = torch.float32) -> Network:
    """A network with random weights everywhere, the tail included, as if it had been trained."""
    network = Network(spec).to(dtype)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
    return network.eval()


def faithful_network(spec: ArchSpec) -> Network:
    """A busy network of the edge family that adds so little to its image skip that its results pass for pictures."""
    network = busy_network(spec)
    for parameter in network.tail.parameters():
        parameter.data *= 0.02
    return network


def generated_photograph(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth shading, hard edges and some grain, uint8 (H, W, 3): the same on every machine."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 127 // width], axis=2)
    for _ in range(12):
        row, column, radius = random.integers(0, [height, width, max(2, height // 3)])
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = random.integers(0, 256, size=3)
    return np.clip(image + random.integers(-8, 9, size=image.shape), 0, 255).astype(np.uint8)
