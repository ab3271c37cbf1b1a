"""A search in drawings and words: live, and as report.html. Readers need not know what a search is."""

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
from trinas.reports.charts import Chart, Line, draw_chart
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
    read_search_record,
    read_story,
)
from trinas.text import escape_text
from trinas.training.data import GENERATED_FOLDER

PAGE_FILE = "report.html"

BUDGET_WORDS = {
    "params": ("parameters", 1.0),
    "macs": ("billion multiply-adds for a 1280x720 image", 1e-9),
    "ms_per_mp": ("milliseconds per megapixel of output", 1.0),
}
"""Name of a budget -> its unit in words, and the factor to this unit."""

CHART_WORDS = {
    "quality": (
        "Quality: PSNR in dB",
        "Measured on the brightness of images that are not used for learning. Higher is better. During the search, the "
        "mixture of all candidates is measured on cut-outs of up to 8 images; after it, the network is measured on "
        "whole images. So the two lines cannot be compared.",
    ),
    "error": (
        "Error while learning",
        "The error on the patches that it learns from, with values from 0 to 1. Lower is better. It is the mean "
        "absolute error. The last part of the run minimises the squared error and shows its root, so the line rises "
        "there.",
    ),
    "cost": (
        "Cost: % of the tightest budget",
        "The expected cost of the network while several candidates are left; it may be above the budget. At the end of "
        "the search the most likely network is changed, one decision at a time, until it keeps every budget and uses "
        "what the tightest one leaves.",
    ),
    "candidates": (
        "Candidates left",
        "How many candidates of a decision are left, on average. At the end it is one.",
    ),
}
"""Titles of charts, and how to read them."""

LEVELS = {"path": "depth", "primitives": "primitives", "widths": "widths"}

_STAGES_SHOWN = 4

_SHOWN_ELSEWHERE = {
    "warm_start", "steps", "budgets", "shortened", "weight_rate", "arch_rate", "batch_size", "patch_px",
}  # fmt: skip
"""Settings that the page does not list, because other parts of it show them."""


def write_search_report(run_dir: Path) -> None:
    """Write report.html of a search. The page is one file that needs no other, and is light or dark as the system is.

    Args:
        run_dir: folder of a finished search, with its record, events and samples.
    Raises:
        RunError: the record, the events or a sample cannot be read, or the page cannot be written.
    """
    record, events = read_search_record(run_dir / SEARCH_RECORD_FILE), read_story(run_dir)
    if any(isinstance(event, SearchStarted) and event.space != record.space for event in events):
        raise RunError(f"{run_dir}: events.jsonl and report.json are of different searches")
    page = render_page(escape_text(run_dir.name), record, events, _read_samples(run_dir))
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


def render_page(name: str, record: SearchRecord, events: Sequence[Event], samples: Sequence[tuple[str, str]]) -> str:
    """Return the report as HTML.

    Args:
        name: of the network.
        record: of the search.
        events: of the search.
        samples: captions and data URLs of the sample images.
    """
    return (
        _templates()
        .get_template("report.html.jinja")
        .render(
            name=name,
            report=record,
            spec=record.spec,
            samples=samples,
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
    """Return the drawings of a running search as HTML. The page must contain the style of `render_drawing_style`.

    Args:
        events: all events so far. The first one is SearchStarted.
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
    """Return the style sheet for `render_live_drawings`."""
    return _templates().get_template("drawings.css").render()


def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("trinas.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    # By name, because primitives of the same name have the same colours in both families.
    templates.globals["colours"] = {
        name: primitive.colours for family in PRIMITIVES.values() for name, primitive in family.items()
    }
    return templates


def _words(family: str) -> dict[str, str]:
    return {name: primitive.words for name, primitive in PRIMITIVES[family].items()}


def _list_settings(record: SearchRecord) -> dict[str, object]:
    """Return the settings that the page lists, by their names in words."""
    listed: dict[str, object] = {
        key.replace("_", " "): value for key, value in asdict(record.settings).items() if key not in _SHOWN_ELSEWHERE
    }
    search, tuning = record.settings, record.fine_tuning
    sizes = {"search": (search.batch_size, search.patch_px), "fine-tuning": (tuning.batch_size, tuning.patch_px)}
    for stage, (batch_size, patch_px) in sizes.items():
        listed[f"batch, {stage}"] = f"{batch_size} patches of {patch_px} low-resolution pixels"
    return listed | {f"rate, {name}": f"{rate:.2g}" for name, rate in record.rates.items()}


def draw_stages(record: SearchRecord, events: Sequence[Event]) -> list[MixtureDiagram]:
    """Lay out the mixtures at a few steps of the search, from the first validated step to the last one."""
    reported = [event for event in events if isinstance(event, SearchProgress) and event.stage == STAGES[1]]
    drawn = [(event.step, event.mixtures) for event in reported if event.mixtures]
    last = len(drawn) - 1
    shown = sorted({round(last * place / (_STAGES_SHOWN - 1)) for place in range(_STAGES_SHOWN)}) if drawn else []
    return [draw_mixture(record.space, *drawn[index]) for index in shown]


def draw_charts(steps: dict[str, int], budgets: dict[str, float], events: Sequence[Event]) -> list[Chart]:
    """Lay out four charts over all steps of a search. Each has words that say how to read it.

    Args:
        steps: number of steps of each stage that has begun.
        budgets: by name.
        events: of the search.
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
    return [draw_chart(*CHART_WORDS[chart], shown, marks, end) for chart, shown in lines.items()]


def count_mean_survivors(level: Sequence[Any]) -> float:
    """Return the mean number of shares above 0 over all decisions in nested lists; NaN if there is no decision."""
    if not level or not isinstance(level[0], list):
        return float(sum(share > 0 for share in level)) if level else math.nan
    means = [mean for row in level if not math.isnan(mean := count_mean_survivors(row))]
    return sum(means) / len(means) if means else math.nan
