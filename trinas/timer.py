"""Measure how long something takes."""

import time
from collections.abc import Callable
from types import TracebackType


class Timer:
    """Adds up the time that is spent inside `with timer:` blocks.

    Attributes:
        seconds: total time of all finished blocks, by the wall clock.
        laps: number of finished blocks.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.laps = 0
        self._started = 0.0

    def __enter__(self) -> "Timer":
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._started
        self.laps += 1

    @property
    def seconds_per_lap(self) -> float:
        """Mean time of a block. At least one block must be finished."""
        return self.seconds / self.laps


def time_fastest(function: Callable[[], object], repeats: int) -> float:
    """Run a function several times and return the seconds of the fastest run.

    The fastest run is the one that other work on the machine disturbed least.

    Args:
        function: the work to time. It must wait until its work is done; on a GPU, call `device.synchronize`.
        repeats: at least 1.
    """
    seconds = []
    for _ in range(repeats):
        with Timer() as timer:
            function()
        seconds.append(timer.seconds)
    return min(seconds)
