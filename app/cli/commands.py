"""The command line: parse, call trinas, print. No image or tensor maths, and no torch until work begins."""

import difflib
import errno
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, replace
from enum import Enum
from importlib.metadata import version
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from trinas.config import (
    DEFAULT_SCALE,
    GOING_ON_RATE,
    MAX_INPUT_PX,
    MAX_OUTPUT_PX,
    TEST_SETS,
    SaveConfig,
    SizeConfig,
    TrainConfig,
    UpscaleConfig,
)
from trinas.errors import TrinasError

from ..web.limits import Limits

if TYPE_CHECKING:
    from trinas.config import SearchConfig
    from trinas.inference.batch import Job, Outcome, Plan
    from trinas.inference.cascade import Enlarger
    from trinas.inference.tiled import Upscaler
    from trinas.networks.space import ArchSpec, SearchSpace
    from trinas.search.loop import SearchResult
    from trinas.search.record import Event
    from trinas.training.data import Photograph
    from trinas.training.loop import Progress
    from trinas.training.metrics import Figures, ImageFigures
    from trinas.zoo.folder import Model


class MainGroup(TyperGroup):
    """Runs `upscale` where the first word is no command, so that `trinas-upscale photos/ -s 4` just works."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            meant = difflib.get_close_matches(args[0], [*self.commands, "help"], n=1)
            if meant and not Path(args[0]).exists():
                ctx.fail(f"No file, folder or command {args[0]!r}; did you mean {meant[0].replace('help', '--help')}?")
            args = ["upscale", *args]
        return super().parse_args(ctx, args)


cli = typer.Typer(
    cls=MainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_cli = typer.Typer(help="List the bundled models; pull and push others.", invoke_without_command=True)
cli.add_typer(models_cli, name="models")
data_cli = typer.Typer(help="Get public training photographs.", no_args_is_help=True)
cli.add_typer(data_cli, name="data")


class FileFormat(str, Enum):
    """Formats results can be written in, as they are named in a file's suffix."""

    PNG = "png"
    JPG = "jpg"
    WEBP = "webp"
    TIFF = "tiff"
    AVIF = "avif"
    BMP = "bmp"


class Precision(str, Enum):
    """Number formats networks run in; auto takes bf16 where it is faster: for wide networks, and for all that learn."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


TEACHING_HELP = (
    "It enlarges all images beforehand, 8 times each, on top of --minutes, which pays in long trainings from scratch."
)


def _complete_model(incomplete: str) -> list[str]:
    """Names of bundled models that begin like this, for the shell."""
    from trinas.zoo.folder import bundled_models

    return [name for name in bundled_models() if name.startswith(incomplete)]


class DataName(str, Enum):
    """Public training sets, see `trinas.training.datasets`."""

    DIV2K = "div2k"
    FLICKR2K = "flickr2k"


class SpaceName(str, Enum):
    """Search spaces."""

    EDGE = "edge"
    EDGE_ALL = "edge-all"
    PAPER_A = "paper-a"
    PAPER_B = "paper-b"


DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda (or cuda:1) or mps; see `devices`.", metavar="DEVICE")]
PrecisionOption = Annotated[Precision, typer.Option(help="Number format of the network; auto takes the faster one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
ScaleOption = Annotated[
    int | None,
    typer.Option("--scale", "-s", min=2, help="Output pixels per input pixel. [default: the model's, or 4]"),
]
TtaOption = Annotated[bool, typer.Option("--tta", help="Mean over 8 turns and flips: a little better, 8 times slower.")]

SIZE, SAVING, BUDGETS, SPACE, LIMITS = "Size", "Saving", "Budgets", "Search space", "Limits for each visitor"
"""Panels of the help of `upscale`, `search` and `web`."""

DEFAULT_SEARCH_MINUTES = 30


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trinas-upscale {version('trinas-upscale')}")
        raise typer.Exit


@cli.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Enlarge photographs with tiny super-resolution networks.

    `trinas-upscale photos/ cat.jpg -s 4` enlarges every picture four times, into the folder `upscaled`.
    A first word that is no command below is taken for an input; write a folder named `models` as `./models`.
    """


@cli.command()
def upscale(
    inputs: Annotated[list[Path], typer.Argument(help="Images, and folders of images, to enlarge.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("upscaled"),
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Take sub-folders too; results go into the same sub-folders.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist already.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, how long it takes, and what will fail.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="Bundled name (see `trinas-upscale models`), a model's folder, or user/name[@revision] of the Hugging "
            "Face Hub. [default: chosen by the size; for a strongly compressed JPEG one that smooths that away]",
            autocompletion=_complete_model,
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option(min=0, max=1, help="How much of the network's work is kept: 0 is bicubic.")
    ] = UpscaleConfig.strength,
    tta: TtaOption = UpscaleConfig.tta,
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale", "-s", help="Output pixels per input pixel, 1 to 16. [default: 4]", rich_help_panel=SIZE
        ),
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Width of results, in pixels.", rich_help_panel=SIZE)] = None,
    height: Annotated[
        int | None,
        typer.Option(min=1, help="Height of results; with --width, they fit into both.", rich_help_panel=SIZE),
    ] = None,
    long_side: Annotated[
        int | None, typer.Option(min=1, help="Longer side of results, in pixels.", rich_help_panel=SIZE)
    ] = None,
    max_input_mp: Annotated[
        float, typer.Option(min=0.001, help="Larger pictures are refused; megapixels.", rich_help_panel=SIZE)
    ] = MAX_INPUT_PX / 1e6,
    max_output_mp: Annotated[
        float, typer.Option(min=0.001, help="Larger results are refused; megapixels.", rich_help_panel=SIZE)
    ] = MAX_OUTPUT_PX / 1e6,
    file_format: Annotated[
        FileFormat | None,
        typer.Option("--format", help="Format of results. [default: the input's own]", rich_help_panel=SAVING),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Of JPEG, WebP and AVIF. [default: 95]", rich_help_panel=SAVING),
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Write WebP without losses.", rich_help_panel=SAVING)
    ] = False,
    background: Annotated[
        str | None,
        typer.Option(help="Lay transparent pictures onto this colour: white, #rrggbb.", rich_help_panel=SAVING),
    ] = None,
    strip_metadata: Annotated[
        bool,
        typer.Option(
            "--strip-metadata", help="Leave out EXIF, XMP and resolution; keep the profile.", rich_help_panel=SAVING
        ),
    ] = False,
    tile: Annotated[
        int,
        typer.Option(min=16, help="Longest side of a tile in input pixels; smaller takes less memory."),
    ] = UpscaleConfig.tile_px,
    device: DeviceOption = UpscaleConfig.device,
    precision: PrecisionOption = Precision.AUTO,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print failures only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Enlarge images, keeping their alpha, colours, bit depth and metadata (the default command).

    Results are named `<stem>_x<scale>` in the input's own format. Those that exist are skipped. A bad file
    is reported and the others go on; the exit code is then 1.
    """
    try:
        size = SizeConfig(scale, width, height, long_side, round(max_input_mp * 1e6), round(max_output_mp * 1e6))
        suffix = f".{file_format.value}" if file_format else None
        save = SaveConfig(suffix, quality, lossless, background, strip_metadata)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from None
    import PIL.Image

    from trinas.inference.batch import plan_jobs, run_jobs
    from trinas.inference.cascade import Enlarger

    PIL.Image.MAX_IMAGE_PIXELS = None  # --max-input-mp is the limit, and is looked at before decoding too

    if model and scale is None and not (width or height or long_side):
        size = replace(size, scale=_scale_of(model))
    enlarger = Enlarger(model, UpscaleConfig(tile, strength, tta, device, precision.value))
    plan = plan_jobs(inputs, output, size, save, recursive=recursive)
    quiet = quiet or as_json
    if not quiet:
        _print_left_out(plan)
    if dry_run:
        _print_estimates(plan, enlarger, size, save, overwrite=overwrite, as_json=as_json)
        return
    count = sum(not job.problem for job in plan.jobs)
    if count and not quiet:
        typer.echo(f"Enlarging {_count(count, 'image')} {_wish(size)} on {enlarger.device}", err=True)
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    interrupted = False
    with ImagesBar(plan.jobs, hidden=quiet) as bar:
        try:
            for outcome in run_jobs(plan.jobs, enlarger, size, save, overwrite=overwrite, on_tile=bar):
                outcomes.append(outcome)  # one by one, so that an interruption keeps those before it
                bar.say(_line(outcome, quiet))
        except KeyboardInterrupt:
            interrupted = True
    if as_json:
        left_out = [str(path) for path in plan.left_out + plan.earlier]
        typer.echo(json.dumps({**_summary(outcomes), "left_out": left_out}, indent=2))
    if not quiet:
        _print_summary(outcomes, output, time.perf_counter() - started)
    if interrupted:
        typer.echo(f"Stopped; {_count(len(plan.jobs) - len(outcomes), 'image')} not done.", err=True)
        _leave_at_once(130)
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(1)


@cli.command()
def compare(
    image: Annotated[Path, typer.Argument(help="A picture to enlarge.")],
    models: Annotated[
        list[str] | None,
        typer.Option(help="Names or folders, with commas between or repeated. [default: all bundled of the scale]"),
    ] = None,
    scale: ScaleOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")] = Path("comparison.png"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace it if it exists.")] = False,
    device: DeviceOption = UpscaleConfig.device,
    precision: PrecisionOption = Precision.AUTO,
) -> None:
    """Show what bicubic and several models make of an image: one picture with labelled crops, side by side."""
    from trinas.errors import ImageError
    from trinas.files import write_atomically
    from trinas.images.read_write import read_image
    from trinas.inference.compare import compare_models
    from trinas.zoo.folder import load_model, models_of_scale

    if output.suffix.lower() != ".png":
        raise ImageError(f"{output}: a comparison is written as PNG; choose a name that ends in .png")
    if output.exists() and not overwrite:
        raise ImageError(f"{output}: exists; choose another -o, or --overwrite")
    if output.resolve() == image.resolve():
        raise ImageError(f"{output}: is the picture itself; choose another -o")
    named = [name.strip() for part in models or [] for name in part.split(",")]
    names = named or models_of_scale(scale or DEFAULT_SCALE)
    loaded = [load_model(name) for name in names]
    if len({*(model.scale for model in loaded), *([scale] if scale else [])}) > 1:
        listed = ", ".join(f"{name} x{model.scale}" for name, model in zip(names, loaded, strict=True))
        raise TrinasError(f"only models of one scale can be compared: {listed}" + (f", -s {scale}" if scale else ""))
    config = UpscaleConfig(device=device, precision=precision.value)
    content = compare_models(read_image(image), loaded, config)
    try:
        write_atomically(output, content)
    except OSError as error:
        raise ImageError(f"{output}: cannot be written ({error.strerror})") from None
    typer.echo(f"Wrote {output}: bicubic and {_count(len(names), 'model')}.")


@cli.command()
def devices(as_json: JsonOption = False) -> None:
    """List where networks can run here; auto takes the one marked with a star."""
    from trinas.device import list_devices

    found = list_devices()
    if as_json:
        typer.echo(json.dumps([asdict(device) for device in found], indent=2))
        return
    _print_table([[f"{device.name}{' *' if device.is_default else ''}", device.hardware] for device in found])


@models_cli.callback()
def list_models(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the bundled models: what they are for, their size, work and measured quality."""
    if ctx.invoked_subcommand is not None:
        return
    from trinas.networks.cost import spec_cost
    from trinas.zoo.folder import DEFAULT_MODELS, bundled_models, load_config

    configs = [(config, spec_cost(config.spec)) for config in map(load_config, bundled_models())]
    configs.sort(key=lambda pair: (pair[0].spec.scale, pair[0].restores, pair[1].params))
    if as_json:
        rows = [
            {
                "name": config.name,
                "scale": config.spec.scale,
                "is_default": config.name in DEFAULT_MODELS.values(),
                "restores": config.restores,
                "params": cost.params,
                "macs": cost.macs,
                "figures": config.figures,
                "licence": config.licence,
            }
            for config, cost in configs
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = [["name", "scale", "made for", "parameters", "G macs", *TEST_SETS, "licence"]]
    for config, cost in configs:
        name = f"{config.name}{' *' if config.name in DEFAULT_MODELS.values() else ''}"
        purpose = "noise, compression" if config.restores else "clean input"
        psnr = [f"{config.figures[test]['psnr']:.2f}" if test in config.figures else "-" for test in TEST_SETS]
        size = [f"{cost.params:,}", f"{cost.macs / 1e9:.2f}"]
        table.append([name, f"x{config.spec.scale}", purpose, *size, *psnr, config.licence])
    _print_table(table, numbers=range(3, 5 + len(TEST_SETS)))
    typer.echo(
        "* used for its scale unless --model is given; strongly compressed JPEGs get one made for that.\n"
        "Set5, Set14, BSD100: PSNR on Y in dB on test sets of clean pictures; higher is better.\n"
        "G macs: billions of multiply-adds for a result of 1280x720."
    )


@cli.command()
def evaluate(
    images: Annotated[Path, typer.Argument(help="Folder of high-resolution images, or one of them.")],
    scale: ScaleOption = None,
    model: Annotated[
        str | None, typer.Option(help="Bundled name, a model's folder, or bicubic.", autocompletion=_complete_model)
    ] = None,
    tta: TtaOption = UpscaleConfig.tta,
    device: DeviceOption = UpscaleConfig.device,
    precision: PrecisionOption = Precision.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Measure PSNR and SSIM on Y by the field's protocol: reduce each image, enlarge it again, compare."""
    from trinas.training.metrics import evaluate_model, upscale_bicubic

    if not images.exists():
        raise TrinasError(f"{images}: no such file or folder")
    if model == "bicubic":
        name, factor = model, scale or DEFAULT_SCALE
        figures = evaluate_model(lambda low: upscale_bicubic(low, factor), images, factor)
    else:
        config = UpscaleConfig(tta=tta, device=device, precision=precision.value)
        upscaler, name = _load_upscaler(model, scale, config)
        factor = upscaler.scale
        figures = evaluate_model(upscaler.rgb8, images, factor)
    if as_json:
        rows = [{"image": image.name, **_json_figures(image)} for image in figures.images]
        mean = _json_figures(figures)
        typer.echo(json.dumps({"model": name, "scale": factor, "mean": mean, "images": rows}, indent=2))
        return
    lines = [[image.name, f"{image.psnr:.2f}", f"{image.ssim:.4f}"] for image in figures.images]
    mean_line = [f"mean of {len(lines)}", f"{figures.psnr:.2f}", f"{figures.ssim:.4f}"]
    _print_table([[f"{name}, x{factor}", "PSNR", "SSIM"], *lines, mean_line])


@cli.command()
def train(
    ctx: typer.Context,
    data: Annotated[list[Path], typer.Option(help="Folder of training images; repeat it for several.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="New folder for the run.")] = None,
    arch: Annotated[
        str | None, typer.Option(help="Architecture to train from scratch: a JSON file, or a name such as paper-b1.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="Model whose training goes on.")] = None,
    scale: Annotated[
        int | None,
        typer.Option("--scale", "-s", min=2, max=4, help="With --from: another scale, whose tail is learnt anew."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on with; needs the same --data, and nothing else.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time, turned into steps at the start.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Patches per step.")] = TrainConfig.batch_size,
    patch: Annotated[int, typer.Option(min=8, help="Side of a patch in input pixels.")] = TrainConfig.patch_px,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help=f"Peak rate of the optimiser. [default: {TrainConfig.learning_rate:g}; "
            f"with --from, at the same scale, {GOING_ON_RATE:g}]"
        ),
    ] = None,
    l2_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the steps, at the end, on squared error.")
    ] = TrainConfig.l2_share,
    variants: Annotated[
        int,
        typer.Option(
            min=0,
            help="Learn from photographs that are blurred, noisy and compressed, each in so many ways; 0 leaves them.",
        ),
    ] = TrainConfig.variants,
    teacher: Annotated[
        str | None,
        typer.Option(help=f"Model to imitate until --l2-share begins. {TEACHING_HELP}", autocompletion=_complete_model),
    ] = TrainConfig.teacher,
    branches: Annotated[
        bool, typer.Option(help="Over-parameterise 3x3 convolutions while training.")
    ] = TrainConfig.branches,
    validate_every: Annotated[
        int, typer.Option(min=1, help="Steps between validations and saved states.")
    ] = TrainConfig.validate_every,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = TrainConfig.seed,
    device: DeviceOption = TrainConfig.device,
    precision: PrecisionOption = Precision.AUTO,
) -> None:
    """Train a network on your photographs; the run folder is a model folder from its first validation on.

    Ctrl-C saves the state and ends; `--resume` goes on as if nothing had happened.
    """
    if sum(choice is not None for choice in (arch, start, resume)) != 1:
        raise typer.BadParameter("give exactly one of --arch, --from and --resume")
    if scale is not None and start is None:
        raise typer.BadParameter("--scale goes with --from; an --arch says its own")
    _check_resumed(ctx, resume)
    if resume is None and (output is None or (steps is None) == (minutes is None)):
        raise typer.BadParameter("a new run needs --output, and exactly one of --steps and --minutes")
    from trinas.training.data import load_photographs
    from trinas.training.loop import check_new_run, resume_training, train_network
    from trinas.zoo.folder import load_model

    stop = _stop_on_signals()
    run_dir = resume or output
    assert run_dir is not None
    finished = False

    def on_progress(progress: "Progress") -> None:
        nonlocal finished
        finished = progress.step == progress.steps
        _print_training(progress)

    if resume is not None:
        resume_training(resume, load_photographs(data), on_progress=on_progress, stop=stop)
    else:
        model = load_model(start) if start else None
        spec = _rescaled(model, scale) if model else _named_or_read(arch)
        if learning_rate is None:
            goes_on = model is not None and spec.scale == model.scale
            learning_rate = GOING_ON_RATE if goes_on else TrainConfig.learning_rate
        try:
            config = TrainConfig(
                steps=steps,
                minutes=minutes,
                batch_size=batch_size,
                patch_px=patch,
                learning_rate=learning_rate,
                l2_share=l2_share,
                variants=variants,
                teacher=teacher,
                branches=branches,
                validate_every=validate_every,
                seed=seed,
                device=device,
                precision=precision.value,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        check_new_run(run_dir)
        photographs = load_photographs(data)
        _announce_teacher(teacher, "the first step")
        train_network(spec, photographs, config, run_dir, start=model, on_progress=on_progress, stop=stop)
    if sys.stderr.isatty():
        typer.echo("", err=True)
    if not finished:
        _end_stopped("train", run_dir, data)
    if (psnr := _psnr_if_start_is_best(run_dir)) is not None:
        typer.echo(
            f"Nothing was better than the start ({psnr:.2f} dB on held-out images), whose weights are kept: it takes "
            "more images, more time or a lower --learning-rate.",
            err=True,
        )
    typer.echo(f"Done; use it with --model {run_dir}", err=True)


def _psnr_if_start_is_best(run_dir: Path) -> float | None:
    """Validation PSNR in dB of the model that a run went on from, where no step of it was better."""
    from trinas.training.loop import METRICS_FILE

    metrics = [json.loads(line) for line in (run_dir / METRICS_FILE).read_text(encoding="utf-8").splitlines()]
    best = max(metrics, key=lambda line: line["psnr"])
    return best["psnr"] if best["step"] == 0 else None


@cli.command()
def search(
    ctx: typer.Context,
    max_params: Annotated[
        str | None, typer.Option(help="Most parameters: 500k, 1.2M.", metavar="N", rich_help_panel=BUDGETS)
    ] = None,
    max_macs: Annotated[
        str | None,
        typer.Option(help="Most multiply-adds for a 1280x720 output: 3G.", metavar="N", rich_help_panel=BUDGETS),
    ] = None,
    max_ms_per_mp: Annotated[
        float | None,
        typer.Option(
            help="Most milliseconds per megapixel of output, measured on this device with as many threads as torch "
            "takes (OMP_NUM_THREADS) and in the precision that pictures are enlarged in.",
            rich_help_panel=BUDGETS,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of photographs to learn from; repeat it for several. [default: generated images]"),
    ] = None,
    scale: Annotated[
        int, typer.Option("--scale", "-s", min=2, max=4, help="Output pixels per input pixel.")
    ] = DEFAULT_SCALE,
    steps: Annotated[
        str | None,
        typer.Option(
            help="Steps in place of minutes: of all stages together (4, 11 and 85 %), or as N,N,N of warm-up, search "
            "and fine-tuning.",
            metavar="N",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help=f"Time for search and training together. [default: {DEFAULT_SEARCH_MINUTES}]"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New folder for the run. [default: like searched-x4-500k]")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Folder of a stopped search to go on with; give the same --data again, no other option."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help=f"Model to imitate in the fine-tuning. {TEACHING_HELP}", autocompletion=_complete_model),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from noise in place of the pretrained supernet.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and batches.")] = 0,
    space: Annotated[
        SpaceName, typer.Option(help="What to choose among; see docs/search.md.", rich_help_panel=SPACE)
    ] = SpaceName.EDGE,
    trunk_width: Annotated[
        int | None,
        typer.Option(
            min=1, help="Channels between cells, the most. [default: by the budgets; paper: 64]", rich_help_panel=SPACE
        ),
    ] = None,
    cells: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cells on a path, the most. [default: by the budgets; paper: 5]", rich_help_panel=SPACE
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="Primitives in a cell. [default: 3; paper: 5]", rich_help_panel=SPACE),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.AUTO,
) -> None:
    """Find and train a network that keeps within your budgets, ready for `--model`.

    At least one budget is needed; of several all are kept.

    While it searches, expected costs may exceed the budgets; the network never does. Ctrl-C saves the state and
    ends; `--resume` goes on as if nothing had happened.
    """
    _check_resumed(ctx, resume)
    if resume is None and max_params is None and max_macs is None and max_ms_per_mp is None:
        raise typer.BadParameter("give a budget: --max-params, --max-macs or --max-ms-per-mp")
    from trinas.config import Budgets, SearchConfig
    from trinas.search.loop import resume_search, search_network
    from trinas.search.run import check_search_resumable
    from trinas.training.loop import check_new_run

    stop = _stop_on_signals()
    if resume is not None:
        run_dir = resume
        check_search_resumable(run_dir, generated=not data)
        typer.echo(f"Going on with {run_dir}", err=True)
        result = resume_search(resume, _search_images(data), on_event=_print_search, stop=stop)
    else:
        try:
            budgets = Budgets(_amount(max_params, "--max-params"), _amount(max_macs, "--max-macs"), max_ms_per_mp)
            if steps is None and minutes is None:
                minutes = DEFAULT_SEARCH_MINUTES
            config = SearchConfig(
                budgets,
                steps=_step_counts(steps),
                minutes=minutes,
                teacher=teacher,
                warm_start=not from_scratch,
                seed=seed,
                device=device,
                precision=precision.value,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        wished = "-".join(
            str(limit) for limit in (max_params, max_macs, max_ms_per_mp and f"{max_ms_per_mp:g}ms") if limit
        )
        run_dir = output or Path(f"searched-x{scale}-{wished}")
        check_new_run(run_dir)
        chosen = _search_space(space.value, scale, config, trunk_width, cells, slots)
        photographs = _search_images(data)
        _announce_teacher(teacher, "fine-tuning")
        result = search_network(chosen, photographs, config, run_dir, on_event=_print_search, stop=stop)
    _end_search(result, run_dir, data)


@models_cli.command()
def pull(
    model: Annotated[str, typer.Argument(help="user/name of the Hugging Face Hub, or user/name@revision.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="New folder. [default: the name]")] = None,
) -> None:
    """Download a model of the Hugging Face Hub into a folder, checked.

    `--model user/name` does without: it keeps models in the Hub's own cache.
    """
    from trinas.errors import ModelError
    from trinas.zoo.folder import pull_model
    from trinas.zoo.hub import is_hub_id

    if not is_hub_id(model):
        raise ModelError(f"{model}: not user/name of the Hub")
    folder = output or Path(model.partition("@")[0].rpartition("/")[2])
    pull_model(model, folder)
    typer.echo(f"Done; use it with --model {folder}", err=True)


@models_cli.command()
def push(
    model: Annotated[str | None, typer.Argument(help="Bundled name or a model's folder.")] = None,
    repository: Annotated[str | None, typer.Argument(help="user/name; made if need be.")] = None,
    organisation: Annotated[
        str | None, typer.Option("--all", help="Push every bundled model, each as ORG/name.", metavar="ORG")
    ] = None,
) -> None:
    """Upload a model to the Hugging Face Hub: weights, config.json and card with its picture.

    Log in with `hf auth login` first, or set HF_TOKEN, with a token that may write.
    """
    from trinas.zoo.folder import bundled_models, find_model, push_model

    if organisation is not None and model is None:
        wishes = [(name, f"{organisation}/{name}") for name in bundled_models()]
    elif organisation is None and model is not None and repository is not None:
        wishes = [(model, repository)]
    else:
        raise typer.BadParameter("give a model and user/name, or --all ORG")
    for name, target in wishes:
        typer.echo(f"{name} is at {push_model(find_model(name), target)}")


@data_cli.callback()
def data_root() -> None:
    """Get public training photographs."""


@data_cli.command("get")
def get_data(
    name: Annotated[DataName, typer.Argument(help="The set.")],
    folder: Annotated[Path, typer.Argument(help="Gets a sub-folder with the images.", metavar="DIR")],
) -> None:
    """Download a set of training photographs, check it and unpack it; run the same again to go on.

    - `div2k`: 800 photographs, 3.5 GB
    - `flickr2k`: 2650 photographs, 20 GB

    Both are for academic research only. While it is unpacked, a set takes twice its size.
    """
    from trinas.training.datasets import DATA_SETS, get_data_set

    typer.echo(DATA_SETS[name.value].about, err=True)
    images = get_data_set(DATA_SETS[name.value], folder, _PrintSteps())
    if sys.stderr.isatty():
        typer.echo("", err=True)
    typer.echo(f"Done; learn from it with --data {images}", err=True)


@cli.command()
def export(
    model: Annotated[str, typer.Argument(help="Bundled name, a model's folder, or user/name of the Hub.")],
    output: Annotated[Path, typer.Argument(help="File to write, for example out.onnx.", metavar="OUT.ONNX")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if there is one.")] = False,
) -> None:
    """Write a model as ONNX, for programs without PyTorch.

    The input `low` is (N, 3, H, W), float32, sRGB in [0, 1], of any size; the output `high` is scale times as high
    and wide, and needs clamping. Takes the packages onnx and onnxscript.
    """
    from trinas.errors import ModelError
    from trinas.zoo.folder import load_model
    from trinas.zoo.onnx import export_onnx

    if output.exists() and not overwrite:
        raise ModelError(f"{output}: exists already; choose another name, or give --overwrite")
    export_onnx(load_model(model), output)
    typer.echo(f"Wrote {output}", err=True)


@cli.command()
def web(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    auth: Annotated[
        str | None, typer.Option(help="Ask for this name and password.", metavar="USER:PASSWORD", envvar="TRINAS_AUTH")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder for the run folders of searches.")] = Path("searches"),
    max_input_mp: Annotated[
        float, typer.Option(min=0.001, help="Larger pictures are refused; megapixels.", rich_help_panel=LIMITS)
    ] = Limits.input_px / 1e6,
    max_output_mp: Annotated[
        float, typer.Option(min=0.001, help="Larger results are refused; megapixels.", rich_help_panel=LIMITS)
    ] = Limits.output_px / 1e6,
    max_upload_mb: Annotated[
        float, typer.Option(min=0.001, help="Larger files are refused; megabytes.", rich_help_panel=LIMITS)
    ] = Limits.upload_mb,
    max_seconds: Annotated[
        float, typer.Option(min=1, help="A job that takes longer is stopped.", rich_help_panel=LIMITS)
    ] = Limits.seconds,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Jobs that may wait; more are turned away.", rich_help_panel=LIMITS)
    ] = Limits.queue,
    max_search_minutes: Annotated[
        float, typer.Option(min=0, help="Of one search; 0: no searches from the page.", rich_help_panel=LIMITS)
    ] = Limits.search_minutes,
    device: DeviceOption = UpscaleConfig.device,
) -> None:
    """Open a web page to enlarge, compare and search with, on this machine or for others.

    It serves until Ctrl-C. The endpoints `/upscale` and `/models` are for programs.
    """
    if auth is not None and not all(auth.partition(":")):
        raise typer.BadParameter("--auth is a name and a password with a colon between")
    from trinas.device import pick_device

    from ..web.server import WebConfig, serve

    pick_device(device)
    name, _, password = (auth or "").partition(":")
    try:
        input_px, output_px = round(max_input_mp * 1e6), round(max_output_mp * 1e6)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from None
    limits = Limits(
        upload_mb=max_upload_mb,
        input_px=input_px,
        output_px=output_px,
        seconds=max_seconds,
        queue=max_queue,
        search_minutes=max_search_minutes,
    )
    serve(WebConfig(host, port, (name, password) if auth else None, runs, device, limits))


@cli.command()
def reproduce(
    report: Annotated[Path, typer.Argument(help="report.json of a finished search.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of the photographs it learnt from; repeat it for several. [default: generated images, as of a "
            "search without --data]"
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New folder for the run. [default: like RUN-again]")
    ] = None,
) -> None:
    """Run a search again, step by step: on a CPU of the same kind to the same network, weight for weight.

    Exit code 1 if another architecture comes out. A stopped run goes on with `search --resume`.
    """
    from trinas.errors import RunError
    from trinas.search.loop import repeat_search
    from trinas.search.record import read_search_record
    from trinas.training.loop import check_new_run

    found = read_search_record(report)
    run_dir = output or Path(f"{report.resolve().parent.name}-again")
    check_new_run(run_dir)
    stop = _stop_on_signals()
    result = repeat_search(found, _search_images(data), run_dir, on_event=_print_search, stop=stop)
    _end_search(result, run_dir, data)
    assert result.record is not None
    if result.record.spec != found.spec:
        versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        raise RunError(f"{run_dir}: another architecture came out than in {report}, which was made with {versions}")
    same = result.record.weights_sha256 == found.weights_sha256
    typer.echo("The same network." if same else "The same architecture, with slightly other weights.", err=True)


def _end_search(result: "SearchResult", run_dir: Path, data: list[Path] | None) -> None:
    """Write the report and say how a search ended; a stopped one ends the program with exit code 130."""
    from trinas.reports.pages import write_search_report

    if sys.stderr.isatty():
        typer.echo("", err=True)
    if not result.finished:
        _end_stopped("search", run_dir, data)
    write_search_report(run_dir)
    typer.echo(f"Done; use it with --model {run_dir}, read about it in {run_dir / 'report.html'}", err=True)


def _end_stopped(command: str, run_dir: Path, data: list[Path] | None) -> NoReturn:
    """Say how to go on, and end the program with exit code 130."""
    folders = [word for folder in data or [] for word in ("--data", str(folder))]
    again = shlex.join(["trinas-upscale", command, "--resume", str(run_dir), *folders])
    typer.echo(f"Stopped; go on with: {again}", err=True)
    raise typer.Exit(130)


def _announce_teacher(teacher: str | None, before: str) -> None:
    """Nothing else is seen while it is at work."""
    if teacher:
        typer.echo(f"{teacher} enlarges all images before {before}, which may take minutes", err=True)


def _rescaled(model: "Model", scale: int | None) -> "ArchSpec":
    return replace(model.config.spec, scale=scale or model.scale)


def main() -> None:
    """Run the command line; every expected error ends as one line and exit code 1."""
    try:
        cli()
    except TrinasError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # whatever was to be looked up; anything else is a mistake of ours
            raise
        typer.echo(f"error: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)


def _check_resumed(ctx: typer.Context, resume: Path | None) -> None:
    """Refuse settings beside --resume: a run has its own."""
    given = {name for name in ctx.params if _is_given(ctx, name)}
    if resume is not None and given - {"resume", "data"}:
        raise typer.BadParameter("a resumed run keeps its settings: give only --resume and --data")


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _load_upscaler(model: str | None, scale: int | None, config: UpscaleConfig) -> "tuple[Upscaler, str]":
    from trinas.errors import ModelError
    from trinas.inference.tiled import Upscaler
    from trinas.zoo.folder import default_model, load_model

    name = model or default_model(scale or DEFAULT_SCALE)
    loaded = load_model(name)
    if scale not in (None, loaded.scale):
        raise ModelError(f"{name} enlarges {loaded.scale} times, not {scale}; leave out --model or -s {scale}")
    return Upscaler(loaded, config), name


class ImagesBar:
    """A bar over all images with time left, moved by tiles; nothing where nobody watches."""

    TICKS = 1000  # per image

    def __init__(self, jobs: "list[Job]", hidden: bool) -> None:
        self._jobs = jobs
        self._hidden = hidden or not sys.stderr.isatty()
        self._bar = typer.progressbar(length=len(jobs) * self.TICKS, file=sys.stderr, width=24)

    def __enter__(self) -> "ImagesBar":
        if not self._hidden:
            self._bar.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        if not self._hidden:
            self._bar.__exit__(*details)

    def __call__(self, number: int, share: float) -> None:
        if self._hidden:
            return
        self._bar.label = f"{number + 1}/{len(self._jobs)} {self._jobs[number].source.name}"
        self._bar.update(round((number + share) * self.TICKS) - self._bar.pos)

    def say(self, line: str) -> None:
        """Print a line above the bar; nothing for an empty one."""
        if line:
            typer.echo(line if self._hidden else f"\r\x1b[K{line}", err=True)


def _line(outcome: "Outcome", quiet: bool) -> str:
    """What is said of an outcome as soon as it is known."""
    if outcome.state == "failed":
        return f"failed: {outcome.reason}"
    if quiet or not outcome.notes:
        return ""
    return f"note: {outcome.job.result}: {'; '.join(outcome.notes)}"


def _summary(outcomes: "Iterable[Outcome]") -> dict[str, list[dict[str, Any]]]:
    summary: dict[str, list[dict[str, Any]]] = {"done": [], "skipped": [], "failed": []}
    for outcome in outcomes:
        entry: dict[str, Any] = {"source": str(outcome.job.source), "result": str(outcome.job.result)}
        if outcome.state == "done":
            stages = ("read_seconds", "enlarge_seconds", "write_seconds")
            entry |= {stage: round(getattr(outcome, stage), 3) for stage in stages}
            entry["models"] = list(outcome.models)
            entry["notes"] = list(outcome.notes)
        else:
            entry["reason"] = outcome.reason
        summary[outcome.state].append(entry)
    return summary


def _print_summary(outcomes: "list[Outcome]", output: Path, seconds: float) -> None:
    by_state = _summary(outcomes)
    parts = [f"{len(entries)} {state}" for state, entries in by_state.items()]
    typer.echo(f"{', '.join(parts)}.")
    if by_state["skipped"]:
        typer.echo(
            "Skipped, as results of these names exist (perhaps of other pictures or options; --overwrite replaces "
            f"them): {_listed([entry['result'] for entry in by_state['skipped']])}"
        )
    if by_state["done"]:
        typer.echo(f"Results are in {output}/, {seconds / len(by_state['done']):.2f} s per image{_by(outcomes)}.")


def _by(outcomes: "list[Outcome]") -> str:
    """Which networks the pictures went through, and how many each, where there were several ways."""
    done = [outcome.models for outcome in outcomes if outcome.state == "done"]
    ways = Counter(" and ".join(dict.fromkeys(models)) or "no network" for models in done)
    if len(ways) == 1:
        return f", by {next(iter(ways))}"
    return ", by " + "; ".join(f"{way} ({_count(count, 'image')})" for way, count in ways.most_common())


def _print_left_out(plan: "Plan") -> None:
    for why, paths in (("no images by their names", plan.left_out), ("results of an earlier run", plan.earlier)):
        if paths:
            typer.echo(f"Left out, {why}: {_listed(paths)}", err=True)


def _listed(paths: Sequence[Path | str]) -> str:
    """The first three, and how many there are more."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{', '.join(map(str, paths[:3]))}{more}"


def _print_estimates(
    plan: "Plan", enlarger: "Enlarger", size: SizeConfig, save: SaveConfig, *, overwrite: bool, as_json: bool
) -> None:
    """What a run would do; exit code 1 if something would fail."""
    from trinas.inference.estimate import batch_memory_bytes, estimate_jobs

    estimates = list(estimate_jobs(plan.jobs, enlarger, size, save, overwrite=overwrite))
    rows: list[dict[str, Any]] = []
    for estimate in estimates:
        row: dict[str, Any] = {"source": str(estimate.job.source), "result": str(estimate.job.result)}
        if estimate.work is None:
            row["problem"] = estimate.problem
        else:
            work = estimate.work
            memory_mb = round(estimate.memory_bytes / 1e6)
            row |= {"size": work.size, "models": work.models, "why": work.why}
            row |= {"seconds": estimate.seconds, "memory_mb": memory_mb}
        rows.append(row)
    if as_json:
        typer.echo(
            json.dumps({"files": rows, "left_out": [str(path) for path in plan.left_out + plan.earlier]}, indent=2)
        )
    else:
        _print_rows(rows, len(plan.jobs) - len(rows), round(batch_memory_bytes(estimates) / 1e6))
    if any("problem" in row for row in rows):
        raise typer.Exit(1)


def _print_rows(rows: list[dict[str, Any]], skipped: int, memory_mb: int) -> None:
    good = [row for row in rows if "problem" not in row]
    table = [["result", "size", "models", "seconds", "memory"]]
    for row in good:
        size = "x".join(map(str, row["size"]))
        models = (", ".join(row["models"]) or "none") + (f" ({row['why']})" if row["why"] else "")
        table.append([row["result"], size, models, f"{row['seconds']:.1f}", f"{row['memory_mb']:,} MB"])
    if good:
        _print_table(table)
    for row in rows:
        if "problem" in row:
            typer.echo(f"will fail: {row['problem']}", err=True)
    total = sum(row["seconds"] for row in good)
    typer.echo(
        f"{_count(len(good), 'image')} to enlarge in about {total:.0f} s with up to {memory_mb:,} MB "
        "(small ones are in memory together), "
        f"{skipped} with a result already, {len(rows) - len(good)} will fail. Nothing was written."
    )


def _wish(size: SizeConfig) -> str:
    """How large, in words."""
    if size.long_side is not None:
        return f"to a longer side of {size.long_side} pixels"
    sides = [(size.width, "wide"), (size.height, "high")]
    wanted = [f"{side} pixels {word}" for side, word in sides if side is not None]
    return f"to {' and '.join(wanted)}" if wanted else f"{size.scale or DEFAULT_SCALE:g} times"


def _scale_of(model: str) -> int:
    from trinas.zoo.folder import load_config

    return load_config(model).spec.scale


def _leave_at_once(code: int) -> None:
    """End without waiting for pictures that are being encoded: nothing of them is on the disk yet."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _amount(text: str | None, option: str) -> float | None:
    """A number with a suffix k, M or G, or none.

    Raises:
        ValueError: it is none.
    """
    if text is None:
        return None
    factor = {"k": 1e3, "m": 1e6, "g": 1e9}.get(text[-1:].lower(), 1)
    try:
        return float(text if factor == 1 else text[:-1]) * factor
    except ValueError:
        raise ValueError(f"{option}: {text!r} is no number such as 500k, 1.2M or 3G") from None


def _step_counts(text: str | None) -> int | tuple[int, int, int] | None:
    """One number, or three with commas between.

    Raises:
        ValueError: it is neither.
    """
    if text is None:
        return None
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    match counts:
        case [count]:
            return count
        case [first, second, third]:
            return first, second, third
    raise ValueError(f"{text!r} is neither a number of steps nor three of them such as 300,1500,6000")


def _search_space(
    name: str, scale: int, config: "SearchConfig", trunk_width: int | None, cells: int | None, slots: int | None
) -> "SearchSpace":
    """The space that suits the budgets, with the sizes that are given put in; refuses budgets that nothing meets."""
    from trinas.device import chosen_precision, pick_device
    from trinas.networks.latency import spec_ms_per_mp
    from trinas.networks.space import SearchSpace
    from trinas.search.budgets import CostModel, check_possible, space_for

    def ms_per_mp(spec: "ArchSpec") -> float:
        device = pick_device(config.device)
        precision = chosen_precision(config.precision, device, spec.trunk_width)
        return spec_ms_per_mp(spec, device, precision)

    space = space_for(name, scale, config.budgets, ms_per_mp)
    cells = cells or space.cells
    space = SearchSpace(name, scale, trunk_width or space.trunk_width, cells, slots or space.slots, cells - 1)
    check_possible(CostModel(space), config.budgets)
    return space


def _search_images(folders: list[Path] | None) -> "list[Photograph]":
    from trinas.training.data import default_images, load_photographs

    if folders:
        return load_photographs(folders)
    typer.echo("Learning from generated images, as no --data is given: your own photographs are better.", err=True)
    return default_images()


def _print_search(event: "Event") -> None:
    """What happens, in words; progress as one line that is renewed on a terminal, elsewhere a line per validation."""
    from trinas.networks.cost import spec_cost
    from trinas.search.record import ArchitectureChosen, SearchProgress, StageStarted

    on_terminal = sys.stderr.isatty()
    start = "\r\x1b[K" if on_terminal else ""
    match event:
        case StageStarted():
            typer.echo(f"{start}{event.stage}: {event.steps:,} steps", err=True)
        case ArchitectureChosen():
            cost = spec_cost(event.spec)
            typer.echo(f"{start}Chosen: {cost.params:,} parameters, {cost.macs / 1e9:.2f} G multiply-adds", err=True)
        case SearchProgress() if on_terminal or event.validated:
            costs = "  ".join(
                f"{name} {_short(event.costs[name])} of {_short(limit)}" for name, limit in event.budgets.items()
            )
            quality = "" if isnan(event.psnr) else f"PSNR {event.psnr:.2f} dB  "
            expected = f"t {event.anneal:.2f}  expected {costs}" if event.stage == "search" else costs
            line = (
                f"{event.stage} {event.step:,}/{event.steps:,}  {expected}  loss {event.loss:.4f}  "
                f"{quality}{_duration(event.seconds_left)} left"
            )
            typer.echo(f"{start}{line}", err=True, nl=not on_terminal)


def _short(number: float) -> str:
    """Three digits and a suffix."""
    for suffix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{suffix}"
    return f"{number:.3g}"


def _duration(seconds: float) -> str:
    if isnan(seconds):
        return "unknown time"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s"


class _PrintSteps:
    """A line for each tenth of a step of work, renewed on a terminal at each percent."""

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        parts = 100 if sys.stderr.isatty() else 10
        share = done * parts // total * 100 // parts if total else 0
        line = f"{what}: {share} %" if total else f"{what}: {done / 1e6:,.0f} MB"
        if line == self._shown:
            return
        renewed = sys.stderr.isatty() and self._shown.startswith(what)
        ahead = "\r" if renewed else ("\n" if sys.stderr.isatty() and self._shown else "")
        typer.echo(ahead + line, err=True, nl=not sys.stderr.isatty())
        self._shown = line


def _print_training(progress: "Progress") -> None:
    """One line that is renewed on a terminal; elsewhere a line per validation."""
    on_terminal = sys.stderr.isatty()
    if not (on_terminal or progress.validated) or isnan(progress.steps_per_second):
        return
    quality = "" if isnan(progress.psnr) else f"PSNR {progress.psnr:.3f} dB (best {progress.best_psnr:.3f})  "
    line = (
        f"step {progress.step:,}/{progress.steps:,}  {progress.steps_per_second:.1f} steps/s  "
        f"loss {progress.loss:.5f}  {quality}{_duration(progress.seconds_left)} left"
    )
    typer.echo(f"\r{line}\x1b[K" if on_terminal else line, err=True, nl=not on_terminal)


def _stop_on_signals() -> threading.Event:
    """An event that SIGINT or SIGTERM sets; a second signal ends the process at once."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)
        # Not typer.echo: the signal may have come in the middle of another one.
        os.write(2, b"\nStopping after this step, with the state saved; once more ends at once.\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop


def _named_or_read(arch: str | None) -> "ArchSpec":
    from trinas.networks.space import PAPER_NETWORKS, ArchSpec, named_spec

    assert arch is not None
    return named_spec(arch) if arch in PAPER_NETWORKS else ArchSpec.from_json(_read_text(Path(arch)))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrinasError(f"{path}: cannot be read ({error})") from None


def _print_table(rows: list[list[str]], numbers: Container[int] = ()) -> None:
    """Columns as wide as they need; those in `numbers` end at their right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


def _json_figures(figures: "Figures | ImageFigures") -> dict[str, float | None]:
    """An exact result has an infinite PSNR, which JSON cannot say: null."""
    return {"psnr": figures.psnr if isfinite(figures.psnr) else None, "ssim": figures.ssim}


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
