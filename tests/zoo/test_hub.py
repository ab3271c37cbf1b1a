"""Models from and to a Hub on this machine, by the real client, in processes that know no other Hub."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image as PillowImage
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from support.hub_server import HubServer
from support.images import generated_photograph
from trinas.errors import ModelError
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec, CellSpec, SlotSpec
from trinas.zoo.bundled import find_model, list_bundled_models
from trinas.zoo.folder import load_config, load_model, pull_model, save_model
from trinas.zoo.hub import is_hub_id
from trinas.zoo.record import EXAMPLE_FILE, ModelConfig

NOWHERE = "http://127.0.0.1:9"
LOAD = "import sys, trinas; print(trinas.load_model(sys.argv[1]).config.name)"
CLI = "from trinas_app.cli import main; main()"
LOAD_ALL = """
import sys, trinas
for name in sys.argv[1:]:
    try:
        trinas.load_model(name)
    except trinas.TrinasError as error:
        print(error)
"""
PUSH = (
    "import sys; from pathlib import Path; from trinas.zoo.folder import push_model; "
    "print(push_model(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))"
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub(tiny_model_dir: Path) -> Iterator[HubServer]:
    content = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir()}
    with HubServer({"ann/tiny": content}) as server:
        yield server


@pytest.fixture
def run(hub: HubServer, tmp_path: Path) -> Run:
    """Python code with arguments, with the cache of this test alone."""

    def call(code: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), **variables}
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    return call


def complaint(ended: "subprocess.CompletedProcess[str]") -> str:
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("trinas.errors.ModelError: "), ended.stderr
    return last


def test_a_model_is_downloaded_once_and_then_works_offline(run, hub):
    assert run(LOAD, "ann/tiny").stdout.strip() == "tiny-model"
    fetched = [request for request in hub.requests if request.startswith("GET") and "resolve" in request]
    assert len(fetched) == 2, "the two files that are needed"
    assert run(LOAD, "ann/tiny@main").stdout.strip() == "tiny-model"
    assert [request for request in hub.requests if request.startswith("GET") and "resolve" in request] == fetched
    assert run(LOAD, "ann/tiny", HF_HUB_OFFLINE="1").stdout.strip() == "tiny-model"
    assert run(LOAD, "ann/tiny", HF_ENDPOINT=NOWHERE).stdout.strip() == "tiny-model"


def test_a_login_of_this_machine_can_be_left_out(run, hub):
    find = "from trinas.zoo.bundled import find_hub_model; find_hub_model('ann/tiny', anonymous={})"
    assert run(find.format(True), HF_TOKEN="secret").returncode == 0
    assert hub.readers == {""}
    assert run(find.format(False), HF_TOKEN="secret").returncode == 0
    assert hub.readers == {"", "Bearer secret"}


def test_the_command_line_takes_a_hub_id(run, tmp_path):
    image = tmp_path / "cat.png"
    PillowImage.fromarray(generated_photograph(20, 24)).save(image)
    ended = run(CLI, str(image), "--model", "ann/tiny", "-o", str(tmp_path / "out"))
    assert ended.returncode == 0, ended.stderr
    with PillowImage.open(tmp_path / "out" / "cat_x2.png") as result:
        assert result.size == (48, 40)


def test_what_is_wrong_is_said_in_a_line(run, hub):
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
    lines = run(LOAD_ALL, *expected).stdout.splitlines()
    assert len(lines) == len(expected)
    for line, words in zip(lines, expected.values(), strict=True):
        assert words in line


def test_an_interrupted_download_goes_on(run, hub, tmp_path):
    """The client writes blocks of 10 MB, so that much must have come for there to be something to go on from."""
    spec = ArchSpec("edge", 2, 128, (CellSpec((SlotSpec("conv3x3", 128),) * 19),))
    folder = tmp_path / "large"
    save_model(folder, Network(spec), ModelConfig("large", spec, "Apache-2.0"))
    hub.files["ann/large"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.breaks_after["model.safetensors"] = 10_600_000
    ended = run(LOAD, "ann/large")
    assert ended.stdout.strip() == "large", ended.stderr
    assert hub.ranges == ["bytes=10485760-"]
    (cached,) = (tmp_path / "hf").rglob("*/snapshots/*/model.safetensors")
    assert cached.read_bytes() == hub.files["ann/large"]["model.safetensors"]


def test_without_a_network_it_is_said_so(run):
    assert "cannot be reached" in complaint(run(LOAD, "ann/tiny", HF_ENDPOINT=NOWHERE))


def test_a_pushed_model_comes_back(run, hub, tiny_model_dir):
    (tiny_model_dir / "search.pt").write_bytes(b"what nobody else needs")
    for _ in range(2):  # a new repository, then a new commit
        ended = run(PUSH, str(tiny_model_dir), "ann/pushed", "right")
        assert ended.stdout.strip() == f"{hub.url}/ann/pushed", ended.stderr
    assert set(hub.files["ann/pushed"]) == {"config.json", "model.safetensors", "README.md"}
    assert run(LOAD, "ann/pushed").stdout.strip() == "tiny-model"


def test_the_card_tells_the_hub_and_people_what_there_is_to_know(run, hub):
    ended = run(CLI, "models", "push", "trinas-xs-x4", "ann/photos", HF_TOKEN="right")
    assert ended.returncode == 0, ended.stderr
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


def test_what_was_just_trained_is_pushed_and_its_licence_unknown_to_the_hub(run, hub, tiny_model_dir):
    set_licence(tiny_model_dir, "unspecified")
    ended = run(PUSH, str(tiny_model_dir), "ann/mine", "right")
    assert ended.returncode == 0, ended.stderr
    assert ModelCard(hub.files["ann/mine"]["README.md"].decode()).data.license == "unknown"
    assert run(LOAD, "ann/mine").stdout.strip() == "tiny-model"


def test_a_licence_that_the_hub_refuses_is_said_to_be(run, hub, tiny_model_dir):
    set_licence(tiny_model_dir, "my own")
    assert '"license" must be one of [apache-2.0' in complaint(run(PUSH, str(tiny_model_dir), "ann/mine", "right"))
    assert not hub.files["ann/mine"]


def set_licence(model_dir: Path, licence: str) -> None:
    config = json.loads((model_dir / "config.json").read_text())
    (model_dir / "config.json").write_text(json.dumps(config | {"licence": licence}))


def test_all_bundled_models_are_pushed_and_pulled_back(run, hub, tmp_path):
    ended = run(CLI, "models", "push", "--all", "ann", HF_TOKEN="right")
    assert ended.returncode == 0, ended.stderr
    assert {f"ann/{name}" for name in list_bundled_models()} <= set(hub.files)
    ended = run(CLI, "models", "pull", "ann/trinas-xs-x2")
    assert ended.returncode == 0, ended.stderr
    pulled = tmp_path / "trinas-xs-x2"
    assert (pulled / "model.safetensors").read_bytes() == hub.files["ann/trinas-xs-x2"]["model.safetensors"]
    assert load_model(str(pulled)).config == load_config("trinas-xs-x2")
    again = run(CLI, "models", "pull", "ann/trinas-xs-x2")
    assert (again.returncode, again.stderr.strip()) == (1, "error: trinas-xs-x2: exists already; choose another folder")


def test_a_folder_without_permission_is_one_clear_error(tmp_path, forbid):
    forbid(tmp_path / "private")
    with pytest.raises(ModelError, match=r"private/model: cannot be written \(Permission denied\)"):
        pull_model("ann/tiny", tmp_path / "private/model")
    with pytest.raises(ModelError, match=r"private/model: cannot be read \(Permission denied\)"):
        find_model(str(tmp_path / "private/model"))


def test_a_model_that_cannot_be_pulled_into_its_folder_is_one_line(run, hub, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    ended = run(CLI, "models", "pull", "ann/tiny", "-o", str(tmp_path / "file/model"))
    assert ended.returncode == 1
    assert ended.stderr.strip() == f"error: {tmp_path}/file/model: cannot be written (Not a directory)"


def test_a_wrong_token_is_said_to_be(run, hub, tiny_model_dir):
    text = complaint(run(PUSH, str(tiny_model_dir), "ann/pushed", "wrong"))
    assert "cannot be uploaded" in text
    assert "wrong" not in text, "a token is nothing to print"
    assert "ann/pushed" not in hub.files


def test_what_cannot_be_uploaded_without_a_network_is_one_line(run, tiny_model_dir):
    assert "cannot be uploaded" in complaint(run(PUSH, str(tiny_model_dir), "ann/x", "right", HF_ENDPOINT=NOWHERE))


@pytest.mark.parametrize("name", ["user/name", "user/name@v1.0", "a-b/c.d_e@refs/pr/1"])
def test_names_of_the_hub(name):
    assert is_hub_id(name)


@pytest.mark.parametrize("name", ["name", "a/b/c", "/a", "../a b", "a/b@", "~/x"])
def test_other_names(name):
    assert not is_hub_id(name)
