"""Resuming in a run folder whose files are damaged: it works, or says so in one line and changes nothing."""

import shutil

import pytest
import torch

from support import hostile
from support.runs import TRAIN_CONFIG, StopAfter
from trinas.errors import RunError, TrinasError
from trinas.reports.charts import write_training_curve
from trinas.training.loop import resume_training, train_network
from trinas.training.run import read_validations
from trinas.training.state import STATE_FILE, load_state, save_state

FILES = ("state.pt", "metrics.jsonl", "config.json", "model.safetensors", "README.md")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a training that was stopped after its first validation, and its images."""
    from trinas.networks.space import ArchSpec, CellSpec, SlotSpec
    from trinas.training.data import generate_images

    images = generate_images(4, 60, seed=3)
    run_dir = tmp_path_factory.mktemp("training") / "run"
    spec = ArchSpec("edge", 2, 8, (CellSpec((SlotSpec("conv3x3", 8), SlotSpec("mixer5", 8))),))
    assert not train_network(spec, images, TRAIN_CONFIG, run_dir, stop=StopAfter(5)).finished
    return run_dir, images


def contents(folder):
    """The files by name, without metrics.jsonl, which is written from the state as soon as that is read."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}
    return {name: content for name, content in files.items() if name != "metrics.jsonl"}


def check_resuming(run_dir, images):
    """Resume for a few steps."""
    before = contents(run_dir)
    result = hostile.accept_or_refuse(lambda: resume_training(run_dir, images, stop=StopAfter(3)), TrinasError)
    if result is None:
        assert contents(run_dir) == before
    return result


@pytest.mark.parametrize("damage", hostile.FILES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line_or_made_anew(name, damage, stopped, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(stopped[0], run_dir)
    path = run_dir / name
    path.write_bytes(hostile.FILES[damage](path.read_bytes()))
    hostile.accept_or_refuse(lambda: write_training_curve(run_dir), RunError)
    result = check_resuming(run_dir, stopped[1])
    if name != STATE_FILE:
        assert result is not None, "all of it is in the state"
        assert [record.step for record in read_validations(run_dir)][:1] == [4]
        write_training_curve(run_dir)


def test_any_value_in_a_state_is_resumed_or_refused_in_one_line(stopped, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(stopped[0], run_dir)
    state, resumed = load_state(run_dir / STATE_FILE), 0
    for _, damaged in hostile.state_mutations(state):
        save_state(run_dir / STATE_FILE, damaged)
        resumed += check_resuming(run_dir, stopped[1]) is not None
    assert resumed > 0, "a seed of 3 is as good as another"


@pytest.mark.parametrize("content", [{}, [], "x", 3, torch.zeros(2), {"schema": 6}, {"schema": "6"}, {"schema": [6]}])
def test_what_is_no_state_is_one_line(content, stopped, tmp_path):
    torch.save(content, tmp_path / STATE_FILE)
    with pytest.raises(RunError) as caught:
        resume_training(tmp_path, stopped[1])
    assert hostile.is_one_line(str(caught.value))
