"""Write files so that they are either whole or absent, read JSON files of others, and turn errors into one line."""

import json
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from trinas.errors import Stopped, TrinasError
from trinas.text import is_plain_text, shorten_text

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

HIDDEN = ".trinas-"
"""Prefix of the names of temporary files and lock files. Hidden files are not taken as input."""

_SUFFIX = ".tmp"

MAX_JSON_DEPTH, MAX_JSON_TEXT, MAX_JSON_NUMBER = 100, 4096, 2.0**64
"""Of JSON files: lists and objects inside each other, characters of a text, and the size of a number."""

_UMASK = os.umask(0)  # the mask can only be read by setting it; this must happen before threads run
os.umask(_UMASK)


class _Unfinished:
    """The temporary files that threads of this process are writing at the moment."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal may come while this very thread holds it
        self.paths: set[Path] = set()
        self.tidied: set[Path] = set()
        self.is_closed = False


_unfinished = _Unfinished()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file in one step. The file is never half-written, not even if the process is killed.

    The bytes are written to a hidden temporary file in the same folder, which is then renamed. The first file that a
    process writes into a folder also deletes the temporary files that killed processes have left there.

    Args:
        path: the file. An existing file is replaced.
        content: its bytes.
    Raises:
        OSError: the folder is missing or not writable, or the disk is full. `path` is unchanged.
        Stopped: `discard_unfinished_files` was called before.
    """
    with _unfinished.lock:
        if _unfinished.is_closed:
            raise Stopped(f"{path}: is not written, the program is ending")
        _tidy_once(path.parent)
        file, temporary = _open_temporary(path.parent)
        _unfinished.paths.add(temporary)
    try:
        with file:
            file.write(content)
            file.flush()
            temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes files private
            if fcntl:  # while it is locked, so that no other process takes it for an abandoned file
                temporary.replace(path)
        if not fcntl:  # Windows renames no file that is open
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        with _unfinished.lock:
            _unfinished.paths.discard(temporary)


def _open_temporary(folder: Path) -> tuple[IO[bytes], Path]:
    """Make a temporary file that is locked as long as it is open. The lock ends with its process, however that ends."""
    while True:
        handle, name = tempfile.mkstemp(prefix=HIDDEN, suffix=_SUFFIX, dir=folder)
        file, temporary = os.fdopen(handle, "wb"), Path(name)
        if not fcntl:
            return file, temporary
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = temporary.exists()
        except BlockingIOError:
            is_ours = False
        except OSError:  # a file system without locks, where no process deletes the files of others
            is_ours = True
        if is_ours:
            return file, temporary
        file.close()  # another process has just taken it for an abandoned file


def _tidy_once(folder: Path) -> None:
    """Delete the temporary files in a folder whose processes have ended, once in the life of this process.

    Without locks (Windows) nothing is deleted.
    """
    if not fcntl or folder in _unfinished.tidied:
        return
    _unfinished.tidied.add(folder)
    for path in folder.glob(f"{HIDDEN}*{_SUFFIX}"):
        with suppress(OSError), path.open("rb") as file:  # OSError: it is locked, or was renamed meanwhile
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def discard_unfinished_files() -> None:
    """Delete the temporary files that threads are writing, and let no thread begin another one.

    Call it before `os._exit`, which does not wait for the threads and would leave these files behind.
    """
    with _unfinished.lock:
        _unfinished.is_closed = True
        for path in _unfinished.paths:
            with suppress(OSError):  # it was renamed or deleted meanwhile
                path.unlink()


def read_json(path: Path, max_bytes: int) -> Any:
    """Read a JSON file that anybody may have written.

    Args:
        path: the file.
        max_bytes: a larger file is refused.
    Raises:
        OSError: it cannot be read.
        ValueError: as for `read_bounded` and `parse_json`.
    """
    return parse_json(read_bounded(path, max_bytes))


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read a file that anybody may have written.

    Args:
        path, max_bytes: as for `read_json`.
    Raises:
        OSError: it cannot be read.
        ValueError: it is too large, or no regular file. A pipe, for example, might never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than {max_bytes / 1e6:,.4g} MB")
    return content


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text that anybody may have written.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or holds a number that is not finite or far too large, or a
            text that is too long or is not plain (`text.is_plain_text`). The message is one short line.
    """
    try:
        value = json.loads(content.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON ({shorten_text(str(error))})") from None
    _check_json(value)
    return value


def _check_json(value: Any, place: tuple[str, ...] = ()) -> None:
    """Refuse a value of JSON.

    Args:
        value: any value.
        place: the keys that lead to it.
    Raises:
        ValueError: as for `parse_json`.
    """
    if len(place) > MAX_JSON_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, list | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_json_scalar(key, place)
            _check_json(item, (*place, str(key)))
    else:
        _check_json_scalar(value, place)


def _check_json_scalar(value: Any, place: tuple[str, ...]) -> None:
    fault = ""
    if isinstance(value, str) and len(value) > MAX_JSON_TEXT:
        fault = f"a text of {len(value):,} characters is too long"
    elif isinstance(value, str) and not is_plain_text(value):
        fault = f"the text '{shorten_text(value, 40)}' holds control characters or halves of characters"
    elif isinstance(value, int | float) and not abs(value) <= MAX_JSON_NUMBER:  # NaN is not
        fault = f"the number {shorten_text(str(value), 40)} is not finite, or too large"
    if fault:
        raise ValueError(": ".join(filter(None, [shorten_text(".".join(place), 120), fault])))


@contextmanager
def translate_os_errors(error_type: type[TrinasError], path: Path, action: str, advice: str = "") -> Iterator[None]:
    """Turn an OSError into one clear line: `<path>: cannot be <action> (<reason>); <advice>`.

    Args:
        error_type: the class of the error that is raised instead.
        path: the file or folder.
        action: a participle, such as read, written or made.
        advice: what the user can do, if the reason does not make it clear.
    Raises:
        TrinasError: of `error_type`, if the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise error_type(f"{path}: cannot be {action} ({reason})" + (f"; {advice}" if advice else "")) from None
