"""Public training sets, from a server on this machine that breaks off, refuses and lies."""

import hashlib
import io
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from support.processes import start
from trinas.errors import DataError
from trinas.training import datasets
from trinas.training.data import load_photographs
from trinas.training.datasets import DATA_SETS, DataSet, get_data_set

IMAGES = 5


class FileServer:
    """Serves one file, whatever is asked for.

    Attributes:
        cuts: after how many bytes each of the next connections breaks off; None: it waits there for ever.
        ranges: the Range header of each request.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.content, self.name = content, name
        self.cuts: list[int | None] = []
        self.ranges: list[str | None] = []
        self.knows_ranges, self.refuses = True, 0
        self.closed = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def data_set(self) -> DataSet:
        url = f"http://127.0.0.1:{self._server.server_address[1]}/{self.name}"
        return DataSet(url, hashlib.md5(self.content).hexdigest(), "set/HR", IMAGES, "a set")

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        if self.refuses:
            request.send_error(self.refuses)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.knows_ranges else 0
        if start and start >= len(self.content):
            request.send_error(416)
            return
        rest = self.content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(rest)
        request.wfile.write(rest[: len(rest) // 2 if cut is None else cut])
        if cut is None:
            self.closed.wait()

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()


def members() -> dict[str, bytes]:
    """Images among things that are not wanted, some of which would like to be elsewhere."""
    random = np.random.default_rng(0)
    found = {"set/": b"", "set/HR/notes.txt": b"no image", "set/LR/0001x2.png": b"other", "../evil.png": b"evil"}
    for number in range(IMAGES):
        file = io.BytesIO()
        PillowImage.fromarray(random.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(file, "PNG")
        found[f"set/HR/{number:04}.png"] = file.getvalue()
    return found


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members().items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members().items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module")
def archives() -> dict[str, bytes]:
    return {"set.zip": zipped(), "set.tar": tarred()}


@pytest.fixture(params=["set.zip", "set.tar"])
def server(
    request: pytest.FixtureRequest, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FileServer]:
    monkeypatch.setattr(datasets, "PAUSE_S", 0.0)
    served = FileServer(archives[request.param], request.param)
    yield served
    served.close()


def get(server: FileServer, folder: Path) -> Path:
    return get_data_set(server.data_set, folder, lambda what, done, total: None)


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


WHOLE = {f"HR/{number:04}.png" for number in range(IMAGES)}


def test_a_set_is_downloaded_and_only_its_images_are_unpacked(server, tmp_path):
    seen: list[tuple[str, int, int]] = []
    folder = tmp_path / "new" / "data"
    images = get_data_set(server.data_set, folder, lambda *progress: seen.append(progress))
    assert images == folder / "HR"
    assert files_under(tmp_path) == {f"new/data/{name}" for name in WHOLE}
    assert {path.name: path.read_bytes() for path in images.iterdir()} == {
        name.rpartition("/")[2]: content for name, content in members().items() if re.match(r"set/HR/\d", name)
    }
    assert len(load_photographs([images])) == IMAGES
    ends = {what: (done, total) for what, done, total in seen}
    size = len(server.content)
    assert ends == {"Downloading": (size, size), "Checking": (size, size), "Unpacking": (ends["Unpacking"][0], IMAGES)}


def test_a_set_that_is_there_is_not_downloaded_again(server, tmp_path):
    get(server, tmp_path)
    get(server, tmp_path)
    assert len(server.ranges) == 1


def test_a_connection_that_breaks_is_made_anew_where_it_ended(server, tmp_path):
    server.cuts = [100_000, 0, 50_000]
    get(server, tmp_path)
    assert files_under(tmp_path) == WHOLE
    assert server.ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]


def test_a_server_that_knows_no_ranges_sends_everything_again(server, tmp_path):
    server.cuts, server.knows_ranges = [100_000], False
    get(server, tmp_path)
    assert files_under(tmp_path) == WHOLE


def test_a_download_that_was_complete_but_not_checked_goes_on(server, tmp_path):
    (tmp_path / f"{server.name}.part").write_bytes(server.content)
    get(server, tmp_path)
    assert files_under(tmp_path) == WHOLE


def test_an_archive_that_was_half_unpacked_is_unpacked_to_the_end(server, tmp_path):
    (tmp_path / server.name).write_bytes(server.content)
    (tmp_path / "HR").mkdir()
    (tmp_path / "HR" / "0003.png").write_bytes(members()["set/HR/0003.png"])
    get(server, tmp_path)
    assert files_under(tmp_path) == WHOLE
    assert server.ranges == []


def test_something_else_is_refused_and_removed(server, tmp_path):
    wanted = server.data_set
    server.content = server.content[:-1] + b"?"
    with pytest.raises(DataError, match="another checksum") as error:
        get_data_set(wanted, tmp_path, lambda *progress: None)
    assert "\n" not in str(error.value)
    assert files_under(tmp_path) == set()


def test_a_server_that_stays_away_keeps_what_came(server, tmp_path):
    server.cuts = [70_000, *[0] * datasets.ATTEMPTS]
    with pytest.raises(DataError, match=r"cannot be downloaded .* 0 MB are kept, the same command continues"):
        get(server, tmp_path)
    assert (tmp_path / f"{server.name}.part").stat().st_size == 70_000
    get(server, tmp_path)
    assert files_under(tmp_path) == WHOLE
    assert server.ranges[-1] == "bytes=70000-"


def test_where_nothing_comes_nothing_is_left(server, tmp_path):
    server.refuses = 503
    with pytest.raises(DataError, match=r"cannot be downloaded \(503 .*see whether you are online"):
        get(server, tmp_path)
    assert len(server.ranges) == datasets.ATTEMPTS
    assert files_under(tmp_path) == set()


def test_a_refusal_is_said_at_once(server, tmp_path):
    server.refuses = 404
    with pytest.raises(DataError, match=r"/set.*: the server refused \(404 Not Found\)"):
        get(server, tmp_path)
    assert len(server.ranges) == 1


def test_a_folder_that_cannot_be_made_is_one_line(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        get(server, tmp_path / "file" / "data")


@pytest.mark.slow
def test_a_killed_download_goes_on(server, tmp_path):
    """By the command line, in processes of their own."""
    known = server.data_set
    code = (
        "from trinas.training import datasets; from trinas_app.cli import main; "
        f"datasets.DATA_SETS['div2k'] = datasets.{known!r}; main()"
    )
    command = [sys.executable, "-c", code, "data", "get", "div2k", str(tmp_path)]
    server.cuts = [None]
    part = tmp_path / f"{server.name}.part"
    with start(*command) as killed:
        while not (part.exists() and part.stat().st_size):
            assert killed.poll() is None, killed.communicate()
            time.sleep(0.01)
    assert killed.returncode == -signal.SIGKILL
    have = part.stat().st_size
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert server.ranges == [None, f"bytes={have}-"]
    assert files_under(tmp_path) == WHOLE
    assert ended.stderr.splitlines()[0] == "a set"
    assert ended.stderr.splitlines()[-1] == f"Done; train on it with --data {tmp_path / 'HR'}"


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_published_sets_are_described_whole(name):
    data_set = DATA_SETS[name]
    assert data_set.url.startswith("https://")
    assert re.fullmatch("[0-9a-f]{32}", data_set.md5)
    assert data_set.url.endswith((".zip", ".tar"))
