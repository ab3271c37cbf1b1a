"""How many steps each stage of a search has, and the rates of its optimisers."""

import copy
from collections.abc import Callable
from contextlib import nullcontext

from trinas.device import synchronize
from trinas.search.run import SEARCH, SearchRun, SearchSession
from trinas.timer import Timer

SHARES = (0.04, 0.11, 0.85)
"""The share of all steps, or of the time, that each stage gets."""

ARCH_RATE, ARCH_TRAVEL = 3e-4, 4.0
"""Adam's rate for the architecture parameters. It is higher in a short search, where rate times steps would otherwise
be less than `ARCH_TRAVEL`."""

WEIGHT_RATE, TUNING_RATE, MOST_TUNING_RATE = 0.024, 0.08, 5e-3
"""The optimiser's rate times the trunk width, in warm-up and search, and in fine-tuning; and the highest rate of
fine-tuning. A step moves an output further if the output sums more channels. At 32 channels a network diverged at 5e-3,
which suits 16 channels (docs/LOG.md)."""

VALIDATIONS = 8
"""Validations in warm-up, and in the search."""

TIMED_STEPS = 9
"""Steps that are timed to judge a stage's speed. A third as many come before them, untimed. It is a multiple of 3,
because warm-up has three kinds of steps."""


def count_steps(
    session: SearchSession, take_step: Callable[[SearchRun], object], validate: Callable[[], object]
) -> int:
    """Return how many steps the stage has that begins now: the given number, or as many as fit into its time.

    Args:
        session: of the search.
        take_step: takes one step of a run's present stage, at anneal 0.
        validate: validates once. The stage also needs the time of `VALIDATIONS` validations.
    """
    run = session.run
    if (given := find_given_steps(run, run.stage)) is not None:
        return given
    assert run.config.minutes is not None
    trial = copy.deepcopy(run)
    trial.counts.append(10**6)  # in so long a stage the rates are tiny, and nothing moves
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
    """Return the steps of a stage if the settings give steps; None if they give minutes."""
    steps = run.config.steps
    if steps is None or isinstance(steps, tuple):
        return steps and steps[stage]
    return max(1, round(SHARES[stage] * steps))


def estimate_seconds_left(session: SearchSession, of_stage: float) -> float:
    """Return the seconds left: of the whole run if its time is given, but at least those of this stage.

    Args:
        session: of the search.
        of_stage: seconds that this stage still needs.
    """
    minutes = session.run.config.minutes
    return of_stage if minutes is None else max(of_stage, 60 * minutes - session.seconds)


def choose_weight_rate(run: SearchRun) -> float:
    """Return the rate for the weights in the search. In warm-up the rate rises to this."""
    return run.config.weight_rate or WEIGHT_RATE / run.space.trunk_width


def choose_arch_rate(run: SearchRun) -> float:
    """Return Adam's rate for the architecture parameters."""
    return run.config.arch_rate or max(ARCH_RATE, ARCH_TRAVEL / run.counts[SEARCH])


def choose_tuning_rate(trunk_width: int) -> float:
    """Return the peak rate for fine-tuning, and for training a network of this width for comparison."""
    return min(MOST_TUNING_RATE, TUNING_RATE / trunk_width)
