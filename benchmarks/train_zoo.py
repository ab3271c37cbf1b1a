"""Train the bundled models by the queue below, several at a time; what validates better is bundled.

    python benchmarks/train_zoo.py DATA RUNS [NAME ...] [--targets TARGETS] [--jobs 2] [--threads 1]

DATA is laid out as docs/data.md says; names choose from the queue. Most trainings imitate targets, which
`benchmarks/make_targets.py` makes beforehand. Images are held out by `benchmarks/validation.txt`.

The stages of a model are trainings, each from the best weights of the one before, in the folders RUNS/NAME-1,
RUNS/NAME-2 and so on. After each of them its network takes the place of the bundled one if it validates better. Ctrl-C
(or SIGTERM) saves all states and ends; the same command goes on, also after a crash: finished stages are skipped, a
stage that began is resumed with the settings it began with. For another round give another RUNS. When it is done,
`benchmarks/quality.py DATA --write` measures the new models on the test sets.
"""

import argparse
import fcntl
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TextIO

import torch
from bundle import MODELS, bundle, load_images
from trinas_app.words import format_duration, format_psnr
from validation import split_by_photograph

from trinas.config import FINETUNE_LEARNING_RATE, TrainConfig
from trinas.errors import RunError, TrinasError
from trinas.networks.grow import grow
from trinas.networks.space import ArchSpec, CellSpec, SlotSpec
from trinas.reports.charts import write_training_curve
from trinas.training.data import GENERATED_FOLDER, TrainingImage
from trinas.training.loop import resume_training, train_network
from trinas.training.run import TrainingProgress
from trinas.training.state import STATE_FILE, load_state
from trinas.training.targets import is_target_folder
from trinas.zoo.folder import Model, load_model


@dataclass(frozen=True)
class Task:
    """How a bundled model is trained."""

    name: str
    """Name of the bundled model."""
    scale: int
    """Output pixels per input pixel, along each side."""
    start: str | ArchSpec
    """A model to start from, as it is when the task begins (of another scale: only its trunk), or an architecture."""
    data: tuple[str, ...]
    """Folders of DATA/train, and `GENERATED_FOLDER`."""
    stages: tuple[TrainConfig, ...]
    grown: ArchSpec | None = None
    """A deeper architecture that the model to start from is made into first (`grow`)."""


def build_chain(scale: int, width: int, convs: int) -> ArchSpec:
    """Return 3x3 convolutions of one width with a long skip, as searches with a budget of parameters find them."""
    return ArchSpec("edge", scale, width, (CellSpec((SlotSpec("conv3x3", width),) * convs),), long_skip=True)


def build_block_chain(scale: int, width: int, blocks: int) -> ArchSpec:
    """Return so many times three 3x3 convolutions and a residual block of four."""
    slots = (*(SlotSpec("conv3x3", width),) * 3, SlotSpec("block4", width)) * blocks
    return ArchSpec("edge", scale, width, (CellSpec(slots),), long_skip=True)


PHOTOGRAPHS = ("bsds400", "div2k_small", "photos_cc0", "photos_free")
FREE_IMAGES = (GENERATED_FOLDER, "photos_cc0", "photos_free")

RECIPE = TrainConfig(steps=5000, batch_size=8, learning_rate=1e-3, l2_share=0.4, luma_share=0.5)
"""For trained weights. Steps and not minutes, so that a busy machine does not cut the fall of the rate short; with 32
channels and three blocks, these are some 45 minutes of one core without bf16."""
FITTED_TAIL = replace(RECIPE, steps=1)
"""For a model of another scale: its fitted tail and little more. That may be worth bundling before a long training."""
LONG_RECIPE = replace(RECIPE, steps=13_000)
LAST_STAGE = replace(RECIPE, learning_rate=5e-4, l2_share=0.55)
"""Went on with trinas-m-x4 (docs/LOG.md)."""
SMALL_RECIPE = replace(RECIPE, steps=20_000, learning_rate=2e-3)
"""For networks of 16 channels, whose steps take a fifth of the time."""
SMALL_STEPS = TrainConfig(minutes=20, batch_size=8, patch_px=32)
"""Small batches make many steps: fresh weights learn faster that way (docs/LOG.md)."""
PHOTO_HOUR = TrainConfig(
    minutes=60, batch_size=8, learning_rate=FINETUNE_LEARNING_RATE, l2_share=1.0, luma_share=0.5, variants=8
)


TARGETS_PREFIX = "SPAN-x"
"""Names of the folders that `make_targets.py` writes, without the scale."""


def imitate_span(config: TrainConfig, scale: int) -> TrainConfig:
    """Return `config` with the targets of SPAN; `place_targets` says where they are."""
    return replace(config, teacher=f"{TARGETS_PREFIX}{scale}")


QUEUE = (
    Task(
        "trinas-m-x4",
        4,
        "trinas-s-x4",
        PHOTOGRAPHS,
        (imitate_span(LONG_RECIPE, 4), imitate_span(LAST_STAGE, 4)),
        grown=build_block_chain(4, 32, 3),
    ),
    Task("trinas-m-x2", 2, "trinas-m-x4", PHOTOGRAPHS, (FITTED_TAIL, imitate_span(RECIPE, 2))),
    Task("trinas-m-x3", 3, "trinas-m-x4", PHOTOGRAPHS, (FITTED_TAIL, RECIPE)),
    Task("trinas-s-x4", 4, "trinas-s-x4", PHOTOGRAPHS, (imitate_span(RECIPE, 4),)),
    Task("trinas-s-x2", 2, "trinas-s-x2", PHOTOGRAPHS, (imitate_span(RECIPE, 2),)),
    Task("trinas-s-x3", 3, "trinas-s-x3", PHOTOGRAPHS, (RECIPE,)),
    Task("trinas-xs-x4", 4, "trinas-xs-x4", PHOTOGRAPHS, (imitate_span(SMALL_RECIPE, 4),)),
    Task("trinas-xs-x2", 2, "trinas-xs-x2", PHOTOGRAPHS, (imitate_span(SMALL_RECIPE, 2),)),
    Task("trinas-xs-x3", 3, build_chain(3, 16, 8), PHOTOGRAPHS, (SMALL_STEPS, SMALL_RECIPE)),
    Task("trinas-s-photo-x4", 4, "trinas-s-photo-x4", FREE_IMAGES, (PHOTO_HOUR,)),
    Task("trinas-s-photo-x3", 3, "trinas-s-photo-x4", FREE_IMAGES, (replace(PHOTO_HOUR, patch_px=32),)),
    Task("trinas-s-photo-x2", 2, "trinas-s-photo-x2", FREE_IMAGES, (PHOTO_HOUR,)),
)
"""Trained in this order. A task waits while the model that it starts from, or its teacher, is in training."""

STOPPED = 130
"""Exit code of a stopped training, which can be resumed."""


def main() -> None:
    """Train the tasks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these; default: the whole queue")
    parser.add_argument("--targets", type=Path, help="where make_targets.py wrote; default: RUNS/targets")
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time")
    parser.add_argument("--threads", type=int, help="of each; default: the cores shared out")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {task.name for task in QUEUE}
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    if unknown:
        parser.error(f"not in the queue: {', '.join(sorted(unknown))}")
    targets = arguments.targets or arguments.runs / "targets"
    try:
        chosen = [task for task in QUEUE if not arguments.names or task.name in arguments.names]
        tasks = [place_targets(task, targets) for task in chosen]
    except RunError as error:
        parser.error(str(error))
    threads = arguments.threads or max(1, (os.cpu_count() or 1) // arguments.jobs)
    stop = stop_on_signals()
    failed = work_through(tasks, arguments.data, arguments.runs, arguments.jobs, threads, stop)
    if stop.is_set():
        say("Stopped; the same command goes on.")
        sys.exit(STOPPED)
    if failed:
        sys.exit(f"Not done: {', '.join(failed)}; the same command tries them again.")
    say(f"Done; now run benchmarks/quality.py {arguments.data} --write")


def place_targets(task: Task, targets: Path) -> Task:
    """Return a task whose stages find the targets of SPAN in a folder.

    Raises:
        RunError: they are not there.
    """
    stages = []
    for stage in task.stages:
        if stage.teacher and stage.teacher.startswith(TARGETS_PREFIX):
            stage = replace(stage, teacher=str(targets / stage.teacher))
            if not is_target_folder(targets / stage.teacher):
                raise RunError(f"{stage.teacher}: no targets; benchmarks/make_targets.py makes them for {task.name}")
        stages.append(stage)
    return replace(task, stages=tuple(stages))


def work_through(
    tasks: Sequence[Task],
    data: Path,
    runs: Path,
    jobs: int,
    threads: int,
    stop: threading.Event,
    models: Path = MODELS,
) -> list[str]:
    """Train every task in a process of its own, so many at a time.

    Args:
        stop: set it to end all of them after the current step, with their states saved.
    Returns:
        Names of those that failed.
    """
    spawning = multiprocessing.get_context("spawn")
    waiting, running, failed = list(tasks), dict[str, SpawnProcess](), []
    while running or (waiting and not stop.is_set()):
        for task in [] if stop.is_set() else list_ready(waiting, running)[: jobs - len(running)]:
            waiting.remove(task)
            process = spawning.Process(target=work, args=(task, data, runs, threads, models), daemon=True)
            process.start()
            running[task.name] = process
        wait([process.sentinel for process in running.values()], timeout=0.5)
        if stop.is_set():
            for process in running.values():
                process.terminate()
        for name in [name for name, process in running.items() if not process.is_alive()]:
            code = running.pop(name).exitcode
            if code not in (0, STOPPED) and not stop.is_set():
                say(f"{name}: ended with exit code {code}")
                failed.append(name)
    return failed


def list_ready(waiting: Sequence[Task], running: Collection[str]) -> list[Task]:
    """Return the tasks that may begin: no task before them trains the model that they start from, or their teacher."""
    found, ahead = [], set(running)
    for task in waiting:
        if not ahead & {task.start, *(stage.teacher for stage in task.stages)}:
            found.append(task)
        ahead.add(task.name)
    return found


def work(task: Task, data: Path, runs: Path, threads: int, models: Path) -> None:
    """Train one task in this process, which ends with 0, with `STOPPED`, or with 1 and a line that says why."""
    stop = stop_on_signals()
    torch.set_num_threads(threads)
    try:
        train(task, data, runs, stop, models)
    except TrinasError as error:
        say(f"error: {task.name}: {error}")
        sys.exit(1)
    if stop.is_set():
        sys.exit(STOPPED)


def train(task: Task, data: Path, runs: Path, stop: threading.Event, models: Path) -> None:
    """Work through the stages of a task from where they stand, and bundle the network of each.

    Raises:
        RunError: a stage was begun with other settings than the task has, or cannot be resumed.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / f"{task.name}.lock").open("w") as lock:
        if not acquire(lock, stop):
            return
        images = load_images(data, task.data)
        start = task.start
        for number, config in enumerate(task.stages, start=1):
            run_dir = runs / f"{task.name}-{number}"
            if not is_finished(run_dir, config):
                train_stage(run_dir, task, start, config, images, stop)
                if stop.is_set():
                    return
            say(bundle(run_dir, task.name, images, models)[1])
            start = str(run_dir)


def is_finished(run_dir: Path, config: TrainConfig) -> bool:
    """Return whether a stage has taken all its steps.

    Raises:
        RunError: it was begun with other settings, or its state is damaged.
    """
    if not (run_dir / STATE_FILE).is_file():
        return False
    state = load_state(run_dir / STATE_FILE)
    if TrainConfig(**state["config"]) != config:
        raise RunError(f"{run_dir}: was begun with other settings than the queue has; move it away, or take them back")
    return state["step"] == state["steps"]


def train_stage(
    run_dir: Path,
    task: Task,
    start: str | ArchSpec,
    config: TrainConfig,
    images: Sequence[TrainingImage],
    stop: threading.Event,
) -> None:
    """Train one stage, or resume it."""
    report = make_reporter(run_dir, stop)
    learning, held_out = split_by_photograph(images)
    if (run_dir / STATE_FILE).is_file():
        resume_training(run_dir, learning, held_out=held_out, on_progress=report, stop=stop)
        return
    model = None if isinstance(start, ArchSpec) else load_model(start)
    if model and task.grown:
        model = grow_model(model, task.grown)
    spec = replace(model.config.spec, scale=task.scale) if model else start
    assert isinstance(spec, ArchSpec)
    train_network(spec, learning, config, run_dir, held_out=held_out, start=model, on_progress=report, stop=stop)


def grow_model(model: Model, spec: ArchSpec) -> Model:
    """Return a model made deeper (`grow`), whose record says so."""
    network = grow(model.network, replace(spec, scale=model.scale))
    slots, slots_before = (sum(len(cell.slots) for cell in part.cells) for part in (network.spec, model.config.spec))
    if slots == slots_before:  # an earlier stage has grown it
        return model
    note = f"{model.config.name} with {slots - slots_before} more slots, which at first changed nothing of its output"
    training = model.config.training.model_copy(update={"architecture": note})
    return Model(replace(model.config, spec=network.spec, training=training), network)


def make_reporter(run_dir: Path, stop: threading.Event) -> Callable[[TrainingProgress], None]:
    """Return a function that prints a line for each validation and draws the curve.

    It also stops the training when its parent process has ended.
    """
    parent = multiprocessing.parent_process()

    def report(progress: TrainingProgress) -> None:
        if parent is not None and not parent.is_alive():
            stop.set()
        if progress.validated:
            write_training_curve(run_dir)
            left = "" if math.isnan(progress.seconds_left) else f"  {format_duration(progress.seconds_left)} left"
            quality = f"PSNR {format_psnr(progress.psnr, 3)} (best {progress.best_psnr:.3f})"
            say(f"{run_dir.name}  step {progress.step:,}/{progress.steps:,}  {quality}{left}")

    return report


def acquire(lock: TextIO, stop: threading.Event) -> bool:
    """Wait until no other process works on the same task; return False if `stop` is set before."""
    while not stop.is_set():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.5)
        else:
            return True
    return False


def stop_on_signals() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set, however often they come."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def say(line: str) -> None:
    """Print with the time of day, at once: a queue runs for hours, mostly into a file."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


if __name__ == "__main__":
    main()
