"""The queue that trains the bundled models: it survives being killed, and bundles only what is better."""

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import bundle
import pytest
import torch
import train_zoo
from PIL import Image as PillowImage

from support.images import generated_photograph
from trinas.config import TrainConfig
from trinas.errors import ModelError, RunError
from trinas.networks.network import Network
from trinas.training.data import GENERATED_SIDE_PX, check_sizes
from trinas.training.state import STATE_FILE
from trinas.zoo.folder import load_config, save_model
from trinas.zoo.record import ModelConfig, TrainingRecord

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


pytestmark = pytest.mark.slow

CONFIG = TrainConfig(
    steps=60, batch_size=4, patch_px=12, warmup_steps=2, validate_every=10, device="cpu", precision="fp32"
)
TASK = train_zoo.Task("first", 2, train_zoo.build_chain(2, 8, 2), ("t91",), (CONFIG, replace(CONFIG, l2_share=1.0)))
RUN = """
import sys, threading
from pathlib import Path
sys.path[:0] = [*sys.argv[1:3], str(Path(sys.argv[2]).parent)]
from test_train_zoo import TASK
from train_zoo import work
work(TASK, *(Path(folder) for folder in sys.argv[3:5]), 1, Path(sys.argv[5]))
"""
PARENT = """
import sys, threading
from dataclasses import replace
from pathlib import Path
sys.path[:0] = [*sys.argv[1:3], str(Path(sys.argv[2]).parent)]
from test_train_zoo import CONFIG, TASK
from train_zoo import work_through
if __name__ == "__main__":
    data, runs = (Path(folder) for folder in sys.argv[3:5])
    endless = replace(TASK, stages=(replace(CONFIG, steps=10**6),))
    work_through([endless], data, runs, 1, 1, threading.Event(), runs / "models")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "train/t91").mkdir(parents=True)
    for seed in range(6):
        PillowImage.fromarray(generated_photograph(48, 64, seed)).save(folder / f"train/t91/{seed}.png")
    return folder


@pytest.fixture(scope="module")
def peaceful(data, tmp_path_factory):
    """The runs of a process that nobody disturbed."""
    runs = tmp_path_factory.mktemp("peaceful")
    process = start(data, runs, runs / "models")
    process.communicate()
    assert process.returncode == 0
    return runs


def start(data, runs, models):
    folders = [str(folder) for folder in (BENCHMARKS, Path(__file__).parent, data, runs, models)]
    return subprocess.Popen([sys.executable, "-c", RUN, *folders], stdout=subprocess.PIPE, text=True)


def wait_for_lines(process, count):
    return [process.stdout.readline() for _ in range(count)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, train_zoo.STOPPED)])
def test_what_was_killed_or_stopped_ends_as_if_it_had_not(data, peaceful, tmp_path, number, code):
    process = start(data, tmp_path, tmp_path / "models")
    assert "first-1  step 20/60" in wait_for_lines(process, 2)[-1]
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code
    assert torch.load(tmp_path / "first-1" / STATE_FILE, weights_only=True)["step"] < 60
    lines = start(data, tmp_path, tmp_path / "models").communicate()[0].splitlines()
    assert "step 60/60" in lines[-2]
    assert (tmp_path / "first-2/curve.png").is_file()
    assert "first-2" in lines[-2]
    for name in ("first-1", "first-2", "models/first"):
        weights = [(folder / name / "model.safetensors").read_bytes() for folder in (peaceful, tmp_path)]
        assert weights[0] == weights[1], name


def test_finished_stages_are_skipped_and_other_settings_refused(data, tmp_path):
    assert train_zoo.work_through([TASK], data, tmp_path, 1, 1, threading.Event(), tmp_path / "models") == []
    states = [tmp_path / f"first-{number}" / STATE_FILE for number in (1, 2)]
    before = [state.stat().st_mtime_ns for state in states]
    train_zoo.train(TASK, data, tmp_path, threading.Event(), tmp_path / "models")
    assert [state.stat().st_mtime_ns for state in states] == before
    longer = replace(TASK, stages=(replace(CONFIG, steps=70),))
    with pytest.raises(RunError, match="other settings"):
        train_zoo.train(longer, data, tmp_path, threading.Event(), tmp_path / "models")


def test_orphans_end_and_hold_their_run_until_then(data, tmp_path):
    """A parent that is killed leaves its trainings; they notice, and nobody trains in their folders before."""
    (tmp_path / "parent.py").write_text(PARENT)
    folders = [str(folder) for folder in (BENCHMARKS, Path(__file__).parent, data, tmp_path)]
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", *folders], stdout=subprocess.PIPE, text=True)
    wait_for_lines(parent, 1)
    parent.kill()
    with (tmp_path / "first.lock").open("w") as lock:
        assert train_zoo.acquire(lock, threading.Event()), "the orphan has let go"
    step = torch.load(tmp_path / "first-1" / STATE_FILE, weights_only=True)["step"]
    assert step < 10**6
    parent.communicate()


def test_only_what_validates_better_is_bundled_and_its_data_are_described(data, tmp_path):
    models, images = tmp_path / "models", bundle.load_images(data, ("t91",))
    spec = TASK.start
    for name in ("fresh", "same"):
        training = {"data": ["t91"], "config": {}, "started_from": {"data": ["t91"], "steps": 3}}
        save_model(tmp_path / name, Network(spec), ModelConfig(name, spec, "unspecified", TrainingRecord(**training)))
    better, words = bundle.bundle(tmp_path / "fresh", "model", images, models)
    assert better
    assert "validation" in words
    written = load_config(str(models / "model"))
    assert (written.name, written.licence) == ("model", "Apache-2.0")
    assert written.training.data == written.training.started_from.data == [bundle.DATA_SETS["t91"]]
    before = (models / "model/config.json").read_bytes()
    better, words = bundle.bundle(tmp_path / "same", "model", images, models)
    assert not better
    assert "does not beat" in words
    assert (models / "model/config.json").read_bytes() == before
    config = json.loads((tmp_path / "same/config.json").read_text())
    config["training"]["data"] = ["holidays"]
    (tmp_path / "same/config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="describe holidays"):
        bundle.bundle(tmp_path / "same", "other", images, models)


def test_a_task_waits_for_the_model_that_it_starts_from():
    tasks = [replace(TASK, name="a", start="b"), replace(TASK, name="b", start="b"), replace(TASK, name="c", start="a")]
    assert [task.name for task in train_zoo.list_ready(tasks, [])] == ["a", "b"]
    assert [task.name for task in train_zoo.list_ready(tasks[2:], ["a"])] == []
    assert [task.name for task in train_zoo.list_ready(tasks[2:], ["b"])] == ["c"]
    taught = replace(TASK, name="d", stages=(replace(TASK.stages[0], teacher="a"),))
    assert [task.name for task in train_zoo.list_ready([taught], ["a"])] == []
    assert [task.name for task in train_zoo.list_ready([replace(taught, name="a")], ["b"])] == ["a"]


def test_no_image_is_too_small_for_the_queue_s_patches(data_dir):
    largest = max(stage.patch_px * task.scale for task in train_zoo.QUEUE for stage in task.stages)
    check_sizes(bundle.load_images(data_dir, train_zoo.ALL_PHOTOGRAPHS), largest)
    assert largest <= GENERATED_SIDE_PX


def test_the_queue_is_sound():
    names = [task.name for task in train_zoo.QUEUE]
    assert len(set(names)) == len(names)
    for task in train_zoo.QUEUE:
        assert set(task.data) <= set(bundle.DATA_SETS)
        if isinstance(task.start, str):
            config = load_config(task.start)
            assert config.spec.family == "edge"
            bundle.describe_data(
                config.training.to_dict(), Path("run")
            )  # or nothing that goes on from it could be bundled
        else:
            assert task.start.scale == task.scale


def test_a_teacher_is_done_before_its_pupil_begins():
    """Once it was bundled anew, a pupil that is interrupted could not go on."""
    for task in train_zoo.QUEUE:
        teachers = {stage.teacher for stage in task.stages} - {None, task.name}
        before = [other for other in train_zoo.QUEUE if other.name in teachers]
        assert all(train_zoo.QUEUE.index(other) < train_zoo.QUEUE.index(task) for other in before)
        assert train_zoo.list_ready([*before, task], []) == (before or [task])
