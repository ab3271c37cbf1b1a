"""The files of visitors: the server's folder, and a session for each visitor."""

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from trinas.errors import ImageError
from trinas.files import HIDDEN

from .limits import Limits

FORGET_AFTER_S = 3600
"""Age at which uploads are deleted. The files of a visitor are deleted after so long without a request."""

MOST_SESSIONS = 1000
"""Visitors that are known at the same time. The one that was here longest ago is forgotten first."""

PREFIX, LOCK = "trinas-web-", f"{HIDDEN}lock"
"""Of the name of a server's folder, and the file in it that the server locks for as long as it lives."""


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder for the files of visitors, and delete it in the end.

    Folders of servers that were killed are deleted too.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(Timeout, OSError), FileLock(left / LOCK, timeout=0):  # its server lives, or is another user's
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with FileLock(folder / LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_disk(folder: Path, limits: Limits, more: int = 0) -> None:
    """Refuse to write to a disk that is nearly full.

    Args:
        folder: on the disk.
        limits: have the space that must stay free.
        more: bytes that will be written.
    Raises:
        ImageError: there would be less space.
    """
    if shutil.disk_usage(folder).free - more < limits.free_mb * 1e6:
        raise ImageError("the disk of this server is nearly full; try again later")


class Session:
    """The files of one visitor, and requests to stop the visitor's jobs.

    Args:
        folder: for the files.
        most_bytes: of all files. The oldest ones are deleted if there are more.
    """

    def __init__(self, folder: Path, most_bytes: float) -> None:
        self.folder = folder
        self.last_used = time.monotonic()
        self._most_bytes = most_bytes
        self._folders: list[Path] = []
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
        self._folders = [folder for folder in self._folders if folder.exists()]
        while self._folders and sum(map(measure_folder, self._folders)) > self._most_bytes:
            shutil.rmtree(self._folders.pop(0), ignore_errors=True)
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(parents=True)
        self._folders.append(folder)
        return folder

    @contextmanager
    def borrow_folder(self) -> Iterator[Path]:
        """Make an empty folder, and delete it at the end of the block."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def measure_folder(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    count = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it is being deleted
            count += path.stat().st_size
    return count


class Sessions:
    """The sessions of all visitors.

    Args:
        folder: for the files of visitors. Everything in it is deleted in the end.
        limits: of a visitor. Results are kept longer than uploads, by the time of a job.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self._limits = limits
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, key: str | None) -> Session:
        """Return the session of a key. It is made if there is none."""
        with self._lock:
            session = self._sessions.pop(key or "", None) or self.new()
            self._sessions[key or ""] = session  # the last one in the dictionary was used last
            old = list(self._sessions)[:-MOST_SESSIONS]
        for each in old:
            self.forget(each)
        session.last_used = time.monotonic()
        return session

    def new(self) -> Session:
        """Return a session that is not any visitor's."""
        return Session(self.folder / secrets.token_hex(16), self._limits.unpacked_mb * 1e6)

    def stop(self, key: str) -> None:
        """Stop the jobs of a visitor, if there is such a visitor."""
        if session := self._sessions.get(key):
            session.stop_all()

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
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > FORGET_AFTER_S + self._limits.seconds:
                    shutil.rmtree(folder, ignore_errors=True)
        for path in self.folder.iterdir():  # each upload has its own folder, or is a file that is still arriving
            with suppress(OSError):  # it was moved or deleted meanwhile, or a file has arrived in the folder
                if path not in known and path.name != LOCK and time.time() - path.stat().st_mtime > FORGET_AFTER_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def number_names(name: str) -> Iterator[str]:
    """Yield the name, then the name with -2, -3 and so on before its suffix."""
    path = Path(name)
    yield name
    for number in range(2, 1_000_000):
        yield str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
