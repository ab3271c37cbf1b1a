"""What a search tells as it goes, and the file that keeps it."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trinas.errors import RunError
from trinas.files import write_atomically

STAGES = ("warm-up", "search", "fine-tune")

EVENTS_FILE = "events.jsonl"


@dataclass(frozen=True)
class SearchStarted:
    """A search begins: what it chooses from, and what the network may cost."""

    space: dict[str, Any]  # the arguments of a SearchSpace
    budgets: dict[str, float]
    started_from: str  # name of a pretrained supernet, or noise


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
    seconds_left: float  # of the run where it was given time, else of this stage; NaN while unknown
    mixtures: dict[str, Any] | None = None  # of a validated step of the supernet: `Mixtures` as nested lists


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


Event = SearchStarted | StageStarted | Progress | ArchitectureChosen | Finished


def stage_steps(events: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Steps of each stage that has begun; a fine-tuning that would miss its time may have been given fewer meanwhile.

    Args:
        events: the lines of events.jsonl.
    """
    return {event["stage"]: event["steps"] for event in events if "steps" in event}


class EventLog:
    """Hands events on, and writes all but unvalidated progress to a file, a JSON object a line.

    Attributes:
        count: lines that are written.
    """

    def __init__(self, path: Path, on_event: Callable[[Event], None], count: int) -> None:
        """
        Args:
            count: lines of an earlier part of the run that hold; what came after them will be told again.
        Raises:
            RunError: the file cannot be read or written.
        """
        self._path, self._on_event, self.count = path, on_event, count
        if count or path.exists():
            try:
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:count]
                write_atomically(path, "".join(lines).encode())
            except OSError as error:
                raise RunError(f"{path}: cannot be read and written ({error.strerror})") from None

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Progress) or event.validated:
            fields = {name: _plain(value) for name, value in asdict(event).items()}
            line = json.dumps({"event": type(event).__name__, **fields}) + "\n"
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as error:
                raise RunError(f"{self._path}: cannot be written ({error.strerror}); resume once it can") from None
            self.count += 1
        self._on_event(event)


def _plain(value: object) -> object:
    """JSON has no word for what is not a number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
