"""What a search tells as it goes, and the file that keeps it."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trinas.errors import RunError

STAGES = ("warm-up", "search", "fine-tune")


@dataclass(frozen=True)
class StageStarted:
    """A stage begins; its number of steps is fixed from here on."""

    stage: str  # of STAGES
    steps: int


@dataclass(frozen=True)
class Progress:
    """Where a search stands."""

    stage: str  # of STAGES
    step: int
    steps: int  # of this stage
    t: float  # 0: mixtures are free, 1: every decision is taken
    loss: float  # of the latest step, as training reports it
    psnr: float  # last validation, dB on Y: of the mixture, then of the network; NaN before the first
    validated: bool  # whether this step was validated
    costs: dict[str, float]  # expected, by name
    budgets: dict[str, float]
    steps_per_second: float
    seconds_left: float  # of this stage


@dataclass(frozen=True)
class ArchitectureChosen:
    """Every decision is taken and meets the budgets; fine-tuning follows."""

    spec: dict[str, Any]
    costs: dict[str, float]


@dataclass(frozen=True)
class Finished:
    """The run folder holds a trained model."""

    psnr: float  # best validation, dB on Y
    costs: dict[str, float]
    seconds: float


Event = StageStarted | Progress | ArchitectureChosen | Finished


class EventLog:
    """Hands events on, and writes all but unvalidated progress to a file, a JSON object a line."""

    def __init__(self, path: Path, on_event: Callable[[Event], None]) -> None:
        self._path, self._on_event = path, on_event

    def rewind(self, stage: int, step: int) -> None:
        """Drop what a run that goes on from here will tell again.

        Raises:
            RunError: the file cannot be written.
        """
        if not self._path.exists():
            return
        kept = [line for line in self._lines() if (line["at"][0], line["at"][1]) <= (stage, step)]
        self._write("".join(json.dumps(line) + "\n" for line in kept), "w")

    def __call__(self, event: Event, stage: int, step: int) -> None:
        """Tell of an event at a step of a stage (an index of STAGES)."""
        if not isinstance(event, Progress) or event.validated:
            fields = {name: _plain(value) for name, value in asdict(event).items()}
            line = {"event": type(event).__name__, "at": [stage, step], **fields}
            self._write(json.dumps(line) + "\n", "a")
        self._on_event(event)

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break  # the process ended while it wrote this line
        return lines

    def _write(self, text: str, mode: str) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise RunError(f"{self._path}: cannot be written ({error.strerror}); resume once it can") from None


def _plain(value: object) -> object:
    """JSON has no word for what is not a number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
