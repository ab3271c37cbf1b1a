"""What a search does and found, drawn for readers who need not know what a search is: live, and as report.html."""

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import torch
from PIL import Image as PillowImage

from trinas.errors import RunError
from trinas.files import write_atomically
from trinas.images.read_write import to_levels
from trinas.inference.compare import find_detailed_places, upscale_place
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec, SearchSpace
from trinas.search.record import EVENTS_FILE, STAGES, stage_steps
from trinas.training.data import GENERATED_FOLDER
from trinas.training.metrics import Pixels, upscale_bicubic

PAGE_FILE = "report.html"

PRIMITIVE_WORDS = {
    "conv3x3": "looks at 3 by 3 neighbours",
    "residual": "adds a correction made by two 3 by 3 convolutions",
    "gated": "a 3 by 3 convolution whose output is dimmed place by place",
    "mixer5": "looks at 5 by 5 neighbours, channel by channel, then mixes channels",
    "mixer7": "looks at 7 by 7 neighbours, channel by channel, then mixes channels",
    "dws": "spreads its input over four times as many channels, looks at 3 by 3 neighbours in each, and gathers them",
}
SKIP_WORDS = {"edge": "hands its input on, for free", "paper": "mixes channels, each place by itself"}
BUDGET_WORDS = {
    "params": ("parameters", 1.0),
    "macs": ("billion multiply-adds for a 1280x720 picture", 1e-9),
    "ms_per_mp": ("milliseconds per megapixel of output", 1.0),
}
"""What a budget counts, and by what to multiply it for that."""

LEVELS = {"path": "depth", "primitives": "primitives", "widths": "widths"}
SHOWN_PX = 320
"""Side of a picture on the page, in pixels of the enlarged image."""

_WIDTH, _HEIGHT = 440, 220  # of a chart, in units of its drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 42
_LETTER = 8  # of a chart's text, about, across
_BAR, _GAP, _CELL_GAP, _TALLEST = 40, 6, 22, 120  # of the diagram
_SMALL_BAR, _SMALL_GAP, _SMALL_TALLEST = 18, 3, 64  # of those on the way to it
_STAGES_SHOWN = 4


@dataclass(frozen=True)
class Line:
    """One line of a chart; its colour follows its place."""

    name: str
    points: list[tuple[float, float]]


def write_page(run_dir: Path, report: dict[str, Any], network: Network, low: Pixels, high: Pixels) -> None:
    """Write report.html: one file that needs nothing else, light or dark as the reader's system is.

    Args:
        run_dir: of a finished search, which has its events.
        report: what report.json says.
        network: what was found, on the CPU.
        low, high: a picture that nothing was learnt from, uint8 (H, W, 3), `high` larger by the network's scale.
    Raises:
        RunError: the events cannot be read, or the page cannot be written.
    """
    try:
        lines = (run_dir / EVENTS_FILE).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RunError(f"{run_dir}: {EVENTS_FILE} cannot be read ({error.strerror})") from None
    page = render(run_dir.name, report, [json.loads(line) for line in lines], pictures(network, low, high))
    try:
        write_atomically(run_dir / PAGE_FILE, page.encode())
    except OSError as error:
        raise RunError(f"{run_dir}: {PAGE_FILE} cannot be written ({error.strerror}); resume once it can") from None


def render(
    name: str, report: dict[str, Any], events: Sequence[dict[str, Any]], pictures: Sequence[tuple[str, str]]
) -> str:
    """The page as HTML.

    Args:
        report: what report.json says.
        events: the lines of events.jsonl.
        pictures: captions and data URLs.
    """
    spec = ArchSpec.from_dict(report["spec"])
    return (
        _templates()
        .get_template("report.html.jinja")
        .render(
            name=name,
            report=report,
            spec=spec,
            pictures=pictures,
            diagram=diagram(spec),
            kinds=SearchSpace(**report["space"]).primitives,
            words=_words(spec.family),
            budgets=[
                {
                    "words": BUDGET_WORDS[key][0],
                    "limit": limit * BUDGET_WORDS[key][1],
                    "result": report["results"][key] * BUDGET_WORDS[key][1],
                    "share": report["results"][key] / limit,
                }
                for key, limit in report["budgets"].items()
            ],
            stages=stages(report, events),
            charts=charts(stage_steps(events), report["budgets"], events),
            generated=GENERATED_FOLDER,
            settings=_settings(report),
        )
    )


def live_drawings(events: Sequence[dict[str, Any]]) -> str:
    """A search on its way as HTML, a part of a page that holds `drawing_style`.

    Args:
        events: the lines of events.jsonl so far; the first one says what is searched.
    """
    space = SearchSpace(**events[0]["space"])
    told = [event for event in events if event.get("mixtures")]
    chosen = [ArchSpec.from_dict(event["spec"]) for event in events if event["event"] == "ArchitectureChosen"]
    return (
        _templates()
        .get_template("live.html.jinja")
        .render(
            chosen=chosen[-1] if chosen else None,
            diagram=diagram(chosen[-1]) if chosen else None,
            mixture=told[-1] | mixture_diagram(space, told[-1]["mixtures"]) if told else None,
            kinds=space.primitives,
            words=_words(space.family),
            charts=charts(stage_steps(events), events[0]["budgets"], events) if told else [],
        )
    )


def drawing_style() -> str:
    """The style sheet of what `live_drawings` returns."""
    return _templates().get_template("drawings.css").render()


def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("trinas.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )


def _words(family: str) -> dict[str, str]:
    return PRIMITIVE_WORDS | {"skip": SKIP_WORDS[family]}


def _settings(report: dict[str, Any]) -> dict[str, Any]:
    """What the page lists of the settings: those that it does not tell elsewhere."""
    elsewhere = {"warm_start", "steps", "budgets", "shortened", "weight_rate", "score_rate", "batch_size", "patch_px"}
    settings = {key.replace("_", " "): value for key, value in report["settings"].items() if key not in elsewhere}
    learning = {"search": report["settings"], "fine-tuning": report["fine_tuning"]}
    for stage, values in learning.items():
        settings[f"batch, {stage}"] = f"{values['batch_size']} patches of {values['patch_px']} low-resolution pixels"
    return settings | {f"rate, {name}": f"{rate:.2g}" for name, rate in report["rates"].items()}


def pictures(network: Network, low: Pixels, high: Pixels) -> list[tuple[str, str]]:
    """The most detailed place of a picture: enlarged by bicubic, by the network, and as it was."""
    scale = network.spec.scale
    side = SHOWN_PX // scale
    colour = torch.from_numpy(low).permute(2, 0, 1).float() / 255
    y, x = find_detailed_places(colour, side)[0]

    @torch.inference_mode()
    def enlarge(part: torch.Tensor) -> torch.Tensor:
        return network(part[None])[0].clamp(0, 1)

    bicubic = upscale_bicubic(low, scale)
    place = tuple(slice(scale * start, scale * (start + side)) for start in (y, x))
    shown = {
        "bicubic": bicubic[place],
        "this network": to_levels(upscale_place(enlarge, colour, (y, x), side, network.spec), 8),
        "the original": high[place],
    }
    return [(caption, _data_url(pixels)) for caption, pixels in shown.items()]


def _data_url(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def diagram(spec: ArchSpec) -> dict[str, Any]:
    """The derived network as bars from left to right: heights are widths, colours are primitives."""
    bars: list[dict[str, Any]] = []
    groups: list[dict[str, Any]] = []
    left = _CELL_GAP

    def add(kind: str, label: str, width: int) -> None:
        nonlocal left
        height = max(6.0, _TALLEST * width / widest)
        bars.append({"kind": kind, "label": label, "width": width, "x": left, "height": height})
        left += _BAR + _GAP

    tail = 3 if spec.upsample_after else 3 * spec.scale**2
    widest = max(spec.trunk_width, tail, *(slot.width for cell in spec.cells for slot in cell.slots))
    add("picture", "input", 3)
    add("frame", "head", spec.trunk_width)
    for stage in spec.path():
        left += _CELL_GAP
        start = left
        if isinstance(stage, int):
            add("frame", f"x{stage}", spec.trunk_width)
            continue
        for slot in stage.slots:
            add(slot.primitive, slot.primitive, slot.width)
        groups.append({"label": f"cell {len(groups) + 1}", "x": start, "width": left - _GAP - start})
    left += _CELL_GAP
    for _ in range(spec.plain_convs):
        add("frame", "conv3x3", spec.trunk_width)
    add("frame", "tail", tail)
    add("picture", "output", 3)
    return {
        "bars": bars,
        "groups": groups,
        "width": left + _CELL_GAP,
        "bar": _BAR,
        "base": max(bar["height"] for bar in bars) + 24,
    }


def stages(report: dict[str, Any], events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The search at a few of its steps, from the first that was told to the last."""
    told = [event for event in events if event.get("mixtures") and event["stage"] == STAGES[1]]
    last = len(told) - 1
    shown = sorted({round(last * place / (_STAGES_SHOWN - 1)) for place in range(_STAGES_SHOWN)}) if told else []
    space = SearchSpace(**report["space"])
    return [{"step": told[index]["step"]} | mixture_diagram(space, told[index]["mixtures"]) for index in shown]


def mixture_diagram(space: SearchSpace, mixtures: dict[str, Any]) -> dict[str, Any]:
    """A supernet on its way as bars: heights are expected widths, colours primitives' shares, faintness is survival.

    Args:
        mixtures: as events tell them.
    """
    bars: list[dict[str, Any]] = []
    left = 0
    for row, index in enumerate(space.cell_nodes):
        alive = sum(
            share
            for candidate, share in zip(space.candidates, mixtures["path"], strict=True)
            if index in space.path_to(candidate)
        )
        for slot, shares in enumerate(mixtures["primitives"][row]):
            widths = mixtures["widths"][row][slot] if slot < space.slots - 1 else [0] * (len(space.widths) - 1) + [1]
            expected = sum(share * width for share, width in zip(widths, space.widths, strict=True))
            height, bottom, parts = _SMALL_TALLEST * expected / space.trunk_width, float(_SMALL_TALLEST), []
            for kind, share in zip(space.primitives, shares, strict=True):
                bottom -= height * share
                parts.append({"kind": kind, "y": bottom, "height": height * share})
            bars.append({"x": left, "alive": min(1.0, alive), "parts": parts})
            left += _SMALL_BAR + _SMALL_GAP
        left += 3 * _SMALL_GAP
    return {"bars": bars, "width": left, "height": _SMALL_TALLEST, "bar": _SMALL_BAR}


def charts(steps: dict[str, int], budgets: dict[str, float], events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Four charts over all steps of the run, each with a sentence that says how to read it.

    Args:
        steps: of each stage that has begun.
        budgets: by name.
        events: the lines of events.jsonl.
    """
    starts = {stage: sum(steps[before] for before in STAGES[:number]) for number, stage in enumerate(steps)}
    end = sum(steps.values())
    told = [(starts[event["stage"]] + event["step"], event) for event in events if event["event"] == "Progress"]

    def line(name: str, value: Any, stages: Sequence[str] = STAGES) -> Line:
        found = [(x, value(event)) for x, event in told if event["stage"] in stages]
        return Line(name, [(x, float(y)) for x, y in found if y is not None])

    def fullness(event: dict[str, Any]) -> float:
        return 100 * max(event["costs"][key] / limit for key, limit in budgets.items())

    def survivors(level: str) -> Any:
        return lambda event: event.get("mixtures") and _mean_survivors(event["mixtures"][level])

    before, after = STAGES[:2], STAGES[2:]
    marks = list(starts.items())
    return [
        _chart(
            "Quality: PSNR in dB",
            "Measured on the brightness of pictures that nothing was learnt from: higher is better. While it searches, "
            "all candidates answer together, judged by cut-outs of up to 8 pictures; from then on it is the network, "
            "judged by whole pictures. The two lines are not to be compared.",
            [
                line("all candidates", lambda event: event["psnr"], before),
                line("the network", lambda event: event["psnr"], after),
            ],
            marks,
            end,
        ),
        _chart(
            "Error while learning",
            "How far off the patches are that it learns from, with values from 0 to 1: lower is better. It is the mean "
            "absolute error until the last part of the run, which minimises the squared error and shows its root: "
            "hence the rise at the end.",
            [line("error", lambda event: event["loss"])],
            marks,
            end,
        ),
        _chart(
            "Cost: % of the tightest budget",
            "What the network is expected to cost while candidates are left; more than allowed is allowed until then. "
            "At the end of the search its most likely network is changed, one decision at a time, until it keeps every "
            "budget and uses what the tightest leaves.",
            [line("cost", fullness), Line("budget", [(0, 100), (end, 100)])],
            marks,
            end,
        ),
        _chart(
            "Candidates left",
            "For each decision, how many of its candidates are still in play, on average: at the end one.",
            [line(words, survivors(level), before) for level, words in LEVELS.items()],
            marks,
            end,
        ),
    ]


def _mean_survivors(level: list[Any]) -> float:
    """Mean number of shares above 0 over the decisions of nested lists; NaN where there is no decision."""
    if not level or not isinstance(level[0], list):
        return float(sum(share > 0 for share in level)) if level else math.nan
    means = [mean for row in level if not math.isnan(mean := _mean_survivors(row))]
    return sum(means) / len(means) if means else math.nan


def _chart(title: str, words: str, lines: Sequence[Line], marks: Sequence[tuple[str, int]], end: int) -> dict[str, Any]:
    """A chart's drawing, in its own units, for the template."""
    shown = [
        Line(line.name, [point for point in line.points if math.isfinite(point[1])]) for line in lines if line.points
    ]
    values = [y for line in shown for _, y in line.points] or [0.0]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.5
    low, high = low - margin, high + margin

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / max(1, end) * (_WIDTH - _LEFT - _RIGHT)
        return round(across, 1), round(_TOP + (high - y) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    ticks, digits = _ticks(low, high)
    names: list[
        dict[str, Any]
    ] = []  # of the stages: on a second row, and there further right, where they would overlap
    rows = [0.0, 0.0]  # where each ends
    for stage, start in marks:
        x, extent = place(start, low)[0], _LETTER * (len(stage) + 1)
        row = int(x < rows[0])
        text_x = min(max(x, rows[row]), _WIDTH - _RIGHT - extent)
        rows[row] = text_x + extent
        names.append({"x": x, "text_x": text_x, "extent": extent, "row": row, "text": stage})
    return {
        "end": f"{end:,} steps",
        "title": title,
        "words": words,
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "bottom": _HEIGHT - _BOTTOM,
        "top": _TOP,
        "lines": [
            {
                "name": line.name,
                "points": " ".join(f"{x},{y}" for x, y in (place(*point) for point in line.points)),
                "last": place(*line.points[-1]),
            }
            for line in shown
            if line.points
        ],
        "ticks": [{"y": place(0, tick)[1], "text": f"{tick:,.{digits}f}"} for tick in ticks],
        "marks": names,
    }


def _ticks(low: float, high: float) -> tuple[list[float], int]:
    """Round numbers between two others, two to five of them, and how many decimals they have."""
    exponent = math.floor(math.log10((high - low) / 2))
    step = next(step for step in (5, 2, 1) if (high - low) / (step * 10.0**exponent) >= 2 or step == 1) * 10.0**exponent
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)], max(0, -exponent)
