"""Decode image files in other processes, so that a file that crashes or stalls its decoder costs only itself.

`decoder_process` is such a process. It has limits on time and memory, it is ended when work is stopped, and after a
crash the next file gets a new one.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from trinas.config import MAX_INPUT_PX, MAX_SECONDS_PER_FILE
from trinas.images.decode import DecodedImage, Header
from trinas.images.decoder_process import LENGTH, Answer, Request
from trinas.images.metadata import Metadata
from trinas.images.read import ImageFile, name_file, open_image
from trinas.images.stored import DecodeError

MOST_IDLE = 2
"""Processes that are kept for later files."""

IDLE_BYTES = 40 << 20
"""Memory of a process that decodes nothing."""

_OPENING_BYTES_PER_PIXEL = 10
"""Memory that opening may take for each pixel that is allowed. The decoder of WebP takes it, the others do not."""

_FIXED_BYTES = (256 << 20) + (os.cpu_count() or 1) * (16 << 20)
"""Memory that opening and decoding may take for any file. Decoders of AVIF and TIFF have a thread for each core."""

_BYTES_PER_FILE_BYTE = 5
"""Memory that decoding may take for each byte of the file: the file itself, and copies of its parts."""

_CODE = "import sys; sys.path[:] = sys.argv[1:]; from trinas.images.decoder_process import main; main()"
"""Nothing is imported from the folder where the program runs, which may be one of downloaded files."""

_KEPT_VARIABLES = ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
_KEPT_PREFIXES = ("PYTHON", "LC_", "DYLD_", "__PYVENV")
_SET_VARIABLES = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""Environment of a process. Tokens and passwords in other variables are not passed on."""

_CHECK_EVERY_MS = 100
_END_S = 5  # a process that has closed its pipes is about to end
_MAX_TEXT_BYTES = 1 << 20
_MAX_PART_BYTES = 64 << 20

_ANSWERS = TypeAdapter(Answer)
Buffer = TypeVar("Buffer", bytearray, memoryview)


class DecoderPool:
    """Processes that decode image files. Each open file has one; it is used again when the file is not needed any more.

    Several threads may open files at the same time. Use it as a context manager, or call `close`.
    """

    def __init__(self, max_seconds: float = MAX_SECONDS_PER_FILE) -> None:
        """Prepare the pool. A process is started with the first file, or by `start`.

        Args:
            max_seconds: time for one file, to open it and to decode it.
        """
        self._max_seconds = max_seconds
        # Finalisers use these at any moment, also inside these very methods, so that a lock could not protect them.
        # Each operation on a deque or a set, and `list`, is a single step.
        self._idle: deque[_Process] = deque()
        self._processes: set[_Process] = set()  # those that have not been ended, idle or not
        self._is_closed = False
        weakref.finalize(self, _end_all, self._idle)  # if nobody calls `close`

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start a process for the first file, and do not wait for it."""
        if _can_guard():
            self._idle.append(self._start())

    def open_image(
        self, path: Path | str, max_px: int = MAX_INPUT_PX, check: Callable[[], None] = lambda: None
    ) -> ImageFile:
        """Open an image file as `read.open_image` does, but in another process, which also decodes it.

        Args:
            path, max_px: as for `read.open_image`.
            check: is called several times a second while this and the file's `read` wait. It may raise an exception,
                such as `Stopped`, to end the work.
        Raises:
            ImageError: as for `read.open_image`, or the decoder crashed, or took too much time or memory. The file's
                methods raise the same.
        """
        if not _can_guard():
            return open_image(path, max_px)
        path = Path(path)
        process = self._take()
        image = _GuardedImage(process, _Clock(self._max_seconds, check))
        finish = weakref.finalize(image, self._take_back, process)
        finish.atexit = False
        try:
            with name_file(path):
                return ImageFile(path, image.open(path, max_px), image)
        except BaseException:
            finish()
            raise

    def close(self) -> None:
        """End all processes, also those that other threads wait for."""
        self._is_closed = True
        for process in list(self._processes):
            process.kill()  # the thread that uses it does the rest
        _end_all(self._idle)

    def _take(self) -> "_Process":
        with suppress(IndexError):
            while not (process := self._idle.pop()).is_running:
                self._end(process)
            return process
        return self._start()

    def _start(self) -> "_Process":
        process = _Process()
        self._processes.add(process)
        if self._is_closed:
            process.kill()
        return process

    def _take_back(self, process: "_Process") -> None:
        if self._is_closed or len(self._idle) >= MOST_IDLE or not process.forget():
            self._end(process)
        else:
            self._idle.append(process)
            if self._is_closed:  # meanwhile
                _end_all(self._idle)

    def _end(self, process: "_Process") -> None:
        process.end()
        self._processes.discard(process)


def _end_all(idle: deque["_Process"]) -> None:
    with suppress(IndexError):
        while True:
            idle.pop().end()


def _can_guard() -> bool:
    """Return whether the system can wait for another process with a limit. Windows cannot wait for pipes."""
    return hasattr(select, "poll")


class _Clock:
    """The time for one file. It only runs while a process works on the file."""

    def __init__(self, max_seconds: float, check: Callable[[], None]) -> None:
        """Prepare the clock; `check` is called while it waits."""
        self._max_seconds = self.left_s = max_seconds
        self._check = check
        self._end = inf

    @contextmanager
    def run(self) -> Iterator[None]:
        """Let the clock run inside the block."""
        self._end = time.monotonic() + self.left_s
        try:
            yield
        finally:
            self.left_s = max(0.0, self._end - time.monotonic())
            self._end = inf

    def wait(self, poller: select.poll) -> None:
        """Wait until there is something to read. Raise DecodeError when the time is over."""
        is_ready = False
        while not is_ready:
            is_ready = bool(poller.poll(_CHECK_EVERY_MS))
            if not is_ready:
                self._check()
            if time.monotonic() > self._end:  # also if something comes all the time, but too slowly
                raise DecodeError(f"decoding took longer than {self._max_seconds:g} s (--max-seconds-per-file)")


class _GuardedImage:
    """An image file that is open in another process."""

    header: Header

    def __init__(self, process: "_Process", clock: _Clock) -> None:
        self._process, self._clock = process, clock

    def open(self, path: Path, max_px: int) -> Header:
        """Open the file and return its header. Raise DecodeError if it cannot be opened."""
        self.header = self._process.open(path, max_px, self._clock)
        return self.header

    def decode(self) -> DecodedImage:
        """Decode the pixels as `EncodedImage.decode` does, with the same errors and those of the limits."""
        return self._process.decode(self.header, self._clock)


class _FileError(DecodeError):
    """The process says what is wrong with a file. It can decode the next one."""


class _NonsenseError(Exception):
    """The process does not answer what it was asked."""


class _Process:
    """A process that decodes one file at a time. It is ended by every error except those of a file."""

    def __init__(self) -> None:
        """Start the process, and do not wait until it is ready."""
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _CODE, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=_make_environment(),
            start_new_session=True,  # so that Ctrl-C in a terminal does not interrupt it
        )
        assert self._popen.stdin
        assert self._popen.stdout
        self._requests, self._answers = self._popen.stdin, self._popen.stdout
        self._poller = select.poll()
        self._poller.register(self._answers, select.POLLIN)
        self._is_ready = False
        self._file_bytes = 0

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._popen.poll() is None

    def open(self, path: Path, max_px: int, clock: _Clock) -> Header:
        """Open a file, and forget the one before. Raise DecodeError if it cannot be opened."""
        with suppress(OSError):  # the process will say what is wrong
            self._file_bytes = path.stat().st_size
        with self._exchange(clock):
            pixel_bytes = _OPENING_BYTES_PER_PIXEL * max_px
            header = self._ask(Request("open", str(path.absolute()), max_px), pixel_bytes, clock).header
            _require(header is not None and 0 < header.width * header.height <= max_px and 0 < header.channels <= 4)
            assert header
            return header

    def decode(self, header: Header, clock: _Clock) -> DecodedImage:
        """Decode the open file. Raise DecodeError if it cannot be decoded.

        Args:
            header: of the file.
            clock: of the file.
        """
        with self._exchange(clock):
            told = self._ask(Request("decode"), header.reading_bytes, clock).image
            _require(told is not None and told.depth in (8, 16))
            assert told
            _require((told.height, told.width, told.channels) == (header.height, header.width, header.channels))
            icc_profile, exif, xmp = (
                self._receive_part(size, clock) for size in (told.icc_bytes, told.exif_bytes, told.xmp_bytes)
            )
            levels = np.empty((told.height, told.width, told.channels), f"uint{told.depth}")
            self._receive_into(levels.data.cast("B"), clock)
            return DecodedImage(levels, icc_profile, Metadata(exif, xmp, told.dpi), told.is_lossless_webp, told.notes)

    def forget(self) -> bool:
        """Close the open file. Return whether the process is fit for another one."""
        try:
            self._send(Request("close"))
        except (OSError, ValueError):  # it has ended, or its pipe is closed
            return False
        return True

    def kill(self) -> None:
        """End the process, whatever it does. This may be called in any thread."""
        self._popen.kill()

    def end(self) -> None:
        """End the process, and close the pipes to it."""
        self._popen.kill()
        self._popen.wait()
        self._requests.close()
        self._answers.close()

    @contextmanager
    def _exchange(self, clock: _Clock) -> Iterator[None]:
        """Let the block ask the process. If the exchange breaks off, the process is ended."""
        if self._requests.closed:
            raise DecodeError("its decoder has been ended; open the file again")
        try:
            if not self._is_ready:
                self._receive_answer(clock)
                self._is_ready = True
            with clock.run():
                yield
        except _FileError:
            raise
        except (EOFError, OSError):
            raise DecodeError(self._describe_end()) from None
        except (_NonsenseError, ValidationError):
            self.end()
            raise DecodeError("its decoder answers nonsense; the file may be hostile") from None
        except BaseException:
            self.end()
            raise

    def _ask(self, request: Request, pixel_bytes: int, clock: _Clock) -> Answer:
        """Return the answer to a request. Raise _FileError if it is an error.

        Args:
            request: without its limits.
            pixel_bytes: memory that the process may take for pixels.
            clock: of the file.
        """
        memory_bytes = _FIXED_BYTES + _BYTES_PER_FILE_BYTE * self._file_bytes + pixel_bytes
        self._send(replace(request, seconds=clock.left_s, memory_bytes=memory_bytes))
        answer = self._receive_answer(clock)
        if answer.is_memory_short:
            raise _FileError(f"decoding takes more than {memory_bytes >> 20:,} MB of memory, too much for its size")
        if answer.error is not None:
            raise _FileError(answer.error)
        return answer

    def _send(self, request: Request) -> None:
        self._requests.write(json.dumps(vars(request)).encode() + b"\n")

    def _receive_answer(self, clock: _Clock) -> Answer:
        (size,) = LENGTH.unpack(self._receive_into(bytearray(LENGTH.size), clock))
        _require(size <= _MAX_TEXT_BYTES)
        return _ANSWERS.validate_json(self._receive_into(bytearray(size), clock))

    def _receive_part(self, size: int | None, clock: _Clock) -> bytes | None:
        if size is None:
            return None
        _require(0 <= size <= _MAX_PART_BYTES)
        return bytes(self._receive_into(bytearray(size), clock))

    def _receive_into(self, buffer: Buffer, clock: _Clock) -> Buffer:
        """Fill a buffer of bytes and return it. Raise EOFError if the process ends before."""
        view = memoryview(buffer)
        while view:
            clock.wait(self._poller)
            count = self._answers.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            view = view[count:]
        return buffer

    def _describe_end(self) -> str:
        """Return how the process ended, after its answers have ended."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_END_S)
        self.end()  # it may have closed its pipes and still run
        code = self._popen.returncode
        if not self._is_ready:
            return f"its decoder cannot be started (exit code {code})"
        if code == -signal.SIGKILL:
            return "its decoder was ended from outside (signal 9), perhaps because memory ran out"
        if code < 0:
            return f"its decoder crashed (signal {-code}); the file is damaged or hostile"
        return f"its decoder ended (exit code {code})"


def _require(is_sensible: bool) -> None:
    """Refuse an answer that is not sensible."""
    if not is_sensible:
        raise _NonsenseError


def _make_environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    return kept | _SET_VARIABLES
