"""A run: many files, checked by several worker processes, which may die and are started again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from select import select

from trinas.files import write_atomically

from .checks import OUTCOMES
from .damage import make_file
from .seeds import IMAGE_KINDS
from .worker import ERRORS, GUARDED, LOG, READY, Verdict

SETTINGS, VERDICTS, FAULTS_FOLDER = "run.json", "verdicts.jsonl", "faults"
KEPT_FILES = 5
"""How many files of each kind of fault are kept."""

PATIENCE_S = 300
"""How long a run waits for a worker by the clock. This only ends what waits for ever: the limit is one of CPU time."""

CONTAINABLE = ("crash", "time", "memory")
"""What an image may do to a process that decodes it: then the image is tried again in a batch, and must do no harm."""

_LOOK_EVERY_S = 0.2  # whether the run is stopped

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""Of a worker. Memory that was given back would else be used again, and not be seen in the next measurement."""

WORKER = ("-m", "fuzzing.worker")
"""What Python runs as a worker."""


@dataclass(frozen=True)
class Settings:
    """What a run is. A run that is resumed has the same."""

    seed: int
    kinds: tuple[str, ...]
    max_seconds: float
    """CPU time of a file."""
    max_mib: int
    """Memory that a worker may take beyond what it has at its start."""


class Run:
    """A run in a folder: which files are checked, and what came of them.

    Args:
        folder: is made, or holds a run with the same settings, which is resumed.
        settings: of the run.
        command: what Python runs as a worker.
        patience_s: how long to wait for a worker by the clock.
    """

    def __init__(
        self, folder: Path, settings: Settings, command: Sequence[str] = WORKER, patience_s: float = PATIENCE_S
    ) -> None:
        self.folder, self.settings = folder, settings
        self._command, self._patience_s = command, patience_s
        self._lock, self._stop = threading.Lock(), threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        known = json.loads((folder / SETTINGS).read_text()) if (folder / SETTINGS).exists() else None
        wanted = json.loads(json.dumps(asdict(settings)))
        if known not in (None, wanted):
            raise SystemExit(f"{folder}: is a run with other settings ({known}); choose another folder")
        write_atomically(folder / SETTINGS, json.dumps(wanted).encode())
        self.verdicts = {verdict.number: verdict for verdict in self._read_verdicts()}

    def _read_verdicts(self) -> Iterator[Verdict]:
        path = self.folder / VERDICTS
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        write_atomically(path, "".join(whole).encode())  # a run that was killed may have left half a line
        yield from (Verdict(**json.loads(line)) for line in whole)

    def finish(self, files: int, workers: int) -> list[Verdict]:
        """Check the files with numbers below `files` that are not checked yet, and return all verdicts."""
        numbers: SimpleQueue[int] = SimpleQueue()
        for number in range(files):
            if number not in self.verdicts:
                numbers.put(number)
        with ThreadPoolExecutor(workers) as threads:
            working = [threads.submit(self._work, self.folder / f"worker{index}", numbers) for index in range(workers)]
            try:
                for done in working:
                    done.result()
            finally:
                self._stop.set()
        return [self.verdicts[number] for number in range(files)]

    def _work(self, folder: Path, numbers: "SimpleQueue[int]") -> None:
        """Give files to one worker after the other, until there are none."""
        died_of: Verdict | None = None
        while not self._stop.is_set() and (died_of or not numbers.empty()):
            with WorkerProcess(folder, self.settings, self._command) as worker, suppress(Empty):
                while worker.is_alive and not self._stop.is_set():
                    question = f"{died_of.number} {GUARDED}" if died_of else str(numbers.get_nowait())
                    verdict = worker.ask(question, self._stop, self._patience_s)
                    if verdict is None:
                        return
                    if died_of and verdict.outcome in OUTCOMES:
                        verdict = replace(died_of, outcome="contained", where=f"{died_of.outcome} {died_of.where}")
                    elif not died_of and verdict.outcome in CONTAINABLE and verdict.kind in IMAGE_KINDS:
                        died_of = verdict
                        continue
                    died_of = None
                    self._keep(verdict)

    def _keep(self, verdict: Verdict) -> None:
        """Note a verdict and, if it is a fault, keep the file."""
        with self._lock, (self.folder / VERDICTS).open("a") as file:
            file.write(json.dumps(asdict(verdict)) + "\n")
            self.verdicts[verdict.number] = verdict
            if verdict.where:
                self._keep_file(verdict)
            if len(self.verdicts) % 1000 == 0:
                print(f"{len(self.verdicts)} files", file=sys.stderr)

    def _keep_file(self, verdict: Verdict) -> None:
        title = f"{verdict.kind} {verdict.outcome} {verdict.where}".strip()
        folder = self.folder / FAULTS_FOLDER / "".join(letter if letter.isalnum() else "_" for letter in title)[:120]
        if folder.exists() and len(list(folder.iterdir())) >= KEPT_FILES:
            return
        place = folder / str(verdict.number)
        place.mkdir(parents=True, exist_ok=True)
        for name, content in make_file(self.settings.seed, verdict.number, self.settings.kinds).files.items():
            (place / name).write_bytes(content)
        options = f"--seed {self.settings.seed} --kinds {' '.join(self.settings.kinds)}"
        command = f"python benchmarks/fuzz.py one {verdict.number} {options}"
        (place / "fault.txt").write_text(f"{title}\n{command}\n\n{verdict.text}\n")
        print(f"{title}: {place}", flush=True)


class WorkerProcess:
    """A worker process, seen from outside.

    Args:
        folder: of the worker. What is in it is deleted.
        settings: of the run.
        command: what Python runs as the worker.
    """

    def __init__(self, folder: Path, settings: Settings, command: Sequence[str] = WORKER) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._folder, self._settings = folder, settings
        limits = [str(settings.seed), ",".join(settings.kinds), str(settings.max_seconds), str(settings.max_mib)]
        process = subprocess.Popen(
            [sys.executable, *command, str(folder.absolute()), *limits],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[1],
            env=os.environ | ENVIRONMENT, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._numbers, self._verdicts = process, process.stdin, process.stdout
        if self._verdicts.readline() != READY:
            raise SystemExit(f"a worker does not start: {process.communicate()[1].decode()}{self._read(ERRORS)}")

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *reason: object) -> None:
        """End the worker and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(BrokenPipeError), self._process:  # closes the pipes, and waits
            pass
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def is_alive(self) -> bool:
        """Whether the worker can take another file."""
        return self._process.poll() is None

    def ask(self, question: str, stop: threading.Event, patience_s: float) -> Verdict | None:
        """Let the worker check a file. Return the verdict, also if the worker dies; None if `stop` is set meanwhile."""
        with suppress(BrokenPipeError):
            self._numbers.write(f"{question}\n".encode())
            self._numbers.flush()
        end = time.monotonic() + patience_s
        while not select([self._verdicts], [], [], _LOOK_EVERY_S)[0]:
            if stop.is_set():
                return None
            if time.monotonic() > end:
                self._process.kill()
                return self._explain_death(int(question.split()[0]), "waits for ever")
        line = self._verdicts.readline()
        return Verdict(**json.loads(line)) if line.endswith(b"\n") else self._explain_death(int(question.split()[0]))

    def _explain_death(self, number: int, cause: str = "") -> Verdict:
        code = self._process.wait()
        cause = cause or (signal.Signals(-code).name if code < 0 else f"exit {code}")
        log = self._read(LOG)
        places = re.findall(r'File "[^"]*/(?:trinas|app|trinas_app)/([\w/]+)\.py", line \d+ in (\w+)', log)
        where = f"{cause} in {places[0][0]}: {places[0][1]}" if places else cause
        kind = make_file(self._settings.seed, number, self._settings.kinds).kind
        outcome = "time" if cause in ("SIGPROF", "waits for ever") else "crash"
        return Verdict(number, kind, outcome, where, log + self._read(ERRORS))

    def _read(self, name: str) -> str:
        path = self._folder / name
        return path.read_text(errors="replace") if path.exists() else ""
