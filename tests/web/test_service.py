"""What the page does for its visitors, without the page."""

import os
import random
import re
import shutil
import threading
import time
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image as PillowImage
from trinas_app.web import service as service_module
from trinas_app.web.limits import Limits
from trinas_app.web.service import Service, is_inside, plan_batch, shown, zipped

from support.images import generated_photograph
from trinas.config import SaveConfig
from trinas.errors import ImageError, ModelError, Stopped
from trinas.images.read_write import read_image
from trinas.inference.plan import plan_jobs
from trinas.zoo.folder import load_model, save_model


@pytest.fixture
def service(tmp_path: Path) -> Service:
    (tmp_path / "visitors").mkdir()
    return Service(tmp_path / "visitors", Limits(input_px=100_000, output_px=400_000), "cpu")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    PillowImage.fromarray(generated_photograph(48, 60)).save(path)
    return path


def size_of(path: Path) -> tuple[int, int]:
    with PillowImage.open(path) as opened:
        return opened.size


def archive_of(path: Path, members: dict[str, bytes], way: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", way) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def enlarged(service, picture, **wish):
    session = service.session("a")
    return service.upscale(
        session, session.stop("picture"), picture, service.enlarger(None), service.size(**wish), SaveConfig()
    )


def test_a_picture_becomes_a_file_in_the_visitors_folder(service, picture):
    session = service.session("a")
    told: list[float] = []
    outcome = service.upscale(
        session,
        session.stop("picture"),
        picture,
        service.enlarger(None),
        service.size(scale=2),
        SaveConfig(),
        lambda _, share: told.append(share),
    )
    assert outcome.job.result.name == "cat_x2.png"
    assert outcome.job.result.is_relative_to(session.folder)
    assert size_of(outcome.job.result) == (120, 96)
    assert told[-1] == 1
    service.forget("a")
    assert not session.folder.exists()
    assert session.stop("picture").is_set()


def test_a_wish_to_stop_ends_the_work_and_leaves_nothing(service, picture):
    session = service.session("a")
    session.stop("picture").set()
    with pytest.raises(Stopped):
        enlarged(service, picture, scale=2)
    assert [path for path in session.folder.rglob("*") if path.is_file()] == []


def test_a_wish_to_stop_is_for_one_kind_of_job(service, picture):
    session = service.session("a")
    session.stop("batch").set()
    assert enlarged(service, picture, scale=2).state == "done"


@pytest.mark.parametrize("wish", [{"scale": 2}, {"long_side": 10}])
def test_a_job_that_takes_too_long_is_stopped(tmp_path, picture, wish):
    """Also where no network is at work."""
    service = Service(tmp_path, Limits(seconds=0), "cpu")
    with pytest.raises(Stopped, match="limit of this server"):
        enlarged(service, picture, **wish)


def test_a_batch_of_pictures_that_are_only_reduced_is_stopped_between_two(service, picture, tmp_path):
    session = service.session("a")
    size, save = service.size(long_side=10), SaveConfig()
    plan = plan_jobs([picture] * 3, tmp_path / "out", size, save)
    outcomes = service.run(session, session.stop("batch"), plan.jobs * 3, service.enlarger(None), size, save)
    assert next(outcomes).state == "done"
    session.stop("batch").set()
    with pytest.raises(Stopped):
        next(outcomes)


@pytest.mark.parametrize(("side", "scale"), [(400, 2), (200, 4)])
def test_limits_hold_before_and_while_enlarging(service, tmp_path, side, scale):
    path = tmp_path / "large.png"
    PillowImage.new("RGB", (side, side)).save(path)
    with pytest.raises(ImageError, match="too large") as refused:
        service.preview(path, service.enlarger(None), service.size(scale=scale), SaveConfig())
    assert "--" not in str(refused.value), "the page has no options of the command line"
    assert str(tmp_path) not in str(refused.value), "nor does it tell where files lie"
    with pytest.raises(ImageError, match="too large"):
        enlarged(service, path, scale=scale)


def test_what_a_preview_says_is_what_comes_out(service, picture):
    preview = service.preview(picture, service.enlarger(None), service.size(scale=2.5), SaveConfig())
    outcome = enlarged(service, picture, scale=2.5)
    assert preview.result == size_of(outcome.job.result) == (150, 120)
    assert preview.models == ["trinas-xs-x3"]
    assert preview.seconds > 0


def test_a_preview_says_why_a_compressed_jpeg_gets_another_model(service, tmp_path):
    path = tmp_path / "cat.jpg"
    PillowImage.fromarray(generated_photograph(48, 60)).save(path, quality=62)
    preview = service.preview(path, service.enlarger(None), service.size(scale=4), SaveConfig())
    assert (preview.models, preview.why) == (["trinas-s-photo-x4"], "JPEG of quality 62")
    named = service.preview(path, service.enlarger("trinas-xs-x4"), service.size(scale=4), SaveConfig())
    assert (named.models, named.why) == (["trinas-xs-x4"], "")


def test_visitors_not_heard_of_are_forgotten(service, monkeypatch):
    session = service.session("a")
    folder = session.new_folder()
    monkeypatch.setattr(service_module, "FORGET_AFTER_S", 0.05)
    time.sleep(0.1)
    uploads = [service.folder / "upload", service.folder / "on its way"]
    uploads[0].mkdir()
    uploads[1].touch()
    for upload in uploads:
        os.utime(upload, (0, 0))
    kept = service.session("b").new_folder()
    service.sweep()
    assert kept.exists()
    assert not any(upload.exists() for upload in uploads)
    assert not folder.exists()
    assert service.session("a") is not session


def test_many_visitors_at_once_get_a_session_each(service):
    found: list[Path] = []
    threads = [threading.Thread(target=lambda key=key: found.append(service.session(key).folder)) for key in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


@pytest.mark.parametrize("name", ["/etc", "../models/trinas-xs-x4", "nothing"])
def test_only_models_on_offer_can_be_named(service, name):
    with pytest.raises(ModelError, match="no such model"):
        service.enlarger(name)


def test_an_added_model_is_on_offer_under_a_name_of_its_own(service, tiny_model_dir, picture):
    name = service.add_model(str(tiny_model_dir), "folder")
    assert service.add_model(str(tiny_model_dir), "folder") == name == "tiny-model"
    assert service.offers()[name].source == "folder"
    assert service.seconds_per_mp(name) > 0
    preview = service.preview(picture, service.enlarger(name), service.size(scale=2), SaveConfig())
    assert [Path(model).name for model in preview.models] == [name]


def test_a_model_that_is_loaded_again_enlarges_with_its_new_weights(service, tiny_model_dir, picture):
    name = service.add_model(str(tiny_model_dir), "folder")
    before = service.enlarger(name)(read_image(picture), (120, 96)).pixels
    model = load_model(str(tiny_model_dir))
    for tensor in model.network.state_dict().values():
        tensor.mul_(0.5)
    save_model(tiny_model_dir, model.network, model.config)
    assert service.add_model(str(tiny_model_dir), "folder") == name
    assert not torch.equal(service.enlarger(name)(read_image(picture), (120, 96)).pixels, before)


def test_a_model_whose_folder_is_gone_is_no_longer_on_offer(service, tiny_model_dir):
    name = service.add_model(str(tiny_model_dir), "folder")
    shutil.rmtree(tiny_model_dir)
    assert name not in service.offers()
    assert "trinas-xs-x2" in service.offers()


def test_all_models_are_measured_unless_the_server_ends(service, monkeypatch):
    monkeypatch.setattr(service_module, "TIMED_PX", 16)
    ended = threading.Event()
    ended.set()
    service.measure(ended)
    assert not service.speeds
    ended.clear()
    service.measure(ended)
    assert service.speeds.keys() == service.offers().keys()
    assert service.measured.is_set()


def test_an_archive_keeps_its_folders(service, tmp_path, picture):
    content = picture.read_bytes()
    upload = archive_of(
        tmp_path / "holiday.zip", {"sea/a.png": content, "hills/a.png": content, "notes.txt": b"none", "bad.png": b"no"}
    )
    session = service.session("a")
    folder = service.unpack(session, [upload, picture])
    results = session.new_folder()
    plan = plan_batch(folder, results, service.size(scale=2), SaveConfig())
    stop, size = session.stop("batch"), service.size(scale=2)
    outcomes = service.run(session, stop, plan.jobs, service.enlarger(None), size, SaveConfig())
    states = {str(outcome.job.source.relative_to(folder)): outcome.state for outcome in outcomes}
    assert states == {
        "bad.png": "failed", "cat.png": "done", "hills/a.png": "done", "sea/a.png": "done", "notes.txt": "failed"
    }  # fmt: skip
    with zipfile.ZipFile(zipped(results, tmp_path / "results.zip")) as archive:
        assert archive.namelist() == ["cat_x2.png", "hills/a_x2.png", "sea/a_x2.png"]


def test_files_of_one_name_are_told_apart(service, tmp_path, picture):
    other = tmp_path / "other" / "cat.png"
    other.parent.mkdir()
    other.write_bytes(picture.read_bytes())
    folder = service.unpack(service.session("a"), [picture, other])
    assert sorted(path.name for path in folder.iterdir()) == ["cat-2.png", "cat.png"]


def test_archives_with_files_of_one_name_lose_none(service, tmp_path):
    uploads = [archive_of(tmp_path / f"{name}.zip", {"sea/1.png": name.encode()}) for name in ("a", "b")]
    (tmp_path / "1.png").write_bytes(b"c")
    uploads += [tmp_path / "1.png", archive_of(tmp_path / "d.zip", {"1.png": b"d"})]
    folder = service.unpack(service.session("a"), uploads)
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"sea/1.png": b"a", "sea/1-2.png": b"b", "1.png": b"c", "1-2.png": b"d"}


@pytest.mark.parametrize(
    ("limits", "complaint"), [(Limits(files=5), "c.zip: too many"), (Limits(unpacked_mb=1), "b.zip: more than 1 MB")]
)
def test_limits_are_of_the_whole_batch_and_leave_nothing(tmp_path, limits, complaint):
    members = {f"{number}.png": bytes(300_000) for number in range(2)}
    uploads = [archive_of(tmp_path / f"{name}.zip", members) for name in "abcd"]
    service = Service(tmp_path / "server", limits, "cpu")
    with pytest.raises(ImageError, match=complaint):
        service.unpack(service.session("a"), uploads)
    assert not list(service.folder.rglob("*.png"))


def test_results_do_not_pile_up_while_a_visitor_stays(service):
    session = service.session("a")
    old, recent = session.new_folder(), session.new_folder()
    (old / "cat_x2.png").write_bytes(b"x")
    os.utime(old, (0, 0))
    service.sweep()
    assert not old.exists()
    assert recent.exists()
    assert service.session("a") is session


@pytest.mark.parametrize(
    ("members", "limits", "complaint"),
    [
        ({"../evil.png": b"x"}, Limits(), "leads out"),
        ({"/evil.png": b"x"}, Limits(), "leads out"),
        ({f"{number}.png": b"" for number in range(4)}, Limits(files=3), "evil.zip: too many files; the limit is 3"),
        ({"zeros.png": bytes(2_000_000)}, Limits(unpacked_mb=1), "too much"),
    ],
)
def test_archives_that_want_too_much_are_refused(tmp_path, members, limits, complaint):
    upload = archive_of(tmp_path / "evil.zip", members)
    service = Service(tmp_path, limits, "cpu")
    with pytest.raises(ImageError, match=complaint):
        service.unpack(service.session("a"), [upload])
    assert not list(tmp_path.rglob("evil.png"))


@pytest.mark.parametrize("way", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_archive_is_refused(service, tmp_path, way):
    upload = archive_of(tmp_path / "damaged.zip", {"a.png": random.Random(0).randbytes(25_000)}, way)
    content = bytearray(upload.read_bytes())
    content[100:200] = bytes(100)
    upload.write_bytes(content)
    with pytest.raises(ImageError, match="damaged"):
        service.unpack(service.session("a"), [upload])


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [(6, b"\x01\x00", "encrypted"), (8, b"\x63\x00", "compression")],
    ids=["a password", "an unknown compression"],
)
def test_an_archive_that_cannot_be_unpacked_here_is_refused(service, tmp_path, field, value, complaint):
    """The field is in the member's own header and, two bytes further, in the directory at the archive's end."""
    upload = archive_of(tmp_path / "sealed.zip", {"a.png": b"x"})
    content = bytearray(upload.read_bytes())
    for start in (field, content.index(b"PK\x01\x02") + field + 2):
        content[start : start + 2] = value
    upload.write_bytes(content)
    with pytest.raises(ImageError, match=f"cannot be unpacked here .*{complaint}"):
        service.unpack(service.session("a"), [upload])


def test_a_name_that_no_file_can_have_is_said_without_where_it_would_have_been(service, tmp_path):
    upload = archive_of(tmp_path / "long.zip", {f"{'a' * 300}.png": b"x"})
    with pytest.raises(ImageError, match=r"^long\.zip: is damaged, or cannot be unpacked here \(File name too long\)$"):
        service.unpack(service.session("a"), [upload])


@pytest.mark.parametrize("name", ["a.png", "b/a.png", "..a/b..png"])
def test_ordinary_paths_stay_inside(name):
    assert is_inside(name)


@pytest.mark.parametrize("name", ["", "/a", "..", "a/../../b", "..\\b", "C:\\b", "\\b"])
def test_other_paths_do_not(name):
    assert not is_inside(name)


def test_messages_name_files_as_the_visitor_knows_them(tmp_path):
    text = shown(f"{tmp_path}/sea/a.png: 9x9 is too large; the limit is 4 pixels (--max-input-mp)", tmp_path)
    assert text == "sea/a.png: 9x9 is too large; the limit is 4 pixels"
    assert not re.search("--", shown("choose --format png, or a --background to lay it on"))
