"""One step of a supernet's weights, and one step of its architecture parameters."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from trinas.config import SearchConfig
from trinas.device import autocast
from trinas.networks.space import Choice, SearchSpace
from trinas.search.budgets import BudgetController, CostModel, measure_tightest_excess
from trinas.search.sparse import find_largest_radius
from trinas.search.supernet import Mixtures, Supernet
from trinas.training.muon import Muon, check_moments

SMALLEST_LOSS = 1e-6
"""Smaller losses count as this one, because the logarithm of a loss near 0 has no bound. Even patches have such
losses."""


class Learner:
    """A supernet with its two optimisers and the controller of the budgets.

    A subclass can change how a search learns: pass it to `search_network`. The methods `build_supernet`,
    `learn_weights`, `find_frozen`, `adjust_gradients` and `allows` are made to be overridden
    (benchmarks/search_value.py does it).

    Attributes:
        start_costs: expected costs by name at anneal 0, before any architecture parameter has moved.
    """

    def __init__(self, supernet: Supernet, config: SearchConfig, costs: CostModel, precision: str) -> None:
        self.supernet, self.config, self.costs, self.precision = supernet, config, costs, precision
        self.device = next(supernet.parameters()).device
        # Each step sets the rates. The betas of the architecture parameters are those of the paper.
        self.weight_optimizer = Muon(supernet.weight_parameters())
        self.arch_optimizer = torch.optim.Adam(supernet.arch_parameters(), lr=0.0, betas=(0.5, 0.999))
        with torch.no_grad():
            expected = costs.expected(supernet.mixtures(0))
        self.start_costs = {name: float(cost) for name, cost in expected.items()}
        self.controller = BudgetController(config.budgets, float(measure_tightest_excess(expected, config.budgets)))

    @classmethod
    def build_supernet(cls, space: SearchSpace) -> Supernet:
        """Return a supernet with fresh weights."""
        return Supernet(space)

    def warm_up(self, batch: tuple[Tensor, Tensor], step: int, rate: float) -> Tensor:
        """Move the weights by one step, at mixtures from `draw_sandwich`.

        Args:
            batch: low and high, as from `Patches.batch`.
            step: number of warm-up steps taken before.
            rate: of the optimiser.
        Returns:
            The loss, still on the device.

        Source of the sandwich rule: Yu & Huang, ICCV 2019, arXiv:1903.05134.
        """
        return self.learn_weights(batch, draw_sandwich(self.supernet, self.config.seed, step), rate)

    def search(
        self,
        weight_batch: tuple[Tensor, Tensor],
        arch_batch: tuple[Tensor, Tensor],
        anneal: float,
        weight_rate: float,
        arch_rate: float,
    ) -> tuple[Tensor, dict[str, float]]:
        """Move the weights by one step, then the architecture parameters by one step.

        Args:
            weight_batch: low and high, for the weights.
            arch_batch: low and high, for the architecture parameters.
            anneal: 0 to 1.
            weight_rate: rate of the weights' optimiser.
            arch_rate: rate of Adam for the architecture parameters.
        Returns:
            The loss of `weight_batch`, still on the device, and the expected costs by name.
        """
        with torch.no_grad():
            mixtures = self.supernet.mixtures(anneal)
        loss = self.learn_weights(weight_batch, mixtures, weight_rate)
        return loss, self._learn_architecture(arch_batch, anneal, arch_rate)

    @torch.no_grad()
    def choice_loss(self, batch: tuple[Tensor, Tensor], choice: Choice) -> float:
        """Return the mean absolute error of the supernet at a choice."""
        return float(self._loss(batch, self.supernet.make_one_hot_mixtures(choice)))

    def learn_weights(self, batch: tuple[Tensor, Tensor], mixtures: Mixtures, rate: float) -> Tensor:
        """Move the weights by one step at these mixtures, and return the loss, still on the device."""
        self.weight_optimizer.param_groups[0]["lr"].fill_(rate)
        self.weight_optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch, mixtures)
        loss.backward()
        nn.utils.clip_grad_norm_(self.supernet.weight_parameters(), self.config.clip_norm)
        self.weight_optimizer.step()
        return loss.detach()

    def find_frozen(self, mixture: Tensor, gradient: Tensor, anneal: float) -> Tensor:
        """Return which decisions must not move at present. Here these are `find_frozen_decisions`."""
        return find_frozen_decisions(mixture, gradient, anneal)

    def adjust_gradients(self, gradients: tuple[Tensor, ...], anneal: float) -> tuple[Tensor, ...]:
        """Return the gradients of the architecture parameters that are applied. Here they are not changed."""
        return gradients

    def allows(self, choice: Choice, change: Choice) -> bool:
        """Return whether the final choice may change to a second one to meet the budgets. Here it always may."""
        return True

    def _learn_architecture(self, batch: tuple[Tensor, Tensor], anneal: float, rate: float) -> dict[str, float]:
        self.arch_optimizer.param_groups[0]["lr"] = rate
        parameters = self.supernet.arch_parameters()
        mixtures = self.supernet.mixtures(anneal)
        costs = self.costs.expected(mixtures)
        expected = {name: float(cost.detach()) for name, cost in costs.items()}
        with torch.no_grad():
            chosen = self.costs.expected(self.supernet.mixtures(1))
        penalty = self.controller.penalty(costs, chosen, anneal)
        # With logarithms, a multiplier weighs relative costs against relative losses.
        objective = self._loss(batch, mixtures).clamp(min=SMALLEST_LOSS).log() + penalty.float().to(self.device)
        if not objective.isfinite():  # the weights have diverged; their next loss shows it
            return expected
        gradients = torch.autograd.grad(objective, parameters)
        frozen = [self.find_frozen(*pair, anneal) for pair in zip(mixtures.tensors(), gradients, strict=True)]
        # The gradients are adjusted after this, because an added term must not move decisions that are frozen.
        self._move_architecture(self.adjust_gradients(gradients, anneal), frozen)
        return expected

    def _move_architecture(self, gradients: tuple[Tensor, ...], frozen: list[Tensor]) -> None:
        """Take one step of Adam, then restore frozen decisions, which Adam's momentum has moved."""
        parameters = self.supernet.arch_parameters()
        before = [tensor.detach().clone() for tensor in parameters]
        for tensor, gradient, still in zip(parameters, gradients, frozen, strict=True):
            tensor.grad = gradient.masked_fill(still, 0)
        self.arch_optimizer.step()
        with torch.no_grad():
            for tensor, old, still in zip(parameters, before, frozen, strict=True):
                tensor.copy_(torch.where(still, old, tensor))

    def _loss(self, batch: tuple[Tensor, Tensor], mixtures: Mixtures) -> Tensor:
        low, high = batch
        low = low.contiguous(memory_format=torch.channels_last)
        if self.supernet.shuffles:
            high = F.pixel_unshuffle(high, self.supernet.scale)
        with autocast(self.device, self.precision):
            output = self.supernet.forward_unshuffled(low, mixtures)
        return (output - high).abs().mean()

    def to_state(self) -> dict[str, Any]:
        """Return everything that `load` needs, as tensors and plain values."""
        return {
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict(),
            "cost_start": self.controller.start,
            "multiplier": self.controller.multiplier,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state that `to_state` returned.

        Raises:
            LookupError, RuntimeError, TypeError, ValueError: it is of another supernet, or damaged.
        """
        self.supernet.load_state_dict(state["supernet"])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.arch_optimizer.load_state_dict(state["arch_optimizer"])
        check_moments(self.arch_optimizer, lambda _: ("exp_avg", "exp_avg_sq"))
        self.controller.start, self.controller.multiplier = float(state["cost_start"]), float(state["multiplier"])


@torch.no_grad()
def draw_sandwich(supernet: Supernet, seed: int, step: int) -> Mixtures:
    """Draw the mixtures of a warm-up step: for each slot one primitive at random, and one width.

    The widths are the largest in one step, the smallest in the next, and random in the third. One primitive costs a
    fraction of all primitives, and learns to work alone, as it will in the chosen network.

    Args:
        supernet: whose mixtures are drawn.
        seed: of the search.
        step: number of warm-up steps taken before.
    """
    mixtures = supernet.mixtures(0)
    random = np.random.default_rng((seed, step, 1))  # other numbers than the batch's
    count = mixtures.widths.shape[-1]
    widths = random.integers(count, size=tuple(mixtures.widths.shape[:-1]))
    widths = (np.full_like(widths, count - 1), np.zeros_like(widths), widths)[step % 3]
    primitives = random.integers(mixtures.primitives.shape[-1], size=tuple(mixtures.primitives.shape[:-1]))
    return Mixtures(mixtures.path, _one_hot(primitives, mixtures.primitives), _one_hot(widths, mixtures.widths))


def _one_hot(chosen: NDArray[np.int64], like: Tensor) -> Tensor:
    return F.one_hot(torch.from_numpy(chosen), like.shape[-1]).to(like)


def find_frozen_decisions(mixture: Tensor, gradient: Tensor, anneal: float) -> Tensor:
    """Return which decisions have nothing to learn at present, so that Adam must not move them.

    If two candidates are left and the radius holds them apart, the radius alone fixes their shares. Their gradient is
    rounding error, which Adam would turn into full steps. If one candidate is left, it has no gradient at all.

    Args:
        mixture, gradient: (..., K).
        anneal: 0 to 1.
    Returns:
        (..., 1) bool.
    """
    count = mixture.shape[-1]
    norm = (anneal * find_largest_radius(count)) ** 2 + 1 / count
    pair = (mixture > 0).sum(-1, keepdim=True) == 2
    held = mixture.square().sum(-1, keepdim=True) < norm * (1 + 1e-5)
    if anneal == 0:  # the radius is 0 and holds nothing apart
        held = torch.zeros_like(held)
    return (pair & held) | (gradient == 0).all(-1, keepdim=True)
