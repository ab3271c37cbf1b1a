"""TriNAS: enlarge photographs with tiny super-resolution networks.

    picture = trinas.read_image("cat.png")
    width, height = picture.size
    trinas.write_image("large.png", trinas.Enlarger()(picture, (3 * width, 3 * height)))

Names are imported when first used, because importing torch takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trinas.config import SaveConfig, TrainConfig, UpscaleConfig
    from trinas.data import load_photographs
    from trinas.enlarge import Enlarger
    from trinas.errors import TrinasError
    from trinas.evaluate import evaluate_model
    from trinas.images import Image, read_image, write_image
    from trinas.network import Network
    from trinas.space import ArchSpec
    from trinas.store import Model, load_model, save_model
    from trinas.train import resume_training, train_network
    from trinas.upscale import Upscaler

__all__ = [
    "ArchSpec",
    "Enlarger",
    "Image",
    "Model",
    "Network",
    "SaveConfig",
    "TrainConfig",
    "TrinasError",
    "UpscaleConfig",
    "Upscaler",
    "evaluate_model",
    "load_model",
    "load_photographs",
    "read_image",
    "resume_training",
    "save_model",
    "train_network",
    "write_image",
]

_HOME = {
    "ArchSpec": "space",
    "Enlarger": "enlarge",
    "Image": "images",
    "Model": "store",
    "Network": "network",
    "SaveConfig": "config",
    "TrainConfig": "config",
    "TrinasError": "errors",
    "UpscaleConfig": "config",
    "Upscaler": "upscale",
    "evaluate_model": "evaluate",
    "load_model": "store",
    "load_photographs": "data",
    "read_image": "images",
    "resume_training": "train",
    "save_model": "store",
    "train_network": "train",
    "write_image": "images",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"trinas.{_HOME[name]}"), name)
    raise AttributeError(f"module 'trinas' has no attribute {name!r}")
