from dataclasses import replace

import pytest
import torch
from hypothesis import given
from torch.nn import functional as F

from support.networks import busy_network, specs
from trinas.networks.network import Network
from trinas.networks.space import PAPER_NETWORKS, ArchSpec, CellSpec, SlotSpec
from trinas.zoo.folder import collapse_weights


@given(specs())
def test_a_network_upscales_by_its_scale(spec):
    assert Network(spec)(torch.rand(1, 3, 4, 7)).shape == (1, 3, 4 * spec.scale, 7 * spec.scale)


@given(specs())
def test_the_unshuffled_output_becomes_the_output_by_its_shuffle(spec):
    network, low = busy_network(spec), torch.rand(2, 3, 4, 5)
    unshuffled = network.forward_unshuffled(low)
    shuffled = unshuffled if spec.upsample_after else F.pixel_shuffle(unshuffled, spec.scale)
    torch.testing.assert_close(network(low), shuffled)


def test_a_fresh_edge_network_repeats_pixels(tiny_spec):
    """Its tail starts at zero, so training begins from the nearest-upsampled input."""
    low = torch.rand(2, 3, 6, 5)
    torch.testing.assert_close(Network(tiny_spec)(low), F.interpolate(low, scale_factor=2, mode="nearest"))


def test_a_busy_network_is_not_just_its_image_skip(tiny_spec):
    low = torch.rand(1, 3, 6, 6)
    skip = F.interpolate(low, scale_factor=2, mode="nearest")
    assert (busy_network(tiny_spec)(low) - skip).abs().max() > 0.1


def test_branches_open_without_changing_anything_and_collapse_exactly(tiny_spec):
    network = busy_network(tiny_spec)
    low = torch.rand(1, 3, 9, 7)
    before = network(low)
    network.open_branches()
    assert torch.equal(network(low), before), "open branches must start at zero"
    for name, parameter in network.named_parameters():
        if name.endswith(("pointwise", "diagonal")):
            torch.nn.init.normal_(parameter, std=0.3)
    trained = network(low)
    assert (trained - before).abs().max() > 0.01
    collapsed = Network(tiny_spec)
    collapsed.load_state_dict(collapse_weights(network))
    assert torch.equal(collapsed(low), trained)
    network.close_branches()
    assert torch.equal(network(low), trained)
    assert set(network.state_dict()) == set(Network(tiny_spec).state_dict())
    network.open_branches()
    assert torch.equal(network(low), trained), "a collapsed network can be opened again, exactly"


def test_open_branches_learn(tiny_spec):
    network = busy_network(tiny_spec)
    network.open_branches()
    network(torch.rand(1, 3, 8, 8)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def conv_of(conv, features):
    return F.conv2d(features, conv.weight, conv.bias, padding=conv.kernel_size[0] // 2, groups=conv.groups)


def test_a_long_skip_gives_the_tail_the_sum_of_head_and_trunk(tiny_spec):
    plain = busy_network(tiny_spec)
    skipping = Network(replace(tiny_spec, long_skip=True))
    skipping.load_state_dict(plain.state_dict())
    low = torch.rand(1, 3, 6, 5)
    features = plain.head(low)
    expected = plain.tail(features + plain.trunk(features)) + low.repeat_interleave(tiny_spec.scale**2, 1)
    torch.testing.assert_close(skipping.forward_unshuffled(low), expected)
    torch.testing.assert_close(skipping(low), F.pixel_shuffle(expected, tiny_spec.scale))


def test_a_paper_network_follows_its_formula():
    """Cells add a fifth of their chain, steps between them upsample, and the output is (tanh + 1) / 2."""
    cell = CellSpec((SlotSpec("conv3x3", 6),))
    network = busy_network(ArchSpec("paper", 4, 6, (cell, cell), (1, 2)))
    low = torch.rand(1, 3, 5, 4)
    features = conv_of(network.head, 2 * low - 1)
    for number in range(2):
        first, step = network.trunk[2 * number], network.trunk[2 * number + 1]
        features = features + 0.2 * first[0](features)
        features = F.leaky_relu(conv_of(step.conv, F.interpolate(features, scale_factor=2)), 0.2)
    torch.testing.assert_close(network(low), (torch.tanh(conv_of(network.tail, features)) + 1) / 2)


CELL = CellSpec((SlotSpec("dws", 8), SlotSpec("residual", 16)))
SMALL = ArchSpec("paper", 2, 16, (CELL, CELL), upsample_after=(1,))


@pytest.mark.parametrize("spec", [SMALL, *PAPER_NETWORKS.values()], ids=["paper x2", *PAPER_NETWORKS])
def test_a_paper_network_starts_near_the_nearest_upsampled_input(spec):
    torch.manual_seed(0)
    low = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        high = Network(spec)(low)
        shades = {shade: float(Network(spec)(torch.full((1, 3, 12, 12), shade)).mean()) for shade in (0.1, 0.5, 0.9)}
    nearest = F.interpolate(low, scale_factor=spec.scale, mode="nearest")
    assert (high - nearest).abs().mean() < 0.05
    assert shades == pytest.approx({shade: shade for shade in shades}, abs=0.03)


@pytest.mark.parametrize("primitive", ["conv3x3", "gated"])
def test_a_long_edge_chain_passes_its_input_on_at_the_start(primitive):
    """Features must not all become the same on the way, or nothing is learnt."""
    torch.manual_seed(0)
    network = Network(ArchSpec("edge", 4, 32, (CellSpec((SlotSpec(primitive, 32),) * 12),)))
    with torch.no_grad():
        features = network.head(torch.rand(1, 3, 16, 16))
        behind = network.trunk(features)
    kept = float(behind.std((0, 2, 3)).mean() / features.std((0, 2, 3)).mean())
    assert 0.2 < kept < 20
