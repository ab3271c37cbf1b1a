"""The trilevel search: warm-up, search and fine-tuning in one run, resumable, bit-exact on the CPU."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from trinas.config import SearchConfig, TrainConfig
from trinas.device import pick_device, resolve_training_precision, torch_threads, translate_memory_errors
from trinas.errors import DataError, RunError
from trinas.files import translate_os_errors
from trinas.networks.network import Network
from trinas.networks.space import SearchSpace
from trinas.search.budgets import CostModel, check_possible
from trinas.search.finetune import finetune
from trinas.search.fit import choose_within_budgets
from trinas.search.pace import VALIDATIONS, choose_arch_rate, choose_weight_rate, count_steps, estimate_seconds_left
from trinas.search.record import (
    EVENTS_FILE,
    SEARCH_RECORD_FILE,
    STAGES,
    ArchitectureChosen,
    Event,
    EventLog,
    MeasuredTimes,
    ModelOrigin,
    SearchProgress,
    SearchRecord,
    SearchStarted,
    StageStarted,
    StepTime,
    read_search_record,
)
from trinas.search.run import (
    FINE_TUNE,
    SEARCH,
    SEARCH_STATE_FILE,
    WARM_UP,
    SearchRun,
    SearchSession,
    build_learner,
    check_search_resumable,
    load_search_state,
    measure_times,
    restore_run,
)
from trinas.search.step import Learner
from trinas.search.warmstart import find_bundled_supernet, start_from
from trinas.timer import Timer
from trinas.training.data import Pair, Patches, TrainingImage, check_sizes, crop_centres, fingerprint, make_pairs, split
from trinas.training.metrics import measure_validation_psnr
from trinas.training.state import check_new_run, run_lock
from trinas.training.teacher import describe_teacher, load_teacher

VALIDATED_IMAGES, VALIDATED_SIDE_PX = 8, 64
"""The supernet is validated on the middle of so many images, of so many low-resolution pixels a side, since a dense
supernet is slow."""

REPORT_EVERY = 10
"""Steps between reports."""


@dataclass(frozen=True)
class SearchResult:
    """How a search ended."""

    network: Network | None
    """The trained network, on the CPU; None where the search was stopped before."""
    record: SearchRecord | None
    """As in report.json; None where the search was stopped before."""
    finished: bool
    """False: it was stopped, and can be resumed."""


def search_network(
    space: SearchSpace,
    photographs: Sequence[TrainingImage],
    config: SearchConfig,
    run_dir: Path,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
    learner: type[Learner] = Learner,
) -> SearchResult:
    """Search and train together, within budgets.

    Args:
        space: the networks to choose among; `budgets.space_for` finds a space that suits.
        photographs: the images to learn from. Some are held out for validation (`data.split`); during the search one
            half of the others trains the weights, the other half the architecture parameters.
        config: every setting, the budgets among them.
        run_dir: new folder; in the end a model folder with report.json, events.jsonl and sample images.
        on_event: called as things happen, in this thread.
        stop: set it to end after the current step, with the state saved.
        learner: a subclass changes how the search learns. Such a search can be neither resumed nor repeated.
    Raises:
        BudgetError: no network of the space meets the budgets.
        RunError: `run_dir` exists already or cannot be written, or the loss is no longer a number.
        DataError: the images are too few or too small.
        ModelError: there is no such teacher, or it has another scale; or the bundled supernet is damaged.
    """
    started = time.perf_counter()
    check_new_run(run_dir, allowed_files=(EVENTS_FILE,))
    device = pick_device(config.device)
    check_data(photographs, space, config)
    load_teacher(config.teacher, space.scale)  # refuses a teacher that does not fit
    check_possible(CostModel(space), config.budgets)
    times = measure_times(space, config, device) if config.budgets.ms_per_mp else MeasuredTimes()
    run = _new_run(space, config, times, resolve_training_precision(config.precision, device), photographs, learner)
    return _start(run, photographs, run_dir, on_event, stop, started)


def repeat_search(
    record: SearchRecord,
    photographs: Sequence[TrainingImage],
    run_dir: Path,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> SearchResult:
    """Run a finished search again, with its steps, seed, threads and measured times: to the same network on a CPU.

    Args and returns: as for `search_network`, with the very images of that search.
    Raises:
        RunError: the images, the pretrained supernet or the teacher are others, or as for `search_network`.
    """
    started = time.perf_counter()
    if record.data.sha256 != fingerprint(photographs):
        raise RunError(
            f"the search learnt from {record.data.images} images of {', '.join(record.data.folders)} with "
            f"other pixels than these {len(photographs)}; give the same ones"
        )
    check_new_run(run_dir, allowed_files=(EVENTS_FILE,))
    warm_up, search, fine_tune = (record.steps[stage] for stage in STAGES)
    config = replace(
        record.settings,
        steps=(warm_up, search, fine_tune),
        minutes=None,
        shortened=record.shortened,
        device=record.device,
    )
    with torch_threads(record.threads):
        check_data(photographs, record.space, config)
        taught_by = _find_teacher_origin(config.teacher, record.space.scale)
        run = _new_run(record.space, config, record.times, record.precision.training, photographs, Learner)
        run.repeats = True
        if record.started_from != run.started_from:
            raise RunError(
                f"the search started from {_describe_start(record.started_from)}, here it would from "
                f"{_describe_start(run.started_from)}: it takes the version of trinas-upscale that made it"
            )
        if record.taught_by != taught_by:
            raise RunError(f"{config.teacher} has other weights than when it taught the search that is to be repeated")
        return _start(run, photographs, run_dir, on_event, stop, started)


def resume_search(
    run_dir: Path,
    photographs: Sequence[TrainingImage],
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> SearchResult:
    """Go on with a search that was stopped, ending where it would have ended (bit for bit on the CPU).

    Meanwhile torch has as many threads as the search began with, since results depend on it.

    Args and returns: as for `search_network`, with the very images the search was started with.
    Raises:
        RunError: there is no such search, its state is damaged, the images or the teacher are others, or another
            process is at work on it.
    """
    started = time.perf_counter()
    check_search_resumable(run_dir)
    with run_lock(run_dir / SEARCH_STATE_FILE):
        state = load_search_state(run_dir)
        with torch_threads(state["threads"]):
            run = restore_run(run_dir, state, photographs)
            return _run_stages(_open_session(run, photographs, run_dir, on_event, stop, started))


def check_data(photographs: Sequence[TrainingImage], space: SearchSpace, config: SearchConfig) -> None:
    """Refuse images that a search cannot learn from.

    Raises:
        DataError: they are fewer than three, or one is smaller than a patch.
    """
    if len(photographs) < 3:
        raise DataError(
            f"{len(photographs)} images are too few: weights, architecture and validation need one each at least"
        )
    check_sizes(photographs, max(config.patch_px, TrainConfig.patch_px) * space.scale)


def _new_run(
    space: SearchSpace,
    config: SearchConfig,
    times: MeasuredTimes,
    precision: str,
    photographs: Sequence[TrainingImage],
    kind: type[Learner],
) -> SearchRun:
    pretrained = find_bundled_supernet(space) if config.warm_start else None
    learner = build_learner(kind, space, config, times, precision, pick_device(config.device))
    if pretrained:
        start_from(learner.supernet, pretrained)
    check_possible(learner.costs, config.budgets)
    folders = sorted({str(photo.path.parent) for photo in photographs})
    return SearchRun(space, config, learner, times, folders, pretrained.origin() if pretrained else None)


def _find_teacher_origin(name: str | None, scale: int) -> ModelOrigin | None:
    teacher = load_teacher(name, scale)
    return ModelOrigin(**describe_teacher(teacher).model_dump()) if teacher else None


def _describe_start(started_from: ModelOrigin | None) -> str:
    return f"{started_from.name} ({started_from.sha256[:8]})" if started_from else "noise"


def _start(
    run: SearchRun,
    photographs: Sequence[TrainingImage],
    run_dir: Path,
    on_event: Callable[[Event], None],
    stop: threading.Event | None,
    started: float,
) -> SearchResult:
    with translate_os_errors(RunError, run_dir, "made"):
        run_dir.mkdir(parents=True, exist_ok=True)
    with run_lock(run_dir / SEARCH_STATE_FILE):
        return _run_stages(_open_session(run, photographs, run_dir, on_event, stop, started))


def _open_session(
    run: SearchRun,
    photographs: Sequence[TrainingImage],
    run_dir: Path,
    on_event: Callable[[Event], None],
    stop: threading.Event | None,
    started: float,
) -> SearchSession:
    tell = EventLog(run_dir / EVENTS_FILE, on_event, run.event_count)
    stop = stop or threading.Event()
    return SearchSession(run, photographs, run_dir, tell, stop, started - run.seconds, fingerprint(photographs))


@dataclass(frozen=True)
class SearchImages:
    """The images of warm-up and search, cut up for their three uses."""

    weights: Patches
    """The half of the training images that moves the weights."""
    architecture: Patches
    """The other half, which moves the architecture parameters."""
    validation: list[Pair]
    """Middles of held-out images."""


def divide_images(
    photographs: Sequence[TrainingImage], scale: int, patch_px: int, device: torch.device
) -> SearchImages:
    """Divide images among weights, architecture parameters and validation."""
    learning, held_out = split(photographs)
    middles = crop_centres(held_out[:VALIDATED_IMAGES], VALIDATED_SIDE_PX * scale)
    return SearchImages(
        weights=Patches(learning[::2], scale, patch_px, device),
        architecture=Patches(learning[1::2], scale, patch_px, device),
        validation=make_pairs(middles, scale),
    )


@translate_memory_errors(RunError, "for this search; a smaller space (--trunk-width, --cells) takes less")
def _run_stages(session: SearchSession) -> SearchResult:
    """Warm-up, search, choice, fine-tuning: whatever of it is still to be done."""
    run = session.run
    if not run.counts:
        start = run.started_from.name if run.started_from else "noise"
        session.tell(SearchStarted(space=run.space, budgets=run.config.budgets.given(), started_from=start))
    if run.stage < FINE_TUNE:
        images = divide_images(session.photographs, run.space.scale, run.config.patch_px, run.learner.device)
        while run.stage < FINE_TUNE:
            if not _run_stage(session, images):
                return SearchResult(None, None, finished=False)
            run.stage, run.step = run.stage + 1, 0
        choice = choose_within_budgets(session, images.architecture)
        run.learner.supernet.choose(choice)
        costs = run.learner.costs.exact(choice)
        session.tell(ArchitectureChosen(spec=run.space.spec(choice), costs=costs))
        session.save()
    network = finetune(session)
    if network is None:
        return SearchResult(None, None, finished=False)
    return SearchResult(network, read_search_record(session.run_dir / SEARCH_RECORD_FILE), finished=True)


def _run_stage(session: SearchSession, images: SearchImages) -> bool:
    """Run what is left of warm-up or search; return False if it was stopped on the way."""
    run, stage = session.run, STAGES[session.run.stage]
    supernet = run.learner.supernet
    _begin_stage(session, images)
    steps = run.counts[run.stage]
    validate_every = math.ceil(steps / VALIDATIONS)
    timer = Timer()
    while run.step < steps:
        # 1. A step of the weights; in the search also one of the architecture parameters.
        anneal = run.anneal
        with timer:
            loss, costs = take_step(run, images)
            run.step += 1
            stopping = session.stop.is_set()
            validating = run.step % validate_every == 0 or run.step == steps
            if not loss.isfinite():
                raise RunError(f"{session.run_dir}: step {run.step} of {stage}: the loss is no longer a number")

        # 2. Validate the mixture.
        step_seconds = timer.seconds_per_lap
        mixtures = None
        if validating:
            with torch.no_grad():
                mixtures = supernet.mixtures(anneal)
            run.psnr = measure_validation_psnr(supernet, images.validation, mixtures)
            if run.stage == SEARCH:
                run.step_times.append(StepTime(anneal=anneal, seconds=step_seconds))
            timer = Timer()

        # 3. Report, save the state.
        if run.step % REPORT_EVERY == 0 or validating or stopping:
            progress = SearchProgress(
                stage=stage,
                step=run.step,
                steps=steps,
                anneal=anneal,
                loss=float(loss),
                psnr=run.psnr,
                validated=validating,
                costs=costs,
                budgets=run.config.budgets.given(),
                steps_per_second=1 / step_seconds,
                seconds_left=estimate_seconds_left(session, (steps - run.step) * step_seconds),
                mixtures=None if mixtures is None else mixtures.rounded(),
            )
            session.tell(progress)
        if validating or stopping:
            session.save()
        if stopping:
            return False
    return True


def _begin_stage(session: SearchSession, images: SearchImages) -> None:
    """Fix the steps of a stage that has not begun yet."""
    run, supernet = session.run, session.run.learner.supernet
    if len(run.counts) > run.stage:
        return

    @torch.no_grad()
    def validate() -> float:
        return measure_validation_psnr(supernet, images.validation, supernet.mixtures(0))

    run.counts.append(count_steps(session, lambda trial: take_step(trial, images), validate))
    session.tell(StageStarted(stage=STAGES[run.stage], steps=run.counts[run.stage]))
    session.save()  # from here on resuming uses this count


def take_step(run: SearchRun, images: SearchImages) -> tuple[Tensor, dict[str, float]]:
    """Take one step of warm-up or search; return the loss, still on the device, and the expected costs."""
    config, learner = run.config, run.learner
    number = sum(run.counts[: run.stage]) + run.step
    for_weights = images.weights.batch(config.seed, number, config.batch_size)
    if run.stage == WARM_UP:
        rising = choose_weight_rate(run) * (run.step + 1) / run.counts[WARM_UP]
        return learner.warm_up(for_weights, run.step, rising), learner.start_costs
    for_architecture = images.architecture.batch(config.seed, number, config.batch_size)
    return learner.search(for_weights, for_architecture, run.anneal, choose_weight_rate(run), choose_arch_rate(run))
