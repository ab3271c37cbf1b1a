"""`train`: train a network on your own images."""

from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trinas.config import FINETUNE_LEARNING_RATE, TrainConfig
from trinas.errors import SpecError, TrinasError
from trinas.files import read_json, translate_os_errors

from ..words import format_duration, format_psnr
from .options import (
    TEACHER_COST,
    DeviceOption,
    Precision,
    PrecisionOption,
    SeedOption,
    complete_model,
    refuse_bad_values,
)
from .runs import announce_teacher, check_resume_options, end_stopped, load_images, stop_on_signals
from .terminal import say

if TYPE_CHECKING:
    from trinas.networks.space import ArchSpec
    from trinas.training.run import TrainingProgress
    from trinas.zoo.folder import Model

DataOption = Annotated[list[Path], typer.Option(help="Folder of training images; repeat it for several.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="New folder for the run.")]
ArchOption = Annotated[
    str | None, typer.Option(help="Architecture to train from scratch: a JSON file, or a name such as paper-b1.")
]
StartOption = Annotated[str | None, typer.Option("--from", help="Model to fine-tune.")]
NewScaleOption = Annotated[
    int | None,
    typer.Option("--scale", "-s", min=2, max=4, help="With --from: train for another scale, with a tail fitted to it."),
]
ResumeOption = Annotated[
    Path | None, typer.Option(help="Run folder to resume. Give the same --data again, and no other option.")
]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")]
MinutesOption = Annotated[float | None, typer.Option(help="Time, turned into steps at the start.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Patches per step.")]
PatchOption = Annotated[int, typer.Option(min=8, help="Side of a patch in input pixels.")]
LearningRateOption = Annotated[
    float | None,
    typer.Option(
        help=f"Peak rate of the optimiser. [default: {TrainConfig.learning_rate:g}; "
        f"with --from, at the same scale, {FINETUNE_LEARNING_RATE:g}]"
    ),
]
L2ShareOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the steps, at the end, that minimise the squared error.")
]
VariantsOption = Annotated[
    int,
    typer.Option(
        min=0,
        help="Train a restoration model: blur, add noise to and compress each image in this many ways. 0: train for "
        "clean images.",
    ),
]
TeacherOption = Annotated[
    str | None,
    typer.Option(
        help=f"Model to imitate until --l2-share begins, or a folder of targets (docs/data.md). {TEACHER_COST}",
        autocompletion=complete_model,
    ),
]
BranchesOption = Annotated[bool, typer.Option(help="Over-parameterise 3x3 convolutions during training.")]
ValidateEveryOption = Annotated[int, typer.Option(min=1, help="Steps between validations. Each saves the state.")]


def run_training(
    ctx: typer.Context,
    data: DataOption,
    output: OutputOption = None,
    arch: ArchOption = None,
    start: StartOption = None,
    scale: NewScaleOption = None,
    resume: ResumeOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    batch_size: BatchSizeOption = TrainConfig.batch_size,
    patch: PatchOption = TrainConfig.patch_px,
    learning_rate: LearningRateOption = None,
    l2_share: L2ShareOption = TrainConfig.l2_share,
    variants: VariantsOption = TrainConfig.variants,
    teacher: TeacherOption = TrainConfig.teacher,
    branches: BranchesOption = TrainConfig.branches,
    validate_every: ValidateEveryOption = TrainConfig.validate_every,
    seed: SeedOption = TrainConfig.seed,
    device: DeviceOption = TrainConfig.device,
    precision: PrecisionOption = Precision.AUTO,
) -> None:
    """Train a network on your images. After the first validation, the run folder is a model folder.

    Ctrl-C saves the state and ends. With `--resume` the result is the same as if the training had not been stopped.
    """
    _check_origin(arch, start, resume, scale)
    check_resume_options(ctx, resume)
    if resume is not None:
        _resume_training(resume, data)
        return
    if output is None or (steps is None) == (minutes is None):
        raise typer.BadParameter("a new run needs --output, and exactly one of --steps and --minutes")
    with refuse_bad_values():
        config = TrainConfig(
            steps=steps,
            minutes=minutes,
            batch_size=batch_size,
            patch_px=patch,
            learning_rate=TrainConfig.learning_rate if learning_rate is None else learning_rate,
            l2_share=l2_share,
            variants=variants,
            teacher=teacher,
            branches=branches,
            validate_every=validate_every,
            seed=seed,
            device=device,
            precision=precision.value,
        )
    model, spec = _load_start(start, arch, scale)
    if learning_rate is None and model is not None and model.scale == spec.scale:
        config = replace(config, learning_rate=FINETUNE_LEARNING_RATE)
    _train(spec, model, config, output, data)


def _check_origin(arch: str | None, start: str | None, resume: Path | None, scale: int | None) -> None:
    if sum(choice is not None for choice in (arch, start, resume)) != 1:
        raise typer.BadParameter("give exactly one of --arch, --from and --resume")
    if scale is not None and start is None:
        raise typer.BadParameter("--scale goes with --from; an --arch has its own scale")


def _load_start(start: str | None, arch: str | None, scale: int | None) -> "tuple[Model | None, ArchSpec]":
    """Return the model to start from, if any, and the architecture to train.

    Args:
        start: name or folder of the model.
        arch: JSON file or name of the architecture, if no model is given.
        scale: of the network, if it differs from the model's.
    """
    from trinas.networks.space import PAPER_NETWORKS, find_named_spec
    from trinas.zoo.folder import load_model

    if start is not None:
        model = load_model(start)
        return model, replace(model.config.spec, scale=scale or model.scale)
    assert arch is not None
    return None, find_named_spec(arch) if arch in PAPER_NETWORKS else _read_spec(Path(arch))


def _read_spec(path: Path) -> "ArchSpec":
    """Read an architecture from a JSON file.

    Raises:
        TrinasError: the file cannot be read, or holds no architecture.
    """
    from trinas.networks.space import ArchSpec
    from trinas.zoo.record import MAX_CONFIG_BYTES

    with translate_os_errors(TrinasError, path, "read"):
        try:
            return ArchSpec.from_dict(read_json(path, MAX_CONFIG_BYTES))
        except (ValueError, SpecError) as error:
            raise TrinasError(f"{path}: holds no architecture ({error})") from None


def _train(spec: "ArchSpec", start: "Model | None", config: TrainConfig, run_dir: Path, data: list[Path]) -> None:
    """Start a new training."""
    from trinas.training.loop import train_network
    from trinas.training.state import check_new_run

    stop = stop_on_signals()
    check_new_run(run_dir)
    images = load_images(data)
    announce_teacher(config.teacher, "the first step")
    reporter = _TrainingReporter(run_dir)
    with reporter.line:
        result = train_network(spec, images, config, run_dir, start=start, on_progress=reporter, stop=stop)
    _end_training(result.finished, run_dir, data)


def _resume_training(run_dir: Path, data: list[Path]) -> None:
    """Resume a stopped training."""
    from trinas.training.loop import resume_training
    from trinas.training.run import load_training_state

    stop = stop_on_signals()
    load_training_state(run_dir)  # before the images are loaded, which takes long
    images = load_images(data)
    reporter = _TrainingReporter(run_dir)
    with reporter.line:
        result = resume_training(run_dir, images, on_progress=reporter, stop=stop)
    _end_training(result.finished, run_dir, data)


class _TrainingReporter:
    """Shows the progress of a training and draws its curve.

    Progress is a line that is updated on a terminal, or one line a validation.

    Attributes:
        line: where the progress is shown.
    """

    def __init__(self, run_dir: Path) -> None:
        from .progress import ProgressLine

        self.line = ProgressLine()
        self._run_dir = run_dir

    def __call__(self, progress: "TrainingProgress") -> None:
        from trinas.reports.charts import write_training_curve

        if progress.validated:
            write_training_curve(self._run_dir)
        if isnan(progress.steps_per_second):  # before the first step
            return
        quality = f"PSNR {format_psnr(progress.psnr, 3)} (best {progress.best_psnr:.3f})  "
        words = (
            f"{progress.steps_per_second:.1f} steps/s  loss {progress.loss:.5f}  "
            f"{'' if isnan(progress.psnr) else quality}{format_duration(progress.seconds_left)} left"
        )
        title = f"step {progress.step:,}/{progress.steps:,}"
        self.line.show(title, progress.step, progress.steps, words, keeps=progress.validated)


def _end_training(finished: bool, run_dir: Path, data: list[Path]) -> None:
    """Say how the training ended. If it was stopped, end the program with exit code 130."""
    if not finished:
        end_stopped("train", run_dir, data)
    if (psnr := _find_unbeaten_psnr(run_dir)) is not None:
        say(
            f"No step was better than the start ({format_psnr(psnr)} on held-out images), so its weights are kept. Try "
            "more images, more time or a lower --learning-rate."
        )
    say(f"Done; use it with --model {run_dir}")


def _find_unbeaten_psnr(run_dir: Path) -> float | None:
    """Return the validation PSNR, in dB, of the weights that a run started from; None if a later step was better."""
    from trinas.training.run import read_validations

    best = max(read_validations(run_dir), key=lambda validation: validation.psnr)
    return best.psnr if best.step == 0 else None
