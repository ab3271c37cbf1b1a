"""Bring a choice within its budgets, then use what they leave."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

from trinas.config import Budgets
from trinas.errors import BudgetError
from trinas.networks.latency import measure_spec_ms_per_mp
from trinas.networks.space import Choice, SearchSpace
from trinas.search.budgets import CostModel, find_cheapest_choice, find_smallest_choice, format_cost
from trinas.search.run import SearchRun, SearchSession
from trinas.training.data import Patches

FULL = 0.9
"""A network stops growing at this share of the tightest budget."""

MOST_SHRINKS = 5
"""How many times a network is made smaller that takes longer than the sum of its parts."""

Loss = Callable[[Choice], float]
Allows = Callable[[Choice, Choice], bool]


def allow_every_change(choice: Choice, change: Choice) -> bool:
    """Return True, so that every decision may change."""
    return True


def choose_within_budgets(session: SearchSession, patches: Patches) -> Choice:
    """Bring the leading choice within the budgets. With a budget of time, the whole network is timed.

    Changes are judged by their loss on one fixed batch.

    Args:
        session: of the search.
        patches: the images of the architecture parameters.
    Raises:
        BudgetError: the network's time cannot be brought below the budget.
    """
    run, learner, budgets = session.run, session.run.learner, session.run.config.budgets
    batch = patches.batch(run.config.seed, sum(run.counts), run.config.batch_size)
    loss = lru_cache(maxsize=None)(lambda choice: learner.choice_loss(batch, choice))
    too_slow = ""
    for attempt in range(MOST_SHRINKS + 1):
        try:
            choice = fit_choice(learner.supernet.choice(), loss, learner.costs, budgets, learner.allows)
        except BudgetError:
            if not too_slow:
                raise
            break  # by the measured times, even the smallest network is too slow
        if budgets.ms_per_mp is None:
            return choice
        slowdown = _measure_slowdown(run, choice, attempt, budgets.ms_per_mp)
        if slowdown is None:
            return choice
        measured = slowdown * learner.costs.exact(choice)["ms_per_mp"]
        too_slow = f"takes {measured:.1f} ms per megapixel of output, the budget is {budgets.ms_per_mp:g}"
        learner.costs = learner.costs.rescaled(slowdown)
        if not run.repeats:
            run.times = run.times.model_copy(update={"slowdowns": (*run.times.slowdowns, slowdown)})
    raise BudgetError(
        f"{session.run_dir}: the network {too_slow}, and no smaller one was found that keeps within it; is something "
        "else running on this machine?"
    )


def _measure_slowdown(run: SearchRun, choice: Choice, attempt: int, limit: float) -> float | None:
    """Return measured time over expected time of a network that is too slow; None if it is fast enough."""
    if run.repeats:
        known = run.times.slowdowns
        return known[attempt] if attempt < len(known) else None
    measured = measure_spec_ms_per_mp(run.space.spec(choice), run.learner.device, run.running_precision)
    return measured / run.learner.costs.exact(choice)["ms_per_mp"] if measured > limit else None


def fit_choice(
    choice: Choice, loss: Loss, model: CostModel, budgets: Budgets, allows: Allows = allow_every_change
) -> Choice:
    """Bring a choice within its budgets by the least harmful changes, then spend what is left on the most helpful ones.

    One decision changes at a time; a width changes to the next candidate. To shrink, the change is taken that raises
    the loss least per unit of log(cost). To grow, the change is taken that lowers it most. Changes that cost nothing
    and lower the loss come first. Call `check_possible` before.

    Args:
        choice: where to start.
        loss: returns the loss of the supernet at a choice.
        model: the costs.
        budgets: what the choice may cost.
        allows: returns whether a first choice may change to a second one.
    Returns:
        A choice that meets every budget.
    Raises:
        BudgetError: none was found. This can only happen with several budgets, or with measured times.
    """
    return _grow(_shrink(choice, loss, model, budgets, allows), loss, model, budgets, allows)


def _shrink(choice: Choice, loss: Loss, model: CostModel, budgets: Budgets, allows: Allows) -> Choice:
    """Change one decision after another until every budget is met."""

    def excess(tried: Choice) -> float:
        costs = model.exact(tried)
        return sum(max(0.0, math.log(costs[name] / limit)) for name, limit in budgets.given().items())

    while (over := excess(choice)) > 0:
        savings = [(over - excess(change), change) for change in _list_allowed_changes(choice, model.space, allows)]
        now, useful = loss(choice), [(saved, change) for saved, change in savings if saved > 0]
        if not useful:
            return _find_last_resort(model, budgets)
        choice = min(useful, key=lambda entry: (loss(entry[1]) - now) / entry[0])[1]
    return choice


def _grow(choice: Choice, loss: Loss, model: CostModel, budgets: Budgets, allows: Allows) -> Choice:
    """Change one decision after another until the tightest budget is nearly used, or nothing more fits."""

    def fullness(tried: Choice) -> float:
        costs = model.exact(tried)
        return max(costs[name] / limit for name, limit in budgets.given().items())

    while True:
        full, now = fullness(choice), loss(choice)
        growths = [(fullness(change) / full, change) for change in _list_allowed_changes(choice, model.space, allows)]
        # Changes that cost nothing come first. The next channels of a `skip` are free, for example.
        free = [change for growth, change in growths if growth == 1 and loss(change) < now]
        if free:
            choice = min(free, key=loss)
            continue
        fitting = [(math.log(growth), change) for growth, change in growths if growth > 1 and growth * full <= 1]
        if full >= FULL or not fitting:
            return choice
        choice = min(fitting, key=lambda entry: (loss(entry[1]) - now) / entry[0])[1]


def _find_last_resort(model: CostModel, budgets: Budgets) -> Choice:
    """Return the smallest or a cheapest choice, for the case that no single change saves anything.

    This can happen with measured times, which may not fall with width.

    Raises:
        BudgetError: none of them meets the budgets.
    """
    limits = budgets.given()
    for choice in (find_smallest_choice(model.space), *(find_cheapest_choice(model, name) for name in limits)):
        if all(model.exact(choice)[name] <= limit for name, limit in limits.items()):
            return choice
    listed = ", ".join(format_cost(name, limit) for name, limit in limits.items())
    raise BudgetError(f"no network of the space {model.space.name} was found that has at most {listed}")


def _list_allowed_changes(choice: Choice, space: SearchSpace, allows: Allows) -> Iterator[Choice]:
    return (change for change in _list_changes(choice, space) if allows(choice, change))


def _list_changes(choice: Choice, space: SearchSpace) -> Iterator[Choice]:
    """Yield every choice that differs in one decision on its path. A width changes to a neighbouring candidate."""
    for node in space.candidates:
        if node != choice.node:
            yield replace(choice, node=node)
    rows = [space.row_of(index) for index in space.path_to(choice.node) if space.nodes[index].step is None]
    for row in rows:
        for slot, current in enumerate(choice.primitives[row]):
            for candidate in range(len(space.primitives)):
                if candidate != current:
                    yield replace(choice, primitives=_replace_entry(choice.primitives, row, slot, candidate))
        for slot, current in enumerate(choice.widths[row]):
            for candidate in (current - 1, current + 1):
                if 0 <= candidate < len(space.widths):
                    yield replace(choice, widths=_replace_entry(choice.widths, row, slot, candidate))


def _replace_entry(rows: tuple[tuple[int, ...], ...], row: int, slot: int, value: int) -> tuple[tuple[int, ...], ...]:
    changed = (*rows[row][:slot], value, *rows[row][slot + 1 :])
    return (*rows[:row], changed, *rows[row + 1 :])
