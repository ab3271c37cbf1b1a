"""The trilevel search: warm-up, search and fine-tuning in one run, resumable, bit-exact on the CPU."""

import copy
import hashlib
import json
import math
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from trinas.config import Budgets, SearchConfig, TrainConfig
from trinas.device import (
    pick_device,
    resolve_precision,
    resolve_training_precision,
    synchronize,
    translate_memory_errors,
)
from trinas.errors import BudgetError, DataError, RunError, SpecError
from trinas.files import write_atomically
from trinas.networks.latency import measure_ms_per_mp, measure_slot_times, measure_spec_ms_per_mp
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec, Choice, SearchSpace
from trinas.reports.pages import write_page
from trinas.search.budgets import CostModel, check_possible, fit, largest_choice
from trinas.search.record import (
    EVENTS_FILE,
    STAGES,
    ArchitectureChosen,
    Event,
    EventLog,
    Finished,
    Progress,
    SearchStarted,
    StageStarted,
)
from trinas.search.step import Learner
from trinas.search.supernet import Supernet
from trinas.search.warmstart import bundled_supernet, start_from
from trinas.training.data import (
    GENERATED_FOLDER,
    Patches,
    TrainingImage,
    check_sizes,
    crop_centres,
    fingerprint,
    make_pairs,
    split,
)
from trinas.training.loop import begin_training, resume_training
from trinas.training.metrics import EXACT_PSNR, Pixels, psnr_y, upscale_bicubic, validation_psnr
from trinas.training.run import TrainingProgress
from trinas.training.state import STATE_FILE as TRAINING_FILE
from trinas.training.state import check_new_run, load_state, run_lock, save_state
from trinas.training.teacher import describe_teacher, load_teacher
from trinas.zoo.folder import UNSPECIFIED, WEIGHTS_FILE, Model, ModelConfig, TrainingRecord, load_config

STATE_FILE, REPORT_FILE = "search.pt", "report.json"

WARM_UP, SEARCH, FINE_TUNE = range(3)  # indices of STAGES

SHARES = (0.04, 0.11, 0.85)
"""Of all steps, or of the time, per stage."""

HOLD = 0.15
"""Share of the search during which t stays 0: above it mixtures move however small the differences of scores are."""

SCORE_RATE, SCORE_TRAVEL = 3e-4, 4.0
"""Adam's rate for scores, and the least that rate times steps is to be."""

WEIGHT_RATE, TUNING_RATE, MOST_TUNING_RATE = 0.024, 0.08, 5e-3
"""The optimiser's rate for the weights times the trunk width, in warm-up and search, and in fine-tuning: the more
channels an output is made of, the further a step moves it. At 32 channels a network came apart at 5e-3, which suits 16
(docs/LOG.md)."""

VALIDATIONS, VALIDATED_IMAGES, VALIDATED_SIDE_PX = 8, 8, 64
"""Per stage of the supernet, and on what: the middle of so many images, of so many low-resolution pixels a side, since
a dense supernet is slow."""

REPORT_EVERY = 10
"""Steps between reports."""

TIMED_STEPS = 9
"""Steps by which a stage's speed is judged, after a third as many that are not; a multiple of 3, as warm-up has three
kinds of steps."""

MOST_SHRINKS = 5
"""How often a network that takes longer than its parts promised is made smaller."""

SAFE_SHARE = 0.95
"""Of the time that is left, what fine-tuning plans with: its speed is judged by a few steps."""

TUNING_BATCH = 8
"""Patches per step of the fine-tuning: half of what `train` takes, as in a short time more steps teach more."""

L2_SHARE = 0.15
"""Share of the fine-tuning, at its end, that minimises the squared error."""

Pairs = Sequence[tuple[Pixels, Pixels]]


@dataclass
class Times:
    """What was measured because time has a budget."""

    slot_ms: list[list[list[float]]] | None = None  # as `latency.measure_slot_times`; None: time has no budget
    base_ms: float = 0.0  # of the network without cells
    slowdowns: list[float] = field(default_factory=list)  # measured over expected, of each network that was too slow

    def costs(self, space: SearchSpace) -> CostModel:
        slot_ms = None if self.slot_ms is None else torch.tensor(self.slot_ms, dtype=torch.float64)
        return CostModel(space, slot_ms, self.base_ms)


@dataclass
class Run:
    """Everything a search is, between two steps; `state()` is what a resumed run starts from."""

    space: SearchSpace
    config: SearchConfig
    learner: Learner
    times: Times
    folders: list[str]  # of the training images
    stage: int = WARM_UP
    counts: list[int] = field(default_factory=list)  # steps of each stage that has begun
    step: int = 0  # of the stage
    seconds: float = 0.0  # at the last save
    psnr: float = math.nan
    speeds: list[dict[str, float]] = field(default_factory=list)  # step times on the way: t, seconds
    told: int = 0  # lines of the events' file that hold
    repeats: bool = False  # `times` are those of an earlier search, nothing is measured
    finished: bool = False  # the report is written
    shortened: list[tuple[int, int]] = field(default_factory=list)  # as TrainConfig's, of the fine-tuning
    started_from: dict[str, Any] = field(default_factory=dict)
    """Name, sha256 and data of a pretrained supernet; empty for noise."""

    PLAIN = (
        "started_from",
        "stage",
        "counts",
        "step",
        "seconds",
        "psnr",
        "speeds",
        "told",
        "repeats",
        "finished",
        "shortened",
    )

    @property
    def t(self) -> float:
        """How far mixtures are pressed towards choices at the present step."""
        if self.stage != SEARCH:
            return float(self.stage > SEARCH)
        done = self.step / max(1, self.counts[SEARCH] - 1)
        return min(1.0, max(0.0, (done - HOLD) / (1 - HOLD)))

    def state(self, data: str) -> dict[str, Any]:
        """Tensors and plain values only; `data` is the fingerprint of the training images."""
        return {
            "space": asdict(self.space),
            "config": asdict(self.config),
            "precision": self.learner.precision,
            "threads": torch.get_num_threads(),
            "data": data,
            "folders": self.folders,
            "times": asdict(self.times),
            "learner": self.learner.state(),
            **{name: getattr(self, name) for name in self.PLAIN},
        }


def search_network(
    space: SearchSpace,
    photographs: Sequence[TrainingImage],
    config: SearchConfig,
    run_dir: Path,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> Network | None:
    """Search and train together, within budgets.

    Args:
        space: what to choose among; `budgets.space_for` finds one that suits.
        photographs: what to learn from. Some are held out for validation (`data.split`); during the search half of
            the others train the weights, half the scores.
        config: every knob, the budgets among them.
        run_dir: new folder; in the end a model folder with report.json and events.jsonl.
        on_event: called as things happen, in this thread.
        stop: set it to end after the current step, with the state saved.
    Returns:
        The trained network, on the CPU; None if it was stopped before.
    Raises:
        BudgetError: no network of the space meets the budgets.
        RunError: `run_dir` exists already or cannot be written, or the loss is no longer a number.
        DataError: the images are too few or too small.
        ModelError: there is no such teacher, or it has another scale; or the bundled supernet is damaged.
    """
    return _begin(space, photographs, config, run_dir, on_event, stop)


def repeat_search(
    report: dict[str, Any],
    photographs: Sequence[TrainingImage],
    run_dir: Path,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> Network | None:
    """Run a finished search again, with its steps, seed, threads and measured times: to the same network on a CPU.

    Args and returns: as for `search_network`, with the very images of that search.
    Raises:
        RunError: the images are others, or as for `search_network`.
    """
    space, config, _ = _read_settings(report)
    if report["data"]["sha256"] != fingerprint(photographs):
        raise RunError(
            f"the search learnt from {report['data']['images']} images of {', '.join(report['data']['folders'])} with "
            f"other pixels than these {len(photographs)}; give the same ones"
        )
    torch.set_num_threads(report["threads"])
    return _begin(space, photographs, config, run_dir, on_event, stop, report)


def _read_settings(report: dict[str, Any]) -> tuple[SearchSpace, SearchConfig, Times]:
    """What repeats a search."""
    settings = report["settings"] | {
        "budgets": Budgets(**report["settings"]["budgets"]),
        "steps": tuple(report["steps"].values()),
        "minutes": None,
        "shortened": tuple(map(tuple, report["shortened"])),
        "device": report["device"],
    }
    return SearchSpace(**report["space"]), SearchConfig(**settings), Times(**report["times"])


def _begin(
    space: SearchSpace,
    photographs: Sequence[TrainingImage],
    config: SearchConfig,
    run_dir: Path,
    on_event: Callable[[Event], None],
    stop: threading.Event | None,
    repeated: dict[str, Any] | None = None,
) -> Network | None:
    """A new run; `repeated` is the report of the search that it repeats."""
    check_new_run(run_dir, allowed_files=(EVENTS_FILE,))
    started = time.perf_counter()
    device = pick_device(config.device)
    check_data(photographs, space, config)
    teacher = load_teacher(config.teacher, space.scale)
    taught_by = describe_teacher(teacher).model_dump() if teacher else {}
    check_possible(CostModel(space), config.budgets)
    pretrained = bundled_supernet(space) if config.warm_start else None
    started_from = pretrained.origin() if pretrained else {}
    if repeated is None:
        times = _measured_times(space, config, device) if config.budgets.ms_per_mp else Times()
        precision = resolve_training_precision(config.precision, device)
    else:
        _, _, times = _read_settings(repeated)
        precision = repeated["precision"]["training"]
        if repeated["started_from"] != started_from:
            raise RunError(
                f"the search started from {_start_named(repeated['started_from'])}, here it would from "
                f"{_start_named(started_from)}: it takes the version of trinas-upscale that made it"
            )
        if repeated["taught_by"] != taught_by:
            raise RunError(f"{config.teacher} has other weights than when it taught the search that is to be repeated")
    learner = _learner(space, config, times, precision, device)
    if pretrained:
        start_from(learner.supernet, pretrained)
    check_possible(learner.costs, config.budgets)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run_dir}: cannot be made ({error.strerror})") from None
    folders = sorted({str(photo.path.parent) for photo in photographs})
    run = Run(space, config, learner, times, folders, repeats=repeated is not None, started_from=started_from)
    with run_lock(run_dir / STATE_FILE):
        return _Search(run, photographs, run_dir, on_event, stop or threading.Event(), started).run_stages()


def _start_named(started_from: dict[str, Any]) -> str:
    return f"{started_from['name']} ({started_from['sha256'][:8]})" if started_from else "noise"


def resume_search(
    run_dir: Path,
    photographs: Sequence[TrainingImage],
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> Network | None:
    """Go on with a search that was stopped, ending where it would have ended (bit for bit on the CPU).

    Sets torch's thread count to the run's, since results depend on it.

    Args and returns: as for `search_network`, with the very images the run was started with.
    Raises:
        RunError: there is no such run, its state is damaged, the images or the teacher are others, or another process
            is at work on it.
    """
    started = time.perf_counter()
    check_resumable(run_dir)
    with run_lock(run_dir / STATE_FILE):
        run = _restored(run_dir, photographs)
        return _Search(run, photographs, run_dir, on_event, stop or threading.Event(), started).run_stages()


def _restored(run_dir: Path, photographs: Sequence[TrainingImage]) -> Run:
    """The run as it was saved; sets torch's thread count to its own."""
    state = load_state(run_dir / STATE_FILE)
    if state["data"] != fingerprint(photographs):
        raise RunError(f"{run_dir}: was started with other training images; name the same folders to resume")
    torch.set_num_threads(state["threads"])
    config = SearchConfig(**state["config"] | {"budgets": Budgets(**state["config"]["budgets"])})
    space, device = SearchSpace(**state["space"]), pick_device(config.device)
    times = Times(**state["times"])
    learner = _learner(space, config, times, state["precision"], device)
    learner.load(state["learner"])
    run = Run(space, config, learner, times, state["folders"], **{name: state[name] for name in Run.PLAIN})
    if run.stage == FINE_TUNE:  # the network is chosen
        for slowdown in times.slowdowns:
            learner.costs = learner.costs.rescaled(slowdown)
    return run


def read_report(path: Path) -> dict[str, Any]:
    """What a finished search says of itself.

    Raises:
        RunError: there is no such file, or it is not a search's report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        _read_settings(report)
        ArchSpec.from_dict(report["spec"])
        lacks = {"sha256", "images", "folders"} - set(report["data"]) | {"training"} - set(report["precision"])
        lacks |= {"threads", "versions", "weights_sha256", "fine_tuning", "started_from", "taught_by"} - set(report)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, AttributeError, SpecError):
        raise RunError(f"{path}: is not the report of a search, or of another version of trinas-upscale") from None
    if lacks:
        raise RunError(f"{path}: the report lacks {', '.join(sorted(lacks))}")
    return report


def check_resumable(run_dir: Path, *, generated: bool | None = None) -> None:
    """Refuse a folder without a search to go on with, before images are loaded or generated.

    Args:
        generated: whether the images to go on with are generated ones; None: not known yet.
    Raises:
        RunError: there is no search, or it was started with other images.
    """
    if not (run_dir / STATE_FILE).is_file():
        raise RunError(f"{run_dir}: no search was stopped here; nothing to resume")
    folders = load_state(run_dir / STATE_FILE)["folders"]
    if generated and folders != [GENERATED_FOLDER]:
        raise RunError(f"{run_dir}: was started with images of {', '.join(folders)}; name their folders with --data")
    if generated is False and folders == [GENERATED_FOLDER]:
        raise RunError(f"{run_dir}: was started with generated images; resume it without --data")


def check_data(photographs: Sequence[TrainingImage], space: SearchSpace, config: SearchConfig) -> None:
    """Refuse images that a search cannot learn from.

    Raises:
        DataError: they are fewer than three, or one is smaller than a patch.
    """
    if len(photographs) < 3:
        raise DataError(f"{len(photographs)} images are too few: weights, scores and validation need one each at least")
    check_sizes(photographs, max(config.patch_px, TrainConfig.patch_px) * space.scale)


def _learner(space: SearchSpace, config: SearchConfig, times: Times, precision: str, device: torch.device) -> Learner:
    torch.manual_seed(config.seed)
    supernet = Supernet(space).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(supernet, config, times.costs(space), precision)


def _measured_times(space: SearchSpace, config: SearchConfig, device: torch.device) -> Times:
    """Of slots and of the bare network, rescaled so that they add up to the time of the largest network."""
    precision = resolve_precision(config.precision, device, space.trunk_width)
    times = Times(
        measure_slot_times(space, device, precision).tolist(),
        measure_spec_ms_per_mp(space.bare_spec, device, precision),
    )
    largest = largest_choice(space)
    promised = times.costs(space).of(largest)["ms_per_mp"]
    costs = times.costs(space).rescaled(measure_spec_ms_per_mp(space.spec(largest), device, precision) / promised)
    assert costs.slot_ms is not None
    return Times(costs.slot_ms.tolist(), costs.base_ms)


class Stopwatch:
    """Mean time of what it is held over, a lap each."""

    def __init__(self) -> None:
        self._seconds, self._laps = 0.0, 0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *details: object) -> None:
        self._seconds += time.perf_counter() - self._began
        self._laps += 1

    @property
    def seconds_per_lap(self) -> float:
        return self._seconds / self._laps


class _Search:
    """A run on its way: the images, the folder, the listeners."""

    def __init__(
        self,
        run: Run,
        photographs: Sequence[TrainingImage],
        run_dir: Path,
        on_event: Callable[[Event], None],
        stop: threading.Event,
        started: float,
    ) -> None:
        self.run, self.learner, self.config = run, run.learner, run.config
        self.photographs, self.run_dir, self.stop = photographs, run_dir, stop
        self.data = fingerprint(photographs)
        self.tell = EventLog(run_dir / EVENTS_FILE, on_event, run.told)
        self._counted_from = started - run.seconds

    @property
    def _running_precision(self) -> str:
        """What the network will enlarge pictures in, which is what a budget of time is about."""
        return resolve_precision(self.config.precision, self.learner.device, self.run.space.trunk_width)

    @property
    def seconds(self) -> float:
        """Time this run has had, earlier parts of it included."""
        return time.perf_counter() - self._counted_from

    @translate_memory_errors(RunError, "for this search; a smaller space (--trunk-width, --cells) takes less")
    def run_stages(self) -> Network | None:
        run = self.run
        if not run.counts:
            start = run.started_from.get("name", "noise")
            self.tell(SearchStarted(asdict(run.space), self.config.budgets.given(), start))
        if run.stage < FINE_TUNE:
            learning, held_out = split(self.photographs)
            middles = crop_centres(held_out[:VALIDATED_IMAGES], VALIDATED_SIDE_PX * run.space.scale)
            validation = make_pairs(middles, run.space.scale)
            halves = [
                Patches(half, run.space.scale, self.config.patch_px, self.learner.device)
                for half in (learning[::2], learning[1::2])
            ]
            while run.stage < FINE_TUNE:
                if not self._run_stage(halves, validation):
                    return None
                run.stage, run.step = run.stage + 1, 0
            choice = self._fitting_choice(halves[1])
            self.learner.supernet.choose(choice)
            self.tell(ArchitectureChosen(run.space.spec(choice).to_dict(), self.learner.costs.of(choice)))
            self._save()
        return self._fine_tune()

    def _run_stage(self, halves: Sequence[Patches], validation: Pairs) -> bool:
        """Warm-up or search; False if it was stopped on the way."""
        run, stage = self.run, STAGES[self.run.stage]
        if len(run.counts) == run.stage:
            run.counts.append(self._count_steps(halves, validation))
            self.tell(StageStarted(stage, run.counts[run.stage]))
            self._save()  # from here on resuming uses this count
        steps = run.counts[run.stage]
        validate_every = math.ceil(steps / VALIDATIONS)
        stopwatch = Stopwatch()
        while run.step < steps:
            # 1. A step of the weights; in the search also one of the scores.
            t = run.t
            with stopwatch:
                loss, costs = take_step(run, halves)
                run.step += 1
                stopping = self.stop.is_set()
                validating = run.step % validate_every == 0 or run.step == steps
                if not loss.isfinite():
                    raise RunError(f"{self.run_dir}: step {run.step} of {stage}: the loss is no longer a number")

            # 2. Validate the mixture.
            step_seconds = stopwatch.seconds_per_lap
            mixtures = None
            if validating:
                with torch.no_grad():
                    mixtures = self.learner.supernet.mixtures(t)
                run.psnr = validation_psnr(self.learner.supernet, validation, mixtures)
                if run.stage == SEARCH:
                    run.speeds.append({"t": t, "seconds": step_seconds})
                stopwatch = Stopwatch()

            # 3. Report, save the state.
            if run.step % REPORT_EVERY == 0 or validating or stopping:
                progress = Progress(
                    stage=stage,
                    step=run.step,
                    steps=steps,
                    t=t,
                    loss=float(loss),
                    psnr=run.psnr,
                    validated=validating,
                    costs=costs,
                    budgets=self.config.budgets.given(),
                    steps_per_second=1 / step_seconds,
                    seconds_left=self._seconds_left((steps - run.step) * step_seconds),
                    mixtures=None if mixtures is None else mixtures.rounded(),
                )
                self.tell(progress)
            if validating or stopping:
                self._save()
            if stopping:
                return False
        return True

    def _given_steps(self, stage: int) -> int | None:
        """Steps of a stage where they are given, or a share of what is given; None where time is."""
        steps = self.config.steps
        if steps is None or isinstance(steps, tuple):
            return steps and steps[stage]
        return max(1, round(SHARES[stage] * steps))

    def _seconds_left(self, of_stage: float) -> float:
        """Of the whole run where it was given time, but never less than this stage needs."""
        minutes = self.config.minutes
        return of_stage if minutes is None else max(of_stage, 60 * minutes - self.seconds)

    def _count_steps(self, halves: Sequence[Patches], validation: Pairs) -> int:
        """Steps of the stage that begins: given, or as many as its share of the time holds, validations included."""
        if (given := self._given_steps(self.run.stage)) is not None:
            return given
        assert self.config.minutes is not None
        trial = copy.deepcopy(self.run)
        trial.counts.append(10**6)  # so long a stage that its rates hardly move anything
        untimed = TIMED_STEPS // 3
        for number in range(untimed + TIMED_STEPS):
            if number == untimed:
                began = time.perf_counter()
            trial.step = number
            take_step(trial, halves, t=0.0)
            synchronize(self.learner.device)
        step_seconds = (time.perf_counter() - began) / TIMED_STEPS
        began = time.perf_counter()
        with torch.no_grad():
            validation_psnr(self.learner.supernet, validation, self.learner.supernet.mixtures(0))
        validating = VALIDATIONS * (time.perf_counter() - began)
        return max(1, int((60 * self.config.minutes * SHARES[self.run.stage] - validating) / step_seconds))

    def _fitting_choice(self, patches: Patches) -> Choice:
        """The highest scores' choice, brought within the budgets; where time has one, the whole network is timed.

        Changes are judged by their loss on one fixed batch of the scores' half.

        Raises:
            BudgetError: its time cannot be brought below the budget.
        """
        learner, limit = self.learner, self.config.budgets.ms_per_mp
        batch = patches.batch(self.config.seed, sum(self.run.counts), self.config.batch_size)
        loss = lru_cache(maxsize=None)(lambda choice: learner.loss_of(batch, choice))
        too_slow = ""
        for attempt in range(MOST_SHRINKS + 1):
            try:
                choice = fit(learner.supernet.choice(), loss, learner.costs, self.config.budgets)
            except BudgetError:
                if not too_slow:
                    raise
                break  # not even the smallest one, judged by what was measured
            if limit is None:
                return choice
            slowdown = self._slowdown(choice, attempt)
            if slowdown is None:
                return choice
            measured = slowdown * learner.costs.of(choice)["ms_per_mp"]
            too_slow = f"takes {measured:.1f} ms per megapixel of output, the budget is {limit:g}"
            learner.costs = learner.costs.rescaled(slowdown)
            if not self.run.repeats:
                self.run.times.slowdowns.append(slowdown)
        raise BudgetError(
            f"{self.run_dir}: the network {too_slow}, and no smaller one was found that keeps within it; is something "
            "else running on this machine?"
        )

    def _slowdown(self, choice: Choice, attempt: int) -> float | None:
        """Measured over expected time of a network that is too slow; None if it is not."""
        known, learner = self.run.times.slowdowns, self.learner
        if self.run.repeats:
            return known[attempt] if attempt < len(known) else None
        measured = measure_spec_ms_per_mp(self.run.space.spec(choice), learner.device, self._running_precision)
        assert self.config.budgets.ms_per_mp is not None
        return measured / learner.costs.of(choice)["ms_per_mp"] if measured > self.config.budgets.ms_per_mp else None

    def _fine_tune(self) -> Network | None:
        run, budgets = self.run, self.config.budgets.given()
        choice = self.learner.supernet.choice()
        costs = self.learner.costs.of(choice)

        def tell(progress: TrainingProgress) -> None:
            if len(run.counts) == FINE_TUNE:
                run.counts.append(progress.steps)
                self.tell(StageStarted(STAGES[FINE_TUNE], progress.steps))
            if progress.steps != (run.shortened[-1][1] if run.shortened else run.counts[FINE_TUNE]):
                run.shortened.append((progress.step, progress.steps))
            told = Progress(
                stage=STAGES[FINE_TUNE],
                step=progress.step,
                steps=progress.steps,
                t=1.0,
                loss=progress.loss,
                psnr=progress.psnr,
                validated=progress.validated and progress.step > run.step,
                costs=costs,
                budgets=budgets,
                steps_per_second=progress.steps_per_second,
                seconds_left=progress.seconds_left,
            )
            self.tell(told)
            run.step, run.psnr = progress.step, progress.best_psnr
            if progress.validated or progress.step == 0 or self.stop.is_set():
                self._save()

        if (self.run_dir / TRAINING_FILE).exists():
            result = resume_training(self.run_dir, self.photographs, on_progress=tell, stop=self.stop)
        else:
            start = self._start(choice)
            config = self._tuning_config()
            result = begin_training(start.config.spec, self.photographs, config, self.run_dir, start, tell, self.stop)
        if not result.finished:
            return None
        if not run.finished:
            self._write_report(result.network, costs)
            self.tell(Finished(run.psnr, costs, self.seconds))
            run.finished = True
            self._save()
        return result.network

    def _start(self, choice: Choice) -> Model:
        """The supernet at one-hot as a model, with what is known of its search."""
        network = self.learner.supernet.derive(choice)
        training: dict[str, Any] = {
            "method": "trilevel search",
            "space": f"{self.run.space.name}, trunk width {self.run.space.trunk_width}, "
            f"{self.run.space.cells} cells of {self.run.space.slots} slots",
            "budgets": ", ".join(f"{name} {limit:g}" for name, limit in self.config.budgets.given().items()),
            "supernet": self.run.started_from.get("name", "from noise"),
            "steps": " + ".join(map(str, self.run.counts[:FINE_TUNE])),
            "validation_psnr": round(self.run.psnr, 4),
        }
        if self.run.started_from:
            training["started_from"] = self.run.started_from
        return Model(
            ModelConfig("the supernet", network.spec, UNSPECIFIED, TrainingRecord.model_validate(training)), network
        )

    def _tuning_config(self) -> TrainConfig:
        config = self.config
        minutes: float | None = None
        if config.minutes is not None:
            minutes = max(SAFE_SHARE * (config.minutes - self.seconds / 60), 0.05 * config.minutes)
        return TrainConfig(
            steps=self._given_steps(FINE_TUNE),
            minutes=minutes,
            batch_size=TUNING_BATCH,
            learning_rate=tuning_rate(self.run.space.trunk_width),
            l2_share=L2_SHARE,
            teacher=config.teacher,
            shortened=config.shortened,
            seed=config.seed,
            device=config.device,
            precision=self.learner.precision,
        )

    def _write_report(self, network: Network, costs: dict[str, float]) -> None:
        run, learner = self.run, self.learner
        held_out = make_pairs(split(self.photographs)[1], run.space.scale)
        measured = measure_ms_per_mp(copy.deepcopy(network), learner.device, self._running_precision)
        report = {
            "space": asdict(run.space),
            "settings": asdict(self.config),
            "started_from": run.started_from,
            "taught_by": load_config(str(self.run_dir)).training.to_dict().get("taught_by", {}),
            "rates": {
                "weights": weight_rate(run),
                "scores": score_rate(run),
                "fine-tuning": tuning_rate(run.space.trunk_width),
            },
            "fine_tuning": {
                "batch_size": TUNING_BATCH,
                "patch_px": TrainConfig.patch_px,
            },
            "steps": dict(zip(STAGES, run.counts, strict=True)),
            "shortened": run.shortened,
            "budgets": self.config.budgets.given(),
            "results": costs,
            "spec": network.spec.to_dict(),
            "weights_sha256": hashlib.sha256((self.run_dir / WEIGHTS_FILE).read_bytes()).hexdigest(),
            "validation_psnr": run.psnr,
            "bicubic_psnr": bicubic_psnr(held_out, run.space.scale),
            "ms_per_mp": {"expected": costs.get("ms_per_mp"), "measured": measured},
            "times": asdict(run.times),
            "step_seconds": run.speeds,
            "seconds": round(self.seconds),
            "data": {
                "folders": sorted({Path(folder).name for folder in run.folders}),
                "images": len(self.photographs),
                "sha256": self.data,
            },
            "device": str(learner.device),
            "precision": {"training": learner.precision, "running": self._running_precision},
            "threads": torch.get_num_threads(),
            "versions": {
                "trinas-upscale": _own_version(),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        try:
            write_atomically(self.run_dir / REPORT_FILE, (json.dumps(report, indent=2) + "\n").encode())
        except OSError as error:
            raise RunError(f"{self.run_dir}: cannot be written ({error.strerror}); resume once it can") from None
        write_page(self.run_dir, report, network, *held_out[0])

    def _save(self) -> None:
        self.run.seconds, self.run.told = self.seconds, self.tell.count
        try:
            save_state(self.run_dir / STATE_FILE, self.run.state(self.data))
        except OSError as error:
            raise RunError(f"{self.run_dir}: cannot be written ({error.strerror}); resume once it can") from None


def tuning_rate(trunk_width: int) -> float:
    """Peak rate of the optimiser for fine-tuning, and for training a network of that width for comparison."""
    return min(MOST_TUNING_RATE, TUNING_RATE / trunk_width)


def bicubic_psnr(pairs: Pairs, scale: int) -> float:
    """What enlarging without any network would have: mean PSNR on Y in dB, as `validation_psnr` counts."""
    return fmean(min(psnr_y(upscale_bicubic(low, scale), high, scale), EXACT_PSNR) for low, high in pairs)


def take_step(run: Run, halves: Sequence[Patches], t: float | None = None) -> tuple[Tensor, dict[str, float]]:
    """One step of the present stage: the loss, still on the device, and the expected costs."""
    config, learner = run.config, run.learner
    t = run.t if t is None else t
    number = sum(run.counts[: run.stage]) + run.step
    for_weights = halves[0].batch(config.seed, number, config.batch_size)
    if run.stage == WARM_UP:
        rising = weight_rate(run) * (run.step + 1) / run.counts[WARM_UP]
        return learner.warm_up(for_weights, run.step, rising), learner.start_costs
    for_scores = halves[1].batch(config.seed, number, config.batch_size)
    return learner.search(for_weights, for_scores, t, weight_rate(run), score_rate(run))


def weight_rate(run: Run) -> float:
    """The optimiser's rate for the weights in warm-up, where it rises to this, and search."""
    return run.config.weight_rate or WEIGHT_RATE / run.space.trunk_width


def score_rate(run: Run) -> float:
    """Adam's rate for the scores."""
    return run.config.score_rate or max(SCORE_RATE, SCORE_TRAVEL / run.counts[SEARCH])


def _own_version() -> str:
    try:
        return version("trinas-upscale")
    except PackageNotFoundError:
        return "not installed"
