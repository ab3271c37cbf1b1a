"""A process that checks files. It may die of one: it is then started again, and its log says where it died.

    python -m fuzzing.worker FOLDER SEED KINDS SECONDS MIB

It reads the numbers of files, a line each, and answers each with a line of JSON: a `Verdict`. If "guarded" comes behind
the number of an image, the image is only decoded in another process.
"""

import faulthandler
import json
import os
import re
import resource
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import TextIO

from trinas.images.guard import DecoderPool

from .checks import OUTCOMES, Check, FaultError, move_temporary_files, own_folder
from .damage import DamagedFile, make_file
from .seeds import KINDS, list_seeds

LOG, ERRORS = "death.log", "stderr.log"
GUARDED = "guarded"
READY = b"ready\n"
"""What a worker says first."""

_GUARD_PATIENCE = 4
"""The limit of decoding in another process is one by the clock, and the machine may be busy."""


@dataclass(frozen=True)
class Verdict:
    """What the program did with a file."""

    number: int
    kind: str
    """As `DamagedFile.kind`."""
    outcome: str
    """One of `checks.OUTCOMES`, or of `checks.FAULTS`."""
    where: str = ""
    """Of a fault: what tells it from others of its kind. The same bug has the same text."""
    text: str = ""
    """Of a fault: everything that is known."""
    seconds: float = 0.0
    """CPU time of the check."""
    mib: float = 0.0
    """The most memory of the check, beyond what the process had before."""


def main() -> None:
    """Check file after file."""
    folder, seed, kinds, seconds, mib = sys.argv[1:]
    worker = Worker(Path(folder), float(seconds), int(mib))
    worker.answers.write(READY.decode())
    worker.answers.flush()
    for line in sys.stdin:
        number, *words = line.split()
        verdict = worker.judge(make_file(int(seed), int(number), kinds.split(",")), guarded=GUARDED in words)
        worker.answers.write(json.dumps(asdict(verdict)) + "\n")
        worker.answers.flush()


class Worker:
    """Limits this process, and checks files in it.

    Args:
        folder: for everything that checks write.
        max_seconds: CPU time of a check. The process dies of more.
        max_mib: memory that the process may take beyond what it has now. The system gives no more.
    """

    def __init__(self, folder: Path, max_seconds: float, max_mib: int) -> None:
        self._folder, self._max_seconds = folder, max_seconds
        self._decoders = DecoderPool(_GUARD_PATIENCE * max_seconds)
        self._temporary = move_temporary_files(folder)
        self.answers = self._redirect_output()
        self._log = (folder / LOG).open("w")
        faulthandler.enable(self._log)
        # When the CPU time is over, the system ends the process, whatever it does; before that, the log gets the stack.
        faulthandler.register(signal.SIGPROF, self._log, chain=True)
        self._warm_up()
        most = measure_kib("VmSize") * 1024 + max_mib * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def _redirect_output(self) -> TextIO:
        """Let everything that is written to the terminal go to a file, and return the way to the parent."""
        answers = os.fdopen(os.dup(1), "w")
        self._errors = os.open(self._folder / ERRORS, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(self._errors, 1)
        os.dup2(self._errors, 2)
        return answers

    def _warm_up(self) -> None:
        """Check a whole file of every kind, so that all libraries are loaded before memory is measured."""
        seeds = [seed for kind in KINDS for seed in list_seeds(kind)[::3]]
        for number, seed in enumerate(seeds):
            with own_folder(self._folder) as folder, suppress(FaultError):
                file = DamagedFile(number, seed.kind, seed, seed.files, False)
                Check(file, folder, self._temporary, self._decoders).run()
        self._take_written()

    def judge(self, file: DamagedFile, *, guarded: bool = False) -> Verdict:
        """Check a file, as `Check.run` does, and return what the program did with it."""
        outcome, where, text = "", "", ""
        with own_folder(self._folder) as folder:
            check = Check(file, folder, self._temporary, self._decoders)
            before = reset_peak_kib()
            signal.setitimer(signal.ITIMER_PROF, self._max_seconds)
            started = process_time()
            try:
                outcome = check.run(guarded=guarded)
            except FaultError as fault:
                outcome, where, text = fault.kind, _shorten(str(fault)), str(fault)
            except MemoryError as error:
                outcome, where, text = "memory", _name_place(error), traceback.format_exc()
            except Exception as error:
                outcome, where, text = "exception", _name_place(error), traceback.format_exc()
            seconds = process_time() - started
            signal.setitimer(signal.ITIMER_PROF, 0)
            mib = (measure_kib("VmHWM") - before) / 1024
        if (written := self._take_written()) and outcome in OUTCOMES:
            outcome, where, text = "terminal", _shorten(written), written
        if mib > check.allowed_mib and outcome in OUTCOMES:
            outcome, text = "memory", f"{mib:.0f} MiB instead of {check.allowed_mib:.0f}"
        return Verdict(file.number, file.kind, outcome, where, text, round(seconds, 4), round(mib, 1))

    def _take_written(self) -> str:
        """Return what was written to the terminal since the last call."""
        sys.stderr.flush()
        written = os.pread(self._errors, 10_000, 0)
        os.ftruncate(self._errors, 0)
        return written.decode(errors="replace")


def measure_kib(name: str) -> int:
    """Return a figure of this process's memory as the system calls it, such as VmHWM, the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def reset_peak_kib() -> int:
    """Begin to measure the peak memory anew, and return what the process has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return measure_kib("VmRSS")


def _name_place(error: Exception) -> str:
    """Return the type of an exception and the last function of the program that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/trinas" in frame.filename]
    place = f" in {Path(frames[-1].filename).stem}: {frames[-1].name}" if frames else ""
    return type(error).__name__ + place


def _shorten(text: str) -> str:
    """Return the beginning of a text without numbers and quoted words, so that the same fault has the same text."""
    first = text.strip().split("\n")[0]
    return re.sub(r"[\d.]+", "#", re.sub(r"(['\"]).*?\1|\[.*", "...", first))[:80]


if __name__ == "__main__":
    main()
