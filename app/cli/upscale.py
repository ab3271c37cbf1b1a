"""`upscale`: make images larger. The default command."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trinas.config import (
    DEFAULT_DEVICE,
    DEFAULT_SCALE,
    MAX_INPUT_PX,
    MAX_OUTPUT_PX,
    MAX_SECONDS_PER_FILE,
    SaveConfig,
    SizeConfig,
    UpscaleOptions,
)
from trinas.timer import Timer

from ..words import format_count, format_list, format_seconds
from .options import (
    DeviceOption,
    JsonOption,
    Precision,
    PrecisionOption,
    SelfEnsembleOption,
    complete_model,
    refuse_bad_values,
    start_decoders,
    to_pixels,
)
from .process import end_at_once
from .terminal import print_json, print_line, say

if TYPE_CHECKING:
    from trinas.images.guard import DecoderPool
    from trinas.inference.batch import Outcome
    from trinas.inference.cascade import CascadeUpscaler
    from trinas.inference.plan import Plan

SIZE, SAVING = "Size", "Saving"
"""Panels of the help."""


class FileFormat(str, Enum):
    """Formats of results, named as the suffixes of files."""

    PNG = "png"
    JPG = "jpg"
    WEBP = "webp"
    TIFF = "tiff"
    AVIF = "avif"
    BMP = "bmp"


class Preset(str, Enum):
    """The choices among the bundled models, as in `trinas.config`."""

    FAST = "fast"
    BALANCED = "balanced"
    BEST = "best"


InputsArgument = Annotated[list[Path], typer.Argument(help="Images to upscale, and folders of images.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", "-r", help="Take sub-folders too. Results go into the same sub-folders.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist already.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only print what would be done, how long it would take, and what would fail.")
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Bundled name (see `trinas-upscale models`), model folder, or user/name[@revision] of the Hugging Face "
        "Hub. [default: chosen by --preset and the size; a restoration model for a strongly compressed JPEG]",
        autocompletion=complete_model,
    ),
]
PresetOption = Annotated[
    Preset,
    typer.Option(
        help="Which bundled models are chosen. best keeps most detail, fast takes a third of its time or less."
    ),
]
StrengthOption = Annotated[float, typer.Option(min=0, max=1, help="Share of the network's result. 0 is bicubic.")]
ScaleOption = Annotated[
    float | None,
    typer.Option("--scale", "-s", help="Output pixels per input pixel, 1 to 16. [default: 4]", rich_help_panel=SIZE),
]
WidthOption = Annotated[int | None, typer.Option(min=1, help="Width of results, in pixels.", rich_help_panel=SIZE)]
HeightOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Height of results, in pixels. With --width, results fit into both.", rich_help_panel=SIZE
    ),
]
LongSideOption = Annotated[
    int | None, typer.Option(min=1, help="Longer side of results, in pixels.", rich_help_panel=SIZE)
]
MaxInputOption = Annotated[
    float, typer.Option(min=0.001, help="Refuse larger images. In megapixels.", rich_help_panel=SIZE)
]
MaxOutputOption = Annotated[
    float, typer.Option(min=0.001, help="Refuse larger results. In megapixels.", rich_help_panel=SIZE)
]
FormatOption = Annotated[
    FileFormat | None,
    typer.Option("--format", help="Format of results. [default: the input's own]", rich_help_panel=SAVING),
]
QualityOption = Annotated[
    int | None,
    typer.Option(min=1, max=100, help="Quality of JPEG, WebP and AVIF. [default: 95]", rich_help_panel=SAVING),
]
LosslessOption = Annotated[bool, typer.Option("--lossless", help="Write WebP without losses.", rich_help_panel=SAVING)]
BackgroundOption = Annotated[
    str | None,
    typer.Option(help="Colour to lay transparent images onto: white, #rrggbb.", rich_help_panel=SAVING),
]
StripOption = Annotated[
    bool,
    typer.Option(
        "--strip-metadata",
        help="Leave out EXIF, XMP and resolution. The colour profile is kept.",
        rich_help_panel=SAVING,
    ),
]
TileOption = Annotated[
    int, typer.Option(min=16, help="Longest side of a tile in input pixels. Smaller tiles take less memory.")
]
MaxSecondsOption = Annotated[
    float, typer.Option(min=0.001, help="Fail a file that takes longer to decode. Upscaling is not counted.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print failures only.")]


@dataclass(frozen=True)
class Batch:
    """Images to upscale, and how."""

    plan: "Plan"
    upscaler: "CascadeUpscaler"
    decoders: "DecoderPool"
    size: SizeConfig
    save: SaveConfig
    options: UpscaleOptions
    output: Path
    overwrite: bool

    @property
    def left_out(self) -> list[str]:
        """Files in the input folders that are not upscaled."""
        return [str(path) for path in self.plan.left_out + self.plan.earlier]


def upscale_images(
    inputs: InputsArgument,
    output: OutputOption = Path("upscaled"),
    recursive: RecursiveOption = False,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    preset: PresetOption = Preset.BEST,
    model: ModelOption = None,
    strength: StrengthOption = UpscaleOptions.strength,
    tta: SelfEnsembleOption = UpscaleOptions.self_ensemble,
    scale: ScaleOption = None,
    width: WidthOption = None,
    height: HeightOption = None,
    long_side: LongSideOption = None,
    max_input_mp: MaxInputOption = MAX_INPUT_PX / 1e6,
    max_output_mp: MaxOutputOption = MAX_OUTPUT_PX / 1e6,
    file_format: FormatOption = None,
    quality: QualityOption = None,
    lossless: LosslessOption = False,
    background: BackgroundOption = None,
    strip_metadata: StripOption = False,
    tile: TileOption = UpscaleOptions.tile_px,
    max_seconds_per_file: MaxSecondsOption = MAX_SECONDS_PER_FILE,
    device: DeviceOption = DEFAULT_DEVICE,
    precision: PrecisionOption = Precision.AUTO,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Upscale images (the default command). Alpha, colours, bit depth and metadata are kept.

    Results are named `<stem>_x<scale>`, or after the size, such as `<stem>_long4000`, in the input's own format.
    Results that exist already are skipped. A bad file is reported, the others are still upscaled, and the exit code
    is 1.
    """
    with refuse_bad_values():
        size = SizeConfig(scale, width, height, long_side, to_pixels(max_input_mp), to_pixels(max_output_mp))
        suffix = f".{file_format.value}" if file_format else None
        save = SaveConfig(suffix, quality, lossless, background, strip_metadata)
        options = UpscaleOptions(strength, tta, tile)
    if model and not any((scale, width, height, long_side)):
        size = replace(size, scale=_read_scale(model))
    with start_decoders(max_seconds_per_file) as decoders:
        upscaler = _load_cascade(model, device, precision, preset)
        plan = _plan(inputs, output, size, save, recursive)
        batch = Batch(plan, upscaler, decoders, size, save, options, output, overwrite)
        quiet = quiet or as_json
        if not quiet:
            _print_left_out(batch.plan)
        if dry_run:
            from .dry_run import print_estimates

            others = [] if model else [other for other in Preset if other is not preset]
            print_estimates(
                batch, {other.value: _load_cascade(None, device, precision, other) for other in others}, as_json=as_json
            )
        else:
            _run(batch, quiet=quiet, as_json=as_json)


def _plan(inputs: Sequence[Path], output: Path, size: SizeConfig, save: SaveConfig, recursive: bool) -> "Plan":
    from trinas.inference.plan import plan_jobs

    return plan_jobs(inputs, output, size, save, recursive=recursive)


def _load_cascade(model: str | None, device: str, precision: Precision, preset: Preset) -> "CascadeUpscaler":
    from trinas.inference.cascade import CascadeUpscaler

    return CascadeUpscaler(model, device, precision.value, preset.value)


def _read_scale(model: str) -> int:
    from trinas.zoo.folder import load_config

    return load_config(model).spec.scale


def _run(batch: Batch, *, quiet: bool, as_json: bool) -> None:
    """Upscale all images and print the outcomes. The exit code is 1 if an image failed, and 130 after Ctrl-C."""
    from trinas.inference.batch import run_jobs

    from .progress import ImageProgress

    jobs = batch.plan.jobs
    count = sum(not job.problem for job in jobs)
    if count and not quiet:
        say(f"Upscaling {format_count(count, 'image')} {_describe_size(batch.size)} on {batch.upscaler.device}")
    outcomes: list[Outcome] = []
    interrupted = False
    progress = ImageProgress([job.source for job in jobs], hidden=quiet)
    running = run_jobs(
        jobs, batch.upscaler, batch.size, batch.save, batch.options, overwrite=batch.overwrite, on_tile=progress.move,
        opener=batch.decoders.open_image,
    )  # fmt: skip
    with Timer() as timer, progress:
        try:
            for outcome in running:
                outcomes.append(outcome)  # one by one, so that an interruption keeps the outcomes before it
                if line := _describe_outcome(outcome, quiet):
                    progress.say(line)
        except KeyboardInterrupt:
            interrupted = True
    if as_json:
        print_json({**_summarise(outcomes), "left_out": batch.left_out})
    if not quiet:
        _print_summary(outcomes, batch.output, timer.seconds)
    if interrupted:
        say(f"Stopped; {format_count(len(jobs) - len(outcomes), 'image')} not done.")
        batch.decoders.close()
        end_at_once(130)  # without waiting for results that are being encoded
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _describe_size(size: SizeConfig) -> str:
    """Return the size of results in words."""
    if size.long_side is not None:
        return f"to a longer side of {size.long_side} pixels"
    sides = [(size.width, "wide"), (size.height, "high")]
    wanted = [f"{side} pixels {word}" for side, word in sides if side is not None]
    return f"to {' and '.join(wanted)}" if wanted else f"at scale {size.scale or DEFAULT_SCALE:g}"


def _describe_outcome(outcome: "Outcome", quiet: bool) -> str:
    """Return the line that is printed for an outcome; empty if there is nothing to say."""
    if outcome.state == "failed":
        return f"failed: {outcome.reason}"
    if quiet or not outcome.notes:
        return ""
    return f"note: {outcome.job.result}: {'; '.join(outcome.notes)}"


def _summarise(outcomes: "Iterable[Outcome]") -> dict[str, list[dict[str, Any]]]:
    """Return the outcomes by state, for JSON."""
    summary: dict[str, list[dict[str, Any]]] = {"done": [], "skipped": [], "failed": []}
    for outcome in outcomes:
        entry: dict[str, Any] = {"source": str(outcome.job.source), "result": str(outcome.job.result)}
        if outcome.state == "done":
            entry["read_seconds"] = round(outcome.read_seconds, 3)
            entry["enlarge_seconds"] = round(outcome.upscale_seconds, 3)
            entry["write_seconds"] = round(outcome.write_seconds, 3)
            entry["models"] = list(outcome.models)
            entry["notes"] = list(outcome.notes)
        else:
            entry["reason"] = outcome.reason
        summary[outcome.state].append(entry)
    return summary


def _print_summary(outcomes: "list[Outcome]", output: Path, seconds: float) -> None:
    by_state = _summarise(outcomes)
    parts = [f"{len(entries)} {state}" for state, entries in by_state.items()]
    print_line(f"{', '.join(parts)}.")
    if by_state["skipped"]:
        print_line(
            "Skipped, because results of these names exist (perhaps of other images or options; --overwrite replaces "
            f"them): {format_list([entry['result'] for entry in by_state['skipped']])}"
        )
    if by_state["done"]:
        speed = format_seconds(seconds / len(by_state["done"]))
        print_line(f"Results are in {output}/, {speed} per image, by {_describe_models(outcomes)}.")


def _describe_models(outcomes: "list[Outcome]") -> str:
    """Return which models the images went through. If they differ, say how many images went through each."""
    done = [outcome.models for outcome in outcomes if outcome.state == "done"]
    ways = Counter(" and ".join(dict.fromkeys(models)) or "no network" for models in done)
    if len(ways) == 1:
        return next(iter(ways))
    return "; ".join(f"{way} ({format_count(count, 'image')})" for way, count in ways.most_common())


def _print_left_out(plan: "Plan") -> None:
    if plan.left_out:
        say(f"Left out, not images by their names: {format_list(plan.left_out)}")
    if plan.earlier:
        say(f"Left out, results of an earlier run: {format_list(plan.earlier)}")
