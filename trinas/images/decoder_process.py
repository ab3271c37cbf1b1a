"""The process that decodes image files for another one, which may end it at any moment. `guard` starts it.

It reads requests from its standard input, one line of JSON each, and answers on its standard output: four bytes with a
length, so many bytes of JSON, and behind them the bytes that the JSON announces. Nothing is pickled, so that a decoder
that a hostile file has taken over cannot run code in the other process.
"""

import json
import os
import queue
import signal
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from trinas.images.decode import DecodedImage, EncodedImage, Header, open_encoded
from trinas.images.stored import DecodeError
from trinas.text import shorten_text

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

LENGTH = struct.Struct(">I")
"""Comes before the JSON of an answer."""

_ALARM_DELAY_S = 10
"""Seconds after the limit. Until then the other process ends this one, if it still runs."""


@dataclass(frozen=True)
class Request:
    """What the process is asked to do."""

    action: str
    """open: read a file and parse its header. decode: decode its pixels. close: forget the file; there is no answer."""
    path: str = ""
    max_px: int = 0
    seconds: float = 0.0
    """The process ends itself some time after so many seconds, in case the other process is not there any more."""
    memory_bytes: int = 0
    """What may be added to the process."""


@dataclass(frozen=True)
class Announcement:
    """What follows the JSON of an answer: the parts of a decoded image, one after the other, and what is told of them.

    The bytes of the profile, of EXIF and of XMP come first, then the levels.
    """

    height: int
    width: int
    channels: int
    depth: int
    icc_bytes: int | None
    exif_bytes: int | None
    xmp_bytes: int | None
    dpi: tuple[float, float] | None
    is_lossless_webp: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What the process answers: one of these. The first answer, which comes without a request, is empty."""

    header: Header | None = None
    image: Announcement | None = None
    error: str | None = None
    """Text of a DecodeError."""
    is_memory_short: bool = False


class Decoder:
    """Carries out requests. At most one file is open at a time."""

    def __init__(self, answers: IO[bytes]) -> None:
        """Prepare to write answers to a file."""
        self._answers = answers
        self._opened: EncodedImage | None = None

    def carry_out(self, request: Request) -> None:
        """Do what is asked, and answer it."""
        if request.action == "close":
            self._opened = None
            return
        parts: list[Any] = []
        try:
            with _limit(request):
                if request.action == "open":
                    self._opened = None
                    self._opened = open_encoded(Path(request.path), request.max_px)
                    answer = Answer(header=self._opened.header)
                else:
                    assert self._opened is not None
                    announcement, parts = _announce(self._opened.decode())
                    answer = Answer(image=announcement)
        except DecodeError as error:
            answer = Answer(error=shorten_text(str(error)))
        except MemoryError:
            answer = Answer(is_memory_short=True)
        self.send(answer, parts)

    def send(self, answer: Answer, parts: Sequence[Any] = ()) -> None:
        """Write an answer, and the bytes that it announces."""
        text = json.dumps(answer, default=vars).encode()
        self._answers.write(LENGTH.pack(len(text)) + text)
        for part in parts:
            self._answers.write(part)
        self._answers.flush()


def main() -> None:
    """Carry out requests until there are no more."""
    requests, answers = _take_channels()
    _give_up_rights()
    waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting.put), daemon=True).start()
    decoder = Decoder(answers)
    try:
        decoder.send(Answer())
        while True:
            decoder.carry_out(waiting.get())
    except BrokenPipeError:
        os._exit(0)


def _take_channels() -> tuple[IO[bytes], IO[bytes]]:
    """Return the files of requests and answers. Decoders that print something print it nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    while nowhere <= 2:  # standard error was closed, and must not become one of the channels
        nowhere = os.dup(nowhere)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return requests, answers


def _give_up_rights() -> None:
    """Give up what a decoder does not need: to write files, and to leave an image of its memory behind."""
    if resource is not None:
        for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
            resource.setrlimit(kind, (0, 0))


def _listen(requests: IO[bytes], put: Callable[[Request], None]) -> None:
    """Take requests while decoding goes on. At their end the other process has ended, and this one ends at once."""
    for line in requests:
        put(Request(**json.loads(line)))
    os._exit(0)


@contextmanager
def _limit(request: Request) -> Iterator[None]:
    """Limit the memory inside the block, and end the process if the block takes far too long.

    The alarm is the system's, so that it also ends code that does not let other threads run.
    """
    if resource is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = measure_address_space() + request.memory_bytes
    if most > request.memory_bytes and not 0 <= before[0] < most:
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    signal.setitimer(signal.ITIMER_REAL, request.seconds + _ALARM_DELAY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)


def measure_address_space() -> int:
    """Return the bytes that the memory of this process spans; 0 if the system does not say it (all except Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _announce(image: DecodedImage) -> tuple[Announcement, list[Any]]:
    """Return what an answer tells of a decoded image, and the parts that follow it."""
    levels, metadata = np.ascontiguousarray(image.levels), image.metadata
    height, width, channels = levels.shape
    parts = (image.icc_profile, metadata.exif, metadata.xmp)
    icc_bytes, exif_bytes, xmp_bytes = (None if part is None else len(part) for part in parts)
    announcement = Announcement(
        height, width, channels, levels.itemsize * 8, icc_bytes, exif_bytes, xmp_bytes, metadata.dpi,
        image.is_lossless_webp, tuple(map(shorten_text, image.notes)),
    )  # fmt: skip
    return announcement, [*filter(None, parts), levels.data]
