"""The folder of a run: its state, its lock, and checks before it is used."""

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from trinas.device import is_memory_error
from trinas.errors import RunError, SpecError
from trinas.files import HIDDEN, translate_os_errors, write_atomically
from trinas.text import shorten_text

STATE_FILE = "state.pt"
"""Name of the state of a training in its run folder."""

STATE_SCHEMA = 6
"""Version of the state. A state of another version is refused."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state to `path`. A crash leaves the previous state in place.

    Args:
        path: the file.
        state: tensors and plain values.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    buffer = io.BytesIO()
    torch.save({"schema": STATE_SCHEMA, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """Read a state that `save_state` wrote. No code from the file is run.

    Raises:
        RunError: the file is missing or damaged, or is not a state of this version.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such state; nothing to resume here")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything in torch's reader
        raise RunError(_describe_damage(path, error)) from None
    if not isinstance(state, dict) or state.pop("schema", None) != STATE_SCHEMA:
        raise RunError(f"{path}: not the state of a run, or of another version of trinas-upscale")
    return state


def check_state(path: Path, state: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    """Refuse a state that lacks a value, or has one of another type.

    Args:
        path: of the state, named in errors.
        state: from `load_state`.
        kinds: key -> type of its value.
    Raises:
        RunError: as said above; the message names the keys.
    """

    def is_of(value: object, kind: type | tuple[type, ...]) -> bool:
        return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))

    wrong = [key for key, kind in kinds.items() if not is_of(state.get(key), kind)]
    if wrong:
        raise RunError(f"{path}: damaged state, cannot resume (without a usable {', '.join(wrong)})")


@contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """Turn whatever the values of a damaged state lead to into one line.

    Args:
        path: of the state.
    Raises:
        RunError: the block raised an error that is neither a `TrinasError` nor about too little memory, or a SpecError.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, SpecError, TypeError, ValueError) as error:
        if is_memory_error(error):
            raise
        raise RunError(_describe_damage(path, error)) from None


def _describe_damage(path: Path, error: Exception) -> str:
    reason = shorten_text(str(error).strip().partition("\n")[0]) or type(error).__name__
    return f"{path}: damaged state, cannot resume ({reason})"


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a run, because two processes would overwrite each other's states.

    Args:
        path: the state file of the run. Its folder must exist; the file may not exist yet.
    Raises:
        RunError: another process holds the lock, or the folder cannot be written.
    """
    lock = FileLock(path.with_name(f"{HIDDEN}{path.name}.lock"))
    with translate_os_errors(RunError, path.parent, "written"):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunError(f"{path.parent}: another process is at work there; wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def check_new_run(run_dir: Path, allowed_files: Collection[str] = ()) -> None:
    """Refuse a folder that a new run cannot use.

    Args:
        run_dir: the folder of the new run, which may not exist yet.
        allowed_files: names of files that a run writes before it has a state. A new run may replace them.
    Raises:
        RunError: `run_dir` is not a folder, or holds files that are neither hidden nor allowed.
    """
    if not run_dir.exists():
        return
    if not run_dir.is_dir() or any(
        not path.name.startswith(HIDDEN) and path.name not in allowed_files for path in run_dir.iterdir()
    ):
        raise RunError(f"{run_dir}: exists already; resume it, or choose another folder")
