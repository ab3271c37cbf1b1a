"""Files that are either whole or absent."""

import os
import tempfile
from pathlib import Path

HIDDEN = ".trinas-"
"""What the names of files begin with that are nobody else's business."""

_UMASK = os.umask(0)  # the mask can only be read by setting it, which is not safe once threads run
os.umask(_UMASK)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that no reader, and no killed process, ever meets half a file.

    The bytes go to a hidden temporary file in the same folder, which then takes the name in one step.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full; `path` is as it was.
    """
    handle, temporary = tempfile.mkstemp(prefix=HIDDEN, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o666 & ~_UMASK)  # mkstemp makes files private
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
