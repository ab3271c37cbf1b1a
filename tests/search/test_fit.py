"""A choice is brought within its budgets, and uses what they leave."""

import zlib
from dataclasses import replace

import pytest

from trinas.config import Budgets
from trinas.networks.cost import compute_cost
from trinas.networks.space import SearchSpace
from trinas.search.budgets import CostModel, find_largest_choice
from trinas.search.fit import fit_choice


def some_loss(choice):
    """Any number that depends on the choice alone."""
    return zlib.crc32(repr(choice).encode()) / 2**32


def test_a_choice_within_its_budgets_and_near_them_stays():
    space = SearchSpace("edge-all", 4, 16, 2, 3, 1)
    choice = find_largest_choice(space)
    params = compute_cost(space.spec(choice)).params
    assert fit_choice(choice, some_loss, CostModel(space), Budgets(params=params)) == choice
    assert fit_choice(choice, some_loss, CostModel(space), Budgets(params=params / 0.95)) == choice


@pytest.mark.parametrize("loved", [0, 1])
def test_the_least_harmful_change_is_made(loved):
    """Of two equal slots the one whose change costs less quality gives way."""
    space = SearchSpace("edge-all", 4, 16, 1, 2, 0)
    choice, model = find_largest_choice(space), CostModel(space)
    residual = space.primitives.index("residual")

    def loss(tried):
        narrowed = 100 * (choice.widths[0][0] - tried.widths[0][0])
        return narrowed + sum((5 if slot == loved else 1) * (tried.primitives[0][slot] != residual) for slot in (0, 1))

    shrunk = fit_choice(choice, loss, model, Budgets(params=model.exact(choice)["params"] - 1))
    assert shrunk.widths == choice.widths
    assert [name == residual for name in shrunk.primitives[0]] == [slot == loved for slot in (0, 1)]


def test_room_that_is_left_goes_where_it_helps_most():
    """From the narrowest slot: widening it is worth more than anything else."""
    space = SearchSpace("edge-all", 4, 16, 1, 2, 0)
    conv = space.primitives.index("conv3x3")
    narrow = replace(find_largest_choice(space), primitives=((conv, conv),), widths=((0,),))
    wide = replace(narrow, widths=((2,),))
    model = CostModel(space)
    budgets = Budgets(params=model.exact(wide)["params"])
    fitted = fit_choice(narrow, lambda tried: -float(tried.widths[0][0]), model, budgets)
    assert fitted.primitives == narrow.primitives
    assert fitted.widths[0][0] >= 1


def test_what_costs_nothing_is_taken_where_it_helps():
    """A `skip` can hand on more channels for free, also where a budget is full."""
    space = SearchSpace("edge-all", 4, 16, 1, 3, 0)
    skip, conv = (space.primitives.index(name) for name in ("skip", "conv3x3"))
    narrow = replace(find_largest_choice(space), primitives=((conv, skip, skip),), widths=((1, 0),))
    model = CostModel(space)
    budgets = Budgets(params=model.exact(narrow)["params"])
    fitted = fit_choice(narrow, lambda tried: -float(tried.widths[0][1]), model, budgets)
    assert fitted == replace(narrow, widths=((1, 2),))


def test_only_changes_that_are_allowed_are_made():
    space = SearchSpace("edge-all", 4, 16, 2, 3, 1)
    choice, model = find_largest_choice(space), CostModel(space)
    budgets = Budgets(params=0.7 * model.exact(choice)["params"])

    def keeps_widths(old, new):
        return old.widths == new.widths

    fitted = fit_choice(choice, lambda tried: float(sum(map(sum, tried.widths))), model, budgets, keeps_widths)
    assert fitted.widths == choice.widths
    assert model.exact(fitted)["params"] <= budgets.params
