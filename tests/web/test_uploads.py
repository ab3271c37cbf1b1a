"""Visitors' files: sessions, and archives in and out."""

import os
import random
import threading
import zipfile
from pathlib import Path

import pytest
from trinas_app.web import uploads as uploads_module
from trinas_app.web.limits import Limits
from trinas_app.web.uploads import Session, Sessions, is_inside, unpack, write_zip

from trinas.errors import ImageError


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path / "visitor")


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    (tmp_path / "visitors").mkdir()
    return Sessions(tmp_path / "visitors", job_seconds=3600)


def make_archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_idle_visitors_and_old_uploads_are_forgotten(sessions):
    session = sessions.get("a")
    folder = session.new_folder()
    session.last_used -= uploads_module.FORGET_AFTER_S + 1
    old = [sessions.folder / "upload", sessions.folder / "arriving"]
    old[0].mkdir()
    old[1].touch()
    for upload in old:
        os.utime(upload, (0, 0))
    kept = sessions.get("b").new_folder()
    sessions.sweep()
    assert kept.exists()
    assert not any(upload.exists() for upload in old)
    assert not folder.exists()
    assert sessions.get("a") is not session


def test_results_do_not_pile_up_while_a_visitor_stays(sessions):
    session = sessions.get("a")
    old, recent = session.new_folder(), session.new_folder()
    (old / "cat_x2.png").write_bytes(b"x")
    os.utime(old, (0, 0))
    sessions.sweep()
    assert not old.exists()
    assert recent.exists()
    assert sessions.get("a") is session


def test_many_visitors_at_once_get_a_session_each(sessions):
    found: list[Path] = []
    threads = [threading.Thread(target=lambda key=key: found.append(sessions.get(key).folder)) for key in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


def test_a_forgotten_visitor_leaves_no_files_and_no_running_jobs(sessions):
    session = sessions.get("a")
    session.new_folder()
    stop = session.stop_request("image")
    sessions.forget("a")
    assert not session.folder.exists()
    assert stop.is_set()


def test_an_archive_of_a_folder_keeps_its_tree_without_hidden_files(tmp_path):
    folder = tmp_path / "results"
    (folder / "sea").mkdir(parents=True)
    for name in ("b.png", "sea/a.png", ".trinas-x.tmp"):
        (folder / name).write_bytes(name.encode())
    with zipfile.ZipFile(write_zip(folder, tmp_path / "results.zip")) as archive:
        assert archive.namelist() == ["b.png", "sea/a.png"]
        assert archive.read("sea/a.png") == b"sea/a.png"


def test_files_of_one_name_are_numbered(session, tmp_path):
    paths = [tmp_path / folder / "cat.png" for folder in ("one", "other")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(path.parent.name.encode())
    folder = unpack(session, paths, Limits())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"cat.png": b"one", "cat-2.png": b"other"}


def test_archives_with_files_of_one_name_lose_none(session, tmp_path):
    uploads = [make_archive(tmp_path / f"{name}.zip", {"sea/1.png": name.encode()}) for name in ("a", "b")]
    (tmp_path / "1.png").write_bytes(b"c")
    uploads += [tmp_path / "1.png", make_archive(tmp_path / "d.zip", {"1.png": b"d"})]
    folder = unpack(session, uploads, Limits())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"sea/1.png": b"a", "sea/1-2.png": b"b", "1.png": b"c", "1-2.png": b"d"}


@pytest.mark.parametrize(
    ("limits", "complaint"), [(Limits(files=5), "c.zip: too many"), (Limits(unpacked_mb=1), "b.zip: more than 1 MB")]
)
def test_limits_hold_for_the_whole_batch_and_leave_nothing(session, tmp_path, limits, complaint):
    members = {f"{number}.png": bytes(300_000) for number in range(2)}
    uploads = [make_archive(tmp_path / f"{name}.zip", members) for name in "abcd"]
    with pytest.raises(ImageError, match=complaint):
        unpack(session, uploads, limits)
    assert not list(session.folder.rglob("*.png"))


@pytest.mark.parametrize(
    ("members", "limits", "complaint"),
    [
        ({"../evil.png": b"x"}, Limits(), "leads out"),
        ({"/evil.png": b"x"}, Limits(), "leads out"),
        ({f"{number}.png": b"" for number in range(4)}, Limits(files=3), "evil.zip: too many files; the limit is 3"),
        ({"zeros.png": bytes(2_000_000)}, Limits(unpacked_mb=1), "too much"),
    ],
)
def test_unsafe_and_too_large_archives_are_refused(session, tmp_path, members, limits, complaint):
    upload = make_archive(tmp_path / "evil.zip", members)
    with pytest.raises(ImageError, match=complaint):
        unpack(session, [upload], limits)
    assert not list(tmp_path.rglob("evil.png"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_archive_is_refused(session, tmp_path, compression):
    upload = make_archive(tmp_path / "damaged.zip", {"a.png": random.Random(0).randbytes(25_000)}, compression)
    content = bytearray(upload.read_bytes())
    content[100:200] = bytes(100)
    upload.write_bytes(content)
    with pytest.raises(ImageError, match="damaged"):
        unpack(session, [upload], Limits())


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [(6, b"\x01\x00", "encrypted"), (8, b"\x63\x00", "compression")],
    ids=["a password", "an unknown compression"],
)
def test_an_archive_that_cannot_be_unpacked_here_is_refused(session, tmp_path, field, value, complaint):
    """The field is in the member's own header and, two bytes further, in the directory at the archive's end."""
    upload = make_archive(tmp_path / "sealed.zip", {"a.png": b"x"})
    content = bytearray(upload.read_bytes())
    for start in (field, content.index(b"PK\x01\x02") + field + 2):
        content[start : start + 2] = value
    upload.write_bytes(content)
    with pytest.raises(ImageError, match=f"cannot be unpacked here .*{complaint}"):
        unpack(session, [upload], Limits())


def test_a_name_that_no_file_can_have_is_reported_without_its_folder(session, tmp_path):
    upload = make_archive(tmp_path / "long.zip", {f"{'a' * 300}.png": b"x"})
    with pytest.raises(ImageError, match=r"^long\.zip: is damaged, or cannot be unpacked here \(File name too long\)$"):
        unpack(session, [upload], Limits())


@pytest.mark.parametrize("name", ["a.png", "b/a.png", "..a/b..png"])
def test_ordinary_paths_stay_inside(name):
    assert is_inside(name)


@pytest.mark.parametrize("name", ["", "/a", "..", "a/../../b", "..\\b", "C:\\b", "\\b"])
def test_other_paths_do_not(name):
    assert not is_inside(name)
