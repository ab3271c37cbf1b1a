from dataclasses import replace

import pytest
import torch
from hypothesis import given
from torch.nn import functional as F

from support.networks import busy_network, specs
from trinas.networks.network import Network
from trinas.networks.primitives import PReLU, build_primitive, shared_prefix
from trinas.networks.space import PAPER_NETWORKS, ArchSpec, CellSpec, SlotSpec
from trinas.zoo.folder import collapsed_weights


@given(specs())
def test_a_network_enlarges_by_its_scale(spec):
    assert Network(spec)(torch.rand(1, 3, 4, 7)).shape == (1, 3, 4 * spec.scale, 7 * spec.scale)


@given(specs())
def test_what_training_compares_is_the_output_before_its_shuffle(spec):
    network, low = busy_network(spec), torch.rand(2, 3, 4, 5)
    unshuffled = network.unshuffled(low)
    shuffled = unshuffled if spec.upsample_after else F.pixel_shuffle(unshuffled, spec.scale)
    torch.testing.assert_close(network(low), shuffled)


def test_a_fresh_edge_network_repeats_pixels(tiny_spec):
    """Its tail starts at zero, so that training begins from the nearest-upsampled input."""
    low = torch.rand(2, 3, 6, 5)
    torch.testing.assert_close(Network(tiny_spec)(low), F.interpolate(low, scale_factor=2, mode="nearest"))


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
    collapsed.load_state_dict(collapsed_weights(network))
    assert torch.equal(collapsed(low), trained)
    network.close_branches()
    assert torch.equal(network(low), trained)
    assert set(network.state_dict()) == set(Network(tiny_spec).state_dict())
    network.open_branches()
    assert torch.equal(network(low), trained), "a collapsed network opens again exactly"


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
    torch.testing.assert_close(skipping.unshuffled(low), expected)
    torch.testing.assert_close(skipping(low), F.pixel_shuffle(expected, tiny_spec.scale))


def mixer_formula(m, x, w):
    hidden = F.prelu(conv_of(m.expand, conv_of(m.depthwise, x)), m.act.weight)
    return shared_prefix(x, w) + conv_of(m.project, hidden)


@pytest.mark.parametrize(("c_in", "c_out"), [(6, 6), (6, 9), (9, 6)])
@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("skip", lambda m, x, w: shared_prefix(x, w)),
        ("conv3x3", lambda m, x, w: F.prelu(conv_of(m.conv, x), m.act.weight)),
        (
            "residual",
            lambda m, x, w: shared_prefix(x, w) + conv_of(m.conv2, F.prelu(conv_of(m.conv1, x), m.act.weight)),
        ),
        ("gated", lambda m, x, w: conv_of(m.conv, x) * torch.sigmoid(conv_of(m.gate, x))),
        ("mixer5", mixer_formula),
        ("mixer7", mixer_formula),
    ],
)
def test_edge_primitives_follow_their_formulas(name, formula, c_in, c_out):
    features = torch.randn(2, c_in, 8, 9)
    primitive = build_primitive("edge", name, c_in, c_out)
    torch.testing.assert_close(primitive(features), formula(primitive, features, c_out))


@pytest.mark.parametrize(("c_in", "c_out"), [(6, 6), (6, 9)])
@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("skip", lambda m, x, identity: F.relu(conv_of(m.conv, x))),
        ("conv3x3", lambda m, x, identity: F.relu(conv_of(m.conv, x))),
        ("residual", lambda m, x, identity: F.relu(identity + conv_of(m.conv2, F.relu(conv_of(m.conv1, x))))),
        (
            "dws",
            lambda m, x, identity: F.relu(
                identity + conv_of(m.project, F.relu(conv_of(m.depthwise, F.relu(conv_of(m.expand, x)))))
            ),
        ),
    ],
)
def test_paper_primitives_follow_their_formulas(name, formula, c_in, c_out):
    features = torch.randn(2, c_in, 8, 9)
    primitive = build_primitive("paper", name, c_in, c_out)
    identity = features if c_in == c_out else torch.zeros(())
    if c_in != c_out and hasattr(primitive, "identity"):
        identity = F.conv2d(features, primitive.identity.projection.weight)
    torch.testing.assert_close(primitive(features), formula(primitive, features, identity))
    assert all(parameter.ndim == 4 for parameter in primitive.parameters()), "bias-free"


def test_a_paper_network_follows_its_formula():
    """Cells add a fifth of their chain, steps upsample in between, the output is (tanh + 1) / 2."""
    cell = CellSpec((SlotSpec("conv3x3", 6),))
    network = busy_network(ArchSpec("paper", 4, 6, (cell, cell), (1, 2)))
    low = torch.rand(1, 3, 5, 4)
    features = conv_of(network.head, 2 * low - 1)
    for number in range(2):
        first, step = network.trunk[2 * number], network.trunk[2 * number + 1]
        features = features + 0.2 * first[0](features)
        features = F.leaky_relu(conv_of(step.conv, F.interpolate(features, scale_factor=2)), 0.2)
    torch.testing.assert_close(network(low), (torch.tanh(conv_of(network.tail, features)) + 1) / 2)


def test_the_shared_prefix_crops_or_pads_with_zeros():
    features = torch.randn(1, 4, 3, 3)
    assert torch.equal(shared_prefix(features, 2), features[:, :2])
    padded = shared_prefix(features, 6)
    assert torch.equal(padded[:, :4], features)
    assert (padded[:, 4:] == 0).all()


CELL = CellSpec((SlotSpec("dws", 8), SlotSpec("residual", 16)))
SMALL = ArchSpec("paper", 2, 16, (CELL, CELL), upsample_after=(1,))


@pytest.mark.parametrize("spec", [SMALL, *PAPER_NETWORKS.values()], ids=["paper x2", *PAPER_NETWORKS])
def test_a_paper_network_starts_near_the_enlarged_input(spec):
    torch.manual_seed(0)
    low = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        high = Network(spec)(low)
        shades = {shade: float(Network(spec)(torch.full((1, 3, 12, 12), shade)).mean()) for shade in (0.1, 0.5, 0.9)}
    nearest = F.interpolate(low, scale_factor=spec.scale, mode="nearest")
    assert (high - nearest).abs().mean() < 0.05
    assert shades == pytest.approx({shade: shade for shade in shades}, abs=0.03)


@pytest.mark.parametrize("primitive", ["conv3x3", "gated"])
def test_a_long_edge_chain_hands_its_input_on_at_the_start(primitive):
    """What differs between two pictures must still differ behind it, or nothing is learnt."""
    torch.manual_seed(0)
    network = Network(ArchSpec("edge", 4, 32, (CellSpec((SlotSpec(primitive, 32),) * 12),)))
    with torch.no_grad():
        features = network.head(torch.rand(1, 3, 16, 16))
        behind = network.trunk(features)
    kept = float(behind.std((0, 2, 3)).mean() / features.std((0, 2, 3)).mean())
    assert 0.2 < kept < 20


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_prelu_is_torchs_to_the_bit(dtype):
    act = PReLU(8)
    torch.nn.init.uniform_(act.weight, -0.5, 1.5)
    features = torch.randn(2, 8, 9, 7, dtype=dtype)
    expected = F.prelu(features, act.weight.to(dtype))
    assert torch.equal(act(features), expected)
    with torch.no_grad():
        assert torch.equal(act(features), expected)


def test_prelu_has_torchs_gradients():
    act = PReLU(8).double()
    torch.nn.init.uniform_(act.weight, -0.5, 1.5)
    features = torch.randn(2, 8, 9, 7, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad(F.prelu(features, act.weight).square().sum(), (features, act.weight))
    found = torch.autograd.grad(act(features).square().sum(), (features, act.weight))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
