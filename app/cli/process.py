"""What the process has from the system: its standard streams, and the signal that asks it to end."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO

from trinas.errors import TrinasError

SHOW_CURSOR = b"\x1b[?25h"
"""Shows the cursor, which a progress line hides. A process that a signal ends cannot do this at its end."""


class OutputError(TrinasError):
    """Standard output cannot be written: it is closed, or the disk is full."""


class GuardedStream:
    """Standard output or standard error. What it cannot write ends in one line instead of a traceback.

    Attributes:
        has_failed: whether something could not be written. From then on, everything is dropped.
    """

    def __init__(self, stream: TextIO, *, is_vital: bool) -> None:
        """Guard a stream.

        Args:
            stream: the stream.
            is_vital: raise an error if it cannot be written. Messages are not vital: the work goes on without them.
        """
        self._stream, self._is_vital, self.has_failed = stream, is_vital, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            OutputError: that is not possible, and the stream is vital.
        """
        if text != "":  # typer tries whether a stream takes an empty text, and hides the error of a full disk
            with self._guard():
                return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is still in memory.

        Raises:
            OutputError: as for `write`.
        """
        with self._guard():
            self._stream.flush()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.has_failed = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # so that Python, at its end, can write what is still in memory
            os.close(nowhere)
            if self._is_vital:
                raise OutputError(f"standard output: cannot be written ({error.strerror})") from None


@contextmanager
def guard_streams() -> Iterator[None]:
    """Guard standard output and standard error while the block runs.

    Raises:
        SystemExit: with exit code 1 in place of 0, if messages of the block could not be written.
    """
    _open_closed_streams()
    originals = sys.stdout, sys.stderr
    for stream in originals:
        if hasattr(stream, "reconfigure"):  # a name may have letters that the encoding lacks
            encoding = "utf-8" if stream.encoding == "ascii" else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    output, messages = GuardedStream(sys.stdout, is_vital=True), GuardedStream(sys.stderr, is_vital=False)
    sys.stdout, sys.stderr = output, messages
    try:
        try:
            yield
        finally:
            messages.flush()
    except SystemExit as ended:
        if messages.has_failed and not ended.code:
            raise SystemExit(1) from None
        raise
    finally:
        sys.stdout, sys.stderr = originals


def _open_closed_streams() -> None:
    """Open the streams that were closed when the process began.

    Otherwise the next file that is opened would get the number of the stream, and with it what is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDONLY)  # so that writing fails, as it does where the stream is closed
            setattr(sys, name, os.fdopen(handle, mode, encoding="utf-8", closefd=False))


def end_at_once(code: int) -> NoReturn:
    """End the process without waiting for its threads. No file is left half-written, nor a temporary one."""
    from trinas.files import discard_unfinished_files

    discard_unfinished_files()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, TrinasError):
            stream.flush()
    os._exit(code)


def end_on_signal(number: int, frame: object) -> NoReturn:
    """Handle a signal: end the process at once, with the exit code of a process that the signal has killed."""
    write_from_handler(b"")
    end_at_once(128 + number)


def write_from_handler(message: bytes) -> None:
    """Write to standard error from the handler of a signal, and show the cursor.

    This does not use sys.stderr, because the signal may come while something is written there.
    """
    with suppress(OSError):
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + message)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """End the process at once if SIGTERM comes while the block runs, unless the block has its own handler."""
    before = signal.signal(signal.SIGTERM, end_on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
