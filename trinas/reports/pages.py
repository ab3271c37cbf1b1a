"""A search in pictures and words, for readers who need not know what a search is: live, and as report.html."""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from trinas.errors import RunError
from trinas.files import translate_os_errors, write_atomically
from trinas.networks.primitives import PRIMITIVES
from trinas.reports.charts import Chart, Line, line_chart
from trinas.reports.diagrams import MixtureDiagram, draw_mixture, draw_network
from trinas.search.record import (
    SAMPLE_FILES,
    SEARCH_RECORD_FILE,
    STAGES,
    ArchitectureChosen,
    Event,
    SearchProgress,
    SearchRecord,
    SearchStarted,
    count_stage_steps,
    read_events,
    read_search_record,
)
from trinas.training.data import GENERATED_FOLDER

PAGE_FILE = "report.html"

BUDGET_WORDS = {
    "params": ("parameters", 1.0),
    "macs": ("billion multiply-adds for a 1280x720 picture", 1e-9),
    "ms_per_mp": ("milliseconds per megapixel of output", 1.0),
}
"""What a budget counts, and by what to multiply it for that."""

CHART_WORDS = {
    "quality": (
        "Quality: PSNR in dB",
        "Measured on the brightness of pictures that nothing was learnt from: higher is better. While it searches, "
        "all candidates answer together, judged by cut-outs of up to 8 pictures; from then on it is the network, "
        "judged by whole pictures. The two lines are not to be compared.",
    ),
    "error": (
        "Error while learning",
        "How far off the patches are that it learns from, with values from 0 to 1: lower is better. It is the mean "
        "absolute error until the last part of the run, which minimises the squared error and shows its root: "
        "hence the rise at the end.",
    ),
    "cost": (
        "Cost: % of the tightest budget",
        "What the network is expected to cost while candidates are left; more than allowed is allowed until then. "
        "At the end of the search its most likely network is changed, one decision at a time, until it keeps every "
        "budget and uses what the tightest leaves.",
    ),
    "candidates": (
        "Candidates left",
        "For each decision, how many of its candidates are still in play, on average: at the end one.",
    ),
}
"""Titles of charts, and how to read them."""

LEVELS = {"path": "depth", "primitives": "primitives", "widths": "widths"}

_STAGES_SHOWN = 4

_TOLD_ELSEWHERE = {
    "warm_start", "steps", "budgets", "shortened", "weight_rate", "arch_rate", "batch_size", "patch_px",
}  # fmt: skip
"""Settings that the page does not list, since other parts of it show them."""


def write_search_report(run_dir: Path) -> None:
    """Write report.html: one file that needs nothing else, light or dark as the reader's system is.

    Args:
        run_dir: of a finished search, with its record, events and samples.
    Raises:
        RunError: one of these cannot be read, or the page cannot be written.
    """
    record, events = read_search_record(run_dir / SEARCH_RECORD_FILE), read_events(run_dir)
    page = render(run_dir.name, record, events, _read_samples(run_dir))
    with translate_os_errors(RunError, run_dir / PAGE_FILE, "written"):
        write_atomically(run_dir / PAGE_FILE, page.encode())


def _read_samples(run_dir: Path) -> list[tuple[str, str]]:
    """Return captions and data URLs of the samples."""
    samples = []
    for caption, name in SAMPLE_FILES.items():
        with translate_os_errors(RunError, run_dir / name, "read"):
            content = (run_dir / name).read_bytes()
        samples.append((caption, "data:image/png;base64," + base64.b64encode(content).decode()))
    return samples


def render(name: str, record: SearchRecord, events: Sequence[Event], samples: Sequence[tuple[str, str]]) -> str:
    """Return the page as HTML.

    Args:
        name: of the network.
        samples: captions and data URLs.
    """
    return (
        _templates()
        .get_template("report.html.jinja")
        .render(
            name=name,
            report=record,
            spec=record.spec,
            pictures=samples,
            diagram=draw_network(record.spec),
            kinds=record.space.primitives,
            words=_words(record.spec.family),
            budgets=[
                {
                    "words": BUDGET_WORDS[key][0],
                    "limit": limit * BUDGET_WORDS[key][1],
                    "result": record.results[key] * BUDGET_WORDS[key][1],
                    "share": record.results[key] / limit,
                }
                for key, limit in record.budgets.items()
            ],
            stages=draw_stages(record, events),
            charts=draw_charts(count_stage_steps(events), record.budgets, events),
            generated=GENERATED_FOLDER,
            settings=_list_settings(record),
        )
    )


def render_live_drawings(events: Sequence[Event]) -> str:
    """Return a search on its way as HTML, for a page that contains `render_drawing_style`.

    Args:
        events: all so far; the first one is SearchStarted.
    """
    begin = events[0]
    assert isinstance(begin, SearchStarted)
    last = next((event for event in reversed(events) if isinstance(event, SearchProgress) and event.mixtures), None)
    chosen = [event.spec for event in events if isinstance(event, ArchitectureChosen)]
    return (
        _templates()
        .get_template("live.html.jinja")
        .render(
            chosen=chosen[-1] if chosen else None,
            diagram=draw_network(chosen[-1]) if chosen else None,
            last=last,
            mixture=draw_mixture(begin.space, last.step, last.mixtures) if last and last.mixtures else None,
            kinds=begin.space.primitives,
            words=_words(begin.space.family),
            charts=draw_charts(count_stage_steps(events), begin.budgets, events) if last else [],
        )
    )


def render_drawing_style() -> str:
    """Return the style sheet for what `render_live_drawings` returns."""
    return _templates().get_template("drawings.css").render()


def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("trinas.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    # By name: primitives of the same name have the same colours in both families.
    templates.globals["colours"] = {
        name: primitive.colours for family in PRIMITIVES.values() for name, primitive in family.items()
    }
    return templates


def _words(family: str) -> dict[str, str]:
    return {name: primitive.words for name, primitive in PRIMITIVES[family].items()}


def _list_settings(record: SearchRecord) -> dict[str, object]:
    """Return the settings that the page lists, by their names in words."""
    listed: dict[str, object] = {
        key.replace("_", " "): value for key, value in asdict(record.settings).items() if key not in _TOLD_ELSEWHERE
    }
    search, tuning = record.settings, record.fine_tuning
    sizes = {"search": (search.batch_size, search.patch_px), "fine-tuning": (tuning.batch_size, tuning.patch_px)}
    for stage, (batch_size, patch_px) in sizes.items():
        listed[f"batch, {stage}"] = f"{batch_size} patches of {patch_px} low-resolution pixels"
    return listed | {f"rate, {name}": f"{rate:.2g}" for name, rate in record.rates.items()}


def draw_stages(record: SearchRecord, events: Sequence[Event]) -> list[MixtureDiagram]:
    """Lay out the search at a few of its steps, from the first validated one to the last."""
    reported = [event for event in events if isinstance(event, SearchProgress) and event.stage == STAGES[1]]
    drawn = [(event.step, event.mixtures) for event in reported if event.mixtures]
    last = len(drawn) - 1
    shown = sorted({round(last * place / (_STAGES_SHOWN - 1)) for place in range(_STAGES_SHOWN)}) if drawn else []
    return [draw_mixture(record.space, *drawn[index]) for index in shown]


def draw_charts(steps: dict[str, int], budgets: dict[str, float], events: Sequence[Event]) -> list[Chart]:
    """Lay out four charts over all steps of the search, each with a sentence that says how to read it.

    Args:
        steps: of each stage that has begun.
        budgets: by name.
    """
    starts = {stage: sum(steps[before] for before in STAGES[:number]) for number, stage in enumerate(steps)}
    end = sum(steps.values())
    reported = [event for event in events if isinstance(event, SearchProgress)]

    def line(name: str, value: Callable[[SearchProgress], float], stages: Sequence[str] = STAGES) -> Line:
        found = [event for event in reported if event.stage in stages]
        return Line(name, [(starts[event.stage] + event.step, value(event)) for event in found])

    def fullness(event: SearchProgress) -> float:
        return 100 * max(event.costs[key] / limit for key, limit in budgets.items())

    def survivors(level: str) -> Callable[[SearchProgress], float]:
        return lambda event: count_mean_survivors(getattr(event.mixtures, level)) if event.mixtures else math.nan

    before, after = STAGES[:2], STAGES[2:]
    lines = {
        "quality": [
            line("all candidates", lambda event: event.psnr, before),
            line("the network", lambda event: event.psnr, after),
        ],
        "error": [line("error", lambda event: event.loss)],
        "cost": [line("cost", fullness), Line("budget", [(0, 100), (end, 100)])],
        "candidates": [line(words, survivors(level), before) for level, words in LEVELS.items()],
    }
    marks = list(starts.items())
    return [line_chart(*CHART_WORDS[chart], shown, marks, end) for chart, shown in lines.items()]


def count_mean_survivors(level: Sequence[Any]) -> float:
    """Return the mean number of shares above 0 over the decisions of nested lists; NaN where there is no decision."""
    if not level or not isinstance(level[0], list):
        return float(sum(share > 0 for share in level)) if level else math.nan
    means = [mean for row in level if not math.isnan(mean := count_mean_survivors(row))]
    return sum(means) / len(means) if means else math.nan
