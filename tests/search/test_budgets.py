import dataclasses
import math
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trinas.config import Budgets
from trinas.errors import BudgetError, SpecError
from trinas.networks.cost import compute_cost
from trinas.networks.space import SPACES, SearchSpace
from trinas.search.budgets import (
    ROOM,
    BudgetController,
    CostModel,
    check_possible,
    find_cheapest_choice,
    find_largest_choice,
    find_smallest_choice,
    space_for,
)
from trinas.search.fit import fit_choice
from trinas.search.supernet import Supernet


def random_parameters(space, seed):
    generator = torch.Generator().manual_seed(seed)
    cells, slots = len(space.cell_nodes), space.slots
    shapes = (len(space.candidates),), (cells, slots, len(space.primitives)), (cells, slots - 1, len(space.widths))
    return [torch.randn(shape, generator=generator) for shape in shapes]


def some_loss(choice):
    """Any number that depends on the choice alone."""
    return zlib.crc32(repr(choice).encode()) / 2**32


def made_up_slot_ms(space, seed):
    """Times that grow with widths but not in step with multiply-adds, as real ones do."""
    generator = torch.Generator().manual_seed(seed)
    widths = torch.tensor(space.widths, dtype=torch.float64)
    per_primitive = torch.rand(len(space.primitives), 1, 1, generator=generator, dtype=torch.float64)
    return 100 * per_primitive * (widths[:, None] + widths) * (0.8 + 0.4 * torch.rand(
        len(space.primitives), len(widths), len(widths), generator=generator, dtype=torch.float64
    ))  # fmt: skip


@st.composite
def tasks(draw):
    """A space, a seed, and budgets anywhere between its smallest and beyond its largest network."""
    cells = draw(st.integers(1, 3))
    searched = draw(st.integers(0, cells - 1))
    name, scale = draw(st.sampled_from(sorted(SPACES))), draw(st.sampled_from([2, 3, 4]))
    space = SearchSpace(name, scale, draw(st.sampled_from([8, 20, 32])), cells, draw(st.integers(1, 3)), searched)
    model = CostModel(space, made_up_slot_ms(space, draw(st.integers(0, 99))), base_ms=1.0)
    smallest, largest = model.exact(find_smallest_choice(space)), model.exact(find_largest_choice(space))
    names = draw(st.sets(st.sampled_from(["params", "macs", "ms_per_mp"]), min_size=1))
    limits = {
        name: smallest[name] + draw(st.floats(0, 1.4)) * abs(largest[name] - smallest[name]) for name in sorted(names)
    }
    return space, model, Budgets(**limits), draw(st.integers(0, 999))


@given(tasks())
def test_no_derived_network_exceeds_a_budget(task):
    space, model, budgets, seed = task
    supernet = Supernet(space)
    with torch.no_grad():
        for parameter, values in zip(supernet.arch_parameters(), random_parameters(space, seed), strict=True):
            parameter.copy_(values)
    choice = fit_choice(supernet.choice(), some_loss, model, budgets)
    supernet.choose(choice)
    network = supernet.derive(supernet.choice())
    costs = {**dataclasses.asdict(compute_cost(network.spec)), "ms_per_mp": model.exact(choice)["ms_per_mp"]}
    assert costs["params"] == sum(parameter.numel() for parameter in network.parameters())
    for name, limit in budgets.given().items():
        assert costs[name] <= limit * (1 + 1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("limit", [5e3, 20e3, 50e3, 123_456, 500e3, 1.5e6])
def test_a_network_of_the_edge_space_uses_its_budget(scale, limit):
    budgets = Budgets(params=limit)
    space = space_for("edge", scale, budgets, ms_per_mp=lambda spec: 0.0)
    model = CostModel(space)
    for seed in range(3):
        supernet = Supernet(space)
        for parameter, values in zip(supernet.arch_parameters(), random_parameters(space, seed), strict=True):
            parameter.data.copy_(values)
        choice = fit_choice(supernet.choice(), some_loss, model, budgets)
        assert 0.7 * budgets.params <= compute_cost(space.spec(choice)).params <= budgets.params


@given(tasks(), st.sampled_from(["params", "macs", "ms_per_mp"]))
def test_nothing_is_cheaper_than_the_cheapest(task, name):
    space, model, _, seed = task
    least = model.exact(find_cheapest_choice(model, name))[name]
    assert least <= model.exact(find_smallest_choice(space))[name]
    supernet = Supernet(space)
    for parameter, values in zip(supernet.arch_parameters(), random_parameters(space, seed), strict=True):
        parameter.data.copy_(values)
    assert least <= model.exact(supernet.choice())[name]


def test_the_cheapest_in_time_need_not_be_the_smallest():
    """Padding costs time: where narrow slots are slow, wide ones are the cheapest."""
    space = SearchSpace("edge-all", 4, 16, 1, 2, 0)
    slot_ms = torch.full((len(space.primitives), 3, 3), 9.0, dtype=torch.float64)
    slot_ms[0, 2, 2] = 1.0
    model = CostModel(space, slot_ms, base_ms=1.0)
    assert find_cheapest_choice(model, "ms_per_mp").widths == ((2,),)
    budgets = Budgets(ms_per_mp=model.exact(find_cheapest_choice(model, "ms_per_mp"))["ms_per_mp"])
    check_possible(model, budgets)
    choice = fit_choice(find_smallest_choice(space), some_loss, model, budgets)
    assert model.exact(choice)["ms_per_mp"] <= budgets.ms_per_mp


def test_an_impossible_budget_names_the_smallest_network():
    space = SearchSpace("edge-all", 4, 16, 2, 3, 1)
    smallest = compute_cost(space.spec(find_smallest_choice(space)))
    with pytest.raises(BudgetError, match=rf"at most 5,000 parameters: the smallest has {smallest.params:,}"):
        check_possible(CostModel(space), Budgets(params=5000))
    check_possible(CostModel(space), Budgets(params=smallest.params, macs=smallest.macs))


def test_the_controller_s_target_goes_from_the_supernet_s_cost_to_the_budget():
    controller = BudgetController(Budgets(params=100), start=math.log(4))
    assert controller.target(0) == math.log(4)
    assert math.log(4) > controller.target(0.2) > controller.target(0.4) == controller.target(1)
    assert math.log(0.9) < controller.target(1) < 0


def as_costs(params):
    return {"params": torch.tensor(params, dtype=torch.float64, requires_grad=True)}


@pytest.mark.parametrize(("cost", "sign"), [(400.0, 1), (10.0, -1)])
def test_the_controller_presses_ever_harder_towards_its_target(cost, sign):
    controller = BudgetController(Budgets(params=100), start=0.0)
    costs = as_costs(cost)
    pressures = []
    for _ in range(5):
        (pressure,) = torch.autograd.grad(controller.penalty(costs, costs, 0.5), costs["params"])
        pressures.append(sign * float(pressure))
    assert 0 < pressures[0] < pressures[1] < pressures[2] < pressures[3] < pressures[4]


def test_the_penalty_is_a_sum_over_time_and_a_share_of_the_present_excess():
    controller = BudgetController(Budgets(params=100), start=0.0)
    excesses = [math.log(cost / 100) - controller.target(0.5) for cost in (150.0, 120.0, 80.0)]
    for number, cost in enumerate((150.0, 120.0, 80.0)):
        penalty = float(controller.penalty(as_costs(cost), as_costs(cost), 0.5).detach())
        assert controller.multiplier == pytest.approx(0.003 * sum(excesses[: number + 1]))
        assert penalty == pytest.approx((controller.multiplier + 0.1 * excesses[number]) * math.log(cost / 100))


@pytest.mark.parametrize(("cost", "anneal", "sign"), [(400.0, 0.0, 0), (120.0, 0.0, -1), (120.0, 1.0, 1)])
def test_the_controller_presses_towards_the_target_of_the_present_anneal(cost, anneal, sign):
    """A supernet costs four times the budget at first, and that is no excess yet; in the end a fifth above is."""
    controller = BudgetController(Budgets(params=100), start=math.log(4))
    controller.penalty(as_costs(cost), as_costs(cost), anneal)
    assert round(controller.multiplier, 9) * sign > 0 if sign else controller.multiplier == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("anneal", "sign"), [(0.0, -1), (1.0, 1)])
def test_the_leading_candidates_count_the_more_the_fewer_decisions_are_left(anneal, sign):
    """At first the mixture's cost counts, here below the target; in the end the leading candidates', here above it."""
    controller = BudgetController(Budgets(params=100), start=0.0)
    controller.penalty(as_costs(50.0), as_costs(200.0), anneal)
    assert controller.multiplier * sign > 0


def test_only_the_tightest_budget_presses():
    controller = BudgetController(Budgets(params=100, macs=1000), start=0.0)
    costs = {name: torch.tensor(cost, requires_grad=True) for name, cost in (("params", 90.0), ("macs", 2000.0))}
    controller.penalty(costs, costs, 1).backward()
    assert costs["macs"].grad > 0
    assert costs["params"].grad == 0


def test_the_space_suits_the_tightest_budget():
    small = space_for("edge", 4, Budgets(params=50e3, macs=1e12), ms_per_mp=lambda spec: 0.0)
    assert compute_cost(small.spec(find_largest_choice(small))).params >= ROOM * 50e3
    tighter = space_for("edge", 4, Budgets(params=50e3, macs=1e9), ms_per_mp=lambda spec: 0.0)
    assert compute_cost(tighter.spec(find_largest_choice(tighter))).macs >= ROOM * 1e9
    assert tighter.trunk_width < small.trunk_width
    timed = space_for("edge", 4, Budgets(params=50e3, ms_per_mp=100), ms_per_mp=lambda spec: spec.trunk_width)
    assert timed.trunk_width == small.trunk_width
    slow = space_for("edge", 4, Budgets(params=50e3, ms_per_mp=5), ms_per_mp=lambda spec: spec.trunk_width)
    assert slow.trunk_width == 8
    with pytest.raises(SpecError, match="no search space 'giant'; there are edge, edge-all, paper-a, paper-b"):
        space_for("giant", 4, Budgets(params=50e3), ms_per_mp=lambda spec: 0.0)


def test_where_time_has_a_budget_the_space_affords_the_most_parameters():
    """As where wide networks run in bf16: 16 channels are to have the same time as 32."""

    def ms_per_mp(spec):
        slots = sum(slot.primitive != "skip" for cell in spec.cells for slot in cell.slots)
        return 5 + slots * (8 if spec.trunk_width <= 32 else spec.trunk_width)

    assert space_for("edge", 4, Budgets(ms_per_mp=70), ms_per_mp).trunk_width == 32
    assert space_for("edge", 4, Budgets(ms_per_mp=30), ms_per_mp).trunk_width == 32, "too little for seven slots"
    assert space_for("edge", 4, Budgets(params=25e3, ms_per_mp=70), ms_per_mp).trunk_width == 16


@pytest.mark.parametrize("limits", [{}, {"params": 0}, {"macs": -1}, {"ms_per_mp": float("nan")}])
def test_budgets_must_be_some_and_positive(limits):
    with pytest.raises(ValueError, match="budget"):
        Budgets(**limits)
