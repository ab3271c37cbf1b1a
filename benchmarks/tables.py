"""The tables in README.md and docs/benchmarks.md and the drawing beside them, from stored figures alone.

Quality of our models is stored in each model's config.json; quality of bicubic and Lanczos, and all our times, in
figures.json; what others' networks reach in peers.json, which says where its figures come from. Times stand in the
tables as ratios to a plain chain of convolutions that was timed in the same run.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scatter import Panel, Point, scatter_svg

from trinas.config import TEST_SETS
from trinas.files import write_atomically
from trinas.networks.cost import compute_cost
from trinas.zoo.bundled import list_bundled_models
from trinas.zoo.folder import load_config

ROOT = Path(__file__).parent.parent
README, DOCS, DRAWING = ROOT / "README.md", ROOT / "docs/benchmarks.md", ROOT / "docs/models.svg"
FIGURES, PEERS = ROOT / "benchmarks/figures.json", ROOT / "benchmarks/peers.json"

TIERS = {"xs": 25_000, "s": 100_000, "m": 300_000, "l": 700_000}
"""The largest number of parameters by tier, of our models and of the peers beside them."""

REFERENCE_CHAIN = (32, 8)
"""Width and convolutions of the chain whose time is 1."""


@dataclass(frozen=True)
class Row:
    """A method of upscaling and everything that was measured of it."""

    name: str
    scale: int
    params: int | None = None
    macs: float | None = None
    """Multiply-adds for a 1280x720 output."""
    quality: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Test set -> PSNR in dB, SSIM."""
    ms_per_mp: dict[str, float] = field(default_factory=dict)
    """Milliseconds per megapixel of output, of the network in fp32 and bf16, and of a whole upscaling (`picture`)."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Times as multiples of the reference chain's, in fp32, bf16 and as `fastest`."""
    ours: bool = False
    restores: bool = False
    """Whether it is a restoration model. The test sets do not measure what it is made for."""


def render() -> None:
    """Render README's table, the tables of docs/benchmarks.md and the drawing."""
    figures, peers = load_figures(), json.loads(PEERS.read_text(encoding="utf-8"))
    rows = [*baseline_rows(figures), *our_rows(figures), *peer_rows(peers)]
    replace_between(README, "models", readme_table(rows))
    replace_between(DOCS, "quality", docs_tables(rows))
    replace_between(DOCS, "times", times_table(rows, figures))
    write_atomically(DRAWING, drawing(rows).encode())


def load_figures() -> dict[str, Any]:
    """Read figures.json."""
    return json.loads(FIGURES.read_text(encoding="utf-8"))


def replace_between(path: Path, name: str, content: str) -> None:
    """Put `content` between a file's `<!-- NAME: ... -->` and `<!-- end of NAME -->`."""
    between = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    text, count = between.subn(lambda match: match[1] + content + match[2], path.read_text(encoding="utf-8"))
    assert count == 1, f"{path}: {count} places for {name}"
    write_atomically(path, text.encode())


def baseline_rows(figures: dict[str, Any]) -> list[Row]:
    """Return bicubic and Lanczos."""
    rows = []
    for key, quality in figures["baselines"].items():
        name, scale = key.split(" x")
        rows.append(Row(name, int(scale), quality=_pairs(quality), ms_per_mp=_timed(figures, key)[0]))
    return rows


def _timed(figures: dict[str, Any], name: str, params: int | None = None) -> tuple[dict[str, float], dict[str, float]]:
    """Return the times of a name and of the reference chain in the same run; none if its size has changed since."""
    for run in figures["times"]:
        ms = run["ms_per_mp"].get(name, {})
        if ms and ms.get("params") == params:
            reference = run["ms_per_mp"][chain_name(*REFERENCE_CHAIN)]
            return {key: value for key, value in ms.items() if key != "params"}, reference
    return {}, {}


def our_rows(figures: dict[str, Any]) -> list[Row]:
    """Return the bundled models. A model that has become another network since times were measured has no times."""
    rows = []
    for name in list_bundled_models():
        config = load_config(name)
        cost = compute_cost(config.spec)
        ms, reference = _timed(figures, name, cost.params)
        quality = {test_set: (metrics.psnr, metrics.ssim) for test_set, metrics in config.metrics.items()}
        rows.append(
            Row(
                name, config.spec.scale, cost.params, cost.macs, quality, ms, ratios_to(reference, ms),
                ours=True, restores=config.restores,
            )
        )  # fmt: skip
    return rows


def peer_rows(peers: dict[str, Any]) -> list[Row]:
    """Return the networks of others."""
    chains = {(chain["width"], chain["convs"]): chain["ms_per_mp"] for chain in peers["chains"]}
    reference = chains[REFERENCE_CHAIN]
    rows = []
    for peer in peers["networks"]:
        ms = {key: value for key, value in peer["ms_per_mp"].items() if value is not None}
        ratios = ratios_to(reference, ms)
        rows.append(Row(peer["name"], peer["scale"], peer["params"], peer["macs"], _pairs(peer), ratios=ratios))
    return rows


def ratios_to(reference: dict[str, float], ms: dict[str, float]) -> dict[str, float]:
    """Return times as multiples of the reference's. `fastest` needs a time in bf16, where the reference is fastest."""
    ratios = {key: ms[key] / reference[key] for key in ("fp32", "bf16") if key in ms and key in reference}
    if "bf16" in ratios:
        fastest = ms.get("best", min(ms["fp32"], ms["bf16"]))
        ratios["fastest"] = fastest / min(reference["fp32"], reference["bf16"])
    return ratios


def chain_name(width: int, convs: int) -> str:
    """Return the name of a chain of convolutions among the times."""
    return f"chain of {convs}, {width} channels"


def _pairs(quality: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {test_set: (quality[test_set][0], quality[test_set][1]) for test_set in TEST_SETS}


def tier_of(row: Row) -> str:
    """Return the tier of a network's size; empty if it is larger than all of ours."""
    assert row.params is not None
    return next((tier for tier, most in TIERS.items() if row.params <= most), "")


def readme_table(rows: Sequence[Row]) -> str:
    """Return our models, the smallest of each scale first, and under each tier the best other network of that size."""
    lines = [
        "| network | parameters | multiply-adds | Set5 | Set14 | BSD100 | time fp32 | time, fastest |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ours = [row for row in rows if row.ours]
    tiers = list(TIERS)
    for scale in sorted({row.scale for row in ours}):
        shown = [row for row in ours if row.scale == scale]
        for tier in {tier_of(row) for row in shown if not row.restores}:
            peers = [row for row in rows if row.params and not row.ours and row.scale == scale and tier_of(row) == tier]
            shown += sorted(peers, key=lambda row: row.quality["Set5"])[-1:]
        for row in sorted(shown, key=lambda row: (row.restores, tiers.index(tier_of(row)), not row.ours)):
            psnr = [f"{row.quality[test][0]:.2f}" if row.quality else "-" for test in TEST_SETS]
            name = row.name if row.ours else f"*{row.name}* x{scale}"
            cells = [name, *_size(row), *psnr, _ratio(row, "fp32"), _ratio(row, "fastest")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def docs_tables(rows: Sequence[Row]) -> str:
    """A table for each scale with everything that was measured."""
    blocks = []
    for scale in sorted({row.scale for row in rows}):
        lines = [
            f"### x{scale}",
            "",
            "| network | parameters | multiply-adds | Set5 | Set14 | BSD100 | time fp32 | time bf16 | time, fastest |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in sorted((row for row in rows if row.scale == scale), key=lambda row: (row.params or 0, row.name)):
            name = f"**{row.name}**" if row.ours else row.name
            quality = [
                f"{row.quality[test][0]:.2f} / {row.quality[test][1]:.4f}" if row.quality else "-" for test in TEST_SETS
            ]
            cells = [name, *_size(row), *quality, *(_ratio(row, kind) for kind in ("fp32", "bf16", "fastest"))]
            lines.append(f"| {' | '.join(cells)} |")
        blocks.append("\n".join(lines) + "\n")
    return "\n" + "\n".join(blocks) + "\n"


def times_table(rows: Sequence[Row], figures: dict[str, Any]) -> str:
    """Return our times in milliseconds by run, and those of the chains, so that the ratios can be checked."""
    lines = []
    for run in figures["times"]:
        where = f"PyTorch {run['torch']} on {run['threads']} threads, {run['hardware']}"
        lines += [
            f"{where}, an input of 320x180, milliseconds per megapixel:",
            "",
            "| network | scale | network fp32 | network bf16 | picture |",
            "| --- | --- | --- | --- | --- |",
        ]
        found = run["ms_per_mp"]
        chains = [Row(name, 4, ms_per_mp=ms) for name, ms in found.items() if name.startswith("chain")]
        timed = [row for row in rows if row.ms_per_mp and _key(row) in found]
        for row in [*chains, *timed]:
            kinds = ("fp32", "bf16", "picture")
            cells = [f"{row.ms_per_mp[kind]:.1f}" if kind in row.ms_per_mp else "-" for kind in kinds]
            lines.append(f"| {row.name} | x{row.scale} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _key(row: Row) -> str:
    """Return the name under which a row's times are stored."""
    return row.name if row.ours else f"{row.name} x{row.scale}"


def drawing(rows: Sequence[Row]) -> str:
    """Draw quality against size and against time, for each scale, without restoration models."""
    plotted = [row for row in rows if row.params and row.quality and not row.restores]
    panels = []
    for scale in sorted({row.scale for row in plotted if row.ours}):
        group = [row for row in plotted if row.scale == scale]
        panels.append(
            [
                Panel(
                    f"x{scale}: quality and size",
                    "parameters",
                    "PSNR on Set5, dB",
                    tuple(_point(row, row.params or 0) for row in group),
                ),
                Panel(
                    f"x{scale}: quality and time",
                    "time per megapixel, in fp32; plain chain of 89k parameters = 1",
                    "PSNR on Set5, dB",
                    tuple(_point(row, row.ratios["fp32"]) for row in group if "fp32" in row.ratios),
                ),
            ]
        )
    description = "PSNR on Set5 against parameters and against time, of the bundled models and of published networks"
    return scatter_svg(panels, description, "TriNAS", "published networks of others")


def _point(row: Row, x: float) -> Point:
    return Point(x, row.quality["Set5"][0], row.name.removesuffix(f"-x{row.scale}"), row.ours)


def _size(row: Row) -> tuple[str, str]:
    if row.params is None or row.macs is None:
        return "-", "-"
    return f"{row.params / 1e3:,.1f}k", f"{row.macs / 1e9:.1f}G"


def _ratio(row: Row, kind: str) -> str:
    if kind not in row.ratios:
        return "-"
    ratio = row.ratios[kind]
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"
