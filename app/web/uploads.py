"""The files of visitors: a session for each visitor, unpacked uploads, and archives of results."""

import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

from trinas.errors import ImageError
from trinas.files import HIDDEN

from .limits import Limits

FORGET_AFTER_S = 3600
"""Age at which uploads are deleted. The files of a visitor are deleted after so long without a request."""


class Session:
    """The files of one visitor, and requests to stop the visitor's jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last_used = time.monotonic()
        self._stops: dict[str, threading.Event] = {}

    def stop_request(self, job: str) -> threading.Event:
        """Return the event that stops one kind of job. Jobs of different kinds can run at the same time."""
        return self._stops.setdefault(job, threading.Event())

    def stop_all(self) -> None:
        """Request that all jobs stop."""
        for stop in list(self._stops.values()):
            stop.set()

    def new_folder(self) -> Path:
        """Make an empty folder. Its name cannot be guessed, because everybody who knows it can read the files."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return folder


class Sessions:
    """The sessions of all visitors.

    Args:
        folder: for the files of visitors. Everything in it is deleted in the end.
        job_seconds: the longest time of a job. Results are kept so much longer than uploads.
    """

    def __init__(self, folder: Path, job_seconds: float) -> None:
        self.folder = folder
        self._job_seconds = job_seconds
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, key: str | None) -> Session:
        """Return the session of a key. It is made if there is none."""
        with self._lock:
            session = self._sessions.setdefault(key or "", Session(self.folder / secrets.token_hex(16)))
        session.last_used = time.monotonic()
        return session

    def forget(self, key: str | None) -> None:
        """Stop the jobs of a visitor and delete the files."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            session.stop_all()
            shutil.rmtree(session.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Forget visitors who have done nothing for an hour. Delete uploads of this age, and older results."""
        now = time.monotonic()
        with self._lock:
            old = [key for key, session in self._sessions.items() if now - session.last_used > FORGET_AFTER_S]
            known = {session.folder for session in self._sessions.values()}
        for key in old:
            self.forget(key)
        for folder in (folder for visitor in known for folder in visitor.glob("*")):
            with suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > FORGET_AFTER_S + self._job_seconds:
                    shutil.rmtree(folder, ignore_errors=True)
        for path in self.folder.iterdir():  # each upload has its own folder, or is a file that is still arriving
            with suppress(OSError):  # it was moved or deleted meanwhile, or a file has arrived in the folder
                if path not in known and time.time() - path.stat().st_mtime > FORGET_AFTER_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def unpack(session: Session, uploads: Sequence[Path], limits: Limits) -> Path:
    """Copy the files of a batch into a new folder.

    Archives are unpacked with their folders. Files that would get the same name are numbered.

    Args:
        session: of the visitor.
        uploads: files and archives.
        limits: of a batch.
    Raises:
        ImageError: an archive is damaged or unsafe, or the batch exceeds a limit. The folder is deleted then.
    """
    folder = session.new_folder()
    try:
        _unpack_into(folder, uploads, limits)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _unpack_into(folder: Path, uploads: Sequence[Path], limits: Limits) -> None:
    files, free_bytes = 0, limits.unpacked_mb * 1e6
    for upload in uploads:
        with _name_upload(upload.name):
            for name, source in _open_files(upload):
                files += 1
                if files > limits.files:
                    raise ImageError(f"{upload.name}: too many files; the limit is {limits.files} at once")
                target = next(path for path in map(folder.joinpath, number_names(name)) if not path.exists())
                free_bytes -= _copy_limited(source, target, free_bytes)
                if free_bytes < 0:
                    most = f"{limits.unpacked_mb:g} MB"
                    raise ImageError(f"{upload.name}: more than {most} of files are too much at once")


def _copy_limited(source: IO[bytes], target: Path, max_bytes: float) -> int:
    """Copy a file and return its size. Stop after `max_bytes`, since the sizes in an archive may be false."""
    count = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        while count <= max_bytes and (chunk := source.read(1 << 20)):
            file.write(chunk)
            count += len(chunk)
    return count


def _open_files(upload: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the name and the content of each file in an archive, or of the upload itself."""
    if not zipfile.is_zipfile(upload):
        with upload.open("rb") as file:
            yield upload.name, file
        return
    with zipfile.ZipFile(upload) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            if not is_inside(member.filename):
                raise ImageError(f"{upload.name}: holds the path {member.filename}, which leads out of it")
            with archive.open(member) as file:
                yield member.filename, file


@contextmanager
def _name_upload(name: str) -> Iterator[None]:
    """Turn every error in unpacking into one that names the upload. Each compression has its own error classes."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise ImageError(f"{name}: is damaged, or cannot be unpacked here ({reason})") from None


def is_inside(name: str) -> bool:
    """Return whether a path in an archive stays in the folder to which it is unpacked."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]


def number_names(name: str) -> Iterator[str]:
    """Yield the name, then the name with -2, -3 and so on before its suffix."""
    path = Path(name)
    yield name
    for number in range(2, 1_000_000):
        yield str(path.with_name(f"{path.stem}-{number}{path.suffix}"))


def write_zip(folder: Path, target: Path) -> Path:
    """Write an archive of a folder with its sub-folders and return `target`.

    The files are stored without compression, because images are compressed already.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith(HIDDEN):
                archive.write(path, path.relative_to(folder))
    return target
