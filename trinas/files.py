"""Write files so that they are either whole or absent, and turn errors with files into one clear line."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trinas.errors import Stopped, TrinasError

HIDDEN = ".trinas-"
"""Prefix of the names of temporary files and lock files. Hidden files are not taken as input."""

_UMASK = os.umask(0)  # the mask can only be read by setting it; this must happen before threads run
os.umask(_UMASK)


class _Unfinished:
    """The temporary files that threads of this process are writing at the moment."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.paths: set[Path] = set()
        self.is_closed = False


_unfinished = _Unfinished()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file in one step. The file is never half-written, not even if the process is killed.

    The bytes are written to a hidden temporary file in the same folder, which is then renamed.

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
        handle, name = tempfile.mkstemp(prefix=HIDDEN, suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        _unfinished.paths.add(temporary)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes files private
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        with _unfinished.lock:
            _unfinished.paths.discard(temporary)


def discard_unfinished_files() -> None:
    """Delete the temporary files that threads are writing, and let no thread begin another one.

    Call it before `os._exit`, which does not wait for the threads and would leave these files behind.
    """
    with _unfinished.lock:
        _unfinished.is_closed = True
        for path in _unfinished.paths:
            with suppress(OSError):  # it was renamed or deleted meanwhile
                path.unlink()


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
