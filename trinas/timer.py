"""Measure how long something takes."""

import time
from collections.abc import Callable
from types import TracebackType


class Timer:
    """Add up the time spent inside `with timer:` blocks.

    Attributes:
        seconds: of all blocks that have ended, by the wall clock.
        laps: how many blocks have ended.
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
        """Mean time of a block; at least one must have ended."""
        return self.seconds / self.laps


def time_fastest(function: Callable[[], object], repeats: int) -> float:
    """Run `function` several times and return the seconds of the fastest run.

    The fastest run is the one that other work on the machine disturbed least.

    Args:
        function: what is timed. It must wait for its own work, as `device.synchronize` does.
        repeats: at least 1.
    """
    seconds = []
    for _ in range(repeats):
        with Timer() as timer:
            function()
        seconds.append(timer.seconds)
    return min(seconds)
