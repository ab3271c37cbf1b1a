"""The state of a run, saved so that it is always whole."""

import io
from pathlib import Path
from typing import Any

import torch

from trinas.errors import RunError
from trinas.files import write_atomically

SCHEMA = 5
"""Version of the state; another one is refused rather than guessed at."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`; a crash leaves the previous state in place.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    buffer = io.BytesIO()
    torch.save({"schema": SCHEMA, **state}, buffer)
    write_atomically(path, buffer.getvalue())


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
