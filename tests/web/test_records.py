"""What the page shows of models, whatever their config.json says."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from trinas_app.web import catalogue as catalogue_module
from trinas_app.web.catalogue import Catalogue, Offer
from trinas_app.web.components import label_offer
from trinas_app.web.tab_models import list_models
from trinas_app.web.trade_off import draw_trade_offs

from support import hostile
from trinas.errors import ModelError
from trinas.networks.space import PAPER_NETWORKS
from trinas.zoo.card import render_card
from trinas.zoo.folder import load_config
from trinas.zoo.record import CONFIG_FILE, Metrics, ModelConfig, TrainingRecord, read_config

MARKDOWN = MarkdownIt("commonmark").enable("table")

STAGE = {
    "data": ["cats (CC0)"], "images": 7, "data_sha256": "12ab", "steps": 9, "seconds": 5, "validation_psnr": 30.5,
    "config": {"steps": 9, "minutes": None, "shortened": [[1, 2]], "variants": 0, "learning_rate": 1e-3},
    "taught_by": {"name": "old", "sha256": "34cd", "data": ["dogs"]},
}  # fmt: skip
SEARCH = {"method": "trilevel search", "space": "edge", "budgets": "params 9", "steps": "3 + 4", "weather": "fair"}
FIGURES = {"Set5": {"psnr": 31.5, "ssim": 0.9}, "Set14": {"psnr": 28, "ssim": 0.8}}


def full_config(spec):
    """A config.json with every key."""
    training = {**STAGE, "started_from": {"name": "run-1", "steps": 3, "started_from": SEARCH}}
    return {
        "schema": 1, "name": "m", "spec": spec.to_dict(), "licence": "MIT", "training": training, "figures": FIGURES
    }  # fmt: skip


class TagFinder(HTMLParser):
    """Collects the tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)


@pytest.fixture(scope="module")
def offers():
    """Two bundled models; a test with all of them would take long."""
    offers = Catalogue("cpu").offers()
    return {name: offers[name] for name in ("trinas-xs-x2", "trinas-s-photo-x4")}


def check_shown(config, offers):
    """The card, the table and the drawings show a model beside the others, and nothing in it is HTML."""
    card = render_card(config)
    _, front_matter, body = card.split("---\n", 2)
    assert yaml.safe_load(front_matter)["library_name"] == "trinas"
    assert not TagFinder(MARKDOWN.render(body)).tags & {"img", "script", "a"}
    card.encode()
    shown = {**offers, config.name: Offer(config, "Hub")}
    table, drawing = list_models(shown, {}), draw_trade_offs(shown, {})
    assert table.count("<tr>") == len(shown) + 1
    assert not (TagFinder(table).tags | TagFinder(drawing).tags) & {"img", "script", "a"}
    assert draw_trade_offs(shown, dict.fromkeys(shown, 0.5)).count("<circle") == drawing.count("<circle")
    (table + drawing + label_offer(shown[config.name], config.name, 0.5)).encode()


def test_any_value_in_a_config_is_shown_or_refused_in_one_line(tmp_path, tiny_spec, offers):
    path, shown = tmp_path / CONFIG_FILE, 0
    for change, data in hostile.mutations(full_config(tiny_spec)):
        path.write_text(json.dumps(data))
        if config := hostile.accept_or_refuse(lambda: read_config(tmp_path), ModelError):
            check_shown(config, offers)
            path.write_text(config.to_json())
            assert read_config(tmp_path) == config, change
            shown += 1
    assert shown > 100, "some of the values are allowed"


@given(st.text(max_size=300), st.text(max_size=300), st.floats(), st.floats())
def test_any_name_and_any_figures_are_shown_or_refused(offers, tmp_path_factory, name, licence, psnr, ssim):
    folder = tmp_path_factory.mktemp("model")
    spec = PAPER_NETWORKS["paper-b3"]
    data = full_config(spec) | {"name": name, "licence": licence, "figures": {"Set5": {"psnr": psnr, "ssim": ssim}}}
    (folder / CONFIG_FILE).write_text(json.dumps(data))
    if config := hostile.accept_or_refuse(lambda: read_config(folder), ModelError):
        check_shown(config, offers)


@pytest.mark.parametrize("psnrs", [[0], [100], [0, 100], [30, 30], [30, 30 + 1e-12]])
def test_models_of_extreme_or_equal_quality_are_drawn(psnrs, offers):
    offer = offers["trinas-xs-x2"]
    shown = {
        str(number): replace(offer, config=replace(offer.config, metrics={"Set5": Metrics(psnr=psnr, ssim=-1)}))
        for number, psnr in enumerate(psnrs)
    }
    drawn = draw_trade_offs(shown, dict.fromkeys(shown, 1e-6))
    assert drawn.count("<circle") == len(psnrs)
    assert "nan" not in drawn


def test_a_record_holds_fifty_stages_and_no_more(tiny_spec, tmp_path):
    record = TrainingRecord(steps=1)
    for _ in range(49):
        record = TrainingRecord(steps=1, started_from=record)
    (tmp_path / CONFIG_FILE).write_text(ModelConfig("m", tiny_spec, "MIT", record).to_json())
    assert read_config(tmp_path).training == record
    data = full_config(tiny_spec) | {"training": {"steps": 1, "started_from": record.to_dict()}}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(data))
    with pytest.raises(ModelError, match="training: a record of more than 50 stages"):
        read_config(tmp_path)


def test_a_config_of_many_megabytes_is_not_parsed(tiny_spec, tmp_path):
    data = full_config(tiny_spec) | {"training": {"data": ["x" * 1000] * 10_000}}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(data))
    with pytest.raises(ModelError, match=r"cannot be read \(larger than 1 MB\)"):
        read_config(tmp_path)


def test_a_model_that_has_become_damaged_takes_no_other_off_the_page(tiny_model_dir, monkeypatch):
    monkeypatch.setattr(catalogue_module, "TIMED_PX", 16)
    catalogue = Catalogue("cpu")
    name = catalogue.add(str(tiny_model_dir), "folder")
    config = json.loads((tiny_model_dir / CONFIG_FILE).read_text())
    for broken in ({**config, "licence": "\ud800"}, [], {**config, "spec": {**config["spec"], "trunk_width": 10**30}}):
        (tiny_model_dir / CONFIG_FILE).write_text(json.dumps(broken))
        assert name not in catalogue.offers()
        assert "trinas-xs-x2" in list_models(catalogue.offers(), {})
    (tiny_model_dir / CONFIG_FILE).write_text(json.dumps(config))
    assert catalogue.offers()[name].config == load_config(str(tiny_model_dir))
