"""Programs in processes of their own, and how a test stops them at a certain step."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_S = 600
"""How long a test waits for a process before it fails. This only ends what would never end."""

PAUSE = """
import sys

class PausingStream:
    def __init__(self, stream, words):
        self.stream, self.words, self.line = stream, words, ""

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        self.stream.write(text)
        self.stream.flush()
        self.line += text
        if "\\n" in text:
            line, self.line = self.line, ""
            if self.words in line:
                sys.stdin.read()

sys.{stream} = PausingStream(sys.{stream}, {words!r})
"""


def pause_after(words: str, stream: str = "stderr") -> str:
    """Return Python code that lets a program wait, once it has printed a line with these words.

    It waits until its standard input ends. So a test that reads the line and sends a signal before it calls
    `communicate` knows at which step the signal comes, however slow the machine is.

    Args:
        words: part of the line.
        stream: "stderr" or "stdout".
    """
    return PAUSE.format(words=words, stream=stream)


@contextmanager
def start(*command: str | Path, cwd: Path | None = None) -> Iterator["subprocess.Popen[str]"]:
    """Start a process with pipes to all its streams. It is killed if it still runs when the block ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=cwd) as process:
        try:
            yield process
        finally:
            process.kill()


def list_decoders(parent: int | None = None) -> list[int]:
    """Return the decoder processes that a process, or else this one, has started and not awaited."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            is_child = int(_read_state(int(folder.name))[1]) == (parent or os.getpid())
            if is_child and b"decoder_process" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def is_running(pid: int) -> bool:
    """Return whether a process is there and has not ended. One that has ended may wait for its parent."""
    try:
        return _read_state(pid)[0] not in ("Z", "X")
    except OSError:
        return False


def measure_cpu_seconds(pid: int) -> float:
    """Return how long a process has computed."""
    return sum(map(int, _read_state(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, for a long time if need be."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.02)


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in another thread: a browser of other tests may have an event loop in this one."""
    with ThreadPoolExecutor(1) as others:
        return others.submit(asyncio.run, coroutine).result()


def _read_state(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name, which may have spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
