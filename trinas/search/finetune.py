"""Fine-tune the network that a search has chosen, and record how the search went."""

import copy
import hashlib
import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from trinas.config import TrainConfig
from trinas.networks.latency import measure_ms_per_mp
from trinas.networks.network import Network
from trinas.search.pace import choose_arch_rate, choose_tuning_rate, choose_weight_rate, find_given_steps
from trinas.search.record import (
    SAMPLE_FILES,
    STAGES,
    BatchSize,
    Finished,
    LearntImages,
    ModelOrigin,
    NetworkTime,
    Precisions,
    SearchProgress,
    SearchRecord,
    StageStarted,
    write_search_record,
)
from trinas.search.run import FINE_TUNE, SearchSession
from trinas.search.sample import write_samples
from trinas.text import escape_text
from trinas.training.data import Pair, make_pairs, split
from trinas.training.loop import begin_training, continue_training
from trinas.training.metrics import EXACT_PSNR, psnr_y, upscale_bicubic
from trinas.training.run import TrainingProgress
from trinas.training.state import STATE_FILE as TRAINING_STATE_FILE
from trinas.zoo.folder import Model, load_config
from trinas.zoo.record import UNSPECIFIED, WEIGHTS_FILE, ModelConfig, TrainingRecord

SAFE_SHARE = 0.95
"""Share of the remaining time that fine-tuning plans for. Its speed is judged by a few steps only."""

TUNING_BATCH = 8
"""Patches per step of the fine-tuning, half as many as `train` takes. In a short time, more steps are worth more."""

L2_SHARE = 0.15
"""Share of the fine-tuning, at its end, that minimises the squared error."""


def finetune(session: SearchSession) -> Network | None:
    """Train the chosen network, or resume its training. At the end, record the search.

    Returns:
        The trained network, on the CPU; None if the training was stopped.
    """
    run = session.run
    relay = _ProgressRelay(session)
    if (session.run_dir / TRAINING_STATE_FILE).exists():
        result = continue_training(session.run_dir, session.images, relay, session.stop)
    else:
        start, config = _build_start(session), _make_tuning_config(session)
        result = begin_training(start.config.spec, session.images, config, session.run_dir, start, relay, session.stop)
    if not result.finished:
        return None
    if not run.finished:
        record_search(session, result.network, relay.costs)
        session.events.add(Finished(psnr=run.psnr, costs=relay.costs, seconds=session.seconds))
        run.finished = True
        session.save()
    elif not all((session.run_dir / name).is_file() for name in SAMPLE_FILES.values()):
        # An earlier version finished the search, whose samples were only in report.html.
        write_samples(session.run_dir, result.network, *make_pairs(split(session.images)[1], run.space.scale)[0])
    return result.network


class _ProgressRelay:
    """Turns the progress of the training into events of the search, and saves the search's state."""

    def __init__(self, session: SearchSession) -> None:
        self.session = session
        self.costs = session.run.learner.costs.exact(session.run.learner.supernet.choice())

    def __call__(self, progress: TrainingProgress) -> None:
        session, run = self.session, self.session.run
        if len(run.counts) == FINE_TUNE:
            run.counts.append(progress.steps)
            session.events.add(StageStarted(stage=STAGES[FINE_TUNE], steps=progress.steps))
        if progress.steps != (run.shortened[-1][1] if run.shortened else run.counts[FINE_TUNE]):
            run.shortened.append((progress.step, progress.steps))
        event = SearchProgress(
            stage=STAGES[FINE_TUNE],
            step=progress.step,
            steps=progress.steps,
            anneal=1.0,
            loss=progress.loss,
            psnr=progress.psnr,
            validated=progress.validated and progress.step > run.step,
            costs=self.costs,
            budgets=run.config.budgets.given(),
            steps_per_second=progress.steps_per_second,
            seconds_left=progress.seconds_left,
        )
        session.events.add(event)
        run.step, run.psnr = progress.step, progress.best_psnr
        if progress.validated or progress.step == 0 or session.stop.is_set():
            session.save()


def _build_start(session: SearchSession) -> Model:
    """Return the network of the supernet's choice as a model, with a record of its search."""
    run = session.run
    network = run.learner.supernet.derive(run.learner.supernet.choice())
    space = run.space
    training: dict[str, Any] = {
        "method": "trilevel search",
        "space": f"{space.name}, trunk width {space.trunk_width}, {space.cells} cells of {space.slots} slots",
        "budgets": ", ".join(f"{name} {limit:g}" for name, limit in run.config.budgets.given().items()),
        "supernet": run.started_from.name if run.started_from else "from noise",
        "steps": " + ".join(map(str, run.counts[:FINE_TUNE])),
        "validation_psnr": round(run.psnr, 4),
    }
    if run.started_from:
        training["started_from"] = TrainingRecord(**run.started_from.model_dump())
    return Model(ModelConfig("the supernet", network.spec, UNSPECIFIED, TrainingRecord(**training)), network)


def _make_tuning_config(session: SearchSession) -> TrainConfig:
    run, config = session.run, session.run.config
    minutes: float | None = None
    if config.minutes is not None:
        minutes = max(SAFE_SHARE * (config.minutes - session.seconds / 60), 0.05 * config.minutes)
    return TrainConfig(
        steps=find_given_steps(run, FINE_TUNE),
        minutes=minutes,
        batch_size=TUNING_BATCH,
        learning_rate=choose_tuning_rate(run.space.trunk_width),
        l2_share=L2_SHARE,
        teacher=config.teacher,
        shortened=config.shortened,
        seed=config.seed,
        device=config.device,
        precision=run.learner.precision,
    )


def record_search(session: SearchSession, network: Network, costs: dict[str, float]) -> None:
    """Write report.json and the samples of a search.

    Args:
        session: of the search.
        network: the trained network, on the CPU.
        costs: of the network, by name.
    Raises:
        RunError: the run folder cannot be written.
    """
    run, run_dir = session.run, session.run_dir
    held_out = make_pairs(split(session.images)[1], run.space.scale)
    measured = measure_ms_per_mp(copy.deepcopy(network), run.learner.device, run.running_precision)
    record = SearchRecord(
        space=run.space,
        primitives=run.space.primitives,
        settings=replace(run.config, teacher=run.config.teacher and escape_text(run.config.teacher)),  # may be a path
        started_from=run.started_from,
        taught_by=_read_teacher(run_dir),
        rates={
            "weights": choose_weight_rate(run),
            "architecture parameters": choose_arch_rate(run),
            "fine-tuning": choose_tuning_rate(run.space.trunk_width),
        },
        fine_tuning=BatchSize(batch_size=TUNING_BATCH, patch_px=TrainConfig.patch_px),
        steps=dict(zip(STAGES, run.counts, strict=True)),
        shortened=tuple(run.shortened),
        budgets=run.config.budgets.given(),
        results=costs,
        spec=network.spec,
        weights_sha256=hashlib.sha256((run_dir / WEIGHTS_FILE).read_bytes()).hexdigest(),
        validation_psnr=run.psnr,
        bicubic_psnr=measure_bicubic_psnr(held_out, run.space.scale),
        ms_per_mp=NetworkTime(expected=costs.get("ms_per_mp"), measured=measured),
        times=run.times,
        step_seconds=tuple(run.step_times),
        seconds=round(session.seconds),
        data=_describe_images(session),
        device=str(run.learner.device),
        precision=Precisions(training=run.learner.precision, running=run.running_precision),
        threads=torch.get_num_threads(),
        versions={
            "trinas-upscale": _read_own_version(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )
    write_samples(run_dir, network, *held_out[0])
    write_search_record(run_dir, record)


def _read_teacher(run_dir: Path) -> ModelOrigin | None:
    teacher = load_config(str(run_dir)).training.taught_by
    return ModelOrigin(name=teacher.name, sha256=teacher.sha256, data=teacher.data) if teacher else None


def _describe_images(session: SearchSession) -> LearntImages:
    return LearntImages(
        folders=sorted({escape_text(Path(folder).name) for folder in session.run.folders}),
        images=len(session.images),
        sha256=session.data_sha256,
    )


def measure_bicubic_psnr(pairs: list[Pair], scale: int) -> float:
    """Return the mean PSNR on Y of bicubic upscaling, in dB, computed as in `measure_validation_psnr`."""
    return fmean(min(psnr_y(upscale_bicubic(low, scale), high, scale), EXACT_PSNR) for low, high in pairs)


def _read_own_version() -> str:
    try:
        return version("trinas-upscale")
    except PackageNotFoundError:
        return "not installed"
