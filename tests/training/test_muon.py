import pytest
import torch
from torch import nn

from trinas.training.muon import Muon, is_matrix, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6), (1, 9)])
def test_singular_values_become_about_one(shape):
    """Whatever they were, as far as five rounds of the iteration bring them."""
    matrix = torch.randn(*shape, dtype=torch.float64) * torch.logspace(0, -1, shape[1], dtype=torch.float64)
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_the_direction_is_that_of_the_polar_factor():
    matrix = torch.randn(6, 30, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalise(matrix)
    assert torch.cosine_similarity(found.flatten(), (left @ right).flatten(), dim=0) > 0.98


def test_what_is_zero_stays_zero():
    """Channels of a supernet that no step has reached do not move."""
    matrix = torch.randn(8, 12)
    matrix[5:], matrix[:, 9:] = 0, 0
    found = orthogonalise(matrix)
    assert (found[5:] == 0).all()
    assert (found[:, 9:] == 0).all()
    assert (orthogonalise(torch.zeros(3, 4)) == 0).all()


def test_all_but_kernels_move_as_with_adam():
    torch.manual_seed(0)
    modules = [nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.PReLU(4)]) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    ours, theirs = Muon(modules[0].parameters(), 1e-2), torch.optim.Adam(modules[1].parameters(), 1e-2)
    for _ in range(5):
        features = torch.randn(2, 4, 6, 6)
        for (conv, act), optimizer in zip(modules, (ours, theirs), strict=True):
            optimizer.zero_grad()
            (act(conv(features)) - features.flip(1)).square().mean().backward()
            optimizer.step()
    for first, second in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        assert not is_matrix(first)
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("shape", [(8, 16, 3, 3), (48, 3, 3, 3), (16, 8, 1, 1)])
def test_a_kernel_moves_by_the_rate(shape):
    """Half of it, root mean square, whether it has more outputs or more inputs and places."""
    kernel = nn.Parameter(torch.zeros(shape))
    kernel.grad = torch.randn(shape)
    Muon([kernel], learning_rate=0.01).step()
    assert float(kernel.detach().square().mean().sqrt()) == pytest.approx(0.005, rel=0.2)
    assert float((kernel.detach() * kernel.grad).sum()) < 0


def test_kernels_decay_and_biases_do_not():
    """By the rate times the decay, before the step."""
    conv, plain = (nn.Conv2d(4, 8, 3) for _ in range(2))
    plain.load_state_dict(conv.state_dict())
    before = conv.weight.detach().clone()
    for module, decay in ((conv, 0.3), (plain, 0.0)):
        torch.manual_seed(0)
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        Muon(module.parameters(), 0.1, decay).step()
    torch.testing.assert_close(conv.weight, plain.weight - 0.03 * before)
    torch.testing.assert_close(conv.bias, plain.bias, rtol=0, atol=0)


def test_parameters_without_gradients_rest():
    kernel = nn.Parameter(torch.ones(2, 2, 3, 3))
    Muon([kernel], learning_rate=0.1).step()
    assert (kernel == 1).all()
