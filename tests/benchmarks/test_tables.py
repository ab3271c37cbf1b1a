"""The figures that README and docs show are the stored ones, and their drawing can be read."""

import itertools
import json
import re
from pathlib import Path

import pytest
import quality
import scatter
import tables

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows():
    figures, peers = tables.load_figures(), json.loads(tables.PEERS.read_text(encoding="utf-8"))
    return [*tables.baseline_rows(figures), *tables.our_rows(figures), *tables.peer_rows(peers)]


def test_readme_and_docs_show_what_is_stored(rows):
    """`benchmarks/quality.py --render` mends it."""
    assert tables.readme_table(rows) in tables.README.read_text(encoding="utf-8")
    docs = tables.DOCS.read_text(encoding="utf-8")
    assert tables.docs_tables(rows) in docs
    assert tables.times_table(rows, tables.load_figures()) in docs
    assert tables.DRAWING.read_text(encoding="utf-8") == tables.drawing(rows)


def test_times_are_ratios_to_the_chain_of_the_same_run():
    chain = {"fp32": 100.0, "bf16": 40.0}
    assert tables.ratios_to(chain, {"fp32": 50, "bf16": 60}) == {"fp32": 0.5, "bf16": 1.5, "fastest": 50 / 40}
    assert tables.ratios_to(chain, {"fp32": 50, "bf16": 60, "best": 20})["fastest"] == 0.5
    assert tables.ratios_to(chain, {"fp32": 50, "best": 50}) == {"fp32": 0.5}, "bf16 was not tried"
    assert tables.ratios_to({}, {"fp32": 50}) == {}


def test_a_network_that_has_changed_since_has_no_times(rows):
    first, second, *others = [row for row in rows if row.ours]
    reference = {tables.chain_name(*tables.REFERENCE_CHAIN): {"fp32": 2.0}}
    run = {"ms_per_mp": reference | {row.name: {"params": row.params, "fp32": 1.0} for row in (second, *others)}}
    run["ms_per_mp"][first.name] = {"params": first.params + 1, "fp32": 1.0}
    found = tables.our_rows({"times": [run]})
    assert [row.name for row in found if not row.ms_per_mp] == [first.name]
    again = {"ms_per_mp": {next(iter(reference)): {"fp32": 3.0}, first.name: {"params": first.params, "fp32": 1.0}}}
    for _ in range(2):  # the second time in place of the first
        runs = quality.merge_run([run], again, [first.name])
        assert len(runs) == 2
        ratios = {row.name: row.ratios["fp32"] for row in tables.our_rows({"times": runs})}
        assert ratios == {row.name: 1 / 2 for row in (second, *others)} | {first.name: 1 / 3}, "by its own run's chain"
        run = runs[0]
    assert quality.merge_run(runs, run, [row.name for row in (first, second, *others)]) == [run]


def test_the_best_of_the_others_of_a_size_stands_beside_ours():
    quality = dict.fromkeys(tables.TEST_SETS, (30.0, 0.8))
    better = dict.fromkeys(tables.TEST_SETS, (31.0, 0.9))
    shown = tables.readme_table(
        [
            tables.Row("ours-x2", 2, 20_000, 1e9, quality, ours=True),
            tables.Row("worse", 2, 10_000, 1e9, quality),
            tables.Row("better", 2, 25_000, 1e9, better),
            tables.Row("larger", 2, 25_001, 1e9, better),
            tables.Row("other scale", 3, 10_000, 1e9, better),
        ]
    )
    assert re.findall(r"^\| \*?([\w-]+)", shown, re.MULTILINE)[1:] == ["---", "ours-x2", "better"]


def test_labels_hide_nothing():
    """Seven networks close together: every label is clear of the others and of all points."""
    points = tuple(
        scatter.Point(100 + 4 * number, 31 + 0.02 * number, f"network {number}", False) for number in range(7)
    )
    frame = scatter.Box(0, 0, scatter.PANEL_WIDTH, scatter.PANEL_HEIGHT)
    places = [(200 + 12.0 * number, 100 - 6.0 * number) for number in range(7)]
    labels = scatter.place_labels(points, places, frame)
    for first, second in itertools.combinations(labels, 2):
        assert not first.box.overlaps(second.box)
    for label in labels:
        assert label.box.inside(frame)
        assert not any(label.box.overlaps(scatter.square_around(place, scatter.RADIUS)) for place in places)
