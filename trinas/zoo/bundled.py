"""The bundled models, and how a model's name becomes a folder."""

import importlib.resources
from pathlib import Path

from trinas.config import DEFAULT_PRESET, PRESETS
from trinas.errors import ModelError
from trinas.files import translate_os_errors
from trinas.zoo.hub import download_model, is_hub_id
from trinas.zoo.record import CONFIG_FILE, WEIGHTS_FILE, read_config

PRESET_MODELS = {
    "fast": {2: "trinas-xs-x2", 3: "trinas-xs-x3", 4: "trinas-xs-x4"},
    "balanced": {2: "trinas-s-x2", 3: "trinas-s-x3", 4: "trinas-s-x4"},
    "best": {2: "trinas-m-x2", 3: "trinas-m-x3", 4: "trinas-m-x4"},
}
"""Preset -> scale -> the bundled model that is used if no model is named."""

RESTORATION_MODELS = {2: "trinas-s-photo-x2", 4: "trinas-s-photo-x4"}
"""Scale -> the bundled model that comes first, in every preset, if no model is named and the image is a compressed
JPEG."""

RESTORATION_MAX_JPEG_QUALITY = 80
"""JPEGs up to this quality count as compressed. At qualities from 30 to 80, `RESTORATION_MODELS` reach a higher SSIM
than models for clean input. Their PSNR is higher too, except on Set14 at x4 and quality 80. At 90 their PSNR is lower
(docs/benchmarks.md, docs/LOG.md)."""


def find_bundle_dir() -> Path:
    """Return the folder of the bundled models."""
    try:
        return Path(str(importlib.resources.files("trinas_models")))
    except ModuleNotFoundError:  # the package is not installed, so this is a clone
        return Path(__file__).parents[2] / "models"


def list_bundled_models() -> list[str]:
    """Return the names of the bundled models in alphabetical order."""
    return sorted(folder.name for folder in find_bundle_dir().iterdir() if (folder / CONFIG_FILE).is_file())


def find_default_model(scale: int) -> str:
    """Return the name of the bundled model that is used for a scale.

    Raises:
        ModelError: no model of this scale is bundled.
    """
    models = PRESET_MODELS[DEFAULT_PRESET]
    if scale not in models:
        known = ", ".join(map(str, sorted(models)))
        raise ModelError(f"no bundled model upscales {scale} times; there are models for {known}")
    return models[scale]


def list_presets(name: str) -> list[str]:
    """Return the presets that use a model, the fastest first."""
    return [preset for preset in PRESETS if name in PRESET_MODELS[preset].values()]


def list_models_of_scale(scale: int) -> list[str]:
    """Return the names of the bundled models of a scale. There is at least one.

    Raises:
        ModelError: no model of this scale is bundled.
    """
    names = [name for name in list_bundled_models() if read_config(find_bundle_dir() / name).spec.scale == scale]
    return names or [find_default_model(scale)]


def find_model(name: str) -> Path:
    """Return the folder of a model. A model of the Hub is downloaded if it is not here yet.

    Args:
        name: name of a bundled model, path of a model folder, or Hub id `user/name[@revision]`.
    Raises:
        ModelError: there is no such model.
    """
    if name in list_bundled_models():
        return find_bundle_dir() / name
    folder = Path(name)
    with translate_os_errors(ModelError, folder, "read"):
        if (folder / CONFIG_FILE).is_file():
            return folder
        if folder.is_dir():
            raise ModelError(f"{name}: not a model, there is no {CONFIG_FILE} in this folder")
    if is_hub_id(name):
        return find_hub_model(name)
    known = ", ".join(list_bundled_models())
    raise ModelError(f"{name}: no such model; bundled are {known}, or give a model's folder, or user/name of the Hub")


def find_hub_model(hub_id: str, *, anonymous: bool = False) -> Path:
    """Return the folder of a model of the Hub, and download it if it is not here yet. Local paths are not looked up.

    Args:
        hub_id: `user/name` or `user/name@revision`.
        anonymous: do not use the login of this machine.
    Raises:
        ModelError: there is no such model, or it cannot be downloaded.
    """
    return download_model(hub_id, (CONFIG_FILE, WEIGHTS_FILE), anonymous=anonymous)
