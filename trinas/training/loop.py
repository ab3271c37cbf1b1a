"""Train a network: resumable, bit-exact on the CPU, one visible loop."""

import copy
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trinas.config import TrainConfig
from trinas.device import pick_device, resolve_training_precision, synchronize, torch_threads, translate_memory_errors
from trinas.errors import ModelError, RunError
from trinas.files import translate_os_errors
from trinas.networks.space import ArchSpec
from trinas.text import escape_text, shorten_text
from trinas.timer import Timer
from trinas.training.data import Pair, Patches, Teacher, TrainingImage, check_sizes, fingerprint, make_pairs, split
from trinas.training.metrics import measure_validation_psnr
from trinas.training.rescale import rescale
from trinas.training.run import (
    TrainingProgress,
    TrainingResult,
    TrainingRun,
    ValidationRecord,
    build_networks,
    load_training_state,
    restore_run,
    write_validations,
)
from trinas.training.state import (
    STATE_FILE,
    check_new_run,
    run_lock,
    save_state,
)
from trinas.training.step import TrainStep, compute_learning_rate
from trinas.training.teacher import describe_teacher, load_teacher, make_teacher
from trinas.zoo.folder import Model, save_model
from trinas.zoo.record import MAX_NAME, MAX_STAGES, UNSPECIFIED, ModelConfig, TrainingRecord

REPORT_EVERY = 20
"""Steps between progress reports. Reading the loss waits for the device, so not every step reports."""

LOSS_SMOOTHING = 0.02
"""Share of the newest step in the running mean of the loss that is reported."""

TIMED_STEPS, UNTIMED_STEPS = 30, 10
"""Steps that are timed to judge how fast a training is, and steps before them that are not timed."""

TOLERATED_DELAY = 0.02
"""A training with a time limit gets fewer steps if it would miss its end by more than this share."""

OnProgress = Callable[[TrainingProgress], None]

_translate_memory_errors = partial(
    translate_memory_errors,
    RunError,
    "for this training; a smaller --batch-size or --patch takes less, as does a smaller network",
)


def train_network(
    spec: ArchSpec,
    images: Sequence[TrainingImage],
    config: TrainConfig,
    run_dir: Path,
    *,
    held_out: Sequence[TrainingImage] = (),
    start: Model | None = None,
    on_progress: OnProgress = lambda progress: None,
    stop: threading.Event | None = None,
) -> TrainingResult:
    """Train a network, keeping the weights that validate best.

    Args:
        spec: the architecture.
        images: what to learn from.
        config: every setting.
        run_dir: new folder; holds the state, metrics.jsonl and, as a model folder, the best weights.
        held_out: what to validate on. If there are none, about 24 of `images` are held out (`data.split`).
        start: start from this model's weights instead of fresh ones. With another scale, start from its head and
            trunk, with a tail that is fitted to some of the images (`rescale.rescale`).
        on_progress: called before the first step, every 20 steps and after each validation.
        stop: set it to end after the current step, with the state saved.
    Returns:
        The best network so far, its record, and whether the training is finished.
    Raises:
        RunError: `run_dir` exists already or cannot be written, the loss is no longer a number, or the memory is too
            small.
        DataError: the images are too few or too small.
        ModelError: `start` has another architecture, or there is no such teacher, or it cannot teach this network.
    """
    check_new_run(run_dir)
    with _translate_memory_errors():
        return begin_training(spec, images, config, run_dir, start, on_progress, stop, held_out)


def begin_training(
    spec: ArchSpec,
    images: Sequence[TrainingImage],
    config: TrainConfig,
    run_dir: Path,
    start: Model | None,
    on_progress: OnProgress,
    stop: threading.Event | None,
    held_out: Sequence[TrainingImage] = (),
) -> TrainingResult:
    """Do as `train_network`, in a folder that may already hold other files of the same run.

    Args, returns and raises: as for `train_network`, but an existing folder is accepted, and errors about too little
    memory are left to the caller.
    """
    check_sizes(images, config.patch_px * spec.scale)
    device = pick_device(config.device)
    weights = start.network if start else None
    if weights is not None and weights.scale != spec.scale:
        weights = rescale(weights, spec.scale, _divide(images, held_out)[0], config.variants)
    network, averaged, optimizer = build_networks(spec, config, device, weights)
    teacher = load_teacher(config.teacher, spec.scale, config.variants)
    run = TrainingRun(
        config=config,
        spec=spec,
        steps=config.steps or 0,
        device=device,
        precision=resolve_training_precision(config.precision, device),
        started_from=_describe_start(start) if start else None,
        taught_by=describe_teacher(teacher) if teacher else None,
        network=network,
        averaged=averaged,
        optimizer=optimizer,
    )
    with translate_os_errors(RunError, run_dir, "made"):
        run_dir.mkdir(parents=True, exist_ok=True)
    with run_lock(run_dir / STATE_FILE):
        return _Training(run, images, held_out, run_dir, on_progress, stop or threading.Event()).train()


def resume_training(
    run_dir: Path,
    images: Sequence[TrainingImage],
    *,
    held_out: Sequence[TrainingImage] = (),
    on_progress: OnProgress = lambda progress: None,
    stop: threading.Event | None = None,
) -> TrainingResult:
    """Resume a training that was stopped; it ends where it would have ended (bit for bit on the CPU).

    Meanwhile torch uses as many threads as the run began with, since results depend on the number.

    Args:
        run_dir: folder of the run.
        images, held_out: those that the run was started with.
        on_progress, stop: as for `train_network`.
    Returns:
        As `train_network`.
    Raises:
        RunError: there is no such run, its state is damaged, the images or the teacher are not the same, another
            process is at work on it, or the memory is too small.
    """
    with _translate_memory_errors():
        return continue_training(run_dir, images, on_progress, stop, held_out)


def continue_training(
    run_dir: Path,
    images: Sequence[TrainingImage],
    on_progress: OnProgress,
    stop: threading.Event | None,
    held_out: Sequence[TrainingImage] = (),
) -> TrainingResult:
    """Do as `resume_training`, but leave errors about too little memory to the caller.

    Args, returns and raises: as for `resume_training`.
    """
    load_training_state(run_dir)  # refuses a folder without a run, which has no lock either
    with run_lock(run_dir / STATE_FILE):
        state = load_training_state(run_dir)
        with torch_threads(state["threads"]):
            run = restore_run(state, run_dir, fingerprint(images, held_out))
            return _Training(run, images, held_out, run_dir, on_progress, stop or threading.Event()).train()


def _divide(
    images: Sequence[TrainingImage], held_out: Sequence[TrainingImage]
) -> tuple[Sequence[TrainingImage], Sequence[TrainingImage]]:
    """Return what to learn from and what to validate on."""
    return (images, held_out) if held_out else split(images)


def _describe_start(start: Model) -> TrainingRecord:
    """Return the training record of `start`, with its name.

    Raises:
        ModelError: the record has no room for another stage.
    """
    if len(list(start.config.training.stages())) >= MAX_STAGES:
        raise ModelError(f"{start.config.name}: its record is full, with {MAX_STAGES} stages; start from another model")
    return TrainingRecord.model_validate(start.config.training.to_dict() | {"name": start.config.name})


class _Training:
    """A run in progress, with its images, its folder, and the function that hears of its progress."""

    def __init__(
        self,
        run: TrainingRun,
        images: Sequence[TrainingImage],
        held_out: Sequence[TrainingImage],
        run_dir: Path,
        on_progress: OnProgress,
        stop: threading.Event,
    ) -> None:
        self.run, self.images, self.run_dir = run, [*images, *held_out], run_dir
        self.on_progress, self.stop = on_progress, stop
        self.learning, self.held_out = _divide(images, held_out)
        self.data = fingerprint(images, held_out)
        self.record: TrainingRecord | None = None

    def train(self) -> TrainingResult:
        """Train from where the run stands until its end, or until `stop` is set."""
        run, config = self.run, self.run.config
        teacher = None if run.minimises_squares else self._load_teacher()
        patches = Patches(self.learning, run.spec.scale, config.patch_px, run.device, config.variants)
        validation = make_pairs(self.held_out, run.spec.scale, min(config.variants, 1))
        run.steps = run.steps or count_affordable_steps(run, patches, validation)
        self._start(validation)
        # This takes minutes, so it comes after the first state: a run that is stopped meanwhile can be resumed.
        if teacher is None or patches.precompute_targets(teacher, self.stop):
            self._take_steps(patches, validation)
        return TrainingResult(run.best_network(), self.record, run.finished)

    def _take_steps(self, patches: Patches, validation: Sequence[Pair]) -> None:
        run, config = self.run, self.run.config
        take_step = TrainStep(run.network, run.averaged, run.optimizer, config, run.precision)
        saved = reported = time.perf_counter()
        reported_step = run.step
        stopping = False
        while run.step < run.steps and not stopping:
            # 1. Take one step: learning rate, batch, forward and backward, clip, optimiser, running mean.
            squared = run.minimises_squares
            low, high = patches.batch(config.seed, run.step, config.batch_size, from_teacher=not squared)
            loss = take_step(low, high, compute_learning_rate(config, run.step, run.steps), run.step, squared)
            run.loss = loss if run.step == 0 else run.loss.lerp(loss, LOSS_SMOOTHING)
            run.step += 1
            stopping = self.stop.is_set()

            # 2. Validate the running mean, keep the best weights, save the state.
            validating = run.step % config.validate_every == 0 or run.step == run.steps
            if validating:
                self._validate(validation)
            if validating or stopping:
                run.seconds += time.perf_counter() - saved
                saved = time.perf_counter()
                self._shorten(validating)
                self._save()

            # 3. Report.
            if run.step % REPORT_EVERY == 0 or validating or stopping:
                speed = (run.step - reported_step) / (time.perf_counter() - reported)
                reported, reported_step = time.perf_counter(), run.step
                self._report(speed, validating)

    def _load_teacher(self) -> Teacher | None:
        """Load the run's teacher.

        Raises:
            RunError: its weights are not those with which the run began.
        """
        run = self.run
        model = load_teacher(run.config.teacher, run.spec.scale, run.config.variants)
        if model is None:
            return None
        if describe_teacher(model) != run.taught_by:
            raise RunError(f"{self.run_dir}: {run.config.teacher} has changed since it began to teach; start again")
        return make_teacher(model, str(run.device), run.precision)

    def _start(self, validation: Sequence[Pair]) -> None:
        """Save the first state of a new run, and report where the run stands."""
        run = self.run
        if run.step == 0:
            if run.started_from and not run.validations:
                self._validate(validation)  # so that weights worse than the start are not kept
            self._save()  # a resumed run keeps this number of steps
        elif run.validations:
            self.record = self._describe()
            with translate_os_errors(RunError, self.run_dir, "written", "resume once it can"):
                write_validations(self.run_dir, run.validations)  # as the state has them, if the file is damaged
        # A resumed run reports its last validation again, because it may have been killed before it could report it.
        repeats = run.step > 0 and bool(run.validations) and run.validations[-1].step == run.step
        self._report(math.nan, validated=repeats)

    def _validate(self, validation: Sequence[Pair]) -> None:
        run = self.run
        if run.step > 0 and not run.loss.isfinite():
            raise RunError(f"step {run.step}: the loss is no longer a number; start again with a lower learning rate")
        psnr = measure_validation_psnr(run.averaged, validation)
        if psnr > run.best_psnr:
            run.best_psnr = psnr
            run.best_weights = copy.deepcopy(run.averaged.state_dict())
        rate = float(run.optimizer.param_groups[0]["lr"])
        record = ValidationRecord(step=run.step, loss=float(run.loss), psnr=psnr, learning_rate=rate)
        run.validations.append(record)

    def _shorten(self, validating: bool) -> None:
        """Plan fewer steps if the run would miss its time, or if the run that is repeated did so at this step."""
        run = self.run
        if run.config.minutes is None:
            steps = dict(run.config.shortened).get(run.step, run.steps)
        else:
            affordable = int(run.config.minutes * 60 * run.step / run.seconds)
            misses = validating and affordable < (1 - TOLERATED_DELAY) * run.steps
            steps = max(run.step, affordable) if misses else run.steps
        if steps != run.steps:
            run.steps = steps
            run.shortened.append((run.step, steps))

    def _save(self) -> None:
        """Write the model, its metrics and the state.

        The state comes last. If a full disk prevents a file from being written, the run resumes from the previous
        state and writes the file again. The first state comes first, since without it there is no run to resume.
        """
        run = self.run
        with translate_os_errors(RunError, self.run_dir, "written", "resume once it can"):
            if run.step == 0:
                save_state(self.run_dir / STATE_FILE, run.to_state(self.data))
            if run.validations:
                write_validations(self.run_dir, run.validations)
                self.record = self._describe()
                self._save_model(self.record)
            if run.step > 0:
                save_state(self.run_dir / STATE_FILE, run.to_state(self.data))

    def _save_model(self, record: TrainingRecord) -> None:
        run = self.run
        try:
            name = shorten_text(self.run_dir.name, MAX_NAME)
            save_model(self.run_dir, run.best_network(), ModelConfig(name, run.spec, UNSPECIFIED, record))
        except ModelError as error:
            raise RunError(f"{error}; resume once it can") from None

    def _describe(self) -> TrainingRecord:
        """Return how the best network so far was trained, for config.json."""
        run = self.run
        config = dataclasses.asdict(run.config)
        known = {
            "data": sorted({escape_text(image.path.parent.name) for image in self.images}),
            "images": len(self.images),
            "data_sha256": self.data,
            "steps": run.step,
            "seconds": round(run.seconds),
            "validation_psnr": round(run.best_psnr, 4),
            "config": config | {"teacher": config["teacher"] and escape_text(config["teacher"])},  # may be a path
            "started_from": run.started_from,
            "taught_by": run.taught_by,
        }
        return TrainingRecord.model_validate(known)

    def _report(self, steps_per_second: float, validated: bool) -> None:
        run = self.run
        progress = TrainingProgress(
            step=run.step,
            steps=run.steps,
            steps_per_second=steps_per_second,
            seconds_left=(run.steps - run.step) / steps_per_second,
            loss=float(run.loss),
            psnr=run.validations[-1].psnr if run.validations else math.nan,
            best_psnr=run.best_psnr,
            validated=validated,
        )
        self.on_progress(progress)


def count_affordable_steps(run: TrainingRun, patches: Patches, validation: Sequence[Pair]) -> int:
    """Return how many steps fit into the config's minutes. Some steps are timed on a copy of the network."""
    config = run.config
    assert config.minutes is not None
    began = time.perf_counter()
    network, averaged, optimizer = build_networks(run.spec, config, run.device)
    take_step = TrainStep(network, averaged, optimizer, config, run.precision)
    stepping, validating = Timer(), Timer()
    for step in range(UNTIMED_STEPS + TIMED_STEPS):
        if step == UNTIMED_STEPS:
            stepping = Timer()
        with stepping:
            low, high = patches.batch(config.seed, step, config.batch_size)
            take_step(low, high, config.learning_rate, step, squared=False)
            synchronize(run.device)
    with validating:
        measure_validation_psnr(averaged, validation)
    seconds = stepping.seconds_per_lap + validating.seconds / config.validate_every
    return max(1, int((config.minutes * 60 - (time.perf_counter() - began)) / seconds))
