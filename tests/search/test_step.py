"""One step of the weights, one of the architecture parameters."""

import copy
import dataclasses
from statistics import fmean

import pytest
import torch

from support.networks import busy_supernet, same_weights
from support.runs import SEARCH_CONFIG as CONFIG
from trinas.config import Budgets
from trinas.networks.space import SearchSpace
from trinas.search.budgets import CostModel
from trinas.search.sparse import find_largest_radius, sparsestmax
from trinas.search.step import Learner, draw_sandwich, find_frozen_decisions
from trinas.search.supernet import Supernet

EDGE = SearchSpace("edge", 2, 8, 2, 2, 1)


def learner_of(supernet, **settings):
    config = dataclasses.replace(CONFIG, **settings)
    return Learner(supernet, config, CostModel(supernet.space), "fp32")


def random_batch(dtype=torch.float32):
    return torch.rand(2, 3, 8, 8, dtype=dtype), torch.rand(2, 3, 16, 16, dtype=dtype)


def test_weights_and_architecture_are_moved_by_their_own_steps_only():
    supernet = busy_supernet("edge", 2, dtype=torch.float32)
    learner = learner_of(supernet)

    def moved(step):
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        step()
        return {name for name, tensor in supernet.state_dict().items() if not torch.equal(tensor, before[name])}

    assert not any(name.startswith("arch_") for name in moved(lambda: learner.warm_up(random_batch(), 0, 1e-3)))
    both = moved(lambda: learner.search(random_batch(), random_batch(), 0.1, 2e-3, 1e-2))
    assert "arch_primitives" in both
    assert "head.weight" in both
    only = moved(lambda: learner.search(random_batch(), random_batch(), 0.1, 1e-30, 1e-2))
    assert all(name.startswith("arch_") for name in only)


def test_warm_up_takes_primitives_at_random_and_widths_at_their_extremes_too():
    supernet = busy_supernet("edge", 2)
    drawn = torch.stack([draw_sandwich(supernet, 0, step).primitives for step in range(30)])
    assert (drawn.max(-1).values == 1).all()
    assert (drawn.sum(0) > 0).all(), "each slot meets every primitive"
    largest, smallest, mixed = (draw_sandwich(supernet, 0, step).widths for step in (0, 1, 2))
    assert (largest[..., -1] == 1).all()
    assert (smallest[..., 0] == 1).all()
    assert (mixed.max(-1).values == 1).all()
    assert len(mixed.argmax(-1).unique()) > 1
    assert torch.equal(mixed, draw_sandwich(supernet, 0, 2).widths)
    assert not torch.equal(mixed, draw_sandwich(supernet, 1, 2).widths)


def test_two_survivors_held_apart_by_the_radius_are_left_alone():
    parameters = torch.tensor([[1, 0.9, -9], [0.5, 0, -0.1], [8, 0, 0], [1, 0.1, -9]], dtype=torch.float64)
    gradient = torch.tensor([[1e-17, -1e-17, 0.0], [0.1, -0.2, 0.1], [0.0, 0.0, 0.0], [0.1, -0.1, 0.0]])
    # At anneal 0.6: a pair held apart, three still free, one survivor, a pair further apart than it has to be.
    mixture = sparsestmax(parameters, 0.6 * find_largest_radius(3))
    assert [(row > 0).sum().item() for row in mixture] == [2, 3, 1, 2]
    assert find_frozen_decisions(mixture, gradient, 0.6)[:, 0].tolist() == [True, False, True, False]


def test_two_candidates_learn_while_nothing_holds_them_apart():
    """Also where a space has just two of a kind, nearly equal at the start."""
    torch.manual_seed(0)
    supernet = Supernet(EDGE)
    assert supernet.arch_path.shape[-1] == supernet.arch_widths.shape[-1] == 2
    torch.nn.init.normal_(supernet.tail.weight, std=0.1)
    before = [level.detach().clone() for level in supernet.arch_parameters()]
    learner_of(supernet).search(random_batch(), random_batch(), 0.0, 2e-3, 1e-2)
    for old, new in zip(before, supernet.arch_parameters(), strict=True):
        assert ((old - new).abs() > 1e-3).all()


def test_decisions_that_are_taken_are_kept():
    """Adam would turn rounding errors into full steps, and momentum goes on after the gradient has ended."""
    supernet = busy_supernet("edge", 2, dtype=torch.float32)
    learner = learner_of(supernet)
    learner.search(random_batch(), random_batch(), 0.0, 2e-3, 1e-2)
    before = [level.detach().clone() for level in supernet.arch_parameters()]
    learner.search(random_batch(), random_batch(), 1.0, 2e-3, 1e-2)
    assert all(torch.equal(*pair) for pair in zip(before, supernet.arch_parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [4000, 14000])
def test_the_expected_cost_reaches_the_budget_from_either_side(limit):
    """With three primitives and more: of two the distance alone fixes the shares at that anneal."""
    torch.manual_seed(0)
    learner = learner_of(Supernet(SearchSpace("edge-all", 2, 16, 2, 2, 1)), budgets=Budgets(params=limit))
    first = learner.start_costs["params"]
    costs = []
    for _ in range(120):
        learner.search(random_batch(), random_batch(), 0.45, 2e-3, 4e-2)
        costs.append(float(learner.costs.expected(learner.supernet.mixtures(0.45))["params"].detach()))
    late = fmean(costs[60:])  # they swing: what there is to learn is noise
    assert abs(late - limit) < 0.75 * abs(first - limit)
    assert abs(late / limit - 1) < 0.25


def test_an_even_batch_does_no_harm():
    """The loss is 0 there, and its logarithm without bounds."""
    supernet = Supernet(EDGE)
    learner = learner_of(supernet)
    even = torch.full((2, 3, 8, 8), 0.5), torch.full((2, 3, 16, 16), 0.5)
    for anneal in (0.0, 0.5, 1.0):
        loss, _ = learner.search(even, even, anneal, 2e-3, 1e-2)
        assert loss == 0
    assert all(parameter.isfinite().all() for parameter in supernet.parameters())


def architecture_gradients(weight_batch, arch_batch):
    """Of a step that leaves the weights where they are."""
    supernet = busy_supernet("edge-all", 2, dtype=torch.float32)
    learner_of(supernet).search(weight_batch, arch_batch, 0.1, 1e-30, 1e-2)
    return torch.cat([level.grad.flatten() for level in supernet.arch_parameters()])


def test_the_architecture_learns_from_its_own_batch_alone():
    one, other, third = random_batch(), random_batch(), random_batch()
    assert torch.equal(architecture_gradients(one, third), architecture_gradients(other, third))
    assert not torch.equal(architecture_gradients(third, one), architecture_gradients(third, other))


class RecordingLearner(Learner):
    """Keeps the mixtures that weights learn at."""

    def learn_weights(self, batch, mixtures, rate):
        self.learnt_at = mixtures
        return super().learn_weights(batch, mixtures, rate)


def test_weights_warm_up_at_the_sandwich_and_search_at_the_mixtures():
    supernet = busy_supernet("edge-all", 2, dtype=torch.float32)
    learner = RecordingLearner(supernet, CONFIG, CostModel(supernet.space), "fp32")
    for step in range(4):
        learner.warm_up(random_batch(), step, 1e-3)
        for ours, drawn in zip(
            learner.learnt_at.tensors(), draw_sandwich(supernet, CONFIG.seed, step).tensors(), strict=True
        ):
            assert torch.equal(ours, drawn)
    for anneal in (0.0, 0.5, 1.0):
        expected = supernet.mixtures(anneal)
        learner.search(random_batch(), random_batch(), anneal, 1e-3, 1e-2)
        for ours, mixture in zip(learner.learnt_at.tensors(), expected.tensors(), strict=True):
            assert torch.equal(ours, mixture)


def test_a_sandwich_draws_other_widths_and_primitives_with_each_step():
    supernet = busy_supernet("edge-all", 2)
    first, second = (draw_sandwich(supernet, 0, step) for step in (2, 5))
    assert not torch.equal(first.widths, second.widths)
    assert not torch.equal(first.primitives, second.primitives)
    assert torch.equal(first.path, supernet.mixtures(0).path)


def test_the_loss_of_a_choice_is_its_network_s():
    supernet = busy_supernet("edge", 2, dtype=torch.float32)
    low, high = random_batch()
    with torch.no_grad():
        expected = (supernet.derive(supernet.choice())(low) - high).abs().mean()
    assert learner_of(supernet).choice_loss((low, high), supernet.choice()) == pytest.approx(float(expected), rel=1e-4)


def test_a_pair_that_is_held_apart_does_not_gather_momentum():
    """Its gradient is rounding error: it must neither move it now nor later."""
    supernet = busy_supernet("edge", 2, dtype=torch.float32)
    learner = learner_of(supernet)
    learner.search(random_batch(), random_batch(), 0.9, 2e-3, 1e-2)
    mixtures = supernet.mixtures(0.9)
    held_apart = find_frozen_decisions(mixtures.primitives, torch.ones_like(mixtures.primitives), 0.9)
    assert held_apart.any()
    moments = learner.arch_optimizer.state[supernet.arch_primitives]["exp_avg"]
    assert (moments.masked_select(held_apart) == 0).all()


def test_the_state_of_a_learner_brings_all_of_it_back():
    """One that goes on from a state takes the same next step."""
    batches = [random_batch() for _ in range(4)]
    learner = learner_of(busy_supernet("edge-all", 2, dtype=torch.float32))
    learner.search(batches[0], batches[1], 0.3, 2e-3, 1e-2)
    state = copy.deepcopy(learner.to_state())
    restored = learner_of(busy_supernet("edge-all", 2, dtype=torch.float32, seed=1))
    restored.load(state)
    for one in (learner, restored):
        one.search(batches[2], batches[3], 0.3, 2e-3, 1e-2)
    assert same_weights(learner.supernet, restored.supernet)
    assert learner.controller == restored.controller


def test_the_architecture_follows_the_logarithm_of_the_loss_at_the_given_rate():
    """At anneal 0 the target of the controller is the first cost, so that it adds nothing to the first step."""
    supernet = busy_supernet("edge-all", 2, dtype=torch.float32)
    with torch.no_grad():
        for level in supernet.arch_parameters():
            level.mul_(1e-3)  # every candidate has a share
    low, high = random_batch()
    loss = (supernet(low, supernet.mixtures(0)) - high).abs().mean()
    expected = torch.autograd.grad(loss.log(), supernet.arch_parameters())
    before = supernet.arch_primitives.detach().clone()
    learner_of(supernet).search(random_batch(), (low, high), 0.0, 1e-30, 0.05)
    for level, gradient in zip(supernet.arch_parameters(), expected, strict=True):
        torch.testing.assert_close(level.grad, gradient, rtol=1e-3, atol=1e-6)
    assert float((supernet.arch_primitives.detach() - before).abs().max()) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("anneal", [0.0, 0.5, 1.0])
def test_the_costs_of_a_step_are_those_of_its_mixtures(anneal):
    supernet = busy_supernet("edge-all", 2, dtype=torch.float32)
    with torch.no_grad():
        for level in supernet.arch_parameters():
            level.mul_(0.1)
        expected = CostModel(supernet.space).expected(supernet.mixtures(anneal))
    _, costs = learner_of(supernet).search(random_batch(), random_batch(), anneal, 1e-3, 1e-2)
    assert costs == {name: float(cost) for name, cost in expected.items()}
