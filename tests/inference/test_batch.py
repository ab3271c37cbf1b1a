import os
import threading
import time
from functools import partial

import pytest
from PIL import Image as PillowImage

from support.images import generated_photograph, slow_jpeg
from support.processes import PATIENCE_S
from trinas.config import SaveConfig, SizeConfig
from trinas.errors import Stopped, UpscaleError
from trinas.images.guard import DecoderPool
from trinas.images.read import ImageFile
from trinas.inference import batch
from trinas.inference.batch import run_jobs
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.plan import plan_jobs

SIZE, SAVE = SizeConfig(scale=2), SaveConfig()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        PillowImage.fromarray(generated_photograph(16, 20, number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def upscaler(tiny_model_dir):
    return CascadeUpscaler(str(tiny_model_dir), "cpu", "fp32")


def test_outcomes_come_in_order(photos, tmp_path, upscaler):
    (photos / "3.png").write_bytes(b"")
    jobs = plan_jobs([photos], tmp_path / "out", SIZE, SAVE).jobs
    outcomes = list(run_jobs(jobs, upscaler, SIZE, SAVE))
    assert [outcome.job for outcome in outcomes] == jobs
    assert [outcome.state for outcome in outcomes] == ["done"] * 3 + ["failed"] + ["done"] * 4


def test_nothing_to_do_is_no_outcome(upscaler):
    assert list(run_jobs([], upscaler, SIZE, SAVE)) == []


def test_only_a_few_images_are_in_memory_at_once(photos, tmp_path, upscaler, monkeypatch):
    """However slow writing is, reading does not run ahead."""
    alive, most, lock, is_ahead = 0, 0, threading.Lock(), threading.Event()
    read, write = ImageFile.read, batch.write_image

    def counted_read(file):
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        if most > 1:
            is_ahead.set()
        return read(file)

    def slow_write(*arguments):
        nonlocal alive
        assert is_ahead.wait(PATIENCE_S), "the next image is read meanwhile"
        time.sleep(0.05)
        with lock:
            alive -= 1
        return write(*arguments)

    monkeypatch.setattr(ImageFile, "read", counted_read)
    monkeypatch.setattr(batch, "write_image", slow_write)
    jobs = plan_jobs([photos], tmp_path / "out", SIZE, SAVE).jobs
    assert all(outcome.state == "done" for outcome in run_jobs(jobs, upscaler, SIZE, SAVE))
    assert most <= batch.WRITERS + 3, "those being written, one being upscaled, one read ahead"


def test_large_results_are_made_one_at_a_time(photos, tmp_path, upscaler, monkeypatch):
    monkeypatch.setattr(batch, "LARGE_PX", 100)
    events = []
    write = batch.write_image

    def slow_write(*arguments):
        events.append("write")
        time.sleep(0.05)
        notes = write(*arguments)
        events.append("written")
        return notes

    class Watched:
        choose_passes = upscaler.choose_passes

        def upscale(self, *arguments):
            events.append("upscale")
            return upscaler.upscale(*arguments)

    monkeypatch.setattr(batch, "write_image", slow_write)
    jobs = plan_jobs([photos], tmp_path / "out", SIZE, SAVE).jobs
    list(run_jobs(jobs, Watched(), SIZE, SAVE))
    assert events == ["upscale", "write", "written"] * 8


def test_a_failed_image_is_reported_and_never_written(photos, tmp_path, upscaler):
    class Failing:
        choose_passes = upscaler.choose_passes

        def upscale(self, image, size, options, on_tile):
            if (image.pixels[:, 0, 0] * 255).round().tolist() == first:
                raise UpscaleError("the network's result differs in colour")
            return upscaler.upscale(image, size, options, on_tile)

    first = generated_photograph(16, 20, 2)[0, 0].tolist()
    jobs = plan_jobs([photos], tmp_path / "out", SIZE, SAVE).jobs
    outcomes = list(run_jobs(jobs, Failing(), SIZE, SAVE))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    assert photos / "2.png" in [outcome.job.source for outcome in failed]
    for outcome in failed:
        assert str(outcome.job.source) in outcome.reason
        assert not outcome.job.result.exists()


def test_too_little_memory_for_one_image_does_not_stop_the_others(photos, tmp_path, upscaler, monkeypatch):
    write = batch.write_image

    def write_or_fail(path, *arguments):
        if path.name.startswith("4"):
            raise MemoryError
        return write(path, *arguments)

    monkeypatch.setattr(batch, "write_image", write_or_fail)
    jobs = plan_jobs([photos], tmp_path / "out", SIZE, SAVE).jobs
    outcomes = list(run_jobs(jobs, upscaler, SIZE, SAVE))
    (failed,) = [outcome for outcome in outcomes if outcome.state == "failed"]
    assert failed.reason == f"{photos / '4.png'}: memory is too small for this image"


def test_a_file_that_stalls_its_decoder_costs_only_itself(photos, tmp_path, upscaler):
    (photos / "3.jpg").write_bytes(slow_jpeg())
    jobs = plan_jobs([photos], tmp_path / "out", SIZE, SAVE).jobs
    with DecoderPool(max_seconds=3) as decoders:
        outcomes = list(run_jobs(jobs, upscaler, SIZE, SAVE, opener=decoders.open_image))
    (failed,) = [outcome for outcome in outcomes if outcome.state != "done"]
    assert failed.reason == f"{photos / '3.jpg'}: decoding took longer than 3 s (--max-seconds-per-file)"
    for number, job in enumerate(plan_jobs([photos], tmp_path / "here", SIZE, SAVE).jobs):
        if job.source != photos / "3.jpg":
            list(run_jobs([job], upscaler, SIZE, SAVE))
            assert outcomes[number].job.result.read_bytes() == job.result.read_bytes()


def test_a_stop_is_heard_while_an_image_is_decoded(photos, tmp_path, upscaler):
    (photos / "2.jpg").write_bytes(slow_jpeg())
    stop = threading.Event()

    def check():
        if stop.is_set():
            raise Stopped("Stopped.")

    jobs = plan_jobs([photos], tmp_path / "out", SIZE, SAVE).jobs
    with DecoderPool(PATIENCE_S) as decoders:
        opener = partial(decoders.open_image, check=check)
        outcomes = run_jobs(jobs, upscaler, SIZE, SAVE, opener=opener)
        assert next(outcomes).state == "done"
        stop.set()
        with pytest.raises(Stopped):
            list(outcomes)
    assert not (tmp_path / "out/3_x2.png").exists()


def test_closing_ends_the_work(photos, tmp_path, upscaler):
    jobs = plan_jobs([photos], tmp_path / "out", SIZE, SAVE).jobs
    outcomes = run_jobs(jobs, upscaler, SIZE, SAVE)
    next(outcomes)
    outcomes.close()
    seen = -1
    while seen != (seen := len(list((tmp_path / "out").iterdir()))):
        time.sleep(0.2)  # what was being encoded may still be written
    assert seen <= 1 + batch.WRITERS + 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(photos, tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe.png")
    os.mkfifo(photos / "inside.png")
    plan = plan_jobs([pipe, photos], tmp_path / "out", SIZE, SAVE)
    assert [job.problem for job in plan.jobs if job.problem] == [f"{pipe}: is neither a file nor a folder"]
    assert plan.left_out == [photos / "inside.png"]


def test_results_of_an_earlier_run_are_left_out(photos, tmp_path, upscaler):
    out = photos / "upscaled"
    first = plan_jobs([photos], out, SIZE, SAVE, recursive=True)
    list(run_jobs(first.jobs, upscaler, SIZE, SAVE))
    second = plan_jobs([photos], out, SIZE, SAVE, recursive=True)
    assert [job.source for job in second.jobs] == [job.source for job in first.jobs]
    assert second.left_out == [], "the folder of results is not even looked into"
    named = plan_jobs([out / "0_x2.png"], out, SIZE, SAVE)
    assert named.jobs[0].result == out / "0_x2_x2.png", "a file that is named is upscaled"
