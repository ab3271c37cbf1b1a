import json
import math
import re
import shutil
from html.parser import HTMLParser

import pytest

from trinas.config import Budgets, SearchConfig
from trinas.errors import RunError
from trinas.networks.space import PRIMITIVES, SPACES, SearchSpace, find_named_spec
from trinas.reports.diagrams import draw_mixture, draw_network
from trinas.reports.pages import (
    count_mean_survivors,
    render_drawing_style,
    render_live_drawings,
    render_page,
    write_search_report,
)
from trinas.search.loop import search_network
from trinas.search.record import MixtureShares, read_events, read_search_record
from trinas.training.data import generate_images


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
    write_search_report(run_dir)
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
    assert [count_mean_survivors(level) for level in mixtures.values()][:2] == [2.0, 1.5]
    assert math.isnan(count_mean_survivors(mixtures["widths"]))


def test_each_level_ends_with_one_candidate(run_dir):
    last = [event.mixtures for event in read_events(run_dir) if getattr(event, "mixtures", None)][-1]
    assert {count_mean_survivors(level) for level in last.model_dump().values()} == {1.0}
    page = (run_dir / "report.html").read_text()
    drawn = re.findall(r'<polyline points="([^"]+)"', page[page.index("Candidates left") :])
    assert len(drawn) == 3


def test_a_search_is_drawn_from_its_first_event_on(run_dir):
    """As a page that watches it would: whenever it looks, there is a valid part of a page."""
    events = read_events(run_dir)
    drawn = [render_live_drawings(events[:count]) for count in range(1, len(events) + 1)]
    for part in drawn:
        assert read(part).tags.count("svg") in (0, 5)
    assert read(drawn[0]).tags.count("svg") == 0
    told = next(count for count, event in enumerate(events) if getattr(event, "mixtures", None))
    assert "Candidates, at step" in drawn[told]
    assert "The network" in drawn[-1]
    assert render_drawing_style().count("light-dark(") > 10


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_a_page(name, tmp_path):
    """One slot a cell, so that no width is searched, and pictures so even that nothing can be measured on them."""
    space = SearchSpace(name, 2, 8, 2, 1, 1)
    config = SearchConfig(Budgets(params=9000), steps=(1, 3, 1), batch_size=2, patch_px=8, device="cpu")
    even = generate_images(3, 112, seed=3)
    search_network(space, even, config, tmp_path / name)
    write_search_report(tmp_path / name)
    reader = read((tmp_path / name / "report.html").read_text())
    assert reader.tags.count("svg") == 5 + 3, "network and charts, and each step of the search"


def test_every_primitive_has_words_and_a_colour():
    for family in PRIMITIVES.values():
        for name, primitive in family.items():
            light, dark = primitive.colours
            assert primitive.words
            assert render_drawing_style().count(f"--{name}: light-dark({light}, {dark});") == 1


def test_names_are_escaped(run_dir):
    record = read_search_record(run_dir / "report.json")
    data = record.data.model_copy(update={"folders": ["<b>&"]})
    page = render_page("<script>alert(1)</script>", record.model_copy(update={"data": data}), [], [])
    assert "script" not in read(page).tags
    assert "&lt;b&gt;&amp;" in page


@pytest.mark.parametrize("name", ["report.json", "events.jsonl", "sample-network.png"])
def test_a_file_that_is_missing_is_named(name, run_dir, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    (folder / name).unlink()
    with pytest.raises(RunError, match=rf"{name}: cannot be read \(No such file"):
        write_search_report(folder)


@pytest.mark.parametrize("name", ["paper-a1", "paper-b2"])
def test_a_diagram_has_every_step_in_order(name):
    spec = find_named_spec(name)
    labels = [bar.label for bar in draw_network(spec).bars]
    slots = [slot.primitive for cell in spec.cells for slot in cell.slots]
    extra = ["conv3x3"] * spec.plain_convs
    assert [
        label for label in labels if label not in ("input", "head", "tail", "output") and not label.startswith("x")
    ] == slots + extra
    assert (labels[:2], labels[-2:]) == (["input", "head"], ["tail", "output"])
    assert sum(label == "x2" for label in labels) == len(spec.upsample_after)


def test_a_mixture_is_drawn_with_its_shares():
    space = SearchSpace("edge", 2, 16, 2, 2, 1)
    mixtures = MixtureShares(
        path=[0.75, 0.25],
        primitives=[[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.25, 0.75]]],
        widths=[[[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]],
    )
    drawn = draw_mixture(space, 7, mixtures)
    assert [bar.alive for bar in drawn.bars] == [1.0, 1.0, 0.25, 0.25]
    heights = [[part.height / drawn.height for part in bar.parts] for bar in drawn.bars]
    assert heights == [[1.0, 0.0], [0.5, 0.5], [0.0, 0.5], [0.25, 0.75]]
    assert all(bar.parts[0].y + bar.parts[0].height == drawn.height for bar in drawn.bars)


def test_the_page_draws_the_search_from_its_first_told_step_to_its_last(run_dir):
    captions = re.findall(r"step (\d+) of (\d+)", (run_dir / "report.html").read_text())
    assert captions[-1] == ("9", "9")
    assert len(captions) == 4
