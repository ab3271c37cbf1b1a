"""What a server writes to its terminal or log file: no more than so much an hour, whoever causes it."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO

MOST_CHARS, PERIOD_S = 1_000_000, 3600


class LimitedStream:
    """A text stream that leaves out what is too much.

    Args:
        stream: that is written to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left, self._end = 0, 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if there is still room in this hour."""
        if time.monotonic() > self._end:
            self._left, self._end = MOST_CHARS, time.monotonic() + PERIOD_S
        before, self._left = self._left, self._left - len(text)
        if self._left >= 0:
            self._stream.write(text)
        elif before >= 0:
            self._stream.write("\nnote: so many messages came that the next ones are left out, for an hour at most\n")
        return len(text)


@contextmanager
def limit_log() -> Iterator[None]:
    """Limit what is written to standard error in the block."""
    with redirect_stderr(LimitedStream(sys.stderr)):  # type: ignore[type-var]
        yield
