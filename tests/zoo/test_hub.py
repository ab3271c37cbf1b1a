"""Models from and to a Hub on this machine, by the real client."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, constants
from PIL import Image as PillowImage
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from support.command_line import run
from support.hub_server import HubServer
from support.images import generated_photograph
from trinas.errors import ModelError
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec, CellSpec, SlotSpec
from trinas.zoo.bundled import find_hub_model, find_model, list_bundled_models
from trinas.zoo.folder import load_config, load_model, pull_model, push_model, save_model
from trinas.zoo.hub import is_hub_id
from trinas.zoo.record import EXAMPLE_FILE, ModelConfig

NOWHERE = "http://127.0.0.1:9"
LOAD = "import trinas; print(trinas.load_model('ann/tiny').config.name)"


def set_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Do what HF_ENDPOINT does for a process that has not started yet."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's folder, of this test alone, without a login."""
    folder = tmp_path / "hf"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return folder


@pytest.fixture
def hub(cache: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    content = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir()}
    with HubServer({"ann/tiny": content}) as server:
        set_hub(monkeypatch, server.url)
        yield server


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts that were made. They are not waited for."""
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


def fetched(hub: HubServer) -> list[str]:
    return [request for request in hub.requests if request.startswith("GET") and "resolve" in request]


def test_a_model_is_downloaded_once_and_then_works_without_the_hub(hub, naps, monkeypatch):
    assert load_model("ann/tiny").config.name == "tiny-model"
    before = fetched(hub)
    assert len(before) == 2, "the two files that are needed"
    assert load_model("ann/tiny@main").config.name == "tiny-model"
    assert fetched(hub) == before
    set_hub(monkeypatch, NOWHERE)
    assert load_model("ann/tiny").config.name == "tiny-model"
    assert naps == []


@pytest.mark.slow
def test_variables_set_hub_folder_and_offline_mode(hub, cache):
    """As a process: they are read when it starts."""

    def load(**variables):
        environment = os.environ | {"HF_HOME": str(cache), "HF_ENDPOINT": hub.url} | variables
        return subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, env=environment)

    assert "cannot be reached" in load(HF_HUB_OFFLINE="1").stderr
    assert hub.requests == []
    assert load().stdout.strip() == "tiny-model"
    before = list(hub.requests)
    assert load(HF_HUB_OFFLINE="1").stdout.strip() == "tiny-model"
    assert hub.requests == before


def test_without_a_network_it_is_said_so_after_one_attempt(cache, naps, monkeypatch):
    set_hub(monkeypatch, NOWHERE)
    with pytest.raises(ModelError, match="cannot be reached"):
        load_model("ann/tiny")
    assert naps == [], "no attempt is repeated"


def test_a_hub_that_is_busy_is_asked_again(hub, naps):
    hub.busy = 3
    assert load_model("ann/tiny").config.name == "tiny-model"
    assert naps


def test_a_login_of_this_machine_can_be_left_out(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    find_hub_model("ann/tiny", anonymous=True)
    assert hub.readers == {""}
    find_hub_model("ann/tiny", anonymous=False)
    assert hub.readers == {"", "Bearer secret"}


def test_the_command_line_takes_a_hub_id(hub, tmp_path):
    image = tmp_path / "cat.png"
    PillowImage.fromarray(generated_photograph(20, 24)).save(image)
    ended = run(image, "--model", "ann/tiny", "-o", tmp_path / "out")
    assert ended.exit_code == 0, ended.output
    with PillowImage.open(tmp_path / "out" / "cat_x2.png") as result:
        assert result.size == (48, 40)


def test_what_is_wrong_is_said_in_a_line(hub):
    good = hub.files["ann/tiny"]
    hub.gated.add("ann/gated")
    hub.files["ann/empty"] = {"README.md": b""}
    hub.files["ann/huge"] = good | {"model.safetensors": bytes(200_000_001)}
    hub.files["ann/pickle"] = good | {"model.safetensors": b"\x80\x04\x95 a pickle"}
    hub.files["ann/cut"] = good | {"model.safetensors": good["model.safetensors"][:-7]}
    hub.files["ann/header"] = good | {"model.safetensors": (2**62).to_bytes(8, "little") + b"{}"}
    weights = load_safetensors(good["model.safetensors"])
    bias = weights["head.bias"]
    for name, odd in {
        "nan": {"head.bias": torch.full_like(bias, torch.nan)},
        "shapes": {"head.bias": bias[:3].clone()},
        "extra": {"extra": bias.clone()},
    }.items():
        hub.files[f"ann/{name}"] = good | {"model.safetensors": save_safetensors(weights | odd)}
    hub.files["ann/newer"] = good | {"config.json": good["config.json"].replace(b'"schema": 1', b'"schema": 99')}
    expected = {
        "ann/none": "no such folder, nor such a model on the Hub",
        "ann/tiny@none": "not this revision",
        "ann/gated": "needs a login",
        "ann/empty": "is no model of this program, it has no config.json",
        "ann/huge": "which is no model",
        "ann/pickle": "not a safetensors file",
        "ann/cut": "not a safetensors file",
        "ann/header": "not a safetensors file",
        "ann/nan": "values that are not numbers",
        "ann/shapes": "head.bias is torch.float32 (3,)",
        "ann/extra": "unknown ['extra']",
        "ann/newer": "newer trinas-upscale",
    }
    for name, words in expected.items():
        with pytest.raises(ModelError) as caught:
            load_model(name)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_interrupted_download_goes_on(hub, cache, tmp_path, naps):
    """The client writes blocks of 10 MB, so that much must have come for there to be something to go on from."""
    spec = ArchSpec("edge", 2, 128, (CellSpec((SlotSpec("conv3x3", 128),) * 19),))
    folder = tmp_path / "large"
    save_model(folder, Network(spec), ModelConfig("large", spec, "Apache-2.0"))
    hub.files["ann/large"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.breaks_after["model.safetensors"] = 10_600_000
    assert load_model("ann/large").config.name == "large"
    assert hub.ranges == ["bytes=10485760-"]
    (cached,) = cache.rglob("*/snapshots/*/model.safetensors")
    assert cached.read_bytes() == hub.files["ann/large"]["model.safetensors"]


def test_a_pushed_model_comes_back(hub, tiny_model_dir):
    (tiny_model_dir / "search.pt").write_bytes(b"what nobody else needs")
    for _ in range(2):  # a new repository, then a new commit
        assert push_model(tiny_model_dir, "ann/pushed", "right") == f"{hub.url}/ann/pushed"
    assert set(hub.files["ann/pushed"]) == {"config.json", "model.safetensors", "README.md"}
    assert load_model("ann/pushed").config.name == "tiny-model"


def test_the_card_tells_the_hub_and_people_what_there_is_to_know(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "right")
    ended = run("models", "push", "trinas-xs-x4", "ann/photos")
    assert ended.exit_code == 0, ended.output
    card = ModelCard(hub.files["ann/photos"]["README.md"].decode())
    assert (card.data.license, card.data.pipeline_tag) == ("apache-2.0", "image-to-image")
    metrics = load_config("trinas-xs-x4").metrics
    found = {(result.dataset_type, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert found[("Set5", "psnr")] == pytest.approx(metrics["Set5"].psnr, abs=1e-4)
    assert len(found) == 2 * len(metrics)
    assert "--model ann/photos" in card.text
    assert "Licence and limits" in card.text
    assert f"]({EXAMPLE_FILE})" in card.text
    assert hub.files["ann/photos"][EXAMPLE_FILE] == (find_model("trinas-xs-x4") / EXAMPLE_FILE).read_bytes()


def test_what_was_just_trained_is_pushed_and_its_licence_unknown_to_the_hub(hub, tiny_model_dir):
    set_licence(tiny_model_dir, "unspecified")
    push_model(tiny_model_dir, "ann/mine", "right")
    assert ModelCard(hub.files["ann/mine"]["README.md"].decode()).data.license == "unknown"
    assert load_model("ann/mine").config.name == "tiny-model"


def test_a_licence_that_the_hub_refuses_is_said_to_be(hub, tiny_model_dir):
    set_licence(tiny_model_dir, "my own")
    with pytest.raises(ModelError, match=r'"license" must be one of \[apache-2\.0'):
        push_model(tiny_model_dir, "ann/mine", "right")
    assert not hub.files["ann/mine"]


def set_licence(model_dir: Path, licence: str) -> None:
    config = json.loads((model_dir / "config.json").read_text())
    (model_dir / "config.json").write_text(json.dumps(config | {"licence": licence}))


def test_all_bundled_models_are_pushed_and_pulled_back(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "right")
    monkeypatch.chdir(tmp_path)
    ended = run("models", "push", "--all", "ann")
    assert ended.exit_code == 0, ended.output
    assert {f"ann/{name}" for name in list_bundled_models()} <= set(hub.files)
    ended = run("models", "pull", "ann/trinas-xs-x2")
    assert ended.exit_code == 0, ended.output
    pulled = tmp_path / "trinas-xs-x2"
    assert (pulled / "model.safetensors").read_bytes() == hub.files["ann/trinas-xs-x2"]["model.safetensors"]
    assert load_model(str(pulled)).config == load_config("trinas-xs-x2")
    again = run("models", "pull", "ann/trinas-xs-x2")
    assert str(again.exception) == "trinas-xs-x2: exists already; choose another folder"


def test_a_folder_without_permission_is_one_clear_error(tmp_path, forbid):
    forbid(tmp_path / "private")
    with pytest.raises(ModelError, match=r"private/model: cannot be written \(Permission denied\)"):
        pull_model("ann/tiny", tmp_path / "private/model")
    with pytest.raises(ModelError, match=r"private/model: cannot be read \(Permission denied\)"):
        find_model(str(tmp_path / "private/model"))


def test_a_model_that_cannot_be_pulled_into_its_folder_is_one_line(hub, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        pull_model("ann/tiny", tmp_path / "file/model")
    assert str(caught.value) == f"{tmp_path}/file/model: cannot be written (Not a directory)"


def test_a_wrong_token_is_said_to_be(hub, tiny_model_dir):
    with pytest.raises(ModelError, match="cannot be uploaded") as caught:
        push_model(tiny_model_dir, "ann/pushed", "wrong")
    assert "\n" not in str(caught.value)
    assert "wrong" not in str(caught.value), "a token is nothing to print"
    assert "ann/pushed" not in hub.files


def test_what_cannot_be_uploaded_without_a_network_is_one_line(cache, tiny_model_dir, monkeypatch):
    set_hub(monkeypatch, NOWHERE)
    with pytest.raises(ModelError, match="cannot be uploaded") as caught:
        push_model(tiny_model_dir, "ann/x", "right")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["user/name", "user/name@v1.0", "a-b/c.d_e@refs/pr/1"])
def test_names_of_the_hub(name):
    assert is_hub_id(name)


@pytest.mark.parametrize("name", ["name", "a/b/c", "/a", "../a b", "a/b@", "~/x"])
def test_other_names(name):
    assert not is_hub_id(name)
