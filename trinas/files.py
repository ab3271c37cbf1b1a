"""Files that are either whole or absent, and one wording for what goes wrong with them."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trinas.errors import Stopped, TrinasError

HIDDEN = ".trinas-"
"""Prefix of the names of temporary and lock files. They are hidden and never taken for input."""

_UMASK = os.umask(0)  # the mask can only be read by setting it, which is not safe once threads run
os.umask(_UMASK)


class _Unfinished:
    """The temporary files that threads of this process are writing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.paths: set[Path] = set()
        self.is_closed = False


_unfinished = _Unfinished()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that no reader, and no killed process, ever meets half a file.

    The bytes go to a hidden temporary file in the same folder, which then takes the name in one step.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full; `path` is as it was.
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
    """Delete the temporary files that threads are writing, and let no thread begin another.

    For a program that ends without waiting for its threads (`os._exit`), which would leave these files behind.
    """
    with _unfinished.lock:
        _unfinished.is_closed = True
        for path in _unfinished.paths:
            with suppress(OSError):  # renamed or deleted meanwhile
                path.unlink()


@contextmanager
def translate_os_errors(error_type: type[TrinasError], path: Path, action: str, advice: str = "") -> Iterator[None]:
    """Turn an OSError into one clear line: `<path>: cannot be <action> (<reason>); <advice>`.

    Args:
        error_type: what is raised instead.
        path: the file or folder that is worked on.
        action: a participle: read, written, made.
        advice: what the user can do, if that is not plain from the reason.
    Raises:
        TrinasError: of `error_type`, where the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise error_type(f"{path}: cannot be {action} ({reason})" + (f"; {advice}" if advice else "")) from None
