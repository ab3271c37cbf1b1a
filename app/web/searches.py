"""One search at a time, in a process of its own: it survives page reloads, and its state is its run folder."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from trinas.config import Budgets
from trinas.errors import RunError
from trinas.reports.pages import PAGE_FILE
from trinas.search.record import EVENTS_FILE, STAGES, Event, Finished, SearchProgress, read_events, stage_steps
from trinas.search.run import SEARCH_STATE_FILE
from trinas.zoo.folder import CONFIG_FILE

STOPPED = 130
"""Exit code of a search that was asked to stop."""


@dataclass(frozen=True)
class SearchStatus:
    """Where a search stands."""

    run_dir: Path
    state: str
    """running, stopping, stopped (can be resumed), failed or finished."""
    events: list[Event]
    """What it told so far, as in events.jsonl."""
    told_ago: float
    """Seconds since it told the last of them."""
    complaint: str
    """Why it failed."""

    @property
    def line(self) -> str:
        """One line for people."""
        steps = stage_steps(self.events)
        match self.state:
            case "failed":
                return f"It failed: {self.complaint}"
            case "stopped":
                return "Stopped, and saved. It can go on where it was."
            case "stopping":
                return "Stopping after this step, with the state saved."
            case "finished":
                end = self.events[-1]
                assert isinstance(end, Finished)
                return f"Finished after {_minutes(end.seconds)}: PSNR {end.psnr:.2f} dB on held-out pictures."
        if not steps:
            return "Getting ready: reading the pictures, and measuring where time has a budget."
        stage = STAGES[len(steps) - 1]
        text = f"Stage {len(steps)} of {len(STAGES)}: {stage}, {steps[stage]:,} steps"
        told = [event for event in self.events if isinstance(event, SearchProgress)]
        if told and not isnan(told[-1].seconds_left):
            text += f"; about {_minutes(max(0.0, told[-1].seconds_left - self.told_ago))} left"
        return f"{text}."


class Searches:
    """Starts, stops, resumes and watches the searches of a folder; the latest one is the one that is shown."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.folder = folder
        self.device = device
        self._process: subprocess.Popen[bytes] | None = None
        self._run_dir = self._latest()
        self._asked_to_stop = False
        self._lock = threading.Lock()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, budgets: Budgets, scale: int, minutes: float, photographs: Sequence[Path]) -> Path:
        """Begin a search; the photographs are copied, so that it can be resumed.

        Returns:
            Its run folder.
        Raises:
            RunError: one is running, or the folder cannot be written.
        """
        words = [f"x{scale}", *(f"{value:g}-{name}" for name, value in budgets.given().items())]
        with self._lock:
            self._refuse_second()
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                run_dir = self._free("-".join(words))
                if photographs:
                    _copy(photographs, _data_dir(run_dir))
            except OSError as error:
                raise RunError(f"{self.folder}: cannot be written ({error.strerror})") from None
            options = [
                "-s", str(scale), "--minutes", str(minutes), "--device", self.device, "--output", str(run_dir)
            ]  # fmt: skip
            names = {"params": "--max-params", "macs": "--max-macs", "ms_per_mp": "--max-ms-per-mp"}
            for name, value in budgets.given().items():
                options += [names[name], f"{value:.12g}"]
            self._run(run_dir, options)
        return run_dir

    def resume(self) -> None:
        """Go on with the search that was stopped.

        Raises:
            RunError: there is none, or one is running.
        """
        with self._lock:
            self._refuse_second()
            if self._run_dir is None:
                raise RunError("there is no search to go on with")
            self._run(self._run_dir, ["--resume", str(self._run_dir)])

    def stop(self) -> None:
        """Ask the running search to save its state and end; once, as a second signal would end it at once."""
        if self.is_running and not self._asked_to_stop:
            assert self._process is not None
            self._asked_to_stop = True
            self._process.send_signal(signal.SIGTERM)

    def close(self, timeout: float = 60) -> None:
        """Stop, and wait until the state is saved."""
        self.stop()
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def status(self) -> SearchStatus | None:
        """Where the latest search stands; None if there never was one."""
        if self._run_dir is None:
            return None
        events_file = self._run_dir / EVENTS_FILE
        events: list[Event] = []
        ago = 0.0
        if events_file.exists():
            events = read_events(self._run_dir)
            ago = time.time() - events_file.stat().st_mtime
        return SearchStatus(self._run_dir, self._state(events), events, ago, self._complaint())

    def _state(self, events: list[Event]) -> str:
        assert self._run_dir is not None
        if self.is_running:
            return "stopping" if self._asked_to_stop else "running"
        files = (self._run_dir / CONFIG_FILE, self._run_dir / PAGE_FILE)  # killed before the page: resuming writes it
        if events and isinstance(events[-1], Finished) and all(file.is_file() for file in files):
            return "finished"
        code = STOPPED if self._process is None else self._process.returncode
        resumable = (self._run_dir / SEARCH_STATE_FILE).is_file()
        return "stopped" if resumable and (code == STOPPED or self._asked_to_stop) else "failed"

    def _complaint(self) -> str:
        """The last line that the process said."""
        assert self._run_dir is not None
        if self._asked_to_stop:
            return "it was stopped before it had begun; start it anew"
        log = _log_file(self._run_dir)
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        said = [line.strip() for line in lines if line.strip()]
        return said[-1].removeprefix("error: ") if said else "it ended without a word"

    def _run(self, run_dir: Path, options: list[str]) -> None:
        data = _data_dir(run_dir)
        command = [sys.executable, "-m", (__package__ or "app").partition(".")[0], "search", *options]
        if data.is_dir():
            command += ["--data", str(data)]
        # One core is left for those who enlarge pictures meanwhile: threads that have to share one crawl.
        threads = str(max(1, (os.cpu_count() or 2) - 1))
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": path}
        with _log_file(run_dir).open("ab") as log:
            log.write(f"{shlex.join(command)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        self._run_dir, self._asked_to_stop = run_dir, False

    def _refuse_second(self) -> None:
        if self.is_running:
            raise RunError("a search is running already; there is one at a time")

    def _free(self, name: str) -> Path:
        """A run folder that does not exist, nor ever did."""
        numbers = range(1, 1_000_000)
        paths = (self.folder / (name if number == 1 else f"{name}-{number}") for number in numbers)
        return next(path for path in paths if not path.exists() and not _log_file(path).exists())

    def _latest(self) -> Path | None:
        """The run folder whose search told something last."""
        told = sorted(self.folder.glob(f"*/{EVENTS_FILE}"), key=lambda path: path.stat().st_mtime)
        return told[-1].parent if told else None


def _data_dir(run_dir: Path) -> Path:
    """Photographs that were uploaded for a search."""
    return run_dir.with_name(f"{run_dir.name}.photos")


def _copy(photographs: Sequence[Path], data: Path) -> None:
    """Copy photographs into a new folder, all or none."""
    data.mkdir()
    try:
        for number, photo in enumerate(photographs):
            shutil.copyfile(photo, data / f"{number:04d}{photo.suffix}")
    except OSError:
        shutil.rmtree(data, ignore_errors=True)
        raise


def _log_file(run_dir: Path) -> Path:
    """What the process said; beside the run folder, which it makes itself."""
    return run_dir.with_name(f"{run_dir.name}.log")


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
