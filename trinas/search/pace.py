"""How many steps each stage of a search has, and how fast its optimisers move."""

import copy
from collections.abc import Callable
from contextlib import nullcontext

from trinas.device import synchronize
from trinas.search.run import SEARCH, SearchRun, SearchSession
from trinas.timer import Timer

SHARES = (0.04, 0.11, 0.85)
"""Of all steps, or of the time, per stage."""

ARCH_RATE, ARCH_TRAVEL = 3e-4, 4.0
"""Adam's rate for architecture parameters, and the least that rate times steps is to be."""

WEIGHT_RATE, TUNING_RATE, MOST_TUNING_RATE = 0.024, 0.08, 5e-3
"""The optimiser's rate for the weights times the trunk width, in warm-up and search, and in fine-tuning: the more
channels an output is made of, the further a step moves it. At 32 channels a network came apart at 5e-3, which suits 16
(docs/LOG.md)."""

VALIDATIONS = 8
"""Per stage of the supernet."""

TIMED_STEPS = 9
"""Steps by which a stage's speed is judged, after a third as many that are not timed; a multiple of 3, as warm-up has
three kinds of steps."""


def count_steps(
    session: SearchSession, take_step: Callable[[SearchRun], object], validate: Callable[[], object]
) -> int:
    """Return the steps of the stage that begins: given, or as many as its share of the time holds.

    Args:
        take_step: takes one step of a run's present stage, at anneal 0.
        validate: validates once; the time for `VALIDATIONS` of them is left.
    """
    run = session.run
    if (given := find_given_steps(run, run.stage)) is not None:
        return given
    assert run.config.minutes is not None
    trial = copy.deepcopy(run)
    trial.counts.append(10**6)  # so long a stage that its rates hardly move anything
    timer, untimed = Timer(), TIMED_STEPS // 3
    for step in range(untimed + TIMED_STEPS):
        trial.step = step
        with timer if step >= untimed else nullcontext():
            take_step(trial)
            synchronize(run.learner.device)
    with Timer() as validation:
        validate()
    left = 60 * run.config.minutes * SHARES[run.stage] - VALIDATIONS * validation.seconds
    return max(1, int(left / timer.seconds_per_lap))


def find_given_steps(run: SearchRun, stage: int) -> int | None:
    """Return the steps of a stage where they are given, or its share of all; None where time is given."""
    steps = run.config.steps
    if steps is None or isinstance(steps, tuple):
        return steps and steps[stage]
    return max(1, round(SHARES[stage] * steps))


def estimate_seconds_left(session: SearchSession, of_stage: float) -> float:
    """Return the seconds left of the whole run where it was given time, but never less than this stage needs."""
    minutes = session.run.config.minutes
    return of_stage if minutes is None else max(of_stage, 60 * minutes - session.seconds)


def choose_weight_rate(run: SearchRun) -> float:
    """Return the rate for the weights in the search; in warm-up it rises to this."""
    return run.config.weight_rate or WEIGHT_RATE / run.space.trunk_width


def choose_arch_rate(run: SearchRun) -> float:
    """Return Adam's rate for the architecture parameters."""
    return run.config.arch_rate or max(ARCH_RATE, ARCH_TRAVEL / run.counts[SEARCH])


def choose_tuning_rate(trunk_width: int) -> float:
    """Return the peak rate for fine-tuning, and for training a network of this width for comparison."""
    return min(MOST_TUNING_RATE, TUNING_RATE / trunk_width)
