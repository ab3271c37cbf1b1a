"""Fixtures that tests share. Test images come from TRINAS_DATA, or are generated."""

import os

# Before torch and OpenCV are imported, here and in the processes that tests start: every core has a test of its own.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENCV_FOR_THREADS_NUM"] = "1"

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, settings

from support.networks import faithful_network
from trinas.networks.space import ArchSpec, CellSpec, SlotSpec
from trinas.zoo.folder import save_model
from trinas.zoo.record import ModelConfig

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
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let the system refuse all access to what is in a folder. Permissions alone do not keep root out."""

    def forbid_folder(folder: Path) -> None:
        for name in ("stat", "open", "mkdir"):
            allowed = getattr(os, name)

            def refuse(path, *arguments, allowed=allowed, **options):
                if isinstance(path, str | os.PathLike) and folder in Path(path).parents:
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
                return allowed(path, *arguments, **options)

            monkeypatch.setattr(os, name, refuse)

    return forbid_folder


@pytest.fixture
def tiny_spec() -> ArchSpec:
    """Two cells, every kind of width change, x2."""
    first = CellSpec((SlotSpec("conv3x3", 12), SlotSpec("gated", 8)))
    second = CellSpec((SlotSpec("mixer5", 4), SlotSpec("residual", 8)))
    return ArchSpec("edge", 2, 8, (first, second))


@pytest.fixture
def tiny_model_dir(tiny_spec: ArchSpec, tmp_path: Path) -> Path:
    """A model folder whose network adds something to its image skip."""
    folder = tmp_path / "tiny-model"
    save_model(folder, faithful_network(tiny_spec), ModelConfig("tiny-model", tiny_spec, "Apache-2.0"))
    return folder
