"""`train`."""

import json
import shlex
import signal
import sys
from dataclasses import replace

import pytest
from trinas_app.cli.runs import announce_teacher

from support.command_line import ask_to_stop, make_training_images, run
from support.processes import PATIENCE_S, pause_after, start
from trinas.config import FINETUNE_LEARNING_RATE, TrainConfig
from trinas.training.targets import TargetsRecord, make_target_folder
from trinas.zoo.folder import load_config
from trinas.zoo.record import TeacherRecord

SETTINGS = ("--steps", "100", "--batch-size", "2", "--patch", "12", "--validate-every", "25")
EXACT = ("--precision", "fp32", "--device", "cpu")
PROGRAM = pause_after("step 25/") + "from trinas_app.cli import main; main()"


@pytest.fixture(scope="module")
def finished_training(tmp_path_factory):
    """The images, the options and the run folder of a training that was not stopped."""
    folder = tmp_path_factory.mktemp("training")
    photographs = make_training_images(folder / "photographs", 4, 64)
    spec = replace(load_config("trinas-xs-x2").spec, trunk_width=8, cells=())
    (folder / "arch.json").write_text(spec.to_json())
    options = ("--arch", folder / "arch.json", *SETTINGS, *EXACT, "-o")
    assert run("train", "--data", photographs, *options, folder / "run").exit_code == 0
    return photographs, options, folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_resumes_to_the_same_end(number, finished_training, tmp_path):
    """A real process, really stopped."""
    photographs, options, straight = finished_training
    command = [sys.executable, "-c", PROGRAM, "train", "--data", photographs, *options, tmp_path / "run"]
    with start(*command) as stopped:
        assert any(line.startswith("step 25/") for line in stopped.stderr)
        stopped.send_signal(number)
        _, last_words = stopped.communicate(timeout=PATIENCE_S)
    assert stopped.returncode == 130
    assert f"--resume {tmp_path / 'run'} --data {photographs}" in last_words
    assert (tmp_path / "run/model.safetensors").is_file()
    resumed = run(*shlex.split(last_words.partition(": trinas-upscale ")[2]))
    assert resumed.exit_code == 0, resumed.output
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (straight / name).read_bytes()


def test_a_folder_that_cannot_be_resumed_is_refused_before_images_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("trinas.training.data.load_photographs", lambda *arguments: pytest.fail("images were loaded"))
    result = run("train", "--data", make_training_images(tmp_path / "images", 3, 64), "--resume", tmp_path / "typo")
    assert str(result.exception) == f"{tmp_path / 'typo'}: no training was stopped here; nothing to resume"


def test_training_that_gains_nothing_says_so(tmp_path):
    """A rate that is far too high: the start's weights are kept, and nobody is to think otherwise."""
    photographs = make_training_images(tmp_path / "photographs", 3, 112)
    options = ["--steps", "3", "--batch-size", "2", "--patch", "8", "--learning-rate", "1", "--device", "cpu"]
    result = run("train", "--data", photographs, "--from", "trinas-xs-x2", "-o", tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    assert "No step was better than the start" in result.stderr
    assert "Done; use it with --model" in result.stderr


def test_a_teacher_is_announced_and_its_stopped_training_can_be_resumed(tmp_path, monkeypatch):
    stop = ask_to_stop(monkeypatch, "train")
    photographs = make_training_images(tmp_path / "photographs", 3, 96)
    options = ["--from", "trinas-xs-x2", "--teacher", "trinas-xs-x2", "--steps", "1", "--patch", "8"]
    result = run("train", "--data", photographs, *options, "-o", tmp_path / "run")
    assert result.exit_code == 130, result.output
    first, *_, last = result.stderr.splitlines()
    assert first == "trinas-xs-x2 upscales all images before the first step, which may take minutes"
    assert last.startswith("Stopped; resume with: ")
    stop.clear()
    assert run(*shlex.split(last.partition(": trinas-upscale ")[2])).exit_code == 0


def test_nothing_is_said_of_targets_that_were_made_beforehand(tmp_path, capsys):
    make_target_folder(tmp_path, TargetsRecord(scale=2, teacher=TeacherRecord(name="someone", data=[])))
    announce_teacher(str(tmp_path), "the first step")
    assert capsys.readouterr().err == ""


def test_a_stop_in_the_last_step_comes_too_late(tmp_path, monkeypatch):
    ask_to_stop(monkeypatch, "train")
    photographs = make_training_images(tmp_path / "photographs", 3, 96)
    options = ["--data", photographs, "--from", "trinas-xs-x2", "--batch-size", "1", "--patch", "8", "-o"]
    for steps, words, code in ((1, "Done; use it", 0), (2, "Stopped; resume with", 130)):
        result = run("train", *options, tmp_path / f"{steps}", "--steps", steps)
        assert (result.exit_code, words in result.stderr) == (code, True), result.stderr


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        (["--from", "trinas-xs-x2"], FINETUNE_LEARNING_RATE),
        (["--from", "trinas-xs-x2", "-s", "2"], FINETUNE_LEARNING_RATE),
        (["--from", "trinas-xs-x2", "-s", "3"], TrainConfig.learning_rate),
        (["--from", "trinas-xs-x2", "--learning-rate", "0.001"], 0.001),
    ],
)
def test_fine_tuning_takes_a_lower_rate(options, rate, tmp_path):
    photographs = make_training_images(tmp_path / "photographs", 3, 96)
    result = run("train", "--data", photographs, *options, "-o", tmp_path / "run", "--steps", "1", "--patch", "8")
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "run/config.json").read_text())["training"]["config"]
    assert config["learning_rate"] == rate
