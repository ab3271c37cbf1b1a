"""Run searches in processes of their own, one at a time. The run folder is the state, so a search survives the page."""

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
from trinas.files import translate_os_errors
from trinas.reports.pages import PAGE_FILE
from trinas.search.record import EVENTS_FILE, STAGES, Event, Finished, SearchProgress, count_stage_steps, read_story
from trinas.search.run import SEARCH_STATE_FILE
from trinas.zoo.record import CONFIG_FILE

from ..words import format_duration, format_psnr

STOPPED = 130
"""Exit code of a search that was asked to stop and saved its state."""


@dataclass(frozen=True)
class SearchStatus:
    """How far a search has come."""

    run_dir: Path
    state: str
    """running, stopping, stopped (can be resumed), failed or finished."""
    events: list[Event]
    """The events so far, as in events.jsonl."""
    event_age_s: float
    """Seconds since the last event."""
    complaint: str
    """Why it failed, if it failed."""

    @property
    def line(self) -> str:
        """The status in one line for visitors."""
        steps = count_stage_steps(self.events)
        match self.state:
            case "failed":
                return f"It failed: {self.complaint}"
            case "stopped":
                return "Stopped, and saved. It can be resumed."
            case "stopping":
                return "Stopping after this step, with the state saved."
            case "finished":
                end = self.events[-1]
                assert isinstance(end, Finished)
                return (
                    f"Finished after {format_duration(end.seconds)}: PSNR {format_psnr(end.psnr)} on held-out images."
                )
        if not steps:
            return "Getting ready: reading the images, and measuring times if there is a budget of time."
        stage = STAGES[len(steps) - 1]
        text = f"Stage {len(steps)} of {len(STAGES)}: {stage}, {steps[stage]:,} steps"
        progress = [event for event in self.events if isinstance(event, SearchProgress)]
        if progress and not isnan(progress[-1].seconds_left):
            left = max(0.0, progress[-1].seconds_left - self.event_age_s)
            text += f"; about {format_duration(left)} left"
        return f"{text}."


class Searches:
    """Starts, stops, resumes and watches the searches of a folder. The page shows the latest one."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.folder = folder
        self.device = device
        self._process: subprocess.Popen[bytes] | None = None
        self._run_dir = self._latest()
        self._asked_to_stop = False
        self._lock = threading.Lock()

    @property
    def is_running(self) -> bool:
        """Whether the process of a search runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, budgets: Budgets, scale: int, minutes: float, images: Sequence[Path]) -> Path:
        """Start a search and return its run folder. The images are copied, so that the search can be resumed.

        Args:
            budgets: what the network may cost.
            scale: output pixels per input pixel.
            minutes: time for search and training together.
            images: files to learn from. If there are none, images are generated.
        Raises:
            RunError: a search is running already, or the folder cannot be written.
        """
        words = [f"x{scale}", *(f"{value:g}-{name}" for name, value in budgets.given().items())]
        with self._lock:
            self._refuse_second()
            with translate_os_errors(RunError, self.folder, "written"):
                self.folder.mkdir(parents=True, exist_ok=True)
                run_dir = self._find_free("-".join(words))
                if images:
                    _copy_images(images, _locate_data(run_dir))
            options = [
                "-s", str(scale), "--minutes", str(minutes), "--device", self.device, "--output", str(run_dir)
            ]  # fmt: skip
            names = {"params": "--max-params", "macs": "--max-macs", "ms_per_mp": "--max-ms-per-mp"}
            for name, value in budgets.given().items():
                options += [names[name], f"{value:.12g}"]
            self._run(run_dir, options)
        return run_dir

    def resume(self) -> None:
        """Resume the latest search.

        Raises:
            RunError: there is no search, or one is running already.
        """
        with self._lock:
            self._refuse_second()
            if self._run_dir is None:
                raise RunError("there is no search to resume")
            self._run(self._run_dir, ["--resume", str(self._run_dir)])

    def stop(self) -> None:
        """Ask the running search to save its state and end. It is asked only once, since a second signal kills it."""
        if self.is_running and not self._asked_to_stop:
            assert self._process is not None
            self._asked_to_stop = True
            self._process.send_signal(signal.SIGTERM)

    def close(self, timeout: float = 60) -> None:
        """Stop the running search, and wait until its state is saved, at most `timeout` seconds."""
        self.stop()
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def status(self) -> SearchStatus | None:
        """Return the status of the latest search; None if there is no search."""
        if self._run_dir is None:
            return None
        events_file = self._run_dir / EVENTS_FILE
        events: list[Event] = []
        age, damage = 0.0, ""
        try:
            if events_file.exists():
                events = read_story(self._run_dir)
                age = time.time() - events_file.stat().st_mtime
        except (RunError, OSError) as error:  # the page must go on, also for visitors who do not search
            damage = str(error)
        state = "failed" if damage and not self.is_running else self._state(events)
        return SearchStatus(self._run_dir, state, events, age, damage or self._complaint())

    def _state(self, events: list[Event]) -> str:
        assert self._run_dir is not None
        if self.is_running:
            return "stopping" if self._asked_to_stop else "running"
        # A search that was killed before it wrote its page can be resumed, which writes the page.
        files = (self._run_dir / CONFIG_FILE, self._run_dir / PAGE_FILE)
        if events and isinstance(events[-1], Finished) and all(file.is_file() for file in files):
            return "finished"
        code = STOPPED if self._process is None else self._process.returncode
        resumable = (self._run_dir / SEARCH_STATE_FILE).is_file()
        return "stopped" if resumable and (code == STOPPED or self._asked_to_stop) else "failed"

    def _complaint(self) -> str:
        """Return the last line that the process wrote."""
        assert self._run_dir is not None
        if self._asked_to_stop:
            return "it was stopped before it had begun; start it again"
        log = _locate_log(self._run_dir)
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        written = [line.strip() for line in lines if line.strip()]
        return written[-1].removeprefix("error: ") if written else "it ended without a message"

    def _run(self, run_dir: Path, options: list[str]) -> None:
        data = _locate_data(run_dir)
        command = [sys.executable, "-m", (__package__ or "app").partition(".")[0], "search", *options]
        if data.is_dir():
            command += ["--data", str(data)]
        # One core is left for visitors who upscale images, because threads that share a core are very slow.
        threads = str(max(1, (os.cpu_count() or 2) - 1))
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": path}
        with _locate_log(run_dir).open("ab") as log:
            log.write(f"{shlex.join(command)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        self._run_dir, self._asked_to_stop = run_dir, False

    def _refuse_second(self) -> None:
        if self.is_running:
            raise RunError("a search is running already; there is one at a time")

    def _find_free(self, name: str) -> Path:
        """Return a run folder that does not exist, and whose name no earlier search had."""
        numbers = range(1, 1_000_000)
        paths = (self.folder / (name if number == 1 else f"{name}-{number}") for number in numbers)
        return next(path for path in paths if not path.exists() and not _locate_log(path).exists())

    def _latest(self) -> Path | None:
        """Return the run folder with the newest event."""
        files = sorted(self.folder.glob(f"*/{EVENTS_FILE}"), key=lambda path: path.stat().st_mtime)
        return files[-1].parent if files else None


def _locate_data(run_dir: Path) -> Path:
    """Return the folder of the images that were uploaded for a search."""
    return run_dir.with_name(f"{run_dir.name}.photos")


def _copy_images(images: Sequence[Path], data: Path) -> None:
    """Copy image files into a new folder, all or none."""
    data.mkdir()
    try:
        for number, path in enumerate(images):
            shutil.copyfile(path, data / f"{number:04d}{path.suffix}")
    except OSError:
        shutil.rmtree(data, ignore_errors=True)
        raise


def _locate_log(run_dir: Path) -> Path:
    """Return the file of the process's output. It is beside the run folder, because the process makes that itself."""
    return run_dir.with_name(f"{run_dir.name}.log")
