"""Networks that are taken to another scale."""

from dataclasses import replace

import pytest
import torch

from support.networks import busy_network
from trinas.errors import ModelError
from trinas.networks.space import PAPER_NETWORKS, ArchSpec, CellSpec, SlotSpec
from trinas.training.data import make_pairs
from trinas.training.rescale import rescale


def measure_error(network, images) -> float:
    """Return the squared error over whole images."""
    error = 0.0
    for low, high in make_pairs(images, network.scale):
        batch = [torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255 for pixels in (low, high)]
        error += (network.double()(batch[0]) - batch[1]).square().sum().item()
    return error


@pytest.mark.parametrize("long_skip", [False, True])
def test_head_and_trunk_stay_and_no_other_tail_has_a_smaller_error(images, long_skip):
    spec = ArchSpec("edge", 4, 6, (CellSpec((SlotSpec("conv3x3", 6), SlotSpec("skip", 6))),), long_skip=long_skip)
    torch.manual_seed(0)
    network = busy_network(spec)
    rescaled = rescale(network, 2, images)
    assert rescaled.spec == replace(spec, scale=2)
    kept = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("tail.")}
    assert all(torch.equal(rescaled.state_dict()[name], tensor) for name, tensor in kept.items())
    least = measure_error(rescaled, images)
    for parameter in rescaled.tail.parameters():
        change = 0.01 * torch.randn_like(parameter)
        for sign in (1, -2):
            parameter.data += sign * change
            assert measure_error(rescaled, images) > least
        parameter.data += change
    assert measure_error(rescaled, images) == pytest.approx(least)


def test_the_same_network_comes_out_every_time(images):
    spec = ArchSpec("edge", 4, 4, (CellSpec((SlotSpec("conv3x3", 4),)),))
    network = busy_network(spec)
    first, second = (rescale(network, 3, images).tail.weight for _ in range(2))
    assert torch.equal(first, second)


def test_the_paper_s_networks_get_a_fresh_tail_unless_their_trunk_upsamples(images):
    network = busy_network(PAPER_NETWORKS["paper-b3"])
    assert rescale(network, 2, images).tail.weight.shape[0] == 12
    with pytest.raises(ModelError, match="upsampling steps"):
        rescale(busy_network(PAPER_NETWORKS["paper-a1"]), 2, images)
