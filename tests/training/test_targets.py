"""Folders of targets, and trainings that imitate them."""

import dataclasses
import json

import numpy as np
import pytest

from support.networks import same_weights
from support.runs import TRAIN_CONFIG as CONFIG
from trinas.errors import ModelError, RunError
from trinas.training.data import make_pairs
from trinas.training.loop import resume_training, train_network
from trinas.training.targets import TARGETS_FILE, TargetsRecord, load_target_folder, make_target_folder
from trinas.training.teacher import load_teacher, make_teacher
from trinas.zoo.folder import load_model
from trinas.zoo.record import TeacherRecord

RECORD = TargetsRecord(scale=2, teacher=TeacherRecord(name="someone", sha256="1234", data=["somewhere"]))


def test_a_target_comes_back_to_the_bit_and_goes_with_its_image_alone(tmp_path):
    random = np.random.default_rng(0)
    low, other = random.integers(256, size=(2, 5, 7, 3), dtype=np.uint8)
    target = random.integers(256, size=(10, 14, 3), dtype=np.uint8)
    make_target_folder(tmp_path / "targets", RECORD).write(low, target)
    folder = load_target_folder(tmp_path / "targets")
    assert folder.record == RECORD
    np.testing.assert_array_equal(folder.read(low), target)
    with pytest.raises(RunError, match="no target for one of the images"):
        folder.read(other)
    folder.write(other, target[1:])
    with pytest.raises(RunError, match="another size"):
        folder.read(other)
    folder.find(other).write_bytes(b"no image")
    with pytest.raises(RunError, match="make this target again"):
        folder.read(other)


def test_a_folder_only_has_targets_of_one_teacher(tmp_path):
    make_target_folder(tmp_path, RECORD)
    make_target_folder(tmp_path, RECORD)
    with pytest.raises(ModelError, match="another teacher or scale"):
        make_target_folder(tmp_path, RECORD.model_copy(update={"scale": 3}))


@pytest.mark.parametrize("text", ["", "[]", '{"scale": "2", "teacher": {}}', '{"scale": 2}', "\xff"])
def test_a_folder_that_does_not_say_what_it_holds_is_refused(tmp_path, text):
    (tmp_path / TARGETS_FILE).write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match="does not describe targets"):
        load_teacher(str(tmp_path), 2)


def test_targets_of_a_model_teach_as_the_model_does(tiny_spec, images, tmp_path, tiny_model_dir):
    upscale = make_teacher(load_model(str(tiny_model_dir)), "cpu", "fp32")
    folder = make_target_folder(tmp_path / "targets", RECORD)
    for low, _ in make_pairs(images, 2):
        folder.write(low, upscale(low))
    by_folder = dataclasses.replace(CONFIG, teacher=str(folder.path))
    by_model = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    networks = [
        train_network(tiny_spec, images, config, tmp_path / name).network
        for name, config in (("folder", by_folder), ("model", by_model))
    ]
    assert same_weights(*networks)
    record = json.loads((tmp_path / "folder/config.json").read_text())["training"]
    assert record["taught_by"] == RECORD.teacher.model_dump()


def test_targets_that_do_not_fit_or_have_changed_are_refused(tiny_spec, images, tmp_path):
    folder = make_target_folder(tmp_path / "targets", RECORD)
    taught = dataclasses.replace(CONFIG, teacher=str(folder.path))
    with pytest.raises(ModelError, match="upscales 2 times and cannot teach a network that upscales 3 times"):
        train_network(dataclasses.replace(tiny_spec, scale=3), images, taught, tmp_path / "other scale")
    with pytest.raises(ModelError, match="made for clean input"):
        train_network(tiny_spec, images, dataclasses.replace(taught, variants=2), tmp_path / "degraded")
    with pytest.raises(RunError, match="no target for one of the images"):
        train_network(tiny_spec, images, taught, tmp_path / "run")
    changed = RECORD.model_dump() | {"teacher": RECORD.teacher.model_dump() | {"sha256": "5678"}}
    (folder.path / TARGETS_FILE).write_text(json.dumps(changed))
    with pytest.raises(RunError, match="has changed since it began to teach"):
        resume_training(tmp_path / "run", images)
