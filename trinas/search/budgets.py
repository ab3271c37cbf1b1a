"""Budgets: the costs of choices and mixtures, the space that suits a budget, and the controller that presses costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trinas.config import Budgets
from trinas.errors import BudgetError
from trinas.networks.cost import QUOTED_OUTPUT_PX, compute_cost
from trinas.networks.primitives import find_primitive
from trinas.networks.space import SPACES, ArchSpec, Choice, SearchSpace
from trinas.search.sparse import survival
from trinas.search.supernet import Mixtures

ANNEALED_BY = 0.4
"""The anneal at which the controller's target has come down to the budget."""

AIM = 0.96
"""Share of a budget that the controller aims at, so that little is left to change at the end."""

UNITS = {"params": "parameters", "macs": "multiply-adds", "ms_per_mp": "ms per megapixel"}


class CostModel:
    """The costs of a space's networks. The same tables give exact costs of choices and expected costs of mixtures.

    Decisions are independent of each other, so the expectation is exact. The cost of a slot is a table of primitive,
    width in and width out, weighted by the mixtures of all three. A cell counts as much as its survival.

    Attributes:
        tables: cost name -> (K, W, W) float64: primitive, width in, width out. At the input's resolution.
        base: cost name -> cost of the head, the tail and the upsampling steps.
    """

    def __init__(self, space: SearchSpace, slot_ms: Tensor | None = None, base_ms: float = 0.0) -> None:
        """Compute the tables of a space.

        Args:
            space: the networks.
            slot_ms: (K, W, W) from `latency.measure_slot_times`, if there is a budget of time.
            base_ms: milliseconds per output megapixel of the network without cells.
        """
        self.space, self.slot_ms, self.base_ms = space, slot_ms, base_ms
        bare = compute_cost(space.bare_spec)
        per_output_px = 1 / space.scale**2
        self.tables = {
            "params": self._tabulate(lambda conv: conv.params),
            "macs": self._tabulate(lambda conv: conv.macs) * per_output_px * QUOTED_OUTPUT_PX,
        }
        self.base = {"params": float(bare.params), "macs": bare.macs}
        if slot_ms is not None:
            self.tables["ms_per_mp"] = slot_ms * per_output_px
            self.base["ms_per_mp"] = base_ms
        nodes = [space.nodes[index] for index in space.cell_nodes]
        positions = torch.tensor([node.factor**2 for node in nodes], dtype=torch.float64)
        self._entries = {name: table.tolist() for name, table in self.tables.items()}
        self._positions = {name: torch.ones_like(positions) if name == "params" else positions for name in self.tables}
        paths = [set(space.path_to(candidate)) for candidate in space.candidates]
        self._below = torch.tensor([[float(index in path) for path in paths] for index in space.cell_nodes]).double()

    def _tabulate(self, count: Callable[..., int]) -> Tensor:
        widths, family = self.space.widths, self.space.family
        rows = [
            [[sum(map(count, find_primitive(family, name).convs(w_in, w_out))) for w_out in widths] for w_in in widths]
            for name in self.space.primitives
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def rescaled(self, factor: float) -> "CostModel":
        """Return the same model with all times multiplied by `factor`."""
        assert self.slot_ms is not None
        return CostModel(self.space, self.slot_ms * factor, self.base_ms * factor)

    def expected(self, mixtures: Mixtures) -> dict[str, Tensor]:
        """Return the mean costs of networks drawn from the mixtures.

        Returns:
            Cost name -> float64 scalar, differentiable in the mixtures.
        """
        path, primitives, widths = (mixture.cpu().double() for mixture in mixtures.tensors())
        full = torch.zeros(len(primitives), 1, len(self.space.widths), dtype=torch.float64)
        full[..., -1] = 1
        w_in, w_out = torch.cat([full, widths], 1), torch.cat([widths, full], 1)
        alive = survival(path, self._below)
        return {
            name: self.base[name]
            + (torch.einsum("csk,csi,csj,kij->c", primitives, w_in, w_out, table) * self._positions[name] * alive).sum()
            for name, table in self.tables.items()
        }

    def exact(self, choice: Choice) -> dict[str, float]:
        """Return the costs of one network by name."""
        full = len(self.space.widths) - 1
        costs = dict(self.base)
        for index in self.space.path_to(choice.node):
            if self.space.nodes[index].step is not None:
                continue
            row = self.space.row_of(index)
            widths = [full, *choice.widths[row], full]
            for primitive, w_in, w_out in zip(choice.primitives[row], widths, widths[1:], strict=False):
                for name, entries in self._entries.items():
                    costs[name] += entries[primitive][w_in][w_out] * float(self._positions[name][row])
        return costs


EDGE_SLOTS = 3
"""Slots in a cell of an edge space."""

EDGE_SIZES = (
    (8, 2), (12, 2), (12, 3), (16, 3), (16, 4), (16, 5), (24, 3), (24, 4), (32, 4), (32, 5), (40, 5), (48, 5), (48, 6),
    (64, 6), (64, 8), (80, 8), (96, 8), (128, 8),
)  # fmt: skip
"""Trunk width and number of cells of the edge spaces, from small to large. More cells are better than wider ones
(docs/LOG.md)."""

PAPER_SIZE = (64, 5, 5)
"""Trunk width, cells and slots of the paper's spaces."""

ROOM = 1.2
"""The largest network of an edge space costs at least so many times the tightest budget, so that there is a choice."""

LEAST_SLOTS, LEAST_SHARE = 7, 0.9
"""How `space_for` chooses among the sizes with enough room. A size must afford `LEAST_SLOTS` slots at full width. If no
size can, it must afford `LEAST_SHARE` of the most slots that any size affords. The first such size is taken that
affords `LEAST_SHARE` of the most parameters; with a budget of time, sizes differ in that."""


def space_for(
    name: str, scale: int, budgets: Budgets, ms_per_mp: Callable[[ArchSpec], float] | None = None
) -> SearchSpace:
    """Return the space of this name that suits the budgets.

    The size of an edge space follows from the budgets. The paper's spaces have one size.

    Args:
        name: a key of `SPACES`.
        scale: output pixels per input pixel, along each side.
        budgets: what the network may cost.
        ms_per_mp: measures the milliseconds per output megapixel of an architecture. Only needed for a budget of time.
    Raises:
        SpecError: there is no such space or scale.
    """
    if name in SPACES and SPACES[name].family == "paper":
        width, cells, slots = PAPER_SIZE
        return SearchSpace(name, scale, width, cells, slots, cells - 1)
    limits = budgets.given()
    affordable: list[tuple[SearchSpace, float, float]] = []  # with the slots and parameters that the budgets allow
    largest: SearchSpace | None = None
    for width, cells in EDGE_SIZES:
        space = SearchSpace(name, scale, width, cells, EDGE_SLOTS, cells - 1)
        empty = _compute_costs(space.bare_spec, budgets, ms_per_mp)
        if largest is not None and any(empty[key] > limit for key, limit in limits.items()):
            break
        largest = space
        full = _compute_costs(space.spec(find_largest_choice(space)), budgets, ms_per_mp)
        if any(full[key] >= ROOM * limit for key, limit in limits.items()):
            shares = ((limit - empty[key]) / max(full[key] - empty[key], 1e-9) for key, limit in limits.items())
            share = max(0.0, min(1.0, *shares))
            affordable.append(
                (space, share * cells * EDGE_SLOTS, empty["params"] + share * (full["params"] - empty["params"]))
            )
            if share * cells * EDGE_SLOTS < 1:  # wider spaces afford even fewer slots
                break
    assert largest is not None
    if not affordable:
        return largest
    enough = min(LEAST_SLOTS, LEAST_SHARE * max(slots for _, slots, _ in affordable))
    deep = [entry for entry in affordable if entry[1] >= enough]
    most = max(params for _, _, params in deep)
    return next(space for space, _, params in deep if params >= LEAST_SHARE * most)


def find_possible_costs(
    scale: int, ms_per_mp: Callable[[ArchSpec], float] | None = None
) -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest cost of all edge spaces, by name.

    Args:
        scale: output pixels per input pixel, along each side.
        ms_per_mp: measures the milliseconds per output megapixel of an architecture. Without it time is left out.
    """
    smallest, largest = (
        SearchSpace("edge", scale, width, cells, EDGE_SLOTS, cells - 1)
        for width, cells in (EDGE_SIZES[0], EDGE_SIZES[-1])
    )
    ends = smallest.spec(find_smallest_choice(smallest)), largest.spec(find_largest_choice(largest))
    costs = {
        "params": [float(compute_cost(spec).params) for spec in ends],
        "macs": [compute_cost(spec).macs for spec in ends],
    }
    if ms_per_mp is not None:
        costs["ms_per_mp"] = [ms_per_mp(spec) for spec in ends]
    return {name: (low, high) for name, (low, high) in costs.items()}


def _compute_costs(spec: ArchSpec, budgets: Budgets, ms_per_mp: Callable[[ArchSpec], float] | None) -> dict[str, float]:
    cost = compute_cost(spec)
    costs = {"params": float(cost.params), "macs": cost.macs}
    if budgets.ms_per_mp is not None:
        assert ms_per_mp is not None
        costs["ms_per_mp"] = ms_per_mp(spec)
    return costs


def find_smallest_choice(space: SearchSpace) -> Choice:
    """Return the shortest path, each slot with the first primitive (`skip`) and the narrowest width."""
    node = min(space.candidates, key=lambda index: space.nodes[index].cells)
    return _repeat_choice(space, node, 0, 0)


def find_largest_choice(space: SearchSpace) -> Choice:
    """Return the longest path, each slot with the primitive that has the most parameters and the widest width."""
    node = max(space.candidates, key=lambda index: space.nodes[index].cells)
    full = len(space.widths) - 1
    params = CostModel(space).tables["params"][:, full, full]
    return _repeat_choice(space, node, int(params.argmax()), full)


def _repeat_choice(space: SearchSpace, node: int, primitive: int, width: int) -> Choice:
    cells = len(space.cell_nodes)
    return Choice(node, ((primitive,) * space.slots,) * cells, ((width,) * (space.slots - 1),) * cells)


def find_cheapest_choice(model: CostModel, name: str) -> Choice:
    """Return the choice with the lowest cost of one name.

    For measured time this may not be the smallest network: to pad the channels of a narrow slot takes time too.
    """
    space, table = model.space, model.tables[name]
    best, primitives = (tensor.tolist() for tensor in table.min(0))
    full = len(space.widths) - 1
    # The cheapest way to each width, slot by slot. A slot depends on the slots before it only through their last width.
    ways: dict[int, tuple[float, tuple[int, ...]]] = {full: (0.0, ())}
    for slot in range(space.slots):
        ends = [full] if slot == space.slots - 1 else range(len(space.widths))
        ways = {
            w_out: min((cost + best[w_in][w_out], (*way, w_out)) for w_in, (cost, way) in ways.items())
            for w_out in ends
        }
    widths = ways[full][1]
    names = tuple(primitives[w_in][w_out] for w_in, w_out in zip((full, *widths), widths, strict=False))
    cells = len(space.cell_nodes)
    choices = (Choice(node, (names,) * cells, (widths[:-1],) * cells) for node in space.candidates)
    return min(choices, key=lambda choice: model.exact(choice)[name])


def check_possible(model: CostModel, budgets: Budgets) -> None:
    """Refuse budgets that even the smallest network of a space exceeds. A model without times does not check time.

    Raises:
        BudgetError: there is no such network; the message says the budget and the smallest cost.
    """
    for name, limit in budgets.given().items():
        if name not in model.tables:
            continue
        least = model.exact(find_cheapest_choice(model, name))[name]
        if least > limit:
            raise BudgetError(
                f"no network of the space {model.space.name} at x{model.space.scale} and trunk width "
                f"{model.space.trunk_width} has at most {format_cost(name, limit)}: "
                f"the smallest has {_format_number(least)}"
            )


def format_cost(name: str, value: float) -> str:
    """Return a cost with its unit, such as 5,000 parameters."""
    return f"{_format_number(value)} {UNITS[name]}"


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@dataclass
class BudgetController:
    """Dual ascent on log(cost / target) of the tightest budget.

    The target falls from the supernet's cost to the budget. The controller presses from both sides, because an unused
    budget costs quality, and the loss of a supernet that is hardly trained favours smaller networks.

    Attributes:
        start: log(cost / budget) of the tightest budget at anneal 0.
        multiplier: weight of log(cost / target) in the objective of the architecture parameters. It is negative while
            the cost should grow.
    """

    budgets: Budgets
    start: float
    multiplier: float = 0.0
    step_size: float = 0.003
    """How far the multiplier moves per update and unit of log(cost / target)."""
    damping: float = 0.1
    """Weight of the present excess, beside the multiplier. Without it the cost swings around its target."""

    def penalty(self, costs: dict[str, Tensor], chosen: dict[str, Tensor], anneal: float) -> Tensor:
        """Return the term that is added to the logarithm of the loss, and move the multiplier by one update.

        Args:
            costs: expected costs of the mixtures. The gradient flows through these.
            chosen: costs of the candidates that lead at present. Near anneal 1 few decisions can still change, so
                these costs count more.
            anneal: 0 to 1.
        """
        tightest = measure_tightest_excess(costs, self.budgets)
        leading = measure_tightest_excess(chosen, self.budgets)
        excess = float(torch.lerp(tightest, leading, anneal).detach()) - self.target(anneal)
        self.multiplier += self.step_size * excess
        return (self.multiplier + self.damping * excess) * tightest

    def target(self, anneal: float) -> float:
        """Return the target for log(cost / budget) of the tightest budget."""
        done = min(1.0, anneal / ANNEALED_BY)
        return (1 - done) * self.start + done * math.log(AIM)


def measure_tightest_excess(costs: dict[str, Tensor], budgets: Budgets) -> Tensor:
    """Return the largest log(cost / budget) of all budgets, a scalar that is differentiable in the costs."""
    return torch.stack([(costs[name] / limit).log() for name, limit in budgets.given().items()]).max()
