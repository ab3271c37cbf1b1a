import json
import re
from html.parser import HTMLParser

import pytest
from conftest import busy_network

from trinas.config import Budgets, SearchConfig
from trinas.data import generated_photographs
from trinas.degrade import downscale
from trinas.report import diagram, pictures, render
from trinas.search import search_network
from trinas.space import SearchSpace, named_spec


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
    search_network(space, generated_photographs(5, 112, seed=3), config, run_dir)
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
            assert f"{primitive} :" in words
    assert words.count("candidates") >= 3


def test_each_level_ends_with_one_candidate(run_dir):
    page = (run_dir / "report.html").read_text()
    lines = re.findall(r'<polyline points="([^"]+)"', page[page.index("Candidates left") :])
    assert len(lines) == 3
    assert len({line.split()[-1] for line in lines}) == 1, "all three end at the same place"


def test_names_are_escaped(run_dir):
    report = json.loads((run_dir / "report.json").read_text())
    report["data"]["folders"] = ["<b>&"]
    page = render("<script>alert(1)</script>", report, [], [])
    assert "script" not in read(page).tags
    assert "&lt;b&gt;&amp;" in page


def test_pictures_show_the_same_place_three_ways(tiny_spec):
    network = busy_network(tiny_spec)
    photo = generated_photographs(1, 160, seed=5)[0].pixels
    shown = pictures(network, downscale(photo, 2), photo)
    assert [caption for caption, _ in shown] == ["bicubic", "this network", "the original"]
    assert len({url for _, url in shown}) == 3


@pytest.mark.parametrize("name", ["paper-a1", "paper-b2"])
def test_a_diagram_has_every_step_in_order(name):
    spec = named_spec(name)
    labels = [bar["label"] for bar in diagram(spec)["bars"]]
    slots = [slot.primitive for cell in spec.cells for slot in cell.slots]
    extra = ["conv3x3"] * spec.plain_convs
    assert [label for label in labels if label not in ("head", "tail") and not label.startswith("x")] == slots + extra
    assert (labels[0], labels[-1]) == ("head", "tail")
    assert sum(label == "x2" for label in labels) == len(spec.upsample_after)
