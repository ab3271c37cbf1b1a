"""`search`: search for a network within budgets and train it; `reproduce`: run a search again."""

from dataclasses import dataclass
from enum import Enum
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trinas.config import DEFAULT_SCALE, Budgets, SearchConfig
from trinas.errors import RunError

from ..words import format_duration, format_psnr, format_short, parse_short
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
    from trinas.networks.space import ArchSpec, SearchSpace
    from trinas.search.loop import SearchResult
    from trinas.search.record import Event, SearchProgress
    from trinas.training.data import TrainingImage

BUDGETS, SPACE = "Budgets", "Search space"
"""Panels of the help."""

DEFAULT_MINUTES = 30


class SpaceName(str, Enum):
    """Search spaces."""

    EDGE = "edge"
    EDGE_ALL = "edge-all"
    PAPER_A = "paper-a"
    PAPER_B = "paper-b"


MaxParamsOption = Annotated[
    str | None, typer.Option(help="Most parameters: 500k, 1.2M.", metavar="N", rich_help_panel=BUDGETS)
]
MaxMacsOption = Annotated[
    str | None,
    typer.Option(help="Most multiply-adds for a 1280x720 output: 3G.", metavar="N", rich_help_panel=BUDGETS),
]
MaxTimeOption = Annotated[
    float | None,
    typer.Option(
        help="Most milliseconds per megapixel of output. They are measured on this device, with as many threads as "
        "torch takes (OMP_NUM_THREADS) and in the precision that images are upscaled in.",
        rich_help_panel=BUDGETS,
    ),
]
DataOption = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of training images; repeat it for several. [default: generated images]"),
]
ScaleOption = Annotated[int, typer.Option("--scale", "-s", min=2, max=4, help="Output pixels per input pixel.")]
StepsOption = Annotated[
    str | None,
    typer.Option(
        help="Steps instead of minutes: N for all stages together (4, 11 and 85 %), or N,N,N for warm-up, search and "
        "fine-tuning.",
        metavar="N",
    ),
]
MinutesOption = Annotated[
    float | None, typer.Option(help=f"Time for search and training together. [default: {DEFAULT_MINUTES}]")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="New folder for the run. [default: like searched-x4-500k]")
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(help="Run folder of a stopped search to resume. Give the same --data again, and no other option."),
]
TeacherOption = Annotated[
    str | None,
    typer.Option(help=f"Model to imitate in the fine-tuning. {TEACHER_COST}", autocompletion=complete_model),
]
FromScratchOption = Annotated[
    bool, typer.Option("--from-scratch", help="Start from random weights, not from the pretrained supernet.")
]
SpaceOption = Annotated[SpaceName, typer.Option(help="The candidates; see docs/search.md.", rich_help_panel=SPACE)]
TrunkWidthOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Most channels between cells. [default: by the budgets; paper: 64]", rich_help_panel=SPACE
    ),
]
CellsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Most cells on a path. [default: by the budgets; paper: 5]", rich_help_panel=SPACE),
]
SlotsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Primitives in a cell. [default: 3; paper: 5]", rich_help_panel=SPACE),
]
ReproduceDataOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder of the images that the search learned from; repeat it for several. [default: generated images, as "
        "in a search without --data]"
    ),
]


@dataclass(frozen=True)
class SpaceSizes:
    """Sizes of a search space. If a size is None, it follows from the budgets."""

    trunk_width: int | None = None
    cells: int | None = None
    slots: int | None = None


def run_search(
    ctx: typer.Context,
    max_params: MaxParamsOption = None,
    max_macs: MaxMacsOption = None,
    max_ms_per_mp: MaxTimeOption = None,
    data: DataOption = None,
    scale: ScaleOption = DEFAULT_SCALE,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    output: OutputOption = None,
    resume: ResumeOption = None,
    teacher: TeacherOption = None,
    from_scratch: FromScratchOption = False,
    seed: SeedOption = 0,
    space: SpaceOption = SpaceName.EDGE,
    trunk_width: TrunkWidthOption = None,
    cells: CellsOption = None,
    slots: SlotsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.AUTO,
) -> None:
    """Search for a network within your budgets and train it, ready for `--model`.

    Give at least one budget. The network meets every budget that you give. During the search, the expected costs may be
    higher.

    Ctrl-C saves the state and ends. With `--resume` the result is the same as if the search had not been stopped.
    """
    check_resume_options(ctx, resume)
    if resume is not None:
        _resume_search(resume, data)
        return
    if max_params is None and max_macs is None and max_ms_per_mp is None:
        raise typer.BadParameter("give a budget: --max-params, --max-macs or --max-ms-per-mp")
    with refuse_bad_values():
        config = SearchConfig(
            Budgets(_parse_budget(max_params, "--max-params"), _parse_budget(max_macs, "--max-macs"), max_ms_per_mp),
            steps=_parse_steps(steps),
            minutes=DEFAULT_MINUTES if steps is None and minutes is None else minutes,
            teacher=teacher,
            warm_start=not from_scratch,
            seed=seed,
            device=device,
            precision=precision.value,
        )
    given = (max_params, max_macs, max_ms_per_mp and f"{max_ms_per_mp:g}ms")
    run_dir = output or Path("-".join([f"searched-x{scale}", *(budget for budget in given if budget)]))
    _search(space.value, scale, SpaceSizes(trunk_width, cells, slots), config, run_dir, data)


def rerun_search(
    report: Annotated[Path, typer.Argument(help="report.json of a finished search.")],
    data: ReproduceDataOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New folder for the run. [default: like RUN-again]")
    ] = None,
) -> None:
    """Run a search again, step by step. On a CPU of the same kind, the weights are the same.

    The exit code is 1 if the result is another architecture. `search --resume` resumes a stopped run.
    """
    from trinas.search.loop import repeat_search
    from trinas.search.record import EVENTS_FILE, read_search_record
    from trinas.training.state import check_new_run

    found = read_search_record(report)
    run_dir = output or Path(f"{report.resolve().parent.name}-again")
    check_new_run(run_dir, allowed_files=(EVENTS_FILE,))
    stop = stop_on_signals()
    reporter = _SearchReporter()
    with reporter.line:
        result = repeat_search(found, _load_images(data), run_dir, on_event=reporter, stop=stop)
    _end_search(result, run_dir, data)
    assert result.record is not None
    if result.record.spec != found.spec:
        versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        raise RunError(f"{run_dir}: another architecture came out than in {report}, which was made with {versions}")
    is_same = result.record.weights_sha256 == found.weights_sha256
    say("The same network." if is_same else "The same architecture, with slightly different weights.")


def _search(
    name: str, scale: int, sizes: SpaceSizes, config: SearchConfig, run_dir: Path, data: list[Path] | None
) -> None:
    """Start a new search."""
    from trinas.search.loop import search_network
    from trinas.search.record import EVENTS_FILE
    from trinas.training.state import check_new_run

    stop = stop_on_signals()
    check_new_run(run_dir, allowed_files=(EVENTS_FILE,))
    space = _choose_space(name, scale, config, sizes)
    images = _load_images(data)
    announce_teacher(config.teacher, "fine-tuning")
    reporter = _SearchReporter()
    with reporter.line:
        result = search_network(space, images, config, run_dir, on_event=reporter, stop=stop)
    _end_search(result, run_dir, data)


def _resume_search(run_dir: Path, data: list[Path] | None) -> None:
    """Resume a stopped search."""
    from trinas.search.loop import resume_search
    from trinas.search.run import check_search_resumable

    stop = stop_on_signals()
    check_search_resumable(run_dir, generated=not data)
    say(f"Resuming {run_dir}")
    images = _load_images(data)
    reporter = _SearchReporter()
    with reporter.line:
        result = resume_search(run_dir, images, on_event=reporter, stop=stop)
    _end_search(result, run_dir, data)


def _end_search(result: "SearchResult", run_dir: Path, data: list[Path] | None) -> None:
    """Draw curve.png and report.html, and say how the search ended. If it was stopped, end with exit code 130."""
    from trinas.reports.charts import write_training_curve
    from trinas.reports.pages import write_search_report

    if not result.finished:
        end_stopped("search", run_dir, data)
    write_training_curve(run_dir)
    write_search_report(run_dir)
    say(f"Done; use it with --model {run_dir}, read about it in {run_dir / 'report.html'}")


def _choose_space(name: str, scale: int, config: SearchConfig, sizes: SpaceSizes) -> "SearchSpace":
    """Return the space that suits the budgets, with the given sizes.

    Raises:
        BudgetError: no network meets the budgets.
        SpecError: there is no such space.
    """
    from trinas.device import pick_device, resolve_precision
    from trinas.networks.latency import measure_spec_ms_per_mp
    from trinas.networks.space import SearchSpace
    from trinas.search.budgets import CostModel, check_possible, space_for

    def measure_time(spec: "ArchSpec") -> float:
        device = pick_device(config.device)
        precision = resolve_precision(config.precision, device, spec.trunk_width)
        return measure_spec_ms_per_mp(spec, device, precision)

    space = space_for(name, scale, config.budgets, measure_time)
    cells = sizes.cells or space.cells
    trunk_width = sizes.trunk_width or space.trunk_width
    space = SearchSpace(name, scale, trunk_width, cells, sizes.slots or space.slots, cells - 1)
    check_possible(CostModel(space), config.budgets)
    return space


def _load_images(folders: list[Path] | None) -> "list[TrainingImage]":
    from trinas.training.data import generate_default_images

    if folders:
        return load_images(folders)
    say("Learning from generated images, because no --data is given. Your own images are better.")
    return generate_default_images()


class _SearchReporter:
    """Shows the events of a search. Progress is a line that is updated on a terminal, or one line a validation.

    Attributes:
        line: where the progress is shown.
    """

    def __init__(self) -> None:
        from .progress import ProgressLine

        self.line = ProgressLine()

    def __call__(self, event: "Event") -> None:
        from trinas.networks.cost import compute_cost
        from trinas.search.record import ArchitectureChosen, SearchProgress, StageStarted

        match event:
            case StageStarted():
                self.line.say(f"{event.stage}: {event.steps:,} steps")
            case ArchitectureChosen():
                cost = compute_cost(event.spec)
                self.line.say(f"Chosen: {cost.params:,} parameters, {cost.macs / 1e9:.2f} G multiply-adds")
            case SearchProgress():
                title = f"{event.stage} {event.step:,}/{event.steps:,}"
                words = _describe_progress(event)
                self.line.show(title, event.step, event.steps, words, keeps=event.validated)


def _describe_progress(progress: "SearchProgress") -> str:
    costs = "  ".join(
        f"{name} {format_short(progress.costs[name])} of {format_short(limit)}"
        for name, limit in progress.budgets.items()
    )
    quality = "" if isnan(progress.psnr) else f"PSNR {format_psnr(progress.psnr)}  "
    expected = f"anneal {progress.anneal:.2f}  expected {costs}" if progress.stage == "search" else costs
    speed = f"{progress.steps_per_second:.1f} steps/s  " if progress.steps_per_second > 0 else ""
    return f"{expected}  {speed}loss {progress.loss:.4f}  {quality}{format_duration(progress.seconds_left)} left"


def _parse_budget(text: str | None, option: str) -> float | None:
    """Return the budget of an option, or None if it is not given.

    Raises:
        ValueError: `text` is not a number; the message names the option.
    """
    try:
        return None if text is None else parse_short(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def _parse_steps(text: str | None) -> int | tuple[int, int, int] | None:
    """Return one number of steps, or three that are separated by commas.

    Raises:
        ValueError: `text` is neither.
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
    raise ValueError(f"{text!r} is neither a number of steps nor three of them, such as 300,1500,6000")
