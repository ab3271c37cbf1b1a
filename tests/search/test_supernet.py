import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from support.networks import busy_supernet
from trinas.networks.cost import QUOTED_OUTPUT_PX, compute_cost
from trinas.networks.space import SPACES, SearchSpace
from trinas.search.budgets import CostModel, find_largest_choice, find_smallest_choice
from trinas.search.supernet import Mixtures

SPACES_AND_SCALES = [(name, scale) for name in SPACES for scale in (2, 3, 4)]


@pytest.mark.parametrize(("name", "scale"), SPACES_AND_SCALES)
@pytest.mark.parametrize("seed", range(4))
def test_the_derived_network_computes_what_the_hardened_supernet_does(name, scale, seed):
    supernet = busy_supernet(name, scale, seed=seed)
    low = torch.rand(2, 3, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        mixed = supernet(low, supernet.mixtures(1))
        derived = supernet.derive(supernet.choice())(low)
    torch.testing.assert_close(derived, mixed, rtol=0, atol=1e-9)
    with torch.no_grad():
        supernet = supernet.float()
        mixed = supernet(low.float(), supernet.mixtures(1))
        derived = supernet.derive(supernet.choice())(low.float())
    torch.testing.assert_close(derived, mixed, rtol=1e-4, atol=1e-5)


def nearly_hardened(supernet):
    """Mixtures a hair from one-hot: nothing is skipped, every candidate is mixed and masked at full width."""
    hardened = supernet.mixtures(1)
    return Mixtures(*((1 - 1e-10) * mixture + 1e-10 / mixture.shape[-1] for mixture in hardened.tensors()))


@pytest.mark.parametrize(("name", "scale"), SPACES_AND_SCALES)
@pytest.mark.parametrize("seed", range(4))
def test_the_masked_supernet_approaches_the_derived_network(name, scale, seed):
    """Without this the test above could pass on slicing alone, with masks that mean something else."""
    supernet = busy_supernet(name, scale, seed=seed)
    low = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        mixed = supernet(low, nearly_hardened(supernet))
        derived = supernet.derive(supernet.choice())(low)
    torch.testing.assert_close(derived, mixed, rtol=0, atol=1e-6)


def explicit_slot(space, modules, features, shares, p_in, p_out):
    """A slot by the rules of derivation, every channel there and masked: what slices and folded kernels stand for."""
    keeps = torch.arange(space.trunk_width) < torch.tensor(space.widths)[:, None]
    m_in, m_out = (((p[:, None] * keeps).sum(0))[:, None, None] for p in (p_in, p_out))
    same = (p_in * p_out).sum()

    def hidden(mask, times):
        return mask.repeat_interleave(times, 0)

    def identity(module):
        return same * features + (1 - same) * module.identity.projection(features)

    total = 0
    for name, module, share in zip(space.primitives, modules, shares, strict=True):
        match space.family, name:
            case "edge", "residual":
                output = features + module.conv2(module.act(module.conv1(features)) * m_out)
            case "edge", "block4":
                hidden1 = module.act1(module.conv1(features)) * m_out
                hidden2 = module.act2(module.conv2(hidden1)) * m_out
                hidden3 = module.act3(module.conv3(hidden2)) * m_out
                output = features + module.conv4(hidden3)
            case "edge", "mixer5" | "mixer7":
                mixed = module.act(module.expand(module.depthwise(features) * m_in)) * hidden(m_in, 2)
                output = features + module.project(mixed)
            case "paper", "residual":
                output = module.conv2(module.conv1(features).relu() * m_out)
                output = (identity(module) + output).relu()
            case "paper", "dws":
                mixed = module.depthwise(module.expand(features).relu()).relu() * hidden(m_in, 4)
                output = (identity(module) + module.project(mixed)).relu()
            case _:
                output = module(features)
        total = total + share * output
    return total * m_out


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("anneal", [0.0, 0.3, 0.6, 1.0])
def test_a_cell_computes_the_masked_sum_of_its_primitives(name, anneal):
    """In between, where masks and identities are true mixtures."""
    supernet = busy_supernet(name, 2, cells=1)
    with torch.no_grad():
        supernet.arch_widths.mul_(0.1)
        supernet.arch_primitives.mul_(0.1)
        mixtures = supernet.mixtures(anneal)
        features = torch.randn(1, 24, 4, 5, dtype=torch.float64)
        cell, full = supernet.trunk.nodes[0], torch.zeros(len(supernet.space.widths), dtype=torch.float64)
        full[-1] = 1
        chain, widths = features, [full, *mixtures.widths[0], full]
        for slot, shares, p_in, p_out in zip(cell.slots, mixtures.primitives[0], widths, widths[1:], strict=False):
            chain = explicit_slot(supernet.space, slot, chain, shares, p_in, p_out)
        expected = features + 0.2 * chain if supernet.space.family == "paper" else chain
        masks = mixtures.widths[0] @ supernet.trunk.keeps
        computed = cell(features, mixtures.primitives[0], mixtures.widths[0], masks)
    torch.testing.assert_close(computed, expected)


@pytest.mark.parametrize(("name", "scale"), SPACES_AND_SCALES)
def test_expected_cost_of_a_choice_is_the_exact_cost_of_its_network(name, scale):
    supernet = busy_supernet(name, scale)
    model = CostModel(supernet.space)
    with torch.no_grad():
        expected = model.expected(supernet.mixtures(1))
    spec = supernet.space.spec(supernet.choice())
    exact = compute_cost(spec)
    assert float(expected["params"]) == exact.params
    assert float(expected["macs"]) == pytest.approx(exact.macs, rel=1e-12)
    assert model.exact(supernet.choice()) == {name: pytest.approx(float(cost)) for name, cost in expected.items()}
    network = supernet.derive(supernet.choice())
    assert sum(parameter.numel() for parameter in network.parameters()) == exact.params
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 6, 5, dtype=torch.float64))
    macs = counter.get_total_flops() / 2 / (6 * 5 * scale**2) * QUOTED_OUTPUT_PX
    assert float(expected["macs"]) == pytest.approx(macs, rel=1e-12)


@pytest.mark.parametrize("name", SPACES)
def test_expected_cost_is_the_mean_over_sampled_choices(name):
    supernet = busy_supernet(name, 2, cells=2, slots=2)
    mixtures = supernet.mixtures(0.1)
    drawn = Mixtures(*(rows.detach() for rows in mixtures.tensors()))
    model = CostModel(supernet.space)
    samples = []
    for _ in range(4000):
        one_hot = [
            torch.nn.functional.one_hot(
                torch.multinomial(rows.view(-1, rows.shape[-1]), 1).view(rows.shape[:-1]), rows.shape[-1]
            )
            for rows in drawn.tensors()
        ]
        samples.append(float(model.expected(Mixtures(*(rows.double() for rows in one_hot)))["params"]))
    spread = torch.tensor(samples).std().item() / len(samples) ** 0.5
    assert float(model.expected(mixtures)["params"].detach()) == pytest.approx(
        sum(samples) / len(samples), abs=5 * spread
    )


def test_architecture_and_weights_are_all_parameters_and_none_twice():
    supernet = busy_supernet("paper-a", 4)
    parts = [*supernet.arch_parameters(), *supernet.weight_parameters()]
    assert len({id(part) for part in parts}) == len(parts)
    assert {id(part) for part in parts} == {id(part) for part in supernet.parameters()}


def conv_macs(network, *arguments):
    with FlopCounterMode(display=False) as counter:
        network(*arguments)
    return counter.get_flop_counts()["Global"][torch.ops.aten.convolution] / 2


@pytest.mark.parametrize("name", SPACES)
def test_what_has_no_weight_is_not_computed(name):
    """Counted in multiply-adds: at anneal 1 the supernet does exactly its network's work, before that more."""
    supernet = busy_supernet(name, 4)
    with torch.no_grad():
        for level in supernet.arch_parameters():
            level.mul_(0.1)
    low = torch.zeros(1, 3, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        dense, sparse, hardened = (conv_macs(supernet, low, supernet.mixtures(anneal)) for anneal in (0.0, 0.8, 1.0))
        derived = conv_macs(supernet.derive(supernet.choice()), low)
    assert dense > sparse > hardened == derived


def test_every_parameter_learns_at_first():
    supernet = busy_supernet("edge-all", 2)
    with torch.no_grad():
        for level in supernet.arch_parameters():
            level.mul_(1e-3)
    supernet(torch.rand(1, 3, 8, 8, dtype=torch.float64), supernet.mixtures(0)).square().sum().backward()
    for parameter in supernet.parameters():
        assert parameter.grad.abs().max() > 0
    assert (supernet.arch_primitives.grad != 0).all()
    assert (supernet.arch_widths.grad != 0).all()


def test_checkpointing_changes_memory_only():
    supernet = busy_supernet("paper-a", 4, cells=2, slots=2)
    low = torch.rand(1, 3, 6, 6, dtype=torch.float64)

    def gradients():
        supernet.zero_grad()
        supernet(low, supernet.mixtures(0.2)).square().sum().backward()
        return [parameter.grad.clone() for parameter in supernet.parameters() if parameter.grad is not None]

    assert supernet.trunk.checkpoints
    recomputed = gradients()
    supernet.trunk.checkpoints = False
    for ours, plain in zip(recomputed, gradients(), strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("name", SPACES)
def test_any_choice_can_be_chosen(name):
    supernet = busy_supernet(name, 4)
    for choice in (find_smallest_choice(supernet.space), find_largest_choice(supernet.space)):
        supernet.choose(choice)
        assert supernet.choice() == choice
        for ours, projected in zip(
            supernet.make_one_hot_mixtures(choice).tensors(), supernet.mixtures(1).tensors(), strict=True
        ):
            assert torch.equal(ours, projected)
    before = [level.detach().clone() for level in supernet.arch_parameters()]
    supernet.choose(supernet.choice())
    assert all(torch.equal(*pair) for pair in zip(before, supernet.arch_parameters(), strict=True))


def test_the_path_tree_of_the_paper():
    space = SearchSpace("paper-a", 4, 64, 5, 5, 4)
    assert len(space.candidates) == 35
    assert sum(space.nodes[index].factor == 4 for index in space.cell_nodes) == 20
    assert space.widths == (24, 32, 40, 56, 64)
    chain = SearchSpace("paper-b", 4, 64, 5, 5, 4)
    assert [chain.nodes[index].cells for index in chain.candidates] == [1, 2, 3, 4, 5]
