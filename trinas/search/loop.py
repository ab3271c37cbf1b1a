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
"""A dense supernet is slow, so it is validated on a few images only, and on squares from their middles: the number of
images, and the side of a square in low-resolution pixels."""

REPORT_EVERY = 10
"""Steps between reports."""


@dataclass(frozen=True)
class SearchResult:
    """How a search ended."""

    network: Network | None
    """The trained network, on the CPU; None if the search was stopped."""
    record: SearchRecord | None
    """As in report.json; None if the search was stopped."""
    finished: bool
    """Whether the search came to its end. If not, it can be resumed."""


def search_network(
    space: SearchSpace,
    images: Sequence[TrainingImage],
    config: SearchConfig,
    run_dir: Path,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
    learner: type[Learner] = Learner,
) -> SearchResult:
    """Search and train together, within budgets.

    Args:
        space: the networks to choose among; `budgets.space_for` finds a suitable space.
        images: what to learn from. Some are held out for validation (`data.split`). During the search, one half of
            the others trains the weights, and the other half the architecture parameters.
        config: every setting, with the budgets.
        run_dir: new folder. At the end it is a model folder with report.json, events.jsonl and sample images.
        on_event: called with each event, in this thread.
        stop: set it to end after the current step, with the state saved.
        learner: a subclass changes how the search learns. Such a search cannot be resumed or repeated.
    Returns:
        The network, its record, and whether the search is finished.
    Raises:
        BudgetError: no network of the space meets the budgets.
        RunError: `run_dir` exists already or cannot be written, the loss is no longer a number, or the memory is too
            small.
        DataError: the images are too few or too small.
        ModelError: there is no such teacher, it has another scale, or the bundled supernet is damaged.
    """
    started = time.perf_counter()
    check_new_run(run_dir, allowed_files=(EVENTS_FILE,))
    device = pick_device(config.device)
    check_data(images, space, config)
    load_teacher(config.teacher, space.scale)  # refuses a teacher that does not fit
    check_possible(CostModel(space), config.budgets)
    times = measure_times(space, config, device) if config.budgets.ms_per_mp else MeasuredTimes()
    run = _new_run(space, config, times, resolve_training_precision(config.precision, device), images, learner)
    return _start(run, images, run_dir, on_event, stop, started)


def repeat_search(
    record: SearchRecord,
    images: Sequence[TrainingImage],
    run_dir: Path,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> SearchResult:
    """Run a finished search again, with its steps, seed, threads and measured times. On a CPU the network is the same.

    Args:
        record: of the finished search, from `read_search_record`.
        images: the images of that search.
        run_dir, on_event, stop: as for `search_network`.
    Returns:
        As `search_network`.
    Raises:
        RunError: the images, the pretrained supernet or the teacher are not the same, or as for `search_network`.
    """
    started = time.perf_counter()
    if record.data.sha256 != fingerprint(images):
        raise RunError(
            f"the search learnt from {record.data.images} images of {', '.join(record.data.folders)} with "
            f"other pixels than these {len(images)}; give the same ones"
        )
    _check_primitives(record)
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
        check_data(images, record.space, config)
        taught_by = _find_teacher_origin(config.teacher, record.space.scale)
        run = _new_run(record.space, config, record.times, record.precision.training, images, Learner)
        run.repeats = True
        if record.started_from != run.started_from:
            raise RunError(
                f"the search started from {_describe_start(record.started_from)}, here it would from "
                f"{_describe_start(run.started_from)}: it takes the version of trinas-upscale that made it"
            )
        if record.taught_by != taught_by:
            raise RunError(f"{config.teacher} has other weights than when it taught the search that is to be repeated")
        return _start(run, images, run_dir, on_event, stop, started)


def resume_search(
    run_dir: Path,
    images: Sequence[TrainingImage],
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> SearchResult:
    """Resume a search that was stopped; it ends where it would have ended (bit for bit on the CPU).

    Meanwhile torch uses as many threads as the search began with, since results depend on the number.

    Args:
        run_dir: folder of the search.
        images: those that the search was started with.
        on_event, stop: as for `search_network`.
    Returns:
        As `search_network`.
    Raises:
        RunError: there is no such search, its state is damaged, the images or the teacher are not the same, another
            process is at work on it, or the memory is too small.
    """
    started = time.perf_counter()
    check_search_resumable(run_dir)
    with run_lock(run_dir / SEARCH_STATE_FILE):
        state = load_search_state(run_dir)
        with torch_threads(state["threads"]):
            run = restore_run(run_dir, state, images)
            return _run_stages(_open_session(run, images, run_dir, on_event, stop, started))


def check_data(images: Sequence[TrainingImage], space: SearchSpace, config: SearchConfig) -> None:
    """Refuse images that a search cannot learn from.

    Raises:
        DataError: there are fewer than three images, or one is smaller than a patch.
    """
    if len(images) < 3:
        raise DataError(
            f"{len(images)} images are too few: weights, architecture and validation need one each at least"
        )
    check_sizes(images, max(config.patch_px, TrainConfig.patch_px) * space.scale)


def _new_run(
    space: SearchSpace,
    config: SearchConfig,
    times: MeasuredTimes,
    precision: str,
    images: Sequence[TrainingImage],
    kind: type[Learner],
) -> SearchRun:
    pretrained = find_bundled_supernet(space) if config.warm_start else None
    learner = build_learner(kind, space, config, times, precision, pick_device(config.device))
    if pretrained:
        start_from(learner.supernet, pretrained)
    check_possible(learner.costs, config.budgets)
    folders = sorted({str(image.path.parent) for image in images})
    return SearchRun(space, config, learner, times, folders, pretrained.describe_origin() if pretrained else None)


def _check_primitives(record: SearchRecord) -> None:
    """Refuse to repeat a search whose space has other primitives now."""
    space = record.space
    # `edge-all` is the only space that has changed since records without primitives were written.
    same = space.name != "edge-all" if record.primitives is None else record.primitives == space.primitives
    if not same:
        raise RunError(
            f"the space {space.name} had other primitives when this search ran; use the version of trinas-upscale that "
            "made it"
        )


def _find_teacher_origin(name: str | None, scale: int) -> ModelOrigin | None:
    teacher = load_teacher(name, scale)
    return ModelOrigin(**describe_teacher(teacher).model_dump()) if teacher else None


def _describe_start(started_from: ModelOrigin | None) -> str:
    return f"{started_from.name} ({started_from.sha256[:8]})" if started_from else "noise"


def _start(
    run: SearchRun,
    images: Sequence[TrainingImage],
    run_dir: Path,
    on_event: Callable[[Event], None],
    stop: threading.Event | None,
    started: float,
) -> SearchResult:
    with translate_os_errors(RunError, run_dir, "made"):
        run_dir.mkdir(parents=True, exist_ok=True)
    with run_lock(run_dir / SEARCH_STATE_FILE):
        return _run_stages(_open_session(run, images, run_dir, on_event, stop, started))


def _open_session(
    run: SearchRun,
    images: Sequence[TrainingImage],
    run_dir: Path,
    on_event: Callable[[Event], None],
    stop: threading.Event | None,
    started: float,
) -> SearchSession:
    events = EventLog(run_dir / EVENTS_FILE, on_event, run.event_count)
    stop = stop or threading.Event()
    return SearchSession(run, images, run_dir, events, stop, started - run.seconds, fingerprint(images))


@dataclass(frozen=True)
class DividedImages:
    """The images of warm-up and search, divided for their three uses."""

    weights: Patches
    """The half of the training images that trains the weights."""
    architecture: Patches
    """The half that trains the architecture parameters."""
    validation: list[Pair]
    """Squares from the middles of held-out images."""


def divide_images(images: Sequence[TrainingImage], scale: int, patch_px: int, device: torch.device) -> DividedImages:
    """Divide images among weights, architecture parameters and validation."""
    learning, held_out = split(images)
    middles = crop_centres(held_out[:VALIDATED_IMAGES], VALIDATED_SIDE_PX * scale)
    return DividedImages(
        weights=Patches(learning[::2], scale, patch_px, device),
        architecture=Patches(learning[1::2], scale, patch_px, device),
        validation=make_pairs(middles, scale),
    )


@translate_memory_errors(RunError, "for this search; a smaller space (--trunk-width, --cells) takes less")
def _run_stages(session: SearchSession) -> SearchResult:
    """Run the stages that are still to be done: warm-up, search, choice, fine-tuning."""
    run = session.run
    if not run.counts:
        start = run.started_from.name if run.started_from else "noise"
        session.events.add(SearchStarted(space=run.space, budgets=run.config.budgets.given(), started_from=start))
    if run.stage < FINE_TUNE:
        divided = divide_images(session.images, run.space.scale, run.config.patch_px, run.learner.device)
        while run.stage < FINE_TUNE:
            if not _run_stage(session, divided):
                return SearchResult(None, None, finished=False)
            run.stage, run.step = run.stage + 1, 0
        choice = choose_within_budgets(session, divided.architecture)
        run.learner.supernet.choose(choice)
        costs = run.learner.costs.exact(choice)
        session.events.add(ArchitectureChosen(spec=run.space.spec(choice), costs=costs))
        session.save()
    network = finetune(session)
    if network is None:
        return SearchResult(None, None, finished=False)
    return SearchResult(network, read_search_record(session.run_dir / SEARCH_RECORD_FILE), finished=True)


def _run_stage(session: SearchSession, divided: DividedImages) -> bool:
    """Run the steps of warm-up or search that are left. Return False if the search was stopped on the way."""
    run, stage = session.run, STAGES[session.run.stage]
    supernet = run.learner.supernet
    _begin_stage(session, divided)
    steps = run.counts[run.stage]
    validate_every = math.ceil(steps / VALIDATIONS)
    timer = Timer()
    while run.step < steps:
        # 1. Take a step of the weights; in the search, also one of the architecture parameters.
        anneal = run.anneal
        with timer:
            loss, costs = take_step(run, divided)
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
            run.psnr = measure_validation_psnr(supernet, divided.validation, mixtures)
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
            session.events.add(progress)
        if validating or stopping:
            session.save()
        if stopping:
            return False
    return True


def _begin_stage(session: SearchSession, divided: DividedImages) -> None:
    """Fix the number of steps of a stage that has not begun yet."""
    run, supernet = session.run, session.run.learner.supernet
    if len(run.counts) > run.stage:
        return

    @torch.no_grad()
    def validate() -> float:
        return measure_validation_psnr(supernet, divided.validation, supernet.mixtures(0))

    run.counts.append(count_steps(session, lambda trial: take_step(trial, divided), validate))
    session.events.add(StageStarted(stage=STAGES[run.stage], steps=run.counts[run.stage]))
    session.save()  # from now on, a resumed search uses this count


def take_step(run: SearchRun, divided: DividedImages) -> tuple[Tensor, dict[str, float]]:
    """Take one step of warm-up or search.

    Returns:
        The loss, still on the device, and the expected costs by name.
    """
    config, learner = run.config, run.learner
    number = sum(run.counts[: run.stage]) + run.step
    for_weights = divided.weights.batch(config.seed, number, config.batch_size)
    if run.stage == WARM_UP:
        rising = choose_weight_rate(run) * (run.step + 1) / run.counts[WARM_UP]
        return learner.warm_up(for_weights, run.step, rising), learner.start_costs
    for_architecture = divided.architecture.batch(config.seed, number, config.batch_size)
    return learner.search(for_weights, for_architecture, run.anneal, choose_weight_rate(run), choose_arch_rate(run))
