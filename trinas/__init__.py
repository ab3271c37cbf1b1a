"""TriNAS: enlarge photographs with tiny super-resolution networks.

    picture = trinas.read_image("cat.png")
    width, height = picture.size
    trinas.write_image("large.png", trinas.Enlarger()(picture, (3 * width, 3 * height)))

Names are imported when first used, because importing torch takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trinas.budgets import space_for
    from trinas.config import Budgets, SaveConfig, SearchConfig, TrainConfig, UpscaleConfig
    from trinas.data import load_photographs
    from trinas.enlarge import Enlarger
    from trinas.errors import TrinasError
    from trinas.evaluate import evaluate_model
    from trinas.images import Image, read_image, write_image
    from trinas.network import Network
    from trinas.search import resume_search, search_network
    from trinas.space import ArchSpec, SearchSpace
    from trinas.store import Model, load_model, save_model
    from trinas.train import resume_training, train_network
    from trinas.upscale import Upscaler

__all__ = [
    "ArchSpec",
    "Budgets",
    "Enlarger",
    "Image",
    "Model",
    "Network",
    "SaveConfig",
    "SearchConfig",
    "SearchSpace",
    "TrainConfig",
    "TrinasError",
    "UpscaleConfig",
    "Upscaler",
    "evaluate_model",
    "load_model",
    "load_photographs",
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
    "ArchSpec": "space",
    "Budgets": "config",
    "Enlarger": "enlarge",
    "Image": "images",
    "Model": "store",
    "Network": "network",
    "SaveConfig": "config",
    "SearchConfig": "config",
    "SearchSpace": "space",
    "TrainConfig": "config",
    "TrinasError": "errors",
    "UpscaleConfig": "config",
    "Upscaler": "upscale",
    "evaluate_model": "evaluate",
    "load_model": "store",
    "load_photographs": "data",
    "read_image": "images",
    "resume_search": "search",
    "resume_training": "train",
    "save_model": "store",
    "search_network": "search",
    "space_for": "budgets",
    "train_network": "train",
    "write_image": "images",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"trinas.{_HOME[name]}"), name)
    raise AttributeError(f"module 'trinas' has no attribute {name!r}")
