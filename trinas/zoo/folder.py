"""Load, save, pull and push model folders. They hold model.safetensors, config.json and README.md (the card)."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from trinas.errors import ModelError
from trinas.files import read_bounded, translate_os_errors, write_atomically
from trinas.networks.cost import compute_cost
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec
from trinas.text import shorten_text
from trinas.zoo.bundled import find_hub_model, find_model
from trinas.zoo.card import render_card
from trinas.zoo.hub import upload_files
from trinas.zoo.record import (
    CARD_FILE,
    CONFIG_FILE,
    EXAMPLE_FILE,
    WEIGHTS_FILE,
    ModelConfig,
    read_config,
)

BYTES_PER_PARAM, HEADER_BYTES = 8, 10_000_000
"""A file of weights is not read if it is larger than this together. Weights have 4 bytes. Files of other types of
number are read, so that an error can name them."""


@dataclass(frozen=True)
class Model:
    """A loaded model: its config.json, and its network on the CPU in evaluation mode."""

    config: ModelConfig
    network: Network

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""
        return self.config.spec.scale


def load_config(name: str) -> ModelConfig:
    """Read the config.json of a model.

    Args:
        name: bundled name, model folder or Hub id.
    Raises:
        ModelError: there is no such model, or this version cannot read its config.json.
    """
    return read_config(find_model(name))


def load_model(name: str) -> Model:
    """Load a model. No code in its files can run.

    Args:
        name: bundled name, model folder or Hub id.
    Raises:
        ModelError: there is no such model, or its files are damaged or do not fit each other.
    """
    folder = find_model(name)
    config, path = read_config(folder), folder / WEIGHTS_FILE
    params = compute_cost(config.spec).params
    try:
        with translate_os_errors(ModelError, path, "read"):
            content = read_bounded(path, BYTES_PER_PARAM * params + HEADER_BYTES)
    except ValueError as error:
        raise ModelError(f"{path}: cannot be the weights of {params:,} parameters ({error})") from None
    try:
        weights = load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: damaged, or not a safetensors file ({shorten_text(str(error))})") from None
    return Model(config, _build_network(config.spec, weights, path))


def _build_network(spec: ArchSpec, weights: dict[str, Tensor], path: Path) -> Network:
    """Return a network with these weights, in evaluation mode.

    Raises:
        ModelError: the weights do not fit the architecture, or hold values that are not numbers.
    """
    with torch.device("meta"):  # takes no memory, even if config.json describes a huge network
        network = Network(spec)
    wanted = network.state_dict()
    missing, unknown = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing or unknown:
        listed = shorten_text(f"missing {missing}, unknown {unknown}")
        raise ModelError(f"{path}: weights do not fit config.json: {listed}")
    for key, tensor in weights.items():
        if tensor.shape != wanted[key].shape or tensor.dtype != wanted[key].dtype:
            raise ModelError(
                f"{path}: {key} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"config.json needs {wanted[key].dtype} {tuple(wanted[key].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: {key} holds values that are not numbers; the file is damaged")
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def save_model(folder: Path, network: Network, config: ModelConfig) -> None:
    """Write a model folder. Open branches are collapsed in the file; `network` itself does not change.

    Args:
        folder: made if it does not exist.
        network: its weights are written.
        config: what config.json and the card say.
    Raises:
        OSError: the folder cannot be written. Each file is either whole or unchanged.
    """
    weights = {name: tensor.contiguous() for name, tensor in collapse_weights(network).items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS_FILE, save_tensors(weights))
    save_config(folder, config)


def save_config(folder: Path, config: ModelConfig, called: str | None = None) -> None:
    """Write config.json, and the card that is made from it.

    Args:
        folder: must exist.
        config: what to write.
        called: the name for `--model`; None: the model's name.
    Raises:
        OSError: the folder cannot be written. Each file is either whole or unchanged.
    """
    write_atomically(folder / CONFIG_FILE, (config.to_json() + "\n").encode())
    example = EXAMPLE_FILE if (folder / EXAMPLE_FILE).is_file() else None
    write_atomically(folder / CARD_FILE, render_card(config, called, example).encode())


def collapse_weights(network: Network) -> dict[str, Tensor]:
    """Return the weights of a network with collapsed branches, on the CPU in fp32. The network does not change."""
    weights = {name: tensor.detach().cpu().float() for name, tensor in network.state_dict().items()}
    copy = Network(network.spec)
    if any(name.endswith(".pointwise") for name in weights):
        copy.open_branches()
    copy.load_state_dict(weights)
    copy.close_branches()
    return copy.state_dict()


def pull_model(hub_id: str, folder: Path) -> None:
    """Download a model of the Hub into a new folder. Its card is written again.

    Args:
        hub_id: `user/name` or `user/name@revision`.
        folder: must not exist.
    Raises:
        ModelError: `folder` exists already or cannot be written, or the model cannot be downloaded or is damaged.
    """
    with translate_os_errors(ModelError, folder, "written"):
        if folder.exists():
            raise ModelError(f"{folder}: exists already; choose another folder")
    source = find_hub_model(hub_id)
    load_model(str(source))
    with translate_os_errors(ModelError, folder, "written"):
        folder.mkdir(parents=True)
        for file in (WEIGHTS_FILE, CONFIG_FILE):  # config.json comes last: only with it is the folder a model
            write_atomically(folder / file, (source / file).read_bytes())
        save_config(folder, read_config(folder))


def push_model(folder: Path, repo: str, token: str | None = None) -> str:
    """Upload a model to the Hub: weights, config.json, card and example image. Other files of the folder stay here.

    The card is written again, because it must name the model as it is called on the Hub.

    Args:
        folder: of the model.
        repo: `user/name`. It is made if it does not exist.
        token: must have the right to write. None: the token of `hf auth login`.
    Returns:
        The address of the model's page.
    Raises:
        ModelError: the folder is not a model or is damaged, the Hub refuses it, or the Hub cannot be reached.
    """
    config = load_model(str(folder)).config
    with translate_os_errors(ModelError, folder, "copied"), tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for file in (WEIGHTS_FILE, EXAMPLE_FILE):
            if (folder / file).is_file():
                write_atomically(copy / file, (folder / file).read_bytes())
        save_config(copy, config, called=repo)
        return upload_files(copy, repo, (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, EXAMPLE_FILE), token)
