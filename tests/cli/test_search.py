"""`search` and `reproduce`."""

import shlex
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image as PillowImage

import trinas.search.pace
import trinas.training.data
from support.command_line import make_training_images, run, save_image
from support.images import generated_photograph
from support.processes import PATIENCE_S, pause_after, start

SIZES = ("--trunk-width", "8", "--cells", "2", "--slots", "2", "-s", "2", "--max-params", "3k")
EXACT = ("--device", "cpu", "--precision", "fp32")


def test_a_search_gives_a_model_that_upscales(tmp_path, monkeypatch):
    """Without photographs, into the default folder, named after the wish."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trinas.training.data, "GENERATED_IMAGES", 4)
    monkeypatch.setattr(trinas.training.data, "GENERATED_SIDE_PX", 100)
    result = run("search", *SIZES, *EXACT, "--steps", "2,3,60")
    assert result.exit_code == 0, result.output
    assert "Learning from generated images" in result.stderr
    assert "search 3/3  anneal 1.00  expected params" in result.stderr
    assert "use it with --model searched-x2-3k" in result.stderr
    assert {path.name for path in Path("searched-x2-3k").iterdir()} >= {
        "model.safetensors", "config.json", "README.md", "report.json", "report.html", "events.jsonl", "metrics.jsonl",
        "curve.png",
    }  # fmt: skip
    save_image("photo.png", generated_photograph(20, 30))
    assert run("photo.png", "--model", "searched-x2-3k").exit_code == 0
    with PillowImage.open("upscaled/photo_x2.png") as upscaled:
        assert upscaled.size == (60, 40)
    again = run("reproduce", "searched-x2-3k/report.json")
    assert again.exit_code == 0, again.output
    assert "The same network." in again.stderr
    weights = [Path(folder) / "model.safetensors" for folder in ("searched-x2-3k", "searched-x2-3k-again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    taken = run("search", "-s", "2", "--max-params", "3k")
    assert str(taken.exception).startswith("searched-x2-3k: exists already")


SETTINGS = (*SIZES, "--steps", "4,30,4", *EXACT, "-o")
PROGRAM = pause_after("search 20/") + "from trinas_app.cli import main; main()"


@pytest.fixture(scope="module")
def finished_search(tmp_path_factory):
    """The images and the run folder of a search that was not stopped."""
    folder = tmp_path_factory.mktemp("search")
    photographs = make_training_images(folder / "photographs", 4, 100)
    assert run("search", "--data", photographs, *SETTINGS, folder / "run").exit_code == 0
    return photographs, folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_search_resumes_to_the_same_end(number, finished_search, tmp_path):
    """A real process, really stopped."""
    photographs, straight = finished_search
    command = [sys.executable, "-c", PROGRAM, "search", "--data", photographs, *SETTINGS, tmp_path / "run"]
    with start(*command) as stopped:
        assert any(line.startswith("search 20/") for line in stopped.stderr)
        stopped.send_signal(number)
        _, last_words = stopped.communicate(timeout=PATIENCE_S)
    assert stopped.returncode == 130
    assert not (tmp_path / "run/model.safetensors").exists()
    assert f"--resume {tmp_path / 'run'} --data {photographs}" in last_words
    resumed = run(*shlex.split(last_words.partition(": trinas-upscale ")[2]))
    assert resumed.exit_code == 0, resumed.output
    assert (tmp_path / "run/model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


def test_the_help_of_a_search_says_how_steps_are_shared_out():
    words = " ".join(run("search", "--help").output.replace("│", " ").split())
    warm_up, search, tuning = (f"{100 * share:g}" for share in trinas.search.pace.SHARES)
    assert f"({warm_up}, {search} and {tuning} %)" in words
