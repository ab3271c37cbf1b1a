"""Upscaling for visitors, without the page."""

import shutil
import threading
from pathlib import Path

import pytest
from PIL import Image as PillowImage
from trinas_app.web.backend import Backend
from trinas_app.web.limits import Limits
from trinas_app.web.messages import hide_paths
from trinas_app.web.runner import Request, plan_batch

from support.images import generated_photograph, slow_jpeg
from support.processes import PATIENCE_S, list_decoders
from trinas.config import SaveConfig, UpscaleOptions
from trinas.errors import ImageError, ModelError, Stopped
from trinas.inference.plan import plan_jobs
from trinas.zoo.bundled import PRESET_MODELS

JOB = "image"


def size_of(path):
    with PillowImage.open(path) as opened:
        return opened.size


def upscale(backend, path, model="", **wishes):
    session = backend.sessions.get("a")
    request = Request(backend.runner.size(**wishes), model=model)
    return backend.runner.upscale(session, session.stop_request(JOB), path, request)


def preview(backend, path, model="", **wishes):
    return backend.runner.preview(path, Request(backend.runner.size(**wishes), model=model))


def test_an_image_becomes_a_file_in_the_visitors_folder(backend, cat):
    session = backend.sessions.get("a")
    shares: list[float] = []
    outcome = backend.runner.upscale(
        session,
        session.stop_request(JOB),
        cat,
        Request(backend.runner.size(scale=2)),
        lambda _, share: shares.append(share),
    )
    assert outcome.job.result.name == "cat_x2.png"
    assert outcome.job.result.is_relative_to(session.folder)
    assert size_of(outcome.job.result) == (120, 96)
    assert shares[-1] == 1


def test_a_stop_request_ends_the_work_and_leaves_nothing(backend, cat):
    session = backend.sessions.get("a")
    session.stop_request(JOB).set()
    with pytest.raises(Stopped):
        upscale(backend, cat, scale=2)
    assert list(session.folder.iterdir()) == []


def test_a_model_that_is_not_on_offer_leaves_nothing(backend, cat):
    with pytest.raises(ModelError, match="no such model"):
        upscale(backend, cat, "nothing", scale=2)
    assert list(backend.sessions.get("a").folder.iterdir()) == []


def test_a_stop_request_is_for_one_kind_of_job(backend, cat):
    backend.sessions.get("a").stop_request("batch").set()
    assert upscale(backend, cat, scale=2).state == "done"


@pytest.mark.parametrize("wish", [{"scale": 2}, {"long_side": 10}])
def test_a_job_that_takes_too_long_is_stopped(tmp_path, cat, wish):
    """Also where no network is at work."""
    backend = Backend.create(tmp_path, Limits(seconds=0), "cpu")
    with pytest.raises(Stopped, match="limit of this server"):
        upscale(backend, cat, **wish)


def test_a_batch_of_images_that_are_only_reduced_is_stopped_between_two(backend, cat, tmp_path):
    session, request = backend.sessions.get("a"), Request(backend.runner.size(long_side=10))
    plan = plan_jobs([cat] * 3, tmp_path / "out", request.size, request.save)
    stop = session.stop_request("batch")
    outcomes = backend.runner.run(session, stop, plan.jobs * 3, request)
    assert next(outcomes).state == "done"
    stop.set()
    with pytest.raises(Stopped):
        next(outcomes)


@pytest.mark.parametrize("end", ["stop", "limit"])
def test_an_image_that_takes_long_to_decode_can_be_stopped(tmp_path, end):
    """Nobody waits for its decoder, and the files of others can be read at once."""
    slow, cat = tmp_path / "slow.jpg", tmp_path / "cat.png"
    slow.write_bytes(slow_jpeg(1000, 20_000))
    PillowImage.fromarray(generated_photograph(8, 8)).save(cat)
    before = list_decoders()
    backend = Backend.create(tmp_path / "visitors", Limits(seconds_per_file=3 if end == "limit" else PATIENCE_S), "cpu")
    stop = backend.sessions.get("a").stop_request(JOB)
    timer = threading.Timer(1, stop.set if end == "stop" else lambda: None)
    timer.start()
    with pytest.raises(Stopped if end == "stop" else ImageError) as ended:
        upscale(backend, slow, scale=2)
    timer.join()
    stop.clear()
    assert str(ended.value) == ("Stopped." if end == "stop" else "slow.jpg: decoding took longer than 3 s")
    assert upscale(backend, cat, scale=2).state == "done"
    assert len(list_decoders()) == len(before) + 1, "the last one is kept for later files"
    backend.decoders.close()
    assert list_decoders() == before


@pytest.mark.parametrize(("side", "scale"), [(400, 2), (200, 4)])
def test_limits_hold_before_and_while_upscaling(backend, tmp_path, side, scale):
    path = tmp_path / "large.png"
    PillowImage.new("RGB", (side, side)).save(path)
    with pytest.raises(ImageError, match="too large") as refused:
        preview(backend, path, scale=scale)
    assert "--" not in str(refused.value), "the page has no options of the command line"
    assert str(tmp_path) not in str(refused.value), "nor does it tell where files are"
    with pytest.raises(ImageError, match="too large"):
        upscale(backend, path, scale=scale)


def test_a_size_out_of_range_is_refused(backend):
    with pytest.raises(ImageError, match="between 1 and 16"):
        backend.runner.size(scale=99)


def test_the_result_is_what_the_preview_says(backend, cat):
    found = preview(backend, cat, scale=2.5)
    outcome = upscale(backend, cat, scale=2.5)
    assert found.result_size == size_of(outcome.job.result) == (150, 120)
    assert found.models == [PRESET_MODELS["best"][3]]
    assert list(found.seconds_of_other_presets) == ["fast", "balanced"]
    assert found.seconds > 0


def test_a_preview_names_an_added_model_as_the_catalogue_does(backend, cat, tiny_model_dir):
    name = backend.catalogue.add(str(tiny_model_dir), "folder")
    assert preview(backend, cat, name, scale=2).models == [name]


def test_a_preview_says_why_a_compressed_jpeg_gets_another_model(backend, tmp_path):
    path = tmp_path / "cat.jpg"
    PillowImage.fromarray(generated_photograph(48, 60)).save(path, quality=62)
    automatic = preview(backend, path, scale=4)
    assert (automatic.models, automatic.reason) == (["trinas-s-photo-x4"], "JPEG of quality 62")
    named = preview(backend, path, "trinas-xs-x4", scale=4)
    assert (named.models, named.reason, named.seconds_of_other_presets) == (["trinas-xs-x4"], "", {})


def test_strength_and_self_ensemble_change_the_result(backend, cat):
    session = backend.sessions.get("a")
    size, results = backend.runner.size(scale=2), set()
    for request in (
        Request(size),
        Request(size, options=UpscaleOptions(strength=0)),
        Request(size, options=UpscaleOptions(self_ensemble=True)),
    ):
        outcome = backend.runner.upscale(session, session.stop_request(JOB), cat, request)
        results.add(outcome.job.result.read_bytes())
    assert len(results) == 3


def test_a_batch_keeps_folders_and_goes_on_past_files_that_fail(backend, tmp_path, cat):
    uploads = {"sea/a.png": cat, "hills/a.png": cat, "notes.txt": None, "bad.png": None}
    folder = tmp_path / "batch"
    for name, source in uploads.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(source.read_bytes() if source else b"none")
    session, request = backend.sessions.get("a"), Request(backend.runner.size(scale=2))
    results = session.new_folder()
    plan = plan_batch(folder, results, request.size, request.save)
    outcomes = list(backend.runner.run(session, session.stop_request("batch"), plan.jobs, request))
    states = {str(outcome.job.source.relative_to(folder)): outcome.state for outcome in outcomes}
    assert states == {"bad.png": "failed", "hills/a.png": "done", "sea/a.png": "done", "notes.txt": "failed"}
    written = sorted(str(path.relative_to(results)) for path in results.rglob("*.png"))
    assert written == ["hills/a_x2.png", "sea/a_x2.png"]


def test_a_batch_without_files_is_refused(backend, tmp_path):
    (tmp_path / "batch").mkdir()
    with pytest.raises(ImageError, match="no files"):
        plan_batch(tmp_path / "batch", tmp_path / "out", backend.runner.size(scale=2), SaveConfig())


def test_what_could_not_be_unpacked_fails_in_the_batch(backend, tmp_path, cat):
    folder = tmp_path / "batch"
    folder.mkdir()
    shutil.copy(cat, folder / "cat.png")
    session, request = backend.sessions.get("a"), Request(backend.runner.size(scale=2))
    problems = {folder / "../evil.png": "its path leads out of the archive"}
    jobs = plan_batch(folder, session.new_folder(), request.size, request.save, problems).jobs
    outcomes = list(backend.runner.run(session, session.stop_request("batch"), jobs, request))
    assert [outcome.state for outcome in outcomes] == ["done", "failed"]
    assert outcomes[1].reason.endswith("../evil.png: its path leads out of the archive")


def test_a_job_ends_before_the_disk_is_full(tmp_path, cat):
    backend = Backend.create(tmp_path, Limits(free_mb=1e12), "cpu")
    with pytest.raises(Stopped, match="disk of this server is nearly full"):
        upscale(backend, cat, scale=2)


def test_messages_name_files_as_the_visitor_knows_them():
    folder = Path("/tmp/visitor")
    text = hide_paths(f"{folder}/sea/a.png: 9x9 is too large; the limit is 4 pixels (--max-input-mp)", folder)
    assert text == "sea/a.png: 9x9 is too large; the limit is 4 pixels"
    assert "--" not in hide_paths("choose --format png, or a --background to lay it on")
