"""Visitors' files: the server's folder, and sessions."""

import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from trinas_app.web import uploads as uploads_module
from trinas_app.web.limits import Limits
from trinas_app.web.uploads import PREFIX, Sessions, check_disk, open_folder

from support.processes import start
from trinas.errors import ImageError


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    (tmp_path / "visitors").mkdir()
    return Sessions(tmp_path / "visitors", Limits(unpacked_mb=1))


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


def test_the_oldest_results_of_a_visitor_make_room_for_new_ones(sessions):
    session = sessions.get("a")
    folders = [session.new_folder() for _ in range(3)]
    for folder in folders:
        (folder / "cat_x2.png").write_bytes(bytes(450_000))
    last = session.new_folder()
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert last.exists()


def test_a_borrowed_folder_is_gone_after_an_error_too(sessions):
    def fail(folder: Path) -> None:
        (folder / "cat.png").write_bytes(b"x")
        raise RuntimeError

    with pytest.raises(RuntimeError), sessions.get("a").borrow_folder() as folder:
        fail(folder)
    assert not folder.exists()


def test_so_many_visitors_are_known_and_no_more(sessions, monkeypatch):
    monkeypatch.setattr(uploads_module, "MOST_SESSIONS", 3)
    first = sessions.get("0")
    folder, stop = first.new_folder(), first.stop_request("image")
    kept = sessions.get("1")
    for key in "213":
        sessions.get(key)
    assert sessions.get("1") is kept, "who comes back is not the oldest one"
    assert not folder.exists()
    assert stop.is_set()
    assert sessions.get("0") is not first


def test_nothing_is_written_to_a_disk_that_is_nearly_full(tmp_path):
    check_disk(tmp_path, Limits(free_mb=0))
    with pytest.raises(ImageError, match="nearly full"):
        check_disk(tmp_path, Limits(free_mb=0), more=10**18)
    with pytest.raises(ImageError, match="nearly full"):
        check_disk(tmp_path, Limits(free_mb=1e12))


HOLDER = """
import sys
from trinas_app.web.uploads import open_folder
with open_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_the_folder_of_a_server_that_was_killed_is_deleted_and_that_of_a_living_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / f"{PREFIX}somebody's").write_text("a file that only has such a name")
    with start(sys.executable, "-c", HOLDER) as dead, start(sys.executable, "-c", HOLDER) as alive:
        assert dead.stdout is not None
        assert alive.stdout is not None
        folders = [Path(process.stdout.readline().strip()) for process in (dead, alive)]
        for folder in folders:
            (folder / "upload.png").write_bytes(b"x")
        dead.kill()
        dead.wait()
        assert folders[0].exists(), "it could not delete its folder"
        with open_folder() as own:
            assert [folder.exists() for folder in folders] == [False, True]
            assert (folders[1] / "upload.png").exists()
        assert not own.exists()
        alive.communicate()
        assert alive.returncode == 0
        assert not folders[1].exists()


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
