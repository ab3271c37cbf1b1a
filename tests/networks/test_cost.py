import pytest
import torch
from hypothesis import given
from torch.utils.flop_counter import FlopCounterMode

from support.networks import specs
from trinas.networks.cost import QUOTED_OUTPUT_PX, compute_cost
from trinas.networks.network import Network
from trinas.networks.space import find_named_spec


@given(specs())
def test_cost_agrees_with_torch(spec):
    network, cost = Network(spec), compute_cost(spec)
    height, width = 6, 5
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, height, width))
    per_output_px = counter.get_total_flops() / 2 / (height * width * spec.scale**2)
    assert cost.macs == pytest.approx(per_output_px * QUOTED_OUTPUT_PX, rel=1e-12)
    assert cost.params == sum(parameter.numel() for parameter in network.parameters())


@given(specs())
def test_the_radius_is_the_largest_distance_at_which_a_pixel_matters(spec):
    """A pixel at the radius matters and none beyond it, in float64 and with weights that cannot cancel out."""
    radius = compute_cost(spec).radius_px
    side = 2 * radius + 1
    network = Network(spec).double()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 1 / parameter[0].numel())  # large enough to show, too small to saturate
    low = (0.5 + torch.rand(1, 3, 1, side, dtype=torch.float64) / 2).requires_grad_()  # none below 0 once it is centred
    # How much the output of the middle pixel depends on each input pixel of its row.
    middle = network(low)[:, :, :, radius * spec.scale : (radius + 1) * spec.scale]
    influence = torch.autograd.grad(middle.sum(), low)[0].abs().sum(dim=(0, 1, 2))
    assert influence[0] > 0
    assert influence[-1] > 0
    wider = torch.nn.functional.pad(low.detach(), (1, 1)).requires_grad_()
    middle = network(wider)[:, :, :, (radius + 1) * spec.scale : (radius + 2) * spec.scale]
    influence = torch.autograd.grad(middle.sum(), wider)[0].abs().sum(dim=(0, 1, 2))
    assert influence[0] == 0
    assert influence[-1] == 0


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("paper-a1", 335_232),
        ("paper-a2", 665_792),
        ("paper-b1", 234_080),
        ("paper-b2", 508_896),
        ("paper-b3", 264_256),
    ],
)
def test_the_networks_of_the_paper_are_built_by_name_and_have_their_parameter_counts(name, params):
    spec = find_named_spec(name)
    assert compute_cost(spec).params == params
    assert sum(parameter.numel() for parameter in Network(spec).parameters()) == params
