import dataclasses
import json

import pytest
import torch

import trinas.search.loop
from support.networks import busy_supernet, same_weights
from support.runs import SEARCH_CONFIG as CONFIG
from support.runs import StopAfter
from trinas.errors import ModelError, RunError
from trinas.networks.space import SearchSpace
from trinas.search.budgets import find_largest_choice
from trinas.search.loop import repeat_search, resume_search, search_network
from trinas.search.record import read_search_record
from trinas.search.supernet import Supernet
from trinas.search.warmstart import (
    find_bundled_supernet,
    list_supernet_weights,
    load_supernet,
    save_supernet,
    start_from,
)
from trinas.training.data import generate_images
from trinas.zoo.bundled import find_bundle_dir
from trinas.zoo.folder import load_config

LARGE = SearchSpace("edge", 2, 16, 3, 2, 2)
SMALL = SearchSpace("edge", 2, 8, 2, 2, 1)
TRAINING = {"data": ["birds (CC0)"], "steps": 3}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("supernets") / "trinas-supernet-x2"
    save_supernet(folder, LARGE, list_supernet_weights(busy()), TRAINING)
    return load_supernet(folder)


def busy():
    return busy_supernet(LARGE.name, LARGE.scale, dtype=torch.float32, trunk_width=16, cells=3, slots=2)


@pytest.fixture
def photographs():
    return generate_images(6, 112, seed=7)


def test_a_supernet_comes_back_in_half_precision(pretrained):
    assert pretrained.space == LARGE
    assert pretrained.training == TRAINING
    original = list_supernet_weights(busy())
    assert set(pretrained.weights) == set(original)
    assert all(tensor.dtype == torch.float32 for tensor in pretrained.weights.values())
    assert all(torch.equal(tensor, tensor.half().float()) for tensor in pretrained.weights.values())


@pytest.mark.parametrize(
    ("space", "held"),
    [
        (LARGE, True),
        (SMALL, True),
        (dataclasses.replace(LARGE, trunk_width=17), False),
        (dataclasses.replace(LARGE, cells=4, searched_cells=3), True),
        (dataclasses.replace(LARGE, scale=4), False),
        (dataclasses.replace(LARGE, slots=3), False),
        (dataclasses.replace(LARGE, name="edge-all"), False),
        (dataclasses.replace(LARGE, searched_cells=1), False),
    ],
)
def test_a_space_that_starts_from_it_is_not_wider_and_the_same_otherwise(pretrained, space, held):
    assert pretrained.holds(space) == held


def test_a_space_starts_from_the_first_channels_and_cells(pretrained):
    supernet = Supernet(SMALL)
    before = [tensor.clone() for tensor in supernet.arch_parameters()]
    start_from(supernet, pretrained)
    assert torch.equal(supernet.head.weight, pretrained.weights["head.weight"][:8])
    assert torch.equal(supernet.tail.weight, pretrained.weights["tail.weight"][:, :8])
    name = "trunk.nodes.1.slots.0.1.conv.weight"
    assert torch.equal(dict(supernet.named_parameters())[name], pretrained.weights[name][:8, :8])
    assert all(torch.equal(*pair) for pair in zip(before, supernet.arch_parameters(), strict=True))


def test_cells_beyond_it_are_fresh(pretrained):
    space = dataclasses.replace(LARGE, cells=4, searched_cells=3)
    torch.manual_seed(5)
    fresh = dict(Supernet(space).named_parameters())
    torch.manual_seed(5)
    supernet = Supernet(space)
    start_from(supernet, pretrained)
    for name, tensor in list_supernet_weights(supernet).items():
        assert torch.equal(tensor, pretrained.weights.get(name, fresh[name]))
    assert any(name not in pretrained.weights for name in list_supernet_weights(supernet))


def test_the_whole_of_it_computes_what_was_saved(pretrained):
    original, started = busy(), Supernet(LARGE)
    start_from(started, pretrained)
    low, mixtures = torch.rand(1, 3, 9, 7), started.make_one_hot_mixtures(find_largest_choice(LARGE))
    torch.testing.assert_close(started(low, mixtures), original(low, mixtures), rtol=1e-2, atol=1e-2)


def test_a_search_starts_from_it_and_repeats(pretrained, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(trinas.search.loop, "find_bundled_supernet", lambda space: pretrained)
    network = search_network(SMALL, photographs, CONFIG, tmp_path / "warm").network
    cold = search_network(SMALL, photographs, dataclasses.replace(CONFIG, warm_start=False), tmp_path / "cold").network
    assert not same_weights(network, cold)
    report = read_search_record(tmp_path / "warm/report.json")
    start = {"name": "trinas-supernet-x2", "sha256": pretrained.sha256, "data": ["birds (CC0)"]}
    assert report.started_from.model_dump() == start
    assert load_config(str(tmp_path / "warm")).training.to_dict()["started_from"]["started_from"] == start
    assert "- before that: birds (CC0)\n" in (tmp_path / "warm/README.md").read_text()
    assert read_search_record(tmp_path / "cold/report.json").started_from is None
    first = json.loads((tmp_path / "warm/events.jsonl").read_text().splitlines()[0])
    assert first["started_from"] == "trinas-supernet-x2"
    assert same_weights(repeat_search(report, photographs, tmp_path / "again").network, network)
    monkeypatch.setattr(trinas.search.loop, "find_bundled_supernet", lambda space: None)
    with pytest.raises(RunError, match=r"started from trinas-supernet-x2 \(.*\), here it would from noise"):
        repeat_search(report, photographs, tmp_path / "elsewhere")


def test_a_stopped_search_goes_on_without_it(pretrained, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(trinas.search.loop, "find_bundled_supernet", lambda space: pretrained)
    straight = search_network(SMALL, photographs, CONFIG, tmp_path / "straight").network
    assert not search_network(SMALL, photographs, CONFIG, tmp_path / "stopped", stop=StopAfter(5)).finished
    monkeypatch.setattr(trinas.search.loop, "find_bundled_supernet", lambda space: None)
    assert same_weights(resume_search(tmp_path / "stopped", photographs).network, straight)
    assert read_search_record(tmp_path / "stopped/report.json").started_from.name == "trinas-supernet-x2"


def without(folder, key):
    config = json.loads((folder / "supernet.json").read_text())
    (folder / "supernet.json").write_text(json.dumps({name: config[name] for name in config if name != key}))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda folder: (folder / "supernet.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "supernet.json").write_text("[]"), "damaged, or not a supernet"),
        (lambda folder: (folder / "supernet.json").write_text('{"schema": 9}'), "schema 9"),
        (lambda folder: without(folder, "training"), "damaged, or not a supernet"),
        (lambda folder: (folder / "supernet.safetensors").write_bytes(b"no"), "damaged, or not a supernet"),
        (
            lambda folder: save_supernet(folder, SMALL, list_supernet_weights(Supernet(LARGE)), {}),
            "do not fit",
        ),
    ],
)
def test_what_is_damaged_is_named(tmp_path, spoil, complaint):
    save_supernet(tmp_path / "net", SMALL, list_supernet_weights(Supernet(SMALL)), {})
    spoil(tmp_path / "net")
    with pytest.raises(ModelError, match=complaint):
        load_supernet(tmp_path / "net")


@pytest.mark.parametrize("scale", [2, 4])
def test_bundled_supernets_serve_the_spaces_of_small_budgets(scale):
    space = SearchSpace("edge", scale, 24, 4, 3, 3)
    pretrained = find_bundled_supernet(space)
    assert pretrained is not None
    assert pretrained.name == f"trinas-supernet-x{scale}"
    assert find_bundled_supernet(dataclasses.replace(space, trunk_width=512)) is None
    assert find_bundled_supernet(dataclasses.replace(space, scale=3)) is None
    config = json.loads((find_bundle_dir() / pretrained.name / "supernet.json").read_text())
    assert config["training"]["data"]
