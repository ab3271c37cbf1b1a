"""Trainings that imitate a model."""

import dataclasses
import json
import shutil

import pytest

from support.networks import busy_network, same_weights
from support.runs import TRAIN_CONFIG as CONFIG
from support.runs import StopAfter
from trinas.errors import ModelError, RunError
from trinas.training.data import split
from trinas.training.loop import resume_training, train_network
from trinas.zoo.folder import save_model
from trinas.zoo.record import ModelConfig


def test_a_teacher_is_imitated_until_the_squared_error_s_turn(tiny_spec, images, tmp_path, tiny_model_dir):
    taught = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    networks = {
        name: train_network(tiny_spec, images, config, tmp_path / name).network
        for name, config in {
            "taught": taught,
            "alone": CONFIG,
            "taught once": dataclasses.replace(taught, l2_share=11 / 12),
            "squared": dataclasses.replace(CONFIG, l2_share=11 / 12),
        }.items()
    }
    assert not same_weights(networks["taught"], networks["alone"])
    assert not same_weights(networks["taught once"], networks["squared"])
    record = json.loads((tmp_path / "taught/config.json").read_text())["training"]
    assert record["taught_by"] == {"name": "tiny-model", "sha256": record["taught_by"]["sha256"], "data": []}
    assert "taught_by" not in json.loads((tmp_path / "alone/config.json").read_text())["training"]


def test_a_run_that_is_stopped_while_its_teacher_is_at_work_goes_on_as_if_it_had_not_been(
    tiny_spec, images, tmp_path, tiny_model_dir
):
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    straight = train_network(tiny_spec, images, config, tmp_path / "straight").network
    told = []
    train_network(tiny_spec, images, config, tmp_path / "stopped", stop=StopAfter(2), on_progress=told.append)
    assert [progress.step for progress in told] == [0], "the teacher had seen one image"
    assert same_weights(resume_training(tmp_path / "stopped", images).network, straight)


def test_a_teacher_that_has_changed_or_cannot_teach_is_refused(tiny_spec, images, tmp_path, tiny_model_dir):
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    train_network(tiny_spec, images, config, tmp_path / "run", stop=StopAfter(3))
    save_model(tiny_model_dir, busy_network(tiny_spec), ModelConfig("tiny-model", tiny_spec, "Apache-2.0"))
    with pytest.raises(RunError, match="tiny-model has changed since it began to teach"):
        resume_training(tmp_path / "run", images)
    with pytest.raises(ModelError, match="made for clean input and cannot teach"):
        train_network(tiny_spec, images, dataclasses.replace(config, variants=2), tmp_path / "degraded")


def test_a_teacher_that_has_done_its_part_may_change_or_go(tiny_spec, images, tmp_path, tiny_model_dir):
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    straight = train_network(tiny_spec, images, config, tmp_path / "straight").network
    stop = StopAfter(10 + len(split(images)[0]))
    train_network(tiny_spec, images, config, tmp_path / "run", stop=stop)
    shutil.rmtree(tiny_model_dir)
    assert same_weights(resume_training(tmp_path / "run", images).network, straight)


def test_a_teacher_that_is_seen_to_be_wrong_is_not_imitated(tiny_spec, images, tmp_path, tiny_model_dir):
    """A network that turns pictures white: those images are learnt from as they are."""
    wrong = busy_network(tiny_spec)
    wrong.tail.bias.data.fill_(1.0)
    save_model(tiny_model_dir, wrong, ModelConfig("tiny-model", tiny_spec, "Apache-2.0"))
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    taught = train_network(tiny_spec, images, config, tmp_path / "taught").network
    assert same_weights(taught, train_network(tiny_spec, images, CONFIG, tmp_path / "alone").network)
