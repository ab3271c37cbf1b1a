"""The state of a run, saved so that it is always whole."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from trinas.errors import RunError
from trinas.files import HIDDEN, write_atomically

STATE_FILE = "state.pt"
"""Of a training, in its run folder."""

SCHEMA = 6
"""Version of the state; another one is refused rather than guessed at."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`; a crash leaves the previous state in place.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    buffer = io.BytesIO()
    torch.save({"schema": SCHEMA, **state}, buffer)
    write_atomically(path, buffer.getvalue())


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other processes from a run meanwhile: two would write over each other's states.

    Args:
        path: of its state, which need not be there yet; its folder has to be.
    Raises:
        RunError: another process is at work there, or the folder cannot be written.
    """
    lock = FileLock(path.with_name(f"{HIDDEN}{path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunError(f"{path.parent}: another process is at work there; wait for it, or stop it") from None
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, without running any code from the file.

    Raises:
        RunError: the file is missing, damaged, or not such a state.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such state; nothing to resume here")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch's reader stumble over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path}: damaged state, cannot resume ({reason})") from None
    if not isinstance(state, dict) or state.pop("schema", None) != SCHEMA:
        raise RunError(f"{path}: not the state of a run, or of another version of trinas-upscale")
    return state
