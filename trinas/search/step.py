"""One step of a supernet's weights, one of its scores."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from trinas.config import SearchConfig
from trinas.device import autocast
from trinas.networks.space import Choice
from trinas.search.budgets import BudgetController, CostModel, tightest_excess
from trinas.search.sparse import largest_radius
from trinas.search.supernet import Mixtures, Supernet
from trinas.training.muon import Muon

SMALLEST_LOSS = 1e-6
"""Below it, as on a batch of even patches, the logarithm of a loss says nothing any more."""


class Learner:
    """A supernet and what moves its weights and scores: two optimisers and the budgets' controller.

    Attributes:
        start_costs: what the mixtures cost at t = 0 before any score has moved, by name.
    """

    def __init__(self, supernet: Supernet, config: SearchConfig, costs: CostModel, precision: str) -> None:
        self.supernet, self.config, self.costs, self.precision = supernet, config, costs, precision
        self.device = next(supernet.parameters()).device
        # Rates are given with each step; the scores' betas are the paper's.
        self.weight_optimizer = Muon(supernet.weight_parameters())
        self.score_optimizer = torch.optim.Adam(supernet.arch_parameters(), lr=0.0, betas=(0.5, 0.999))
        with torch.no_grad():
            expected = costs.expected(supernet.mixtures(0))
        self.start_costs = {name: float(cost) for name, cost in expected.items()}
        self.controller = BudgetController(config.budgets, float(tightest_excess(expected, config.budgets)))

    def warm_up(self, batch: tuple[Tensor, Tensor], step: int, rate: float) -> Tensor:
        """One step of the weights at t = 0, primitives at random, widths in turn at their largest, smallest and random.

        Returns the loss, still on the device. Source of the rule: Yu & Huang, ICCV 2019, arXiv:1903.05134.
        """
        return self._learn_weights(batch, sandwich(self.supernet, self.config.seed, step), rate)

    def search(
        self,
        weight_batch: tuple[Tensor, Tensor],
        score_batch: tuple[Tensor, Tensor],
        t: float,
        weight_rate: float,
        score_rate: float,
    ) -> tuple[Tensor, dict[str, float]]:
        """One step of the weights, then one of the scores; return the former's loss and the expected costs."""
        with torch.no_grad():
            mixtures = self.supernet.mixtures(t)
        loss = self._learn_weights(weight_batch, mixtures, weight_rate)
        return loss, self._learn_scores(score_batch, t, score_rate)

    @torch.no_grad()
    def loss_of(self, batch: tuple[Tensor, Tensor], choice: Choice) -> float:
        """Mean absolute error of the supernet at a choice."""
        return float(self._loss(batch, self.supernet.mixtures_of(choice)))

    def _learn_weights(self, batch: tuple[Tensor, Tensor], mixtures: Mixtures, rate: float) -> Tensor:
        self.weight_optimizer.param_groups[0]["lr"].fill_(rate)
        self.weight_optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch, mixtures)
        loss.backward()
        nn.utils.clip_grad_norm_(self.supernet.weight_parameters(), self.config.clip_norm)
        self.weight_optimizer.step()
        return loss.detach()

    def _learn_scores(self, batch: tuple[Tensor, Tensor], t: float, rate: float) -> dict[str, float]:
        self.score_optimizer.param_groups[0]["lr"] = rate
        scores = self.supernet.arch_parameters()
        mixtures = self.supernet.mixtures(t)
        costs = self.costs.expected(mixtures)
        with torch.no_grad():
            chosen = self.costs.expected(self.supernet.mixtures(1))
        penalty = self.controller.penalty(costs, chosen, t)
        # Logarithms, so that a multiplier weighs relative costs against relative losses.
        objective = self._loss(batch, mixtures).clamp(min=SMALLEST_LOSS).log() + penalty.float().to(self.device)
        if not objective.isfinite():  # the weights have gone astray, which their next loss shows; scores stay
            return {name: float(cost.detach()) for name, cost in costs.items()}
        gradients = torch.autograd.grad(objective, scores)
        before = [tensor.detach().clone() for tensor in scores]
        frozen = [decided(*pair, t) for pair in zip(mixtures.tensors(), gradients, strict=True)]
        if self.config.order_weight:  # only now: it must not wake decisions that are taken
            weight = self.config.order_weight * max(0.0, 1 - 2 * t)
            pull = torch.autograd.grad(order_term(self.supernet), self.supernet.path_scores)[0]
            gradients = (gradients[0] + weight * pull, *gradients[1:])
        for tensor, gradient, still in zip(scores, gradients, frozen, strict=True):
            tensor.grad = gradient.masked_fill(still, 0)
        self.score_optimizer.step()
        with torch.no_grad():
            for tensor, old, still in zip(scores, before, frozen, strict=True):
                tensor.copy_(torch.where(still, old, tensor))
        return {name: float(cost.detach()) for name, cost in costs.items()}

    def _loss(self, batch: tuple[Tensor, Tensor], mixtures: Mixtures) -> Tensor:
        low, high = batch
        low = low.contiguous(memory_format=torch.channels_last)
        if self.supernet.shuffles:
            high = F.pixel_unshuffle(high, self.supernet.scale)
        with autocast(self.device, self.precision):
            output = self.supernet.forward_unshuffled(low, mixtures)
        return (output - high).abs().mean()

    def state(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "score_optimizer": self.score_optimizer.state_dict(),
            "cost_start": self.controller.start,
            "multiplier": self.controller.multiplier,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.supernet.load_state_dict(state["supernet"])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.score_optimizer.load_state_dict(state["score_optimizer"])
        self.controller.start, self.controller.multiplier = state["cost_start"], state["multiplier"]


@torch.no_grad()
def sandwich(supernet: Supernet, seed: int, step: int) -> Mixtures:
    """Mixtures of a warm-up step: in each slot a primitive at random, and the widths in turn at their largest, at their
    smallest and at random.

    One primitive costs a fraction of all, and learns to work on its own, as it will have to in the end.
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


def decided(mixture: Tensor, gradient: Tensor, t: float) -> Tensor:
    """Which decisions have nothing to learn at present, so that Adam must not move them.

    Two survivors that the radius holds apart have a mixture fixed by it; what is left of their gradient is rounding,
    which Adam would turn into full steps. One survivor has none at all.

    Args:
        mixture, gradient: (..., K).
    Returns:
        (..., 1) bool.
    """
    count = mixture.shape[-1]
    norm = (t * largest_radius(count)) ** 2 + 1 / count
    pair = (mixture > 0).sum(-1, keepdim=True) == 2
    held = mixture.square().sum(-1, keepdim=True) < norm * (1 + 1e-5)
    if t == 0:  # nothing is held apart yet: two equal candidates are merely undecided
        held = torch.zeros_like(held)
    return (pair & held) | (gradient == 0).all(-1, keepdim=True)


def order_term(supernet: Supernet) -> Tensor:
    """Shallowest minus deepest score, summed over the paths: the telescoping sum of differences along each of them."""
    space, scores = supernet.space, supernet.path_scores
    parents = {space.nodes[index].parent for index in space.candidates}
    total = torch.zeros((), device=scores.device)
    for leaf in (index for index in space.candidates if index not in parents):
        on_path = [space.candidates.index(index) for index in space.path_to(leaf) if index in space.candidates]
        total = total + scores[on_path[0]] - scores[on_path[-1]]
    return total
