import json
import math
import os
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import hostile
from support.networks import busy_network
from trinas.config import PRESETS
from trinas.errors import ModelError
from trinas.images.image import Image
from trinas.inference.tiled import TiledUpscaler
from trinas.networks.cost import compute_cost
from trinas.networks.network import Network
from trinas.networks.primitives import PRIMITIVES
from trinas.networks.space import PAPER_NETWORKS, SCALES, UPSAMPLING_STEPS, ArchSpec, CellSpec, SearchSpace, SlotSpec
from trinas.search.budgets import find_largest_choice
from trinas.zoo.bundled import PRESET_MODELS, RESTORATION_MODELS, find_default_model, find_model, list_bundled_models
from trinas.zoo.card import render_card
from trinas.zoo.folder import load_config, load_model, save_model
from trinas.zoo.record import EXAMPLE_FILE, ModelConfig, TrainingRecord


def test_a_model_survives_saving(tiny_model_dir, tiny_spec):
    model = load_model(str(tiny_model_dir))
    assert model.config.spec == tiny_spec
    assert model.scale == 2
    torch.manual_seed(0)
    low = torch.rand(1, 3, 8, 8)
    save_model(tiny_model_dir.parent / "again", model.network, model.config)
    again = load_model(str(tiny_model_dir.parent / "again"))
    assert again.config == model.config
    assert torch.equal(again.network(low), model.network(low))


def test_open_branches_are_saved_collapsed(tmp_path, tiny_spec):
    network = busy_network(tiny_spec)
    network.open_branches()
    torch.nn.init.normal_(network.head.pointwise)
    save_model(tmp_path / "model", network, ModelConfig("model", tiny_spec, "Apache-2.0"))
    low = torch.rand(1, 3, 8, 8)
    assert torch.equal(load_model(str(tmp_path / "model")).network(low), network(low))
    assert network.head.pointwise is not None, "the network that trains on is left alone"


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema": 2}, "newer trinas-upscale"),
        ({"owner": "me"}, "the key owner is unknown"),
        ({"spec": {"schema": 1}}, "spec: not a valid architecture"),
    ],
)
def test_a_config_this_version_does_not_know_is_refused(tiny_model_dir, changes, complaint):
    change_config(tiny_model_dir, **changes)
    with pytest.raises(ModelError, match=complaint) as caught:
        load_model(str(tiny_model_dir))
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"training": {"config": "x"}}, "training.config: "),
        ({"training": {"data": "x"}}, "training.data: "),
        (
            {"training": {"started_from": {"started_from": {"config": []}}}},
            "training.started_from.started_from.config: ",
        ),
        ({"training": {"taught_by": {"name": "x", "data": [1]}}}, "training.taught_by.data.0: "),
        ({"training": {"taught_by": {"name": "x"}}}, "the key training.taught_by.data is missing"),
        ({"training": {"images": "about 800"}}, "training.images: "),
        ({"training": {"started_from": {"seconds": "an hour"}}}, "training.started_from.seconds"),
        ({"figures": {"Set5": {}}}, "the key figures.Set5.psnr is missing"),
        ({"figures": {"Set5": {"psnr": "31", "ssim": 0.9}}}, "figures.Set5.psnr: "),
        ({"figures": {"Set5": {"psnr": 1e9, "ssim": 0.9}}}, "figures.Set5.psnr: "),
        ({"figures": {"Set5": {"psnr": math.nan, "ssim": 0.9}}}, "figures.Set5.psnr: "),
        ({"figures": {"Set5": [31, 0.9]}}, "figures.Set5: "),
        ({"licence": 7}, "licence: "),
    ],
)
def test_a_record_of_the_wrong_kind_is_refused(tiny_model_dir, changes, complaint):
    change_config(tiny_model_dir, **changes)
    with pytest.raises(ModelError, match=re.escape(complaint)) as caught:
        load_config(str(tiny_model_dir))
    assert str(caught.value).startswith(f"{tiny_model_dir / 'config.json'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list_bundled_models())
def test_a_config_is_written_as_it_was_read(name):
    content = (find_model(name) / "config.json").read_text(encoding="utf-8")
    assert load_config(name).to_json() + "\n" == content


def test_a_record_leaves_out_what_is_not_known():
    record = TrainingRecord(steps=3, taught_by={}, started_from=None, config={"shortened": ((1, 2),)}, weather="fair")
    assert record.to_dict() == {"steps": 3, "config": {"shortened": [[1, 2]]}, "weather": "fair"}
    assert TrainingRecord.model_validate(record.to_dict()) == record


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_a_damaged_config_is_one_clear_error(tiny_model_dir, content):
    (tiny_model_dir / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(str(tiny_model_dir))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.pop("head.bias"), r"missing \['head\.bias'\]"),
        (lambda weights: weights.update(extra=torch.zeros(1)), r"unknown \['extra'\]"),
        (
            lambda weights: weights.update({"head.bias": torch.zeros(3)}),
            r"head\.bias is torch\.float32 \(3,\)",
        ),
        (lambda weights: weights.update({"head.bias": torch.zeros(8).double()}), r"torch\.float64"),
        (lambda weights: weights.update({"head.bias": torch.full((8,), torch.nan)}), "not numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tiny_model_dir, change, complaint):
    path = tiny_model_dir / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    with pytest.raises(ModelError, match=complaint):
        load_model(str(tiny_model_dir))


def test_weights_that_are_far_too_large_are_not_read(tiny_model_dir):
    with (tiny_model_dir / "model.safetensors").open("r+b") as file:
        file.truncate(10**12)  # a hole, which takes no space on the disk
    with pytest.raises(ModelError, match=r"cannot be the weights of 4,288 parameters \(larger than 10.03 MB\)"):
        load_model(str(tiny_model_dir))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_weights_is_not_waited_for(tiny_model_dir):
    (tiny_model_dir / "model.safetensors").unlink()
    os.mkfifo(tiny_model_dir / "model.safetensors")
    with pytest.raises(ModelError, match="not a regular file"):
        load_model(str(tiny_model_dir))


def test_many_unknown_weights_are_one_short_line(tiny_model_dir):
    path = tiny_model_dir / "model.safetensors"
    save_file(load_file(path) | {f"{number}\n" + "x" * 90: torch.zeros(1) for number in range(10_000)}, path)
    with pytest.raises(ModelError, match="do not fit config") as caught:
        load_model(str(tiny_model_dir))
    assert hostile.is_one_line(str(caught.value))


def test_damaged_or_pickled_weights_are_refused(tiny_model_dir):
    path = tiny_model_dir / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged, or not a safetensors file"):
        load_model(str(tiny_model_dir))
    torch.save({"head.bias": torch.zeros(8)}, path)
    with pytest.raises(ModelError, match="damaged, or not a safetensors file"):
        load_model(str(tiny_model_dir))
    path.unlink()
    with pytest.raises(ModelError, match="No such file"):
        load_model(str(tiny_model_dir))


def test_unknown_names_and_scales_say_what_there_is(tmp_path):
    with pytest.raises(ModelError, match=r"no such model; bundled are .*trinas-xs-x4"):
        find_model("trinas-giant")
    with pytest.raises(ModelError, match=r"no config\.json in this folder"):
        find_model(str(tmp_path))
    with pytest.raises(ModelError, match=r"no bundled model upscales 7 times; there are models for .*4"):
        find_default_model(7)


@pytest.mark.parametrize("name", list_bundled_models())
def test_a_bundled_model_is_complete(name):
    folder, config = find_model(name), load_config(name)
    assert config.name == name
    weights = load_file(folder / "model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == compute_cost(config.spec).params
    assert set(config.metrics) == {"Set5", "Set14", "BSD100"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card == render_card(config, example=EXAMPLE_FILE)
    assert (folder / EXAMPLE_FILE).stat().st_size < 100_000


@pytest.mark.parametrize(
    ("models", "restore"), [*((models, False) for models in PRESET_MODELS.values()), (RESTORATION_MODELS, True)]
)
def test_models_that_are_chosen_unnamed_are_what_they_are_chosen_for(models, restore):
    for scale, name in models.items():
        assert name in list_bundled_models()
        assert (load_config(name).spec.scale, load_config(name).restores) == (scale, restore)


@pytest.mark.parametrize(("preset", "most"), [("fast", 25_000), ("balanced", 100_000), ("best", 300_000)])
def test_presets_keep_to_their_sizes_and_cover_every_scale(preset, most):
    assert tuple(PRESET_MODELS) == PRESETS
    assert sorted(PRESET_MODELS[preset]) == [2, 3, 4]
    assert all(compute_cost(load_config(name).spec).params <= most for name in PRESET_MODELS[preset].values())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_slower_preset_is_better_on_the_largest_test_set(scale):
    """BSD100, since the 5 images of Set5 say less."""
    models = [load_config(PRESET_MODELS[preset][scale]) for preset in PRESETS]
    psnr = [model.metrics["BSD100"].psnr for model in models]
    assert psnr == sorted(psnr)
    assert find_default_model(scale) == models[-1].name


def card_of(spec, training):
    return render_card(ModelConfig("m", spec, "MIT", TrainingRecord.model_validate(training)))


def test_a_card_says_what_input_a_model_is_for(tiny_spec):
    assert "Made for clean, sharp input" in card_of(tiny_spec, {"config": {"variants": 0}})
    assert "Made for ordinary photographs" in card_of(tiny_spec, {"config": {"variants": 8}})


def test_a_card_draws_the_long_skip_and_leaves_out_settings_that_were_not_given(tiny_spec):
    training = {"config": {"steps": 5, "minutes": None, "learning_rate": 0.0012345678}}
    card = card_of(replace(tiny_spec, long_skip=True), training)
    assert "  head's output added: 8\n  tail conv3x3" in card
    assert "\n\nSettings: steps 5, learning_rate 0.001235.\n" in card
    assert "head's output" not in card_of(tiny_spec, training)


def test_a_card_says_where_data_weights_and_architecture_come_from(tiny_spec):
    noise = {"name": "the supernet", "method": "trilevel search", "space": "edge", "budgets": "params 50000"}
    search = {**noise, "started_from": {"name": "trinas-supernet-x2", "data": ["birds"]}}
    first = {"name": "run-1", "data": ["cats"], "steps": 900, "seconds": 90, "config": {"batch_size": 8}}
    training = {"data": ["cats (CC0)"], "images": 714, "steps": 5000, "weather": "fair", "started_from": first}
    card = card_of(tiny_spec, {**training, "started_from": {**first, "started_from": search}})
    assert "- cats (CC0)\n- before that: cats\n- before that: birds\n- weather: fair\n\n714 images" in card
    same = {**training, "data_sha256": "12ab", "started_from": {**first, "data_sha256": "12ab"}}
    assert "before that" not in card_of(tiny_spec, same), "the same images under another name"
    called_the_same = {**training, "data_sha256": "12ab", "started_from": {"data": training["data"]}}
    assert "before that" not in card_of(tiny_spec, called_the_same), "a supernet knows no digest"
    taught = {**training, "taught_by": {"name": "old", "data": ["dogs", "cats (CC0)"]}, "config": {"teacher": "old"}}
    card_of_taught = card_of(tiny_spec, taught)
    assert "- before that: cats\n- its teacher old also from: dogs\n- weather" in card_of_taught
    assert " | old | - | - |\n" in card_of_taught.split("| m |")[1]
    assert card.index("| run-1 | - | 900 | 8 |") < card.index("| m | 714 | 5,000 | - |"), "stages in their order"
    assert "Found by a trilevel search: space edge; budgets params 50000." in card
    assert "No search is part of the record" in card_of(tiny_spec, training)
    noted = {**training, "architecture": "written by hand"}
    assert "Where it comes from: written by hand." in card_of(tiny_spec, noted)


def test_a_card_shows_an_example_only_where_there_is_one(tiny_model_dir):
    model = load_model(str(tiny_model_dir))
    save_model(tiny_model_dir, model.network, model.config)
    assert EXAMPLE_FILE not in (tiny_model_dir / "README.md").read_text()
    (tiny_model_dir / EXAMPLE_FILE).write_bytes(b"an image")
    save_model(tiny_model_dir, model.network, model.config)
    assert f"]({EXAMPLE_FILE})" in (tiny_model_dir / "README.md").read_text()


def paper_spec(scale, steps):
    """A small network of the paper's family: a cell, upsampling steps or a pixel-shuffle tail, a plain convolution."""
    cell = CellSpec(tuple(SlotSpec(name, 8) for name in PRIMITIVES["paper"]))
    return ArchSpec("paper", scale, 8, (cell,), (1,) * len(UPSAMPLING_STEPS[scale]) if steps else (), plain_convs=1)


def searched_spec(name, scale):
    """The largest network of a small space, as a search may choose it."""
    space = SearchSpace(name, scale, 8, 2, 3, 1)
    return space.spec(find_largest_choice(space))


KINDS = ("paper-a", "paper-b")


@pytest.mark.parametrize(
    "spec",
    [
        *PAPER_NETWORKS.values(),
        *(paper_spec(scale, kind == "paper-a") for scale in SCALES for kind in KINDS),
        *(searched_spec(kind, scale) for scale in SCALES for kind in KINDS),
    ],
    ids=[
        *PAPER_NETWORKS,
        *(f"{kind}-x{scale}-{way}" for way in ("built", "searched") for scale in SCALES for kind in KINDS),
    ],
)
def test_networks_of_the_paper_survive_saving_and_upscale(spec, tmp_path):
    network = Network(spec).eval()
    save_model(tmp_path / "model", network, ModelConfig("model", spec, "MIT"))
    model, low = load_model(str(tmp_path / "model")), torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(model.network(low), network(low))
    grey = torch.full((3, 12, 10), 0.5)  # which this family maps to itself, also with fresh weights
    upscaled = TiledUpscaler(model, "cpu")(Image(grey)).pixels
    assert upscaled.shape == (3, 12 * spec.scale, 10 * spec.scale)
    torch.testing.assert_close(upscaled, torch.full_like(upscaled, 0.5))


def test_a_card_says_where_the_last_architecture_comes_from(tiny_spec):
    chain = TrainingRecord(name="chain", architecture="a chain, written by hand")
    grown = TrainingRecord(architecture="the chain with one more block", started_from=chain)
    card = render_card(ModelConfig("grown", tiny_spec, "MIT", grown))
    assert "Where it comes from: the chain with one more block." in card
    assert "written by hand" not in card
