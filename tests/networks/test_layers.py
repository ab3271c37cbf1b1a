"""Building blocks against torch's own functions."""

import pytest
import torch
from torch.nn import functional as F

from trinas.networks.layers import PReLU, take_prefix


def test_the_shared_prefix_crops_or_pads_with_zeros():
    features = torch.randn(1, 4, 3, 3)
    assert torch.equal(take_prefix(features, 2), features[:, :2])
    padded = take_prefix(features, 6)
    assert torch.equal(padded[:, :4], features)
    assert (padded[:, 4:] == 0).all()


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
