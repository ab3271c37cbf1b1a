"""What the supernet that searches start from owes its prefixes to."""

import pretrain
import pytest
import torch

from trinas.networks.network import Network


@pytest.fixture
def nested():
    torch.manual_seed(0)
    network = Network(pretrain.build_chain(2, pretrain.TRUNK_WIDTH, pretrain.CELLS))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    pretrain.nest(network)
    return network


@pytest.mark.parametrize(("width", "cells"), [(8, 2), (24, 3), (32, 4), (48, 4)])
def test_a_prefix_computes_the_same_alone_as_within_the_whole(nested, width, cells):
    low = torch.rand(1, 3, 9, 7)
    (within,) = pretrain.run_prefixes(nested, low, [(width, cells)])
    torch.testing.assert_close(pretrain.cut_prefix(nested, width, cells).forward_unshuffled(low), within)


def test_without_nesting_it_would_not(nested):
    torch.nn.init.normal_(nested.trunk[0][0].conv.weight, std=0.1)
    low = torch.rand(1, 3, 9, 7)
    (within,) = pretrain.run_prefixes(nested, low, [(24, 3)])
    assert not torch.allclose(pretrain.cut_prefix(nested, 24, 3).forward_unshuffled(low), within, atol=1e-4)
