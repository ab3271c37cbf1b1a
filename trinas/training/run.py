"""Everything that a training consists of between two steps, its progress, and its result."""

import copy
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, field_validator
from torch import Tensor

from trinas.config import TrainConfig
from trinas.device import pick_device
from trinas.errors import ModelError, RunError
from trinas.files import parse_json, translate_os_errors, write_atomically
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec
from trinas.training.degrade import DEGRADATION_VERSION
from trinas.training.muon import Muon
from trinas.training.state import STATE_FILE, check_state, load_state, refuse_damage
from trinas.zoo.record import TeacherRecord, TrainingRecord

_STATE_TYPES: dict[str, type | tuple[type, ...]] = {
    "config": dict, "spec": str, "steps": int, "precision": str, "started_from": dict, "taught_by": dict,
    "threads": int, "data": str, "network": dict, "averaged": dict, "optimizer": dict, "step": int,
    "seconds": (int, float), "loss": Tensor, "best_psnr": (int, float), "best_weights": dict, "metrics": list,
    "shortened": list,
}  # fmt: skip
"""What a state holds. States of earlier versions lack `degradation`."""

METRICS_FILE = "metrics.jsonl"
"""One `ValidationRecord` a line."""

MAX_THREADS = 4096
"""Of torch. A state that has more is damaged."""


class ValidationRecord(BaseModel):
    """One validation of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    loss: float | None
    """Running mean of the loss; None before the first step."""
    psnr: float
    """Of the averaged weights on the held-out images, in dB on Y."""
    learning_rate: float

    @field_validator("loss", mode="before")
    @classmethod
    def _replace_nan(cls, value: object) -> object:
        """JSON has no number for NaN."""
        return None if isinstance(value, float) and not math.isfinite(value) else value


def write_validations(run_dir: Path, validations: Sequence[ValidationRecord]) -> None:
    """Write metrics.jsonl.

    Raises:
        OSError: the folder cannot be written.
    """
    lines = "".join(json.dumps(validation.model_dump()) + "\n" for validation in validations)
    write_atomically(run_dir / METRICS_FILE, lines.encode())


def read_validations(run_dir: Path) -> list[ValidationRecord]:
    """Read metrics.jsonl of a run folder.

    Raises:
        RunError: the file is missing, or does not hold validations.
    """
    path = run_dir / METRICS_FILE
    try:
        with translate_os_errors(RunError, path, "read"):
            lines = path.read_bytes().splitlines()
        return [ValidationRecord.model_validate(parse_json(line)) for line in lines]
    except ValueError:
        raise RunError(f"{path}: is not what a training writes") from None


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training has come."""

    step: int
    """Steps taken."""
    steps: int
    """Steps planned."""
    steps_per_second: float
    """Since the last report; NaN before the first step."""
    seconds_left: float
    """At the present speed; NaN before the first step."""
    loss: float
    """Running mean of the absolute error; in the L2 share, of the root mean squared error, mostly on luma."""
    psnr: float
    """Last validation, in dB on Y; NaN before the first."""
    best_psnr: float
    """Best validation so far, in dB on Y; minus infinity before the first."""
    validated: bool
    """Whether this step was validated."""


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training, finished or stopped."""

    network: Network
    """The best network so far, collapsed, on the CPU."""
    record: TrainingRecord | None
    """How the network was trained, as in config.json of its run folder; None before the first validation."""
    finished: bool
    """Whether all steps were taken."""


@dataclass
class TrainingRun:
    """Everything that a training consists of between two steps. `to_state` and `restore_run` save and load it."""

    config: TrainConfig
    spec: ArchSpec
    steps: int
    """Steps planned; 0 until minutes are turned into steps."""
    device: torch.device
    precision: str
    started_from: TrainingRecord | None
    """Record of the model that the training started from, with its name; None for fresh weights."""
    taught_by: TeacherRecord | None
    """The teacher; None if there is none."""
    network: Network
    averaged: Network
    """Holds the running mean of the network's weights."""
    optimizer: Muon
    step: int = 0
    seconds: float = 0.0
    loss: Tensor = field(default_factory=lambda: torch.tensor(math.nan))
    best_psnr: float = -math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    validations: list[ValidationRecord] = field(default_factory=list)
    shortened: list[tuple[int, int]] = field(default_factory=list)
    """As `TrainConfig.shortened`, for the steps so far."""

    @property
    def finished(self) -> bool:
        """Whether all steps are taken."""
        return self.steps > 0 and self.step >= self.steps

    @property
    def minimises_squares(self) -> bool:
        """Whether the next step belongs to the L2 share. False while the number of steps is not known."""
        return self.steps > 0 and self.step >= self.steps * (1 - self.config.l2_share)

    def to_state(self, data: str) -> dict[str, Any]:
        """Return the run as tensors and plain values; `data` is the fingerprint of the training images."""
        return {
            "config": dataclasses.asdict(self.config),
            "spec": self.spec.to_json(),
            "steps": self.steps,
            "precision": self.precision,
            "started_from": self.started_from.to_dict() if self.started_from else {},
            "taught_by": self.taught_by.model_dump() if self.taught_by else {},
            "threads": torch.get_num_threads(),
            "data": data,
            "degradation": DEGRADATION_VERSION if self.config.variants else 0,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "best_psnr": self.best_psnr,
            "best_weights": self.best_weights,
            "metrics": [validation.model_dump() for validation in self.validations],
            "shortened": self.shortened,
        }

    def best_network(self) -> Network:
        """Return a copy of the network with the best weights so far, collapsed, on the CPU."""
        network = copy.deepcopy(self.averaged)
        network.load_state_dict(self.best_weights or self.averaged.state_dict())
        network.close_branches()
        return network.cpu().eval()


def load_training_state(run_dir: Path) -> dict[str, Any]:
    """Read the state of a training. It needs no images, so call it before they are loaded.

    Raises:
        RunError: `run_dir` holds no stopped training, or its state is damaged.
    """
    path = run_dir / STATE_FILE
    if not path.is_file():
        raise RunError(f"{run_dir}: no training was stopped here; nothing to resume")
    state = load_state(path)
    check_state(path, state, _STATE_TYPES)
    with refuse_damage(path):
        is_counted = 0 <= state["step"] <= state["steps"] >= 1 and 0 <= state["seconds"] < math.inf
        if not (is_counted and 1 <= state["threads"] <= MAX_THREADS):
            raise ValueError("a number is out of range")
        _read_config(state["config"])
    return state


def _read_config(stored: dict[str, Any]) -> TrainConfig:
    # This only checks the types: it turns whole numbers into floats, and these into other records.
    TypeAdapter(TrainConfig).validate_json(json.dumps(stored), strict=True)
    return TrainConfig(**stored)


def restore_run(state: dict[str, Any], run_dir: Path, data: str) -> TrainingRun:
    """Return the run that a state describes.

    Args:
        state: from `load_training_state`.
        run_dir: named in errors.
        data: fingerprint of the training images.
    Raises:
        RunError: the run was started with other images, or with degradations of another version, or the state is
            damaged.
    """
    if state["data"] != data:
        raise RunError(f"{run_dir}: was started with other training images; name the same folders to resume")
    if state["config"].get("variants") and state.get("degradation") != DEGRADATION_VERSION:
        raise RunError(
            f"{run_dir}: was started by a version of trinas-upscale that degraded its images in another way; "
            "start again"
        )
    with refuse_damage(run_dir / STATE_FILE):
        return _restore_run(state)


def _restore_run(state: dict[str, Any]) -> TrainingRun:
    config, spec = _read_config(state["config"]), ArchSpec.from_json(state["spec"])
    device = pick_device(config.device)
    network, averaged, optimizer = build_networks(spec, config, device)
    if state["best_weights"]:  # only tried here; they are taken at the end
        averaged.load_state_dict(state["best_weights"])
    network.load_state_dict(state["network"])
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    return TrainingRun(
        config=config,
        spec=spec,
        steps=state["steps"],
        device=device,
        precision=state["precision"],
        started_from=TrainingRecord.model_validate(start) if (start := state["started_from"]) else None,
        taught_by=TeacherRecord.model_validate(teacher) if (teacher := state["taught_by"]) else None,
        network=network,
        averaged=averaged,
        optimizer=optimizer,
        step=state["step"],
        seconds=state["seconds"],
        loss=state["loss"].reshape(()).to(device),
        best_psnr=state["best_psnr"],
        best_weights=state["best_weights"],
        validations=[ValidationRecord.model_validate(line) for line in state["metrics"]],
        shortened=[(after, steps) for after, steps in state["shortened"]],
    )


def build_networks(
    spec: ArchSpec, config: TrainConfig, device: torch.device, start: Network | None = None
) -> tuple[Network, Network, Muon]:
    """Return the network that learns, the running mean of its weights, and the optimiser.

    Args:
        spec: the architecture.
        config: seed, branches and weight decay are used here.
        device: where all of them are.
        start: give the network the weights of this one. None: fresh weights.
    Raises:
        ModelError: the weights of `start` do not fit `spec`.
    """
    torch.manual_seed(config.seed)
    network = Network(spec)
    if start is not None:
        _copy_weights(start, network)
    if config.branches:
        network.open_branches()
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(network).requires_grad_(False)
    return network, averaged, Muon(network.parameters(), weight_decay=config.weight_decay)


def _copy_weights(start: Network, network: Network) -> None:
    """Copy the weights of `start` into `network`."""
    weights, own = start.state_dict(), network.state_dict()
    if {name: tensor.shape for name, tensor in weights.items()} != {name: tensor.shape for name, tensor in own.items()}:
        raise ModelError(
            f"the weights to start from are of another architecture ({_list_differences(start.spec, network.spec)}); "
            "train one of the same architecture, or start from fresh weights"
        )
    network.load_state_dict(weights)


def _list_differences(first: ArchSpec, second: ArchSpec) -> str:
    """Say where two architectures differ."""
    names = ("family", "trunk_width", "upsample_after", "plain_convs")
    words = [
        f"{name} {getattr(first, name)} instead of {getattr(second, name)}"
        for name in names
        if getattr(first, name) != getattr(second, name)
    ]
    if len(first.cells) != len(second.cells):
        words.append(f"{len(first.cells)} cells instead of {len(second.cells)}")
    elif first.cells != second.cells:
        pairs = enumerate(zip(first.cells, second.cells, strict=True), start=1)
        words.append("other slots in cell " + ", ".join(str(number) for number, (one, other) in pairs if one != other))
    return "; ".join(words)
