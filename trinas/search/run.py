"""Everything that a search consists of between two steps, and how it is saved and restored."""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trinas.config import SearchConfig
from trinas.device import pick_device, resolve_precision
from trinas.errors import RunError
from trinas.files import translate_os_errors
from trinas.networks.latency import measure_slot_times, measure_spec_ms_per_mp
from trinas.networks.space import SearchSpace
from trinas.search.budgets import CostModel, find_largest_choice
from trinas.search.record import EventLog, MeasuredTimes, ModelOrigin, StepTime, read_events, read_settings
from trinas.search.step import Learner
from trinas.training.data import GENERATED_FOLDER, TrainingImage, fingerprint
from trinas.training.run import MAX_THREADS
from trinas.training.state import check_state, load_state, refuse_damage, save_state

SEARCH_STATE_FILE = "search.pt"

_STATE_TYPES: dict[str, type | tuple[type, ...]] = {
    "space": dict, "config": dict, "precision": str, "threads": int, "data": str, "folders": list, "times": dict,
    "learner": dict, "started_from": dict, "step_times": list, "stage": int, "counts": list, "step": int,
    "seconds": (int, float), "psnr": (int, float), "event_count": int, "repeats": bool, "finished": bool,
    "shortened": list,
}  # fmt: skip
"""What a state holds."""

WARM_UP, SEARCH, FINE_TUNE = range(3)
"""Indices of record.STAGES."""

HOLD = 0.15
"""Share of the search during which anneal stays 0. Above 0, mixtures move even if the parameters hardly differ."""


@dataclass
class SearchRun:
    """Everything that a search consists of between two steps. A resumed search starts from `to_state()`."""

    space: SearchSpace
    config: SearchConfig
    learner: Learner
    times: MeasuredTimes
    folders: list[str]
    """Folders of the training images."""
    started_from: ModelOrigin | None = None
    """The pretrained supernet; None for noise."""
    stage: int = WARM_UP
    counts: list[int] = field(default_factory=list)
    """Steps of each stage that has begun."""
    step: int = 0
    """Steps of the present stage that are done."""
    seconds: float = 0.0
    """How long the search had run when it was last saved."""
    psnr: float = math.nan
    """Last validation, in dB on Y; in fine-tuning, the best one."""
    step_times: list[StepTime] = field(default_factory=list)
    """How long the steps of the stage "search" took, one entry for each validation."""
    event_count: int = 0
    """Lines of events.jsonl that belong to the saved state."""
    repeats: bool = False
    """Whether an earlier search is repeated, with its `times`. Nothing is measured then."""
    finished: bool = False
    """Whether the record is written."""
    shortened: list[tuple[int, int]] = field(default_factory=list)
    """As `TrainConfig.shortened`, for the fine-tuning."""

    PLAIN = ("stage", "counts", "step", "seconds", "psnr", "event_count", "repeats", "finished",
             "shortened")  # fmt: skip

    @property
    def anneal(self) -> float:
        """How far mixtures are pressed towards choices at the present step, 0 to 1."""
        if self.stage != SEARCH:
            return float(self.stage > SEARCH)
        done = self.step / max(1, self.counts[SEARCH] - 1)
        return min(1.0, max(0.0, (done - HOLD) / (1 - HOLD)))

    @property
    def running_precision(self) -> str:
        """The precision in which the network will upscale. A budget of time holds for this precision."""
        return resolve_precision(self.config.precision, self.learner.device, self.space.trunk_width)

    def to_state(self, data_sha256: str) -> dict[str, Any]:
        """Return the search as tensors and plain values.

        Args:
            data_sha256: `data.fingerprint` of the training images.
        """
        return {
            "space": asdict(self.space),
            "config": asdict(self.config),
            "precision": self.learner.precision,
            "threads": torch.get_num_threads(),
            "data": data_sha256,
            "folders": self.folders,
            "times": self.times.model_dump(),
            "learner": self.learner.to_state(),
            "started_from": self.started_from.model_dump() if self.started_from else {},
            "step_times": [entry.model_dump() for entry in self.step_times],
            **{name: getattr(self, name) for name in self.PLAIN},
        }


@dataclass
class SearchSession:
    """A search while this process works on it."""

    run: SearchRun
    images: Sequence[TrainingImage]
    run_dir: Path
    events: EventLog
    stop: threading.Event
    counted_from: float
    """The time by `time.perf_counter` at which the search would have begun if it had never been stopped."""
    data_sha256: str
    """`data.fingerprint` of the images."""

    @property
    def seconds(self) -> float:
        """How long the search has run, with the time before it was stopped."""
        return time.perf_counter() - self.counted_from

    def save(self) -> None:
        """Write the state from which the search can be resumed.

        Raises:
            RunError: the state cannot be written.
        """
        self.run.seconds, self.run.event_count = self.seconds, self.events.count
        with translate_os_errors(RunError, self.run_dir, "written", "resume once it can"):
            save_state(self.run_dir / SEARCH_STATE_FILE, self.run.to_state(self.data_sha256))


def check_search_resumable(run_dir: Path, *, generated: bool | None = None) -> None:
    """Refuse a folder without a stopped search. It needs no images, so call it before they are loaded.

    Args:
        run_dir: the folder.
        generated: whether the search will be resumed with generated images; None: not known yet.
    Raises:
        RunError: there is no search, or it was started with other images.
    """
    folders = load_search_state(run_dir)["folders"]
    read_events(run_dir)  # the report at the end needs them
    if generated and folders != [GENERATED_FOLDER]:
        raise RunError(f"{run_dir}: was started with images of {', '.join(folders)}; name their folders with --data")
    if generated is False and folders == [GENERATED_FOLDER]:
        raise RunError(f"{run_dir}: was started with generated images; resume it without --data")


def load_search_state(run_dir: Path) -> dict[str, Any]:
    """Read what `SearchSession.save` wrote, in this version or an earlier one.

    Raises:
        RunError: there is no state, or it is damaged.
    """
    path = run_dir / SEARCH_STATE_FILE
    if not path.is_file():
        raise RunError(f"{run_dir}: no search was stopped here; nothing to resume")
    with refuse_damage(path):
        state = _rename_old_keys(load_state(path))
    check_state(path, state, _STATE_TYPES)
    with refuse_damage(path):
        space, learnt = SearchSpace(**state["space"]), state["learner"]["supernet"]["arch_primitives"]
        _check_counts(state)
    stored = learnt.shape[-1]
    if stored != len(space.primitives):
        raise RunError(
            f"{run_dir}: was started by a version of trinas-upscale whose space {space.name} had {stored} primitives, "
            f"not {len(space.primitives)}; start anew"
        )
    if learnt.shape[:2] != (len(space.cell_nodes), space.slots):
        raise RunError(f"{path}: damaged state, cannot resume (its supernet is of another space)")
    return state


def _check_counts(state: dict[str, Any]) -> None:
    """Refuse numbers that a search cannot have.

    Raises:
        ValueError: as said above.
    """
    counts, stage = state["counts"], state["stage"]
    if not (WARM_UP <= stage <= FINE_TUNE and stage <= len(counts) <= stage + 1):
        raise ValueError("the numbers of steps do not fit the stage")
    if not all(isinstance(count, int) and count >= 1 for count in counts):
        raise ValueError("a number of steps is out of range")
    are_counts = min(state["step"], state["event_count"]) >= 0 and 1 <= state["threads"] <= MAX_THREADS
    if not (are_counts and 0 <= state["seconds"] < math.inf):
        raise ValueError("a number is out of range")
    if not all(isinstance(folder, str) for folder in state["folders"]):
        raise ValueError("a folder has no name")


def restore_run(run_dir: Path, state: dict[str, Any], images: Sequence[TrainingImage]) -> SearchRun:
    """Return the search that a state describes.

    Args:
        run_dir: named in errors.
        state: from `load_search_state`.
        images: those that the search was started with.
    Raises:
        RunError: the search was started with other images, or the state is damaged.
    """
    if state["data"] != fingerprint(images):
        raise RunError(f"{run_dir}: was started with other training images; name the same folders to resume")
    with refuse_damage(run_dir / SEARCH_STATE_FILE):
        return _restore_run(state)


def _restore_run(state: dict[str, Any]) -> SearchRun:
    config, space = read_settings(state["config"]), SearchSpace(**state["space"])
    times = MeasuredTimes(**state["times"])
    learner = build_learner(Learner, space, config, times, state["precision"], pick_device(config.device))
    learner.load(state["learner"])
    started_from = ModelOrigin(**state["started_from"]) if state["started_from"] else None
    plain = {name: state[name] for name in SearchRun.PLAIN}
    plain["step_times"] = [StepTime(**entry) for entry in state["step_times"]]
    run = SearchRun(space, config, learner, times, state["folders"], started_from, **plain)
    if run.stage == FINE_TUNE:  # the network is chosen
        for slowdown in times.slowdowns:
            learner.costs = learner.costs.rescaled(slowdown)
    return run


def _rename_old_keys(state: dict[str, Any]) -> dict[str, Any]:
    """Rename the keys of earlier versions, where architecture parameters were scores and anneal was t."""
    if "told" not in state:
        return state
    learner = dict(state.pop("learner"))
    learner["arch_optimizer"] = learner.pop("score_optimizer")
    renamed = {"path_scores": "arch_path", "primitive_scores": "arch_primitives", "width_scores": "arch_widths"}
    learner["supernet"] = {renamed.get(name, name): tensor for name, tensor in learner["supernet"].items()}
    step_times = [{"anneal": entry["t"], "seconds": entry["seconds"]} for entry in state.pop("speeds")]
    return state | {"learner": learner, "event_count": state.pop("told"), "step_times": step_times}


def build_learner(
    kind: type[Learner],
    space: SearchSpace,
    config: SearchConfig,
    times: MeasuredTimes,
    precision: str,
    device: torch.device,
) -> Learner:
    """Return a learner whose supernet has fresh weights from the config's seed."""
    torch.manual_seed(config.seed)
    supernet = kind.build_supernet(space).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return kind(supernet, config, _build_cost_model(space, times), precision)


def _build_cost_model(space: SearchSpace, times: MeasuredTimes) -> CostModel:
    slot_ms = None if times.slot_ms is None else torch.tensor(times.slot_ms, dtype=torch.float64)
    return CostModel(space, slot_ms, times.base_ms)


def measure_times(space: SearchSpace, config: SearchConfig, device: torch.device) -> MeasuredTimes:
    """Time each slot and the network without cells. The times are rescaled to add up to that of the largest network."""
    precision = resolve_precision(config.precision, device, space.trunk_width)
    slot_ms = measure_slot_times(space, device, precision)
    base_ms = measure_spec_ms_per_mp(space.bare_spec, device, precision)
    unscaled = CostModel(space, slot_ms, base_ms)
    largest = find_largest_choice(space)
    expected = unscaled.exact(largest)["ms_per_mp"]
    costs = unscaled.rescaled(measure_spec_ms_per_mp(space.spec(largest), device, precision) / expected)
    assert costs.slot_ms is not None
    return MeasuredTimes(slot_ms=costs.slot_ms.tolist(), base_ms=costs.base_ms)
