"""Pretrained supernets. A search starts from one of them instead of noise.

A pretrained supernet of the edge space was trained in random prefixes: its first channels and its first cells. So each
prefix is a trained supernet of a smaller space. benchmarks/pretrain.py makes them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from trinas.errors import ModelError, SpecError
from trinas.files import read_json, write_atomically
from trinas.networks.space import SearchSpace
from trinas.search.record import ModelOrigin
from trinas.search.supernet import Supernet, take_first_channels
from trinas.text import shorten_text
from trinas.zoo.bundled import find_bundle_dir
from trinas.zoo.record import MAX_CONFIG_BYTES

SCHEMA = 1
"""Version of supernet.json. Other versions are refused."""

WEIGHTS_FILE, CONFIG_FILE = "supernet.safetensors", "supernet.json"


@dataclass(frozen=True)
class Pretrained:
    """The weights of a supernet that comes with the package."""

    name: str
    space: SearchSpace
    weights: dict[str, Tensor]  # float32; without architecture parameters
    sha256: str  # of the weights' file
    training: dict[str, Any]
    """How the weights were trained: data, its licence, steps, time, validation PSNR."""

    def describe_origin(self) -> ModelOrigin:
        """Return its record. Cards need it to name all data that a network has learnt from."""
        return ModelOrigin(name=self.name, sha256=self.sha256, data=self.training.get("data", []))

    def holds(self, space: SearchSpace) -> bool:
        """Return whether a search of `space` can start from this supernet: the space is of the same kind and not wider.

        Cells that this supernet lacks start from noise.
        """
        ours = self.space
        return (
            (space.name, space.scale, space.slots) == (ours.name, ours.scale, ours.slots)
            and space.trunk_width <= ours.trunk_width
            and space.cells - space.searched_cells == ours.cells - ours.searched_cells
        )


def find_bundled_supernet(space: SearchSpace) -> Pretrained | None:
    """Return the bundled supernet that a search of `space` can start from, or None.

    Raises:
        ModelError: the files of the supernet are damaged.
    """
    folder = find_bundle_dir() / f"trinas-supernet-x{space.scale}"
    if not (folder / CONFIG_FILE).is_file():
        return None
    pretrained = load_supernet(folder)
    return pretrained if pretrained.holds(space) else None


@torch.no_grad()
def start_from(supernet: Supernet, pretrained: Pretrained) -> None:
    """Copy weights from the first channels and cells of a pretrained supernet that `holds` the space of this one."""
    parameters = dict(supernet.named_parameters())
    shapes = {name: parameter.shape for name, parameter in parameters.items() if name in pretrained.weights}
    for name, tensor in take_first_channels(pretrained.weights, shapes).items():
        parameters[name].copy_(tensor)


def list_supernet_weights(supernet: Supernet) -> dict[str, Tensor]:
    """Return the weights of a supernet by name, without the architecture parameters."""
    left_out = {id(parameter) for parameter in supernet.arch_parameters()}
    return {name: tensor for name, tensor in supernet.named_parameters() if id(tensor) not in left_out}


def save_supernet(folder: Path, space: SearchSpace, weights: dict[str, Tensor], training: dict[str, Any]) -> None:
    """Write a supernet's weights, in float16, and how they were trained.

    Args:
        folder: made if it does not exist. Its name becomes the supernet's name.
        space: of the supernet.
        weights: from `list_supernet_weights`.
        training: as `Pretrained.training`; plain values.
    Raises:
        OSError: the folder cannot be written; each file is either whole or as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.detach().cpu().half().contiguous() for name, tensor in weights.items()}
    write_atomically(folder / WEIGHTS_FILE, save_tensors(halves))
    config = {"schema": SCHEMA, "name": folder.name, "space": asdict(space), "training": training}
    write_atomically(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


def load_supernet(folder: Path) -> Pretrained:
    """Read a folder that `save_supernet` wrote.

    Raises:
        ModelError: there is no such supernet, or its files are damaged or do not fit each other.
    """
    path = folder / CONFIG_FILE
    try:
        config = read_json(path, MAX_CONFIG_BYTES)
        content = (folder / WEIGHTS_FILE).read_bytes()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    try:
        if config["schema"] != SCHEMA:
            raise ModelError(f"{path}: schema {shorten_text(repr(config['schema']))}, this version reads {SCHEMA}")
        space = SearchSpace(**config["space"])
        name, training = config["name"], config["training"]
        ModelOrigin(name=name, sha256="", data=training.get("data", []))
        halves = load_tensors(content)
    except (KeyError, TypeError, AttributeError, ValueError, SpecError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged, or not a supernet ({shorten_text(str(error))})") from None
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in list_supernet_weights(Supernet(space)).items()}
    if {name: tensor.shape for name, tensor in halves.items()} != wanted:
        raise ModelError(f"{folder / WEIGHTS_FILE}: weights do not fit {CONFIG_FILE}")
    weights = {key: tensor.float() for key, tensor in halves.items()}
    return Pretrained(name, space, weights, hashlib.sha256(content).hexdigest(), training)
