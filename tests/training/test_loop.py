import copy
import dataclasses
import json
import shutil

import pytest
import torch
from PIL import Image as PillowImage

import trinas.training.loop
from support.images import generated_photograph
from support.networks import busy_network, same_weights
from support.runs import StopAfter
from trinas.config import TrainConfig
from trinas.errors import DataError, ModelError, RunError
from trinas.networks.network import Network
from trinas.training.data import load_photographs, split
from trinas.training.loop import (
    TrainStep,
    image_pairs,
    learning_rate,
    resume_training,
    train_network,
    validation_psnr,
)
from trinas.training.muon import Muon
from trinas.zoo.folder import Model, ModelConfig, TrainingRecord, load_model, save_model

CONFIG = TrainConfig(
    steps=12,
    batch_size=4,
    patch_px=12,
    warmup_steps=2,
    validate_every=4,
    l2_share=0.3,
    device="cpu",
    precision="fp32",
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(6):
        PillowImage.fromarray(generated_photograph(64, 80, seed)).save(folder / f"{seed}.png")
    return load_photographs([folder])


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("stop_after", [1, 4, 9])
def test_resuming_is_the_same_as_never_stopping(tiny_spec, photographs, tmp_path, stop_after, taught, tiny_model_dir):
    """Also when the L2 share begins after the stop, and with it the teacher's part ends."""
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir) if taught else None)
    straight = train_network(tiny_spec, photographs, config, tmp_path / "straight")
    stop = StopAfter(stop_after + (len(split(photographs)[0]) if taught else 0))
    train_network(tiny_spec, photographs, config, tmp_path / "stopped", stop=stop)
    state = torch.load(tmp_path / "stopped/state.pt", weights_only=True)
    assert state["step"] == stop_after
    resumed = resume_training(tmp_path / "stopped", photographs)
    assert same_weights(resumed, straight)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def model_of(network):
    return Model(ModelConfig("start", network.spec, "Apache-2.0", TrainingRecord(steps=7)), network)


def test_training_learns_and_leaves_a_usable_model(tiny_spec, photographs, tmp_path):
    config = dataclasses.replace(CONFIG, steps=300, validate_every=100, warmup_steps=20, learning_rate=4e-3)
    progress = []
    network = train_network(tiny_spec, photographs, config, tmp_path / "run", on_progress=progress.append)
    validation = image_pairs(split(photographs)[1], 2)
    untrained = validation_psnr(Network(tiny_spec), validation)
    best = validation_psnr(network, validation)
    assert best > untrained + 0.5
    assert progress[-1].best_psnr == pytest.approx(best, abs=1e-4)
    assert (progress[-1].step, progress[-1].steps) == (300, 300)
    model = load_model(str(tmp_path / "run"))
    assert same_weights(model.network, network)
    assert model.config.training.validation_psnr == pytest.approx(best, abs=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [100, 200, 300]
    with PillowImage.open(tmp_path / "run/curve.png") as curve:
        assert curve.size == (960, 540)


def test_a_network_that_learns_from_degraded_photographs_is_validated_on_such_and_says_so(
    tiny_spec, photographs, tmp_path
):
    config = dataclasses.replace(CONFIG, variants=2)
    network = train_network(tiny_spec, photographs, config, tmp_path / "run")
    model = load_model(str(tmp_path / "run"))
    assert model.config.restores
    found = validation_psnr(network, image_pairs(split(photographs)[1], 2, variants=1))
    assert model.config.training.validation_psnr == pytest.approx(found, abs=1e-3)
    clean = train_network(tiny_spec, photographs, CONFIG, tmp_path / "clean")
    assert not load_model(str(tmp_path / "clean")).config.restores
    assert not same_weights(network, clean)


def test_the_weights_that_validate_best_are_kept(tiny_spec, photographs, tmp_path):
    """A rate that ruins the network must not ruin the result."""
    good = dataclasses.replace(CONFIG, steps=100, validate_every=50)
    start = train_network(tiny_spec, photographs, good, tmp_path / "good")
    ruinous = dataclasses.replace(CONFIG, steps=60, validate_every=1, learning_rate=0.2)
    network = train_network(tiny_spec, photographs, ruinous, tmp_path / "bad", start=model_of(start))
    lines = [json.loads(line) for line in (tmp_path / "bad/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["psnr"] < lines[0]["psnr"] - 1
    validation = image_pairs(split(photographs)[1], 2)
    assert validation_psnr(network, validation) == pytest.approx(max(line["psnr"] for line in lines), abs=1e-3)


def test_going_on_from_a_model_starts_where_it_stands(tiny_spec, photographs, tmp_path):
    start = train_network(tiny_spec, photographs, CONFIG, tmp_path / "first")
    still = dataclasses.replace(CONFIG, steps=1, learning_rate=1e-12, warmup_steps=0)
    network = train_network(tiny_spec, photographs, still, tmp_path / "second", start=model_of(start))
    torch.testing.assert_close(network.state_dict(), start.state_dict(), rtol=0, atol=1e-9)
    first = json.loads((tmp_path / "second/metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 0, "the start is validated too, so that nothing worse is kept"
    written = load_model(str(tmp_path / "second")).config.training
    assert written.to_dict()["started_from"] == {"name": "start", "steps": 7}


def test_a_teacher_is_imitated_until_the_squared_error_s_turn(tiny_spec, photographs, tmp_path, tiny_model_dir):
    taught = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    networks = {
        name: train_network(tiny_spec, photographs, config, tmp_path / name)
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
    tiny_spec, photographs, tmp_path, tiny_model_dir
):
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    straight = train_network(tiny_spec, photographs, config, tmp_path / "straight")
    told = []
    train_network(tiny_spec, photographs, config, tmp_path / "stopped", stop=StopAfter(2), on_progress=told.append)
    assert [progress.step for progress in told] == [0], "the teacher had seen one image"
    assert same_weights(resume_training(tmp_path / "stopped", photographs), straight)


def test_what_a_full_disk_kept_from_being_written_is_written_when_the_run_goes_on(tiny_spec, photographs, tmp_path):
    """The last save fails at the model: the state must not say that all is done."""
    train_network(tiny_spec, photographs, CONFIG, tmp_path / "straight")

    def put_in_the_way(progress):
        if progress.step == CONFIG.steps - CONFIG.validate_every:
            (tmp_path / "run/model.safetensors").unlink()
            (tmp_path / "run/model.safetensors/in the way").mkdir(parents=True)

    with pytest.raises(RunError, match=r"cannot be written .*; resume once it can"):
        train_network(tiny_spec, photographs, CONFIG, tmp_path / "run", on_progress=put_in_the_way)
    shutil.rmtree(tmp_path / "run/model.safetensors")
    resume_training(tmp_path / "run", photographs)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_teacher_that_has_changed_or_cannot_teach_is_refused(tiny_spec, photographs, tmp_path, tiny_model_dir):
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    train_network(tiny_spec, photographs, config, tmp_path / "run", stop=StopAfter(3))
    save_model(tiny_model_dir, busy_network(tiny_spec), ModelConfig("tiny-model", tiny_spec, "Apache-2.0"))
    with pytest.raises(RunError, match="tiny-model has changed since it began to teach"):
        resume_training(tmp_path / "run", photographs)
    with pytest.raises(ModelError, match="made for clean input and cannot teach"):
        train_network(tiny_spec, photographs, dataclasses.replace(config, variants=2), tmp_path / "degraded")


def test_a_teacher_that_has_done_its_part_may_change_or_go(tiny_spec, photographs, tmp_path, tiny_model_dir):
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    straight = train_network(tiny_spec, photographs, config, tmp_path / "straight")
    stop = StopAfter(10 + len(split(photographs)[0]))
    train_network(tiny_spec, photographs, config, tmp_path / "run", stop=stop)
    shutil.rmtree(tiny_model_dir)
    assert same_weights(resume_training(tmp_path / "run", photographs), straight)


def test_a_teacher_that_is_seen_to_be_wrong_is_not_imitated(tiny_spec, photographs, tmp_path, tiny_model_dir):
    """A network that turns pictures white: those photographs are learnt from as they are."""
    wrong = busy_network(tiny_spec)
    wrong.tail.bias.data.fill_(1.0)
    save_model(tiny_model_dir, wrong, ModelConfig("tiny-model", tiny_spec, "Apache-2.0"))
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir))
    taught = train_network(tiny_spec, photographs, config, tmp_path / "taught")
    assert same_weights(taught, train_network(tiny_spec, photographs, CONFIG, tmp_path / "alone"))


def test_a_run_is_one_process_s_at_a_time(tiny_spec, photographs, tmp_path):
    refused = []

    def resume_too(progress):
        if progress.step == 0:
            with pytest.raises(RunError, match="run: another process is at work there"):
                resume_training(tmp_path / "run", photographs)
            refused.append(progress)

    train_network(tiny_spec, photographs, CONFIG, tmp_path / "run", on_progress=resume_too)
    assert refused
    resume_training(tmp_path / "run", photographs)


def test_what_was_killed_before_its_first_step_validates_its_start_once(tiny_spec, photographs, tmp_path):
    def die(progress):
        raise KeyboardInterrupt

    start = model_of(busy_network(tiny_spec))
    train_network(tiny_spec, photographs, CONFIG, tmp_path / "straight", start=start)
    with pytest.raises(KeyboardInterrupt):
        train_network(tiny_spec, photographs, CONFIG, tmp_path / "killed", start=start, on_progress=die)
    resume_training(tmp_path / "killed", photographs)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_minutes_become_steps(tiny_spec, photographs, tmp_path):
    config = dataclasses.replace(CONFIG, steps=None, minutes=0.05, validate_every=1000)
    train_network(tiny_spec, photographs, config, tmp_path / "run")
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert state["step"] == state["steps"] >= 1, "how many depends on the machine"


def test_a_run_that_would_miss_its_time_gets_fewer_steps_and_can_be_repeated(
    tiny_spec, photographs, tmp_path, monkeypatch
):
    monkeypatch.setattr(trinas.training.loop, "_count_steps", lambda *_: 10**6)
    config = dataclasses.replace(CONFIG, steps=None, minutes=0.02, validate_every=3)
    network = train_network(tiny_spec, photographs, config, tmp_path / "run")
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert state["step"] == state["steps"] < 10**6
    told = []
    plan = tuple(map(tuple, state["shortened"]))
    assert plan
    repeated = dataclasses.replace(config, steps=10**6, minutes=None, shortened=plan)
    again = train_network(tiny_spec, photographs, repeated, tmp_path / "again", on_progress=told.append)
    assert same_weights(again, network)
    assert told[-1].step == told[-1].steps == state["steps"]


@pytest.mark.parametrize("squared", [False, True])
def test_a_step_follows_the_gradient_of_the_loss(tiny_spec, squared):
    """The gradient written by hand is autograd's."""
    network = busy_network(tiny_spec)
    low, high = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)
    error = network(low) - high
    luma = (error * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1)
    mean_square = 0.85 * luma.square().mean() + 0.15 * error.square().mean()
    loss = mean_square.sqrt() if squared else error.abs().mean()
    expected = torch.autograd.grad(loss, list(network.parameters()))
    averaged, optimizer = copy.deepcopy(network), Muon(network.parameters())
    config = dataclasses.replace(CONFIG, clip_norm=1e9)
    returned = TrainStep(network, averaged, optimizer, config, "fp32")(low, high, 0.0, 0, squared)
    torch.testing.assert_close(returned, loss.detach())
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_rate_rises_then_falls_to_zero():
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_a_folder_in_use_and_a_run_with_other_images_are_refused(tiny_spec, photographs, tmp_path):
    train_network(tiny_spec, photographs, dataclasses.replace(CONFIG, steps=1), tmp_path / "run")
    with pytest.raises(RunError, match="exists already"):
        train_network(tiny_spec, photographs, CONFIG, tmp_path / "run")
    with pytest.raises(RunError, match="other training images"):
        resume_training(tmp_path / "run", photographs[:-1])
    with pytest.raises(RunError, match="nothing to resume"):
        resume_training(tmp_path / "nowhere", photographs)


def test_a_run_among_its_photographs_goes_on(tiny_spec, photographs, tmp_path):
    """Its curve, a picture as well, is not learnt from."""
    for number, photo in enumerate(photographs):
        PillowImage.fromarray(photo.pixels).save(tmp_path / f"{number}.png")
    train_network(tiny_spec, load_photographs([tmp_path]), CONFIG, tmp_path / "run", stop=StopAfter(5))
    assert (tmp_path / "run/curve.png").is_file()
    resume_training(tmp_path / "run", load_photographs([tmp_path]))
    assert torch.load(tmp_path / "run/state.pt", weights_only=True)["step"] == CONFIG.steps


def test_an_image_that_is_restored_exactly_does_not_end_the_training(tiny_spec, tmp_path):
    """Flat pictures have an infinite PSNR under a fresh network."""
    for level in range(3):
        PillowImage.new("RGB", (40, 40), (level * 60,) * 3).save(tmp_path / f"{level}.png")
    network = train_network(tiny_spec, load_photographs([tmp_path]), CONFIG, tmp_path / "run")
    assert same_weights(load_model(str(tmp_path / "run")).network, network)


def test_a_run_that_diverges_says_so(tiny_spec, photographs, tmp_path):
    network = busy_network(tiny_spec)
    network.tail.weight.data.fill_(torch.nan)
    with pytest.raises(RunError, match="no longer a number"):
        train_network(tiny_spec, photographs, CONFIG, tmp_path / "run", start=model_of(network))


def test_small_images_and_folders_that_cannot_be_made_are_named(tiny_spec, photographs, tmp_path):
    PillowImage.new("RGB", (40, 9)).save(tmp_path / "thin.png")
    with pytest.raises(DataError, match=r"thin\.png: 40x9 is smaller than a training patch of 24"):
        train_network(tiny_spec, [*photographs, *load_photographs([tmp_path])], CONFIG, tmp_path / "run")
    with pytest.raises(RunError, match="exists already"):
        train_network(tiny_spec, photographs, CONFIG, tmp_path / "thin.png")
    with pytest.raises(RunError, match="cannot be made"):
        train_network(tiny_spec, photographs, CONFIG, tmp_path / "thin.png" / "run")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("squared", [False, True])
def test_captured_steps_are_those_that_are_not(tiny_spec, squared):
    """Both kinds of steps of one run, on the GPU, against the same steps on the CPU."""
    low, high = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)
    networks = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = busy_network(tiny_spec).to(device, memory_format=torch.channels_last)
        averaged = copy.deepcopy(network)
        take_step = TrainStep(network, averaged, Muon(network.parameters()), CONFIG, "fp32")
        for step, kind in enumerate([not squared, squared, not squared, squared]):
            take_step(low.to(device), high.to(device), 1e-4, step, kind)
        networks.append(averaged.cpu())
    torch.testing.assert_close(networks[1].state_dict(), networks[0].state_dict(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "exactly one of steps and minutes"),
        ({"steps": 1, "minutes": 1}, "exactly one of steps and minutes"),
        ({"steps": 0}, "steps must be positive"),
        ({"steps": 1, "learning_rate": 0}, "learning_rate must be positive"),
        ({"minutes": float("nan")}, "minutes must be positive"),
        ({"steps": 1, "seed": -1}, "seed must not be negative"),
        ({"steps": 1, "l2_share": 2}, "l2_share must be between 0 and 1"),
        ({"steps": 1, "ema_decay": 1}, "ema_decay must be"),
        ({"steps": 1, "weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"steps": 1, "precision": "fp16"}, "precision must be auto, fp32 or bf16"),
    ],
)
def test_bad_settings_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        TrainConfig(**settings)
