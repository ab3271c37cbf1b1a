"""The queue that trains the bundled models: it survives being killed, and bundles only what is better."""

import json
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import bundle
import pytest
import torch
import train_zoo
from PIL import Image as PillowImage

import support
from support.images import generated_photograph
from support.networks import busy_network
from support.processes import PATIENCE_S, pause_after, start
from support.training_queue import CONFIG, TASK
from trinas.errors import ModelError, RunError
from trinas.networks.grow import grow
from trinas.networks.network import Network
from trinas.training.data import GENERATED_SIDE_PX, check_sizes
from trinas.training.state import STATE_FILE
from trinas.training.targets import TargetsRecord, make_target_folder
from trinas.zoo.folder import load_config, load_model, save_model
from trinas.zoo.record import ModelConfig, TeacherRecord, TrainingRecord

FOLDERS = [str(Path(support.__file__).parents[1]), str(Path(train_zoo.__file__).parent)]
WORK = f"""
import sys
from pathlib import Path
sys.path[:0] = {FOLDERS!r}
from support.training_queue import TASK
from train_zoo import work
data, runs = map(Path, sys.argv[1:])
work(TASK, data, runs, 1, runs / "models")
"""
PARENT = f"""
import sys, threading
from pathlib import Path
sys.path[:0] = {FOLDERS!r}
from support.training_queue import ENDLESS_TASK
from train_zoo import work_through
if __name__ == "__main__":
    data, runs = map(Path, sys.argv[1:])
    work_through([ENDLESS_TASK], data, runs, 1, 1, threading.Event(), runs / "models")
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
    """The runs of a queue that nobody disturbed."""
    runs = tmp_path_factory.mktemp("peaceful")
    train(TASK, data, runs)
    return runs


def train(task, data, runs):
    train_zoo.train(task, data, runs, threading.Event(), runs / "models")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, train_zoo.STOPPED)])
def test_what_was_killed_or_stopped_ends_as_if_it_had_not(data, peaceful, tmp_path, capsys, number, code):
    program = pause_after("step 20/", "stdout") + WORK
    with start(sys.executable, "-c", program, data, tmp_path) as process:
        assert any("first-1  step 20/60" in line for line in process.stdout)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert torch.load(tmp_path / "first-1" / STATE_FILE, weights_only=True)["step"] < 60
    train(TASK, data, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert "first-2  step 60/60" in lines[-2]
    assert (tmp_path / "first-2/curve.png").is_file()
    for name in ("first-1", "first-2", "models/first"):
        weights = [(folder / name / "model.safetensors").read_bytes() for folder in (peaceful, tmp_path)]
        assert weights[0] == weights[1], name


@pytest.mark.slow
def test_finished_stages_are_skipped_and_other_settings_refused(data, tmp_path):
    assert train_zoo.work_through([TASK], data, tmp_path, 1, 1, threading.Event(), tmp_path / "models") == []
    states = [tmp_path / f"first-{number}" / STATE_FILE for number in (1, 2)]
    before = [state.stat().st_mtime_ns for state in states]
    train(TASK, data, tmp_path)
    assert [state.stat().st_mtime_ns for state in states] == before
    longer = replace(TASK, stages=(replace(CONFIG, steps=70),))
    with pytest.raises(RunError, match="other settings"):
        train(longer, data, tmp_path)


@pytest.mark.slow
def test_orphans_end_and_hold_their_run_until_then(data, tmp_path):
    """A parent that is killed leaves its trainings; they notice, and nobody trains in their folders before."""
    (tmp_path / "parent.py").write_text(PARENT)
    with start(sys.executable, tmp_path / "parent.py", data, tmp_path) as parent:
        parent.stdout.readline()
        parent.kill()
        with (tmp_path / "first.lock").open("w") as lock:
            assert train_zoo.acquire(lock, threading.Event()), "the orphan has let go"
    step = torch.load(tmp_path / "first-1" / STATE_FILE, weights_only=True)["step"]
    assert step < 10**6


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


def test_a_card_does_not_say_where_targets_were_on_this_machine(tmp_path):
    for teacher, written in ((str(tmp_path), tmp_path.name), ("trinas-m-x4", "trinas-m-x4"), ("user/x", "user/x")):
        described = bundle.describe_data({"data": [], "config": {"teacher": teacher}}, tmp_path)
        assert described["config"]["teacher"] == written


@pytest.mark.slow
def test_a_task_may_begin_with_a_model_made_deeper(data, tmp_path):
    shallow, deep = train_zoo.build_chain(2, 8, 3), train_zoo.build_block_chain(2, 8, 1)
    network = busy_network(shallow)
    save_model(tmp_path / "shallow", network, ModelConfig("shallow", shallow, "unspecified", TrainingRecord(steps=1)))
    one_step = replace(CONFIG, steps=1, validate_every=1, learning_rate=1e-9)
    task = replace(TASK, start=str(tmp_path / "shallow"), stages=(one_step, one_step), grown=deep)
    train(task, data, tmp_path)
    config, low = load_config(str(tmp_path / "models/first")), torch.rand(1, 3, 8, 8)
    assert config.spec == deep
    assert config.training.started_from.architecture.startswith("shallow with 1 more slot")
    torch.testing.assert_close(load_model(str(tmp_path / "models/first")).network(low), network(low))


def test_targets_are_found_where_they_were_made_or_asked_for(tmp_path):
    task = replace(TASK, stages=(train_zoo.imitate_span(CONFIG, 2), CONFIG))
    with pytest.raises(RunError, match=r"SPAN-x2: no targets; benchmarks/make_targets\.py"):
        train_zoo.place_targets(task, tmp_path)
    record = TargetsRecord(scale=2, teacher=TeacherRecord(name="someone", data=[]))
    make_target_folder(tmp_path / "SPAN-x2", record)
    placed = train_zoo.place_targets(task, tmp_path)
    assert [stage.teacher for stage in placed.stages] == [str(tmp_path / "SPAN-x2"), None]


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
    check_sizes(bundle.load_images(data_dir, train_zoo.PHOTOGRAPHS), largest)
    assert largest <= GENERATED_SIDE_PX


def test_the_queue_is_sound():
    names = [task.name for task in train_zoo.QUEUE]
    assert len(set(names)) == len(names)
    for task in train_zoo.QUEUE:
        assert set(task.data) <= set(bundle.DATA_SETS)
        if isinstance(task.start, str):
            config = load_config(task.start)
            assert config.spec.family == "edge"
            if task.grown:
                grow(Network(config.spec), replace(task.grown, scale=config.spec.scale))
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
