import dataclasses
import shutil

import pytest
import torch
from PIL import Image as PillowImage

import trinas.training.loop
from support.networks import busy_network, same_weights
from support.runs import TRAIN_CONFIG as CONFIG
from support.runs import StopAfter
from trinas.config import TrainConfig
from trinas.errors import DataError, ModelError, RunError
from trinas.networks.network import Network
from trinas.networks.space import CellSpec, SlotSpec
from trinas.training.data import fingerprint, load_photographs, make_pairs, split
from trinas.training.loop import resume_training, train_network
from trinas.training.metrics import measure_validation_psnr
from trinas.training.rescale import rescale
from trinas.training.run import read_validations
from trinas.training.state import load_state, save_state
from trinas.zoo.folder import Model, load_model
from trinas.zoo.record import ModelConfig, TrainingRecord


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("stop_after", [1, 4, 9])
def test_resuming_is_the_same_as_never_stopping(tiny_spec, images, tmp_path, stop_after, taught, tiny_model_dir):
    """Also when the L2 share begins after the stop, and with it the teacher's part ends."""
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir) if taught else None)
    straight = train_network(tiny_spec, images, config, tmp_path / "straight").network
    stop = StopAfter(stop_after + (len(split(images)[0]) if taught else 0))
    train_network(tiny_spec, images, config, tmp_path / "stopped", stop=stop)
    state = torch.load(tmp_path / "stopped/state.pt", weights_only=True)
    assert state["step"] == stop_after
    resumed = resume_training(tmp_path / "stopped", images)
    assert same_weights(resumed.network, straight)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def model_of(network):
    return Model(ModelConfig("start", network.spec, "Apache-2.0", TrainingRecord(steps=7)), network)


def test_training_learns_and_leaves_a_usable_model(tiny_spec, images, tmp_path):
    config = dataclasses.replace(CONFIG, steps=300, validate_every=100, warmup_steps=20, learning_rate=4e-3)
    progress = []
    network = train_network(tiny_spec, images, config, tmp_path / "run", on_progress=progress.append).network
    validation = make_pairs(split(images)[1], 2)
    untrained = measure_validation_psnr(Network(tiny_spec), validation)
    best = measure_validation_psnr(network, validation)
    assert best > untrained + 0.5
    assert progress[-1].best_psnr == pytest.approx(best, abs=1e-4)
    assert (progress[-1].step, progress[-1].steps) == (300, 300)
    model = load_model(str(tmp_path / "run"))
    assert same_weights(model.network, network)
    assert model.config.training.validation_psnr == pytest.approx(best, abs=1e-3)
    assert [validation.step for validation in read_validations(tmp_path / "run")] == [100, 200, 300]


def test_a_network_that_learns_from_degraded_images_is_validated_on_such_and_says_so(tiny_spec, images, tmp_path):
    config = dataclasses.replace(CONFIG, variants=2)
    network = train_network(tiny_spec, images, config, tmp_path / "run").network
    model = load_model(str(tmp_path / "run"))
    assert model.config.restores
    found = measure_validation_psnr(network, make_pairs(split(images)[1], 2, variants=1))
    assert model.config.training.validation_psnr == pytest.approx(found, abs=1e-3)
    clean = train_network(tiny_spec, images, CONFIG, tmp_path / "clean").network
    assert not load_model(str(tmp_path / "clean")).config.restores
    assert not same_weights(network, clean)


def test_the_weights_that_validate_best_are_kept(tiny_spec, images, tmp_path):
    """A rate that ruins the network must not ruin the result."""
    good = dataclasses.replace(CONFIG, steps=100, validate_every=50)
    start = train_network(tiny_spec, images, good, tmp_path / "good").network
    ruinous = dataclasses.replace(CONFIG, steps=60, validate_every=1, learning_rate=0.2)
    network = train_network(tiny_spec, images, ruinous, tmp_path / "bad", start=model_of(start)).network
    psnrs = [validation.psnr for validation in read_validations(tmp_path / "bad")]
    assert psnrs[-1] < psnrs[0] - 1
    assert measure_validation_psnr(network, make_pairs(split(images)[1], 2)) == pytest.approx(max(psnrs), abs=1e-3)


def test_going_on_from_a_model_starts_where_it_stands(tiny_spec, images, tmp_path):
    start = train_network(tiny_spec, images, CONFIG, tmp_path / "first").network
    still = dataclasses.replace(CONFIG, steps=1, learning_rate=1e-12, warmup_steps=0)
    network = train_network(tiny_spec, images, still, tmp_path / "second", start=model_of(start)).network
    torch.testing.assert_close(network.state_dict(), start.state_dict(), rtol=0, atol=1e-9)
    first = read_validations(tmp_path / "second")[0]
    assert first.step == 0, "the start is validated too, so that nothing worse is kept"
    written = load_model(str(tmp_path / "second")).config.training
    assert written.to_dict()["started_from"] == {"name": "start", "steps": 7}


def test_what_a_full_disk_kept_from_being_written_is_written_when_the_run_goes_on(tiny_spec, images, tmp_path):
    """The last save fails at the model: the state must not say that all is done."""
    train_network(tiny_spec, images, CONFIG, tmp_path / "straight")

    def put_in_the_way(progress):
        if progress.step == CONFIG.steps - CONFIG.validate_every:
            (tmp_path / "run/model.safetensors").unlink()
            (tmp_path / "run/model.safetensors/in the way").mkdir(parents=True)

    with pytest.raises(RunError, match=r"cannot be written .*; resume once it can"):
        train_network(tiny_spec, images, CONFIG, tmp_path / "run", on_progress=put_in_the_way)
    shutil.rmtree(tmp_path / "run/model.safetensors")
    resume_training(tmp_path / "run", images)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_run_is_one_process_s_at_a_time(tiny_spec, images, tmp_path):
    refused = []

    def resume_too(progress):
        if progress.step == 0:
            with pytest.raises(RunError, match="run: another process is at work there"):
                resume_training(tmp_path / "run", images)
            refused.append(progress)

    train_network(tiny_spec, images, CONFIG, tmp_path / "run", on_progress=resume_too)
    assert refused
    resume_training(tmp_path / "run", images)


def test_what_was_killed_before_its_first_step_validates_its_start_once(tiny_spec, images, tmp_path):
    def die(progress):
        raise KeyboardInterrupt

    start = model_of(busy_network(tiny_spec))
    train_network(tiny_spec, images, CONFIG, tmp_path / "straight", start=start)
    with pytest.raises(KeyboardInterrupt):
        train_network(tiny_spec, images, CONFIG, tmp_path / "killed", start=start, on_progress=die)
    resume_training(tmp_path / "killed", images)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_minutes_become_steps(tiny_spec, images, tmp_path):
    config = dataclasses.replace(CONFIG, steps=None, minutes=0.01, validate_every=1000)
    train_network(tiny_spec, images, config, tmp_path / "run")
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert state["step"] == state["steps"] >= 1, "how many depends on the machine"


def test_a_run_that_would_miss_its_time_gets_fewer_steps_and_can_be_repeated(tiny_spec, images, tmp_path, monkeypatch):
    monkeypatch.setattr(trinas.training.loop, "count_affordable_steps", lambda *_: 10**6)
    config = dataclasses.replace(CONFIG, steps=None, minutes=0.02, validate_every=3)
    network = train_network(tiny_spec, images, config, tmp_path / "run").network
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert state["step"] == state["steps"] < 10**6
    told = []
    plan = tuple(map(tuple, state["shortened"]))
    assert plan
    repeated = dataclasses.replace(config, steps=10**6, minutes=None, shortened=plan)
    again = train_network(tiny_spec, images, repeated, tmp_path / "again", on_progress=told.append).network
    assert same_weights(again, network)
    assert told[-1].step == told[-1].steps == state["steps"]


def test_a_folder_in_use_and_a_run_with_other_images_are_refused(tiny_spec, images, tmp_path):
    train_network(tiny_spec, images, dataclasses.replace(CONFIG, steps=1), tmp_path / "run")
    with pytest.raises(RunError, match="exists already"):
        train_network(tiny_spec, images, CONFIG, tmp_path / "run")
    with pytest.raises(RunError, match="other training images"):
        resume_training(tmp_path / "run", images[:-1])
    with pytest.raises(RunError, match="nothing to resume"):
        resume_training(tmp_path / "nowhere", images)


def test_a_run_among_its_images_goes_on(tiny_spec, images, tmp_path):
    """An image in the run folder, such as its curve, is not learnt from."""
    for number, image in enumerate(images):
        PillowImage.fromarray(image.pixels).save(tmp_path / f"{number}.png")
    train_network(tiny_spec, load_photographs([tmp_path]), CONFIG, tmp_path / "run", stop=StopAfter(5))
    PillowImage.new("RGB", (960, 540)).save(tmp_path / "run/curve.png")
    resume_training(tmp_path / "run", load_photographs([tmp_path]))
    assert torch.load(tmp_path / "run/state.pt", weights_only=True)["step"] == CONFIG.steps


def test_an_image_that_is_restored_exactly_does_not_end_the_training(tiny_spec, tmp_path):
    """Flat pictures have an infinite PSNR under a fresh network."""
    for level in range(3):
        PillowImage.new("RGB", (40, 40), (level * 60,) * 3).save(tmp_path / f"{level}.png")
    network = train_network(tiny_spec, load_photographs([tmp_path]), CONFIG, tmp_path / "run").network
    assert same_weights(load_model(str(tmp_path / "run")).network, network)


def test_a_run_that_diverges_says_so(tiny_spec, images, tmp_path):
    network = busy_network(tiny_spec)
    network.tail.weight.data.fill_(torch.nan)
    with pytest.raises(RunError, match="no longer a number"):
        train_network(tiny_spec, images, CONFIG, tmp_path / "run", start=model_of(network))


def test_small_images_and_folders_that_cannot_be_made_are_named(tiny_spec, images, tmp_path):
    PillowImage.new("RGB", (40, 9)).save(tmp_path / "thin.png")
    with pytest.raises(DataError, match=r"thin\.png: 40x9 is smaller than a training patch of 24"):
        train_network(tiny_spec, [*images, *load_photographs([tmp_path])], CONFIG, tmp_path / "run")
    with pytest.raises(RunError, match="exists already"):
        train_network(tiny_spec, images, CONFIG, tmp_path / "thin.png")
    with pytest.raises(RunError, match="cannot be made"):
        train_network(tiny_spec, images, CONFIG, tmp_path / "thin.png" / "run")


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
        ({"steps": 1, "luma_share": -0.5}, "luma_share must be between 0 and 1"),
        ({"steps": 1, "ema_decay": 1}, "ema_decay must be"),
        ({"steps": 1, "weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"steps": 1, "precision": "fp16"}, "precision must be auto, fp32 or bf16"),
    ],
)
def test_bad_settings_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        TrainConfig(**settings)


def test_a_stopped_training_is_not_finished_and_a_resumed_one_is(tiny_spec, images, tmp_path):
    stopped = train_network(tiny_spec, images, CONFIG, tmp_path / "run", stop=StopAfter(2))
    assert (stopped.finished, stopped.record) == (False, None), "nothing was validated yet"
    for _ in range(2):  # the second time there is nothing left to do
        resumed = resume_training(tmp_path / "run", images)
        assert resumed.finished
        assert resumed.record == load_model(str(tmp_path / "run")).config.training


def test_images_that_are_named_for_validation_are_validated_on_and_not_learnt_from(tiny_spec, images, tmp_path):
    learning, held_out = images[:4], images[4:]
    stopped = train_network(tiny_spec, learning, CONFIG, tmp_path / "run", held_out=held_out, stop=StopAfter(7))
    with pytest.raises(RunError, match="other training images"):
        resume_training(tmp_path / "run", images)
    resumed = resume_training(tmp_path / "run", learning, held_out=held_out)
    straight = train_network(tiny_spec, learning, CONFIG, tmp_path / "straight", held_out=held_out)
    assert not stopped.finished
    assert same_weights(resumed.network, straight.network)
    found = measure_validation_psnr(straight.network, make_pairs(held_out, 2))
    assert straight.record.validation_psnr == pytest.approx(found, abs=1e-3)
    assert straight.record.images == len(images)
    assert straight.record.data_sha256 == fingerprint(learning, held_out) != fingerprint(images)


def test_a_start_of_another_scale_begins_with_a_fitted_tail(tiny_spec, images, tmp_path):
    start = model_of(busy_network(dataclasses.replace(tiny_spec, scale=3)))
    told = []
    train_network(tiny_spec, images, CONFIG, tmp_path / "run", start=start, on_progress=told.append, stop=StopAfter(1))
    learning, held_out = split(images)
    fitted = rescale(start.network, 2, learning)
    assert told[0].psnr == pytest.approx(measure_validation_psnr(fitted, make_pairs(held_out, 2)), abs=1e-3)


def test_a_start_of_another_architecture_is_refused_and_the_differences_are_named(tiny_spec, images, tmp_path):
    def refusal(spec):
        with pytest.raises(ModelError) as caught:
            train_network(tiny_spec, images, CONFIG, tmp_path / "run", start=model_of(Network(spec)))
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    second = tiny_spec.cells[1]
    assert "1 cells instead of 2" in refusal(dataclasses.replace(tiny_spec, cells=(second,)))
    assert "other slots in cell 1" in refusal(dataclasses.replace(tiny_spec, cells=(second, second)))
    wider = CellSpec((SlotSpec("conv3x3", 9),))
    assert "trunk_width 9 instead of 8" in refusal(dataclasses.replace(tiny_spec, trunk_width=9, cells=(wider, wider)))
    other_scale = dataclasses.replace(tiny_spec, scale=3, cells=(second,))
    assert "1 cells instead of 2" in refusal(other_scale), "also where the tail is new"


@pytest.mark.parametrize("resumed", [False, True])
def test_too_little_memory_is_said_with_advice(tiny_spec, images, tmp_path, monkeypatch, resumed):
    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def begin(stop=None):
        train_network(tiny_spec, images, CONFIG, tmp_path / "run", stop=stop)

    if resumed:
        begin(stop=StopAfter(2))
    monkeypatch.setattr(trinas.training.loop, "TrainStep", lambda *arguments: fail)
    train = (lambda: resume_training(tmp_path / "run", images)) if resumed else begin
    with pytest.raises(RunError, match="memory is too small for this training; a smaller --batch-size or --patch"):
        train()


def test_a_batch_that_no_memory_holds_is_refused_with_advice(tiny_spec, images, tmp_path):
    config = dataclasses.replace(CONFIG, batch_size=10**12)
    with pytest.raises(RunError, match="memory is too small for this training; a smaller --batch-size or --patch"):
        train_network(tiny_spec, images, config, tmp_path / "run")


def test_resuming_uses_the_run_s_threads_and_gives_back_the_caller_s(tiny_spec, images, tmp_path):
    before, seen = torch.get_num_threads(), []
    train_network(tiny_spec, images, dataclasses.replace(CONFIG, steps=1), tmp_path / "run")
    state = load_state(tmp_path / "run/state.pt")
    save_state(tmp_path / "run/state.pt", state | {"threads": before + 1})
    resume_training(tmp_path / "run", images, on_progress=lambda progress: seen.append(torch.get_num_threads()))
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    with pytest.raises(RunError, match="other training images"):
        resume_training(tmp_path / "run", images[1:])
    assert torch.get_num_threads() == before


def test_the_order_of_the_images_does_not_matter(tiny_spec, images, tmp_path):
    straight = train_network(tiny_spec, images, CONFIG, tmp_path / "straight").network
    train_network(tiny_spec, images[::-1], CONFIG, tmp_path / "run", stop=StopAfter(5))
    assert same_weights(resume_training(tmp_path / "run", images[2:] + images[:2]).network, straight)


def test_a_run_whose_images_were_degraded_in_another_way_is_not_resumed(tiny_spec, images, tmp_path):
    for variants in (0, 1):
        run_dir = tmp_path / str(variants)
        config = dataclasses.replace(CONFIG, variants=variants)
        train_network(tiny_spec, images, config, run_dir, stop=StopAfter(2))
        state = load_state(run_dir / "state.pt")
        del state["degradation"]  # as before the degradations had a version
        save_state(run_dir / "state.pt", state)
    resume_training(tmp_path / "0", images)
    with pytest.raises(RunError, match="degraded its images in another way; start again"):
        resume_training(tmp_path / "1", images)
