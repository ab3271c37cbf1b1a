"""A model is a folder: model.safetensors, config.json and README.md (its card)."""

import importlib.resources
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from trinas.errors import ModelError, SpecError
from trinas.files import write_atomically
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec
from trinas.zoo.card import learnt_to_restore, model_card
from trinas.zoo.hub import download_model, is_hub_id, upload_files

SCHEMA = 1
"""Version of config.json; a newer one is refused rather than guessed at."""

DEFAULT_MODELS = {2: "trinas-xs-x2", 3: "trinas-xs-x3", 4: "trinas-xs-x4"}
"""The bundled model that is used for a scale when none is named."""

PHOTO_MODELS = {2: "trinas-s-photo-x2", 4: "trinas-s-photo-x4"}
"""What comes first instead when a picture is a compressed JPEG: they smooth compression away."""

PHOTO_MAX_JPEG_QUALITY = 80
"""JPEGs up to this quality count as compressed: measured at 30 to 80, `PHOTO_MODELS` have more SSIM than networks for
clean input, and more PSNR but on Set14 at x4 and 80; at 90 they have less PSNR (docs/benchmarks.md, docs/LOG.md)."""

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"
PICTURE_FILE = "example.webp"
"""What the network does, to be seen in the card; bundled models have one."""


@dataclass(frozen=True)
class ModelConfig:
    """What config.json says of a model."""

    name: str
    spec: ArchSpec
    licence: str
    training: dict[str, Any] = field(default_factory=dict)
    """How the weights came about: data, its licence, steps, time, validation PSNR."""
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """Measured by the protocol: test set -> {"psnr": dB, "ssim": 0..1}."""

    @property
    def restores(self) -> bool:
        """Whether it has learnt from `degrade.degraded` input to remove noise and compression."""
        return learnt_to_restore(self.training)

    def to_json(self) -> str:
        return json.dumps(
            {
                "schema": SCHEMA,
                "name": self.name,
                "spec": self.spec.to_dict(),
                "licence": self.licence,
                "training": self.training,
                "figures": self.figures,
            },
            indent=2,
        )


@dataclass(frozen=True)
class Model:
    """A loaded model: its network, in evaluation mode on the CPU, and what its folder says of it."""

    config: ModelConfig
    network: Network

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""
        return self.config.spec.scale


def save_model(folder: Path, network: Network, config: ModelConfig) -> None:
    """Write a model folder; branches that are still open are collapsed in what is written.

    Raises:
        OSError: the folder cannot be written; each file is either whole or as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in collapsed_weights(network).items()}
    write_atomically(folder / WEIGHTS_FILE, save_tensors(weights))
    save_config(folder, config)


def save_config(folder: Path, config: ModelConfig, called: str | None = None) -> None:
    """Write config.json and the card that says the same; `called` is what `--model` takes, if not the name."""
    write_atomically(folder / CONFIG_FILE, (config.to_json() + "\n").encode())
    picture = PICTURE_FILE if (folder / PICTURE_FILE).is_file() else None
    card = model_card(config.name, config.spec, config.licence, config.training, config.figures, called, picture)
    write_atomically(folder / CARD_FILE, card.encode())


def collapsed_weights(network: Network) -> dict[str, torch.Tensor]:
    """The weights of `network` with its branches collapsed, on the CPU in fp32; `network` is not changed."""
    weights = {name: tensor.detach().cpu().float() for name, tensor in network.state_dict().items()}
    copy = Network(network.spec)
    if any(name.endswith(".pointwise") for name in weights):
        copy.open_branches()
    copy.load_state_dict(weights)
    copy.close_branches()
    return copy.state_dict()


def bundled_models() -> list[str]:
    """Names of the models that come with the package, in alphabetical order."""
    return sorted(folder.name for folder in bundle_dir().iterdir() if (folder / CONFIG_FILE).is_file())


def find_model(name: str) -> Path:
    """The folder of a bundled name, of a path, or of a Hub id `user/name[@revision]`, which is downloaded if need be.

    Raises:
        ModelError: there is no such model.
    """
    bundled = bundle_dir() / name
    if name in bundled_models():
        return bundled
    folder = Path(name)
    if (folder / CONFIG_FILE).is_file():
        return folder
    if folder.is_dir():
        raise ModelError(f"{name}: not a model, there is no {CONFIG_FILE} in this folder")
    if is_hub_id(name):
        return find_hub_model(name)
    known = ", ".join(bundled_models())
    raise ModelError(f"{name}: no such model; bundled are {known}, or give a model's folder, or user/name of the Hub")


def find_hub_model(hub_id: str, *, anonymous: bool = False) -> Path:
    """The folder of a model of the Hub, `user/name[@revision]`, downloaded if need be; no path of this machine.

    Args:
        anonymous: whether to leave out the login of this machine, if it has one.
    Raises:
        ModelError: there is no such model, or it cannot be had.
    """
    return download_model(hub_id, (CONFIG_FILE, WEIGHTS_FILE), anonymous=anonymous)


def models_of_scale(scale: int) -> list[str]:
    """The bundled models for a scale, at least one.

    Raises:
        ModelError: there is none.
    """
    names = [name for name in bundled_models() if load_config(name).spec.scale == scale]
    return names or [default_model(scale)]


def default_model(scale: int) -> str:
    """The bundled model for a scale.

    Raises:
        ModelError: none is bundled for this scale.
    """
    if scale not in DEFAULT_MODELS:
        known = ", ".join(map(str, sorted(DEFAULT_MODELS)))
        raise ModelError(f"no bundled model enlarges {scale} times; there are models for {known}")
    return DEFAULT_MODELS[scale]


def load_config(name: str) -> ModelConfig:
    """Read config.json of a bundled name, a model folder or a Hub id.

    Raises:
        ModelError: there is no such model, or its config.json is not one this version can read.
    """
    path = find_model(name) / CONFIG_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise ModelError(f"{path}: schema {found!r}, this version reads {SCHEMA}; a newer trinas-upscale may be needed")
    expected = {"schema", "name", "spec", "licence", "training", "figures"}
    if set(data) != expected:
        unknown, missing = sorted(set(data) - expected), sorted(expected - set(data))
        raise ModelError(f"{path}: unknown keys {unknown}, missing keys {missing}")
    try:
        spec = ArchSpec.from_dict(data["spec"])
    except SpecError as error:
        raise ModelError(f"{path}: {error}") from None
    for key, kind in (("name", str), ("licence", str), ("training", dict), ("figures", dict)):
        if not isinstance(data[key], kind):
            raise ModelError(f"{path}: {key} is not a {kind.__name__}")
    if not _is_training(data["training"]):
        raise ModelError(f"{path}: training is not what a training leaves")
    if not all(map(_is_figures, data["figures"].values())):
        raise ModelError(f"{path}: figures are not PSNR and SSIM by test set")
    return ModelConfig(data["name"], spec, data["licence"], data["training"], data["figures"])


def _is_training(stage: Any) -> bool:
    """Whether the parts that cards and lists read are of the right kinds, in the stages before it too."""
    if not isinstance(stage, dict) or not isinstance(stage.get("config", {}), dict):
        return False
    if not all(isinstance(stage.get(number, 0), int | float) for number in ("images", "seconds")):
        return False
    teacher = stage.get("taught_by", {"name": "", "data": []})
    if not isinstance(teacher, dict) or not isinstance(teacher.get("name"), str) or "data" not in teacher:
        return False
    names = [stage.get("data", []), teacher["data"]]
    if not all(isinstance(data, list) and all(isinstance(name, str) for name in data) for data in names):
        return False
    return "started_from" not in stage or _is_training(stage["started_from"])


def _is_figures(values: Any) -> bool:
    if not isinstance(values, dict) or set(values) != {"psnr", "ssim"}:
        return False
    psnr, ssim = values["psnr"], values["ssim"]
    return all(isinstance(value, int | float) for value in (psnr, ssim)) and 0 <= psnr <= 100 and -1 <= ssim <= 1


def load_model(name: str) -> Model:
    """Load a model by bundled name, folder or Hub id. Nothing is ever unpickled.

    Raises:
        ModelError: there is no such model, or its files are damaged or do not fit each other.
    """
    folder = find_model(name)
    config, path = load_config(str(folder)), folder / WEIGHTS_FILE
    try:
        weights = load_tensors(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged, or not a safetensors file ({error})") from None
    with torch.device("meta"):  # no memory is taken by what a config.json may claim
        network = Network(config.spec)
    wanted = network.state_dict()
    missing, unknown = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing or unknown:
        raise ModelError(f"{path}: weights do not fit config.json: missing {missing}, unknown {unknown}")
    for key, tensor in weights.items():
        if tensor.shape != wanted[key].shape or tensor.dtype != wanted[key].dtype:
            raise ModelError(
                f"{path}: {key} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"config.json needs {wanted[key].dtype} {tuple(wanted[key].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: {key} holds values that are not numbers; the file is damaged")
    network.load_state_dict(weights, assign=True)
    return Model(config, network.eval().requires_grad_(False))


def pull_model(name: str, folder: Path) -> None:
    """Download a model of the Hub into a new folder, with a card made anew.

    Raises:
        ModelError: `folder` exists already or cannot be written, or the model cannot be had or is damaged.
    """
    if folder.exists():
        raise ModelError(f"{folder}: exists already; choose another folder")
    source = download_model(name, (CONFIG_FILE, WEIGHTS_FILE))
    load_model(str(source))
    try:
        folder.mkdir(parents=True)
        for file in (WEIGHTS_FILE, CONFIG_FILE):  # config.json last: with it the folder is a model
            write_atomically(folder / file, (source / file).read_bytes())
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written ({error.strerror})") from None
    save_config(folder, load_config(str(folder)))


def push_model(folder: Path, repo: str, token: str | None = None) -> str:
    """Upload a model to the Hub: its weights, config.json, card and the card's picture, nothing else of its folder.

    The card is made anew: it says what config.json says, and how to use the model from the Hub.

    Args:
        repo: `user/name`; made if need be.
        token: with the right to write; None: that of `hf auth login`.
    Returns:
        The address of its page.
    Raises:
        ModelError: the folder holds no sound model, the Hub refused it, or cannot be reached.
    """
    config = load_model(str(folder)).config
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for file in (WEIGHTS_FILE, PICTURE_FILE):
            if (folder / file).is_file():
                write_atomically(copy / file, (folder / file).read_bytes())
        save_config(copy, config, called=repo)
        return upload_files(copy, repo, (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, PICTURE_FILE), token)


def bundle_dir() -> Path:
    """The folder of what comes with the package."""
    try:
        return Path(str(importlib.resources.files("trinas_models")))
    except ModuleNotFoundError:  # nothing is installed: a clone's own folder
        return Path(__file__).parents[2] / "models"
