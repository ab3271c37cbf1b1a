"""The ablations change what they say they change, and nothing else."""

import dataclasses

import pytest
import torch
from search_value import LEARNERS, OrderedLearner, order_term

from support.runs import SEARCH_CONFIG as CONFIG
from trinas.networks.space import SearchSpace
from trinas.search.budgets import CostModel
from trinas.search.loop import search_network
from trinas.search.supernet import Supernet
from trinas.training.data import generate_images

EDGE = SearchSpace("edge", 2, 8, 2, 2, 1)


@pytest.fixture(scope="module")
def photographs():
    return generate_images(6, 112, seed=7)


@pytest.mark.parametrize("entry", LEARNERS)
def test_every_ablation_runs_to_its_end(entry, photographs, tmp_path):
    config = dataclasses.replace(CONFIG, steps=(1, 4, 1), warm_start=False)
    result = search_network(EDGE, photographs, config, tmp_path / "run", learner=LEARNERS[entry])
    assert result.finished
    spec = result.network.spec
    if entry == "fixed-depth":
        assert len(spec.cells) == EDGE.cells
    if entry == "fixed-primitives":
        assert {slot.primitive for cell in spec.cells for slot in cell.slots} == {"conv3x3"}
    if entry == "fixed-widths":
        assert {slot.width for cell in spec.cells for slot in cell.slots} == {EDGE.trunk_width}


@pytest.mark.parametrize(("entry", "survivors"), [("softmax", 3), ("sparsemax", 3)])
def test_other_projections_keep_what_sparsestmax_would_drop(entry, survivors):
    torch.manual_seed(0)
    space = SearchSpace("edge-all", 2, 16, 2, 2, 1)
    learner = LEARNERS[entry]
    for supernet, kept in ((learner.build_supernet(space), True), (Supernet(space), False)):
        many = (supernet.mixtures(0.9).primitives > 0).sum(-1)
        assert (many >= survivors).all() == kept
        assert ((supernet.mixtures(1).primitives > 0).sum(-1) == 1).all()


def test_the_order_term_telescopes_along_each_path():
    chain = Supernet(SearchSpace("edge", 2, 8, 4, 2, 3))
    assert torch.allclose(order_term(chain), chain.arch_path[0] - chain.arch_path[-1])
    order_term(Supernet(SearchSpace("paper-a", 4, 8, 3, 2, 2))).backward()


def test_the_order_term_pulls_towards_depth_and_fades_out():
    learner = OrderedLearner(Supernet(EDGE), CONFIG, CostModel(EDGE), "fp32")
    none = tuple(torch.zeros_like(level) for level in learner.supernet.arch_parameters())
    pulled = learner.adjust_gradients(none, 0.0)[0]
    assert pulled[0] > 0 > pulled[-1]
    assert (learner.adjust_gradients(none, 0.25)[0].abs() < pulled.abs()).all()
    assert (learner.adjust_gradients(none, 0.5)[0] == 0).all()


def test_the_order_term_does_not_wake_decisions_that_are_taken():
    learner = OrderedLearner(Supernet(EDGE), CONFIG, CostModel(EDGE), "fp32")
    learner.ORDER_WEIGHT = 0.1
    batch = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)
    learner.search(batch, batch, 0.0, 2e-3, 1e-2)
    before = learner.supernet.arch_path.detach().clone()
    learner.search(batch, batch, 1.0, 2e-3, 1e-2)
    assert torch.equal(before, learner.supernet.arch_path)
