"""TriNAS: upscale photographs with tiny super-resolution networks.

    image = trinas.read_image("cat.png")
    width, height = image.size
    trinas.write_image("large.png", trinas.CascadeUpscaler()(image, (3 * width, 3 * height)))

Names are imported when first used, because importing torch takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trinas.config import Budgets, SaveConfig, SearchConfig, TrainConfig, UpscaleOptions
    from trinas.config import UpscaleOptions as UpscaleConfig
    from trinas.errors import TrinasError
    from trinas.images.guard import DecoderPool
    from trinas.images.image import Image
    from trinas.images.read import read_header, read_image
    from trinas.images.write import write_image
    from trinas.inference.cascade import CascadeUpscaler
    from trinas.inference.cascade import CascadeUpscaler as Enlarger
    from trinas.inference.tiled import TiledUpscaler
    from trinas.inference.tiled import TiledUpscaler as Upscaler
    from trinas.networks.network import Network
    from trinas.networks.space import ArchSpec, SearchSpace
    from trinas.search.budgets import space_for
    from trinas.search.loop import resume_search, search_network
    from trinas.training.data import load_photographs
    from trinas.training.loop import resume_training, train_network
    from trinas.training.metrics import evaluate_model
    from trinas.zoo.folder import Model, load_model, save_model

__all__ = [
    "ArchSpec",
    "Budgets",
    "CascadeUpscaler",
    "DecoderPool",
    "Enlarger",
    "Image",
    "Model",
    "Network",
    "SaveConfig",
    "SearchConfig",
    "SearchSpace",
    "TiledUpscaler",
    "TrainConfig",
    "TrinasError",
    "UpscaleConfig",
    "UpscaleOptions",
    "Upscaler",
    "evaluate_model",
    "load_model",
    "load_photographs",
    "read_header",
    "read_image",
    "resume_search",
    "resume_training",
    "save_model",
    "search_network",
    "space_for",
    "train_network",
    "write_image",
]

_HOME = {
    "ArchSpec": "networks.space",
    "Budgets": "config",
    "CascadeUpscaler": "inference.cascade",
    "DecoderPool": "images.guard",
    "Image": "images.image",
    "Model": "zoo.folder",
    "Network": "networks.network",
    "SaveConfig": "config",
    "SearchConfig": "config",
    "SearchSpace": "networks.space",
    "TiledUpscaler": "inference.tiled",
    "TrainConfig": "config",
    "TrinasError": "errors",
    "UpscaleOptions": "config",
    "evaluate_model": "training.metrics",
    "load_model": "zoo.folder",
    "load_photographs": "training.data",
    "read_header": "images.read",
    "read_image": "images.read",
    "resume_search": "search.loop",
    "resume_training": "training.loop",
    "save_model": "zoo.folder",
    "search_network": "search.loop",
    "space_for": "search.budgets",
    "train_network": "training.loop",
    "write_image": "images.write",
}

_ALIASES = {"Enlarger": "CascadeUpscaler", "UpscaleConfig": "UpscaleOptions", "Upscaler": "TiledUpscaler"}
"""Older public names -> present names, whose arguments they take."""


def __getattr__(name: str) -> Any:
    name = _ALIASES.get(name, name)
    if name in _HOME:
        return getattr(importlib.import_module(f"trinas.{_HOME[name]}"), name)
    raise AttributeError(f"module 'trinas' has no attribute {name!r}")
