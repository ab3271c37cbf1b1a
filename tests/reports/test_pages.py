import itertools
import json
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.networks import busy_network
from trinas.config import Budgets, SearchConfig
from trinas.networks.primitives import PRIMITIVES
from trinas.networks.space import SPACES, SearchSpace, named_spec
from trinas.reports.pages import (
    _chart,
    _mean_survivors,
    _ticks,
    diagram,
    drawing_style,
    live_drawings,
    mixture_diagram,
    pictures,
    render,
)
from trinas.search.loop import search_network
from trinas.training.data import generate_images
from trinas.training.degrade import downscale


class Reader(HTMLParser):
    """What a browser would have to fetch, and the texts."""

    def __init__(self):
        super().__init__()
        self.fetched, self.tags, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data.strip())


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    space = SearchSpace("edge", 2, 8, 2, 2, 1)
    config = SearchConfig(Budgets(params=3000, macs=1e9), steps=(2, 9, 3), batch_size=2, patch_px=8, device="cpu")
    run_dir = tmp_path_factory.mktemp("report") / "run"
    search_network(space, generate_images(5, 112, seed=3), config, run_dir)
    return run_dir


def test_the_page_needs_nothing_else(run_dir):
    reader = read((run_dir / "report.html").read_text())
    assert len(reader.fetched) == 3
    assert all(url.startswith("data:image/png;base64,") for url in reader.fetched)
    assert not {"script", "link", "iframe"} & set(reader.tags)
    assert "url(" not in (run_dir / "report.html").read_text()


def test_the_page_says_what_the_report_says(run_dir):
    report = json.loads((run_dir / "report.json").read_text())
    words = " ".join(read((run_dir / "report.html").read_text()).texts)
    assert f"{report['validation_psnr']:.2f} dB" in words
    assert f"{report['bicubic_psnr']:.2f} dB" in words
    assert f"{report['results']['params']:,.0f}" in words
    assert report["data"]["sha256"] in words
    assert "warm-up 2, search 9, fine-tune 3" in words
    for cell in report["spec"]["cells"]:
        for primitive, _ in cell:
            assert f"{primitive} : {PRIMITIVES['edge'][primitive].words}" in words


def test_candidates_are_counted_per_decision():
    mixtures = {"path": [0.2, 0.8, 0.0], "primitives": [[[0.5, 0.5], [0.0, 1.0]]], "widths": [[]]}
    assert [_mean_survivors(level) for level in mixtures.values()][:2] == [2.0, 1.5]
    assert math.isnan(_mean_survivors(mixtures["widths"]))


def test_each_level_ends_with_one_candidate(run_dir):
    lines = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    last = [line["mixtures"] for line in lines if line.get("mixtures")][-1]
    assert {_mean_survivors(level) for level in last.values()} == {1.0}
    page = (run_dir / "report.html").read_text()
    drawn = re.findall(r'<polyline points="([^"]+)"', page[page.index("Candidates left") :])
    assert len(drawn) == 3


def test_a_search_is_drawn_from_its_first_event_on(run_dir):
    """As a page that watches it would: whenever it looks, there is a valid part of a page."""
    lines = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    drawn = [live_drawings(lines[:count]) for count in range(1, len(lines) + 1)]
    for part in drawn:
        assert read(part).tags.count("svg") in (0, 5)
    assert read(drawn[0]).tags.count("svg") == 0
    told = next(count for count, line in enumerate(lines) if line.get("mixtures"))
    assert "Candidates, at step" in drawn[told]
    assert "The network" in drawn[-1]
    assert drawing_style().count("light-dark(") > 10


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_a_page(name, tmp_path):
    """One slot a cell, so that no width is searched, and pictures so even that nothing can be measured on them."""
    space = SearchSpace(name, 2, 8, 2, 1, 1)
    config = SearchConfig(Budgets(params=9000), steps=(1, 3, 1), batch_size=2, patch_px=8, device="cpu")
    even = generate_images(3, 112, seed=3)
    search_network(space, even, config, tmp_path / name)
    reader = read((tmp_path / name / "report.html").read_text())
    assert reader.tags.count("svg") == 5 + 3, "network and charts, and each step of the search"


def test_every_primitive_has_words_and_a_colour():
    for family in PRIMITIVES.values():
        for name, primitive in family.items():
            light, dark = primitive.colours
            assert primitive.words
            assert drawing_style().count(f"--{name}: light-dark({light}, {dark});") == 1


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_few_and_inside(low, extent):
    ticks, digits = _ticks(low, low + extent)
    assert 1 <= len(ticks) <= 6
    assert low - 1e-6 <= ticks[0] <= ticks[-1] <= low + extent + 1e-6
    assert len({f"{tick:.{digits}f}" for tick in ticks}) == len(ticks), "all read differently"


def test_names_are_escaped(run_dir):
    report = json.loads((run_dir / "report.json").read_text())
    report["data"]["folders"] = ["<b>&"]
    page = render("<script>alert(1)</script>", report, [], [])
    assert "script" not in read(page).tags
    assert "&lt;b&gt;&amp;" in page


def test_pictures_show_the_same_place_three_ways(tiny_spec):
    network = busy_network(tiny_spec)
    photo = generate_images(1, 160, seed=5)[0].pixels
    shown = pictures(network, downscale(photo, 2), photo)
    assert [caption for caption, _ in shown] == ["bicubic", "this network", "the original"]
    assert len({url for _, url in shown}) == 3


@pytest.mark.parametrize("name", ["paper-a1", "paper-b2"])
def test_a_diagram_has_every_step_in_order(name):
    spec = named_spec(name)
    labels = [bar["label"] for bar in diagram(spec)["bars"]]
    slots = [slot.primitive for cell in spec.cells for slot in cell.slots]
    extra = ["conv3x3"] * spec.plain_convs
    assert [
        label for label in labels if label not in ("input", "head", "tail", "output") and not label.startswith("x")
    ] == slots + extra
    assert (labels[:2], labels[-2:]) == (["input", "head"], ["tail", "output"])
    assert sum(label == "x2" for label in labels) == len(spec.upsample_after)


def test_a_mixture_is_drawn_with_its_shares():
    space = SearchSpace("edge", 2, 16, 2, 2, 1)
    mixtures = {
        "path": [0.75, 0.25],
        "primitives": [[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.25, 0.75]]],
        "widths": [[[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]],
    }
    drawn = mixture_diagram(space, mixtures)
    assert [bar["alive"] for bar in drawn["bars"]] == [1.0, 1.0, 0.25, 0.25]
    heights = [[part["height"] / drawn["height"] for part in bar["parts"]] for bar in drawn["bars"]]
    assert heights == [[1.0, 0.0], [0.5, 0.5], [0.0, 0.5], [0.25, 0.75]]
    assert all(bar["parts"][0]["y"] + bar["parts"][0]["height"] == drawn["height"] for bar in drawn["bars"])


def test_the_page_draws_the_search_from_its_first_told_step_to_its_last(run_dir):
    captions = re.findall(r"step (\d+) of (\d+)", (run_dir / "report.html").read_text())
    assert captions[-1] == ("9", "9")
    assert len(captions) == 4


@pytest.mark.parametrize("steps", [(4, 11, 85), (5000, 500, 500), (1, 1, 10000), (10, 10, 10)])
def test_names_of_stages_stay_inside_and_apart(steps):
    starts = [0, steps[0], steps[0] + steps[1]]
    marks = list(zip(("warm-up", "search", "fine-tune"), starts, strict=True))
    names = _chart("", "", [], marks, sum(steps))["marks"]
    for name in names:
        assert name["text_x"] + name["extent"] <= 440
    for one, other in itertools.combinations(names, 2):
        apart = one["text_x"] + one["extent"] <= other["text_x"]
        assert one["row"] != other["row"] or apart
