"""One optimiser step and the learning rate."""

import copy

import pytest
import torch

from support.networks import busy_network
from trinas.config import TrainConfig
from trinas.training.muon import Muon
from trinas.training.step import TrainStep, compute_learning_rate


@pytest.mark.parametrize(("squared", "luma_share"), [(False, 0.85), (True, 0.85), (True, 0.5)])
def test_a_step_follows_the_gradient_of_the_loss(tiny_spec, squared, luma_share):
    """The gradient written by hand is autograd's."""
    network = busy_network(tiny_spec)
    low, high = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)
    error = network(low) - high
    luma = (error * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1)
    mean_square = luma_share * luma.square().mean() + (1 - luma_share) * error.square().mean()
    loss = mean_square.sqrt() if squared else error.abs().mean()
    expected = torch.autograd.grad(loss, list(network.parameters()))
    averaged, optimizer = copy.deepcopy(network), Muon(network.parameters())
    config = TrainConfig(steps=1, clip_norm=1e9, luma_share=luma_share)
    returned = TrainStep(network, averaged, optimizer, config, "fp32")(low, high, 0.0, 0, squared)
    torch.testing.assert_close(returned, loss.detach())
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_rate_rises_then_falls_to_zero():
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [compute_learning_rate(config, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("squared", [False, True])
def test_captured_steps_are_those_that_are_not(tiny_spec, squared):
    """Both kinds of steps of one run, on the GPU, against the same steps on the CPU."""
    low, high = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)
    networks = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = busy_network(tiny_spec).to(device, memory_format=torch.channels_last)
        averaged = copy.deepcopy(network)
        take_step = TrainStep(network, averaged, Muon(network.parameters()), TrainConfig(steps=4), "fp32")
        for step, kind in enumerate([not squared, squared, not squared, squared]):
            take_step(low.to(device), high.to(device), 1e-4, step, kind)
        networks.append(averaged.cpu())
    torch.testing.assert_close(networks[1].state_dict(), networks[0].state_dict(), rtol=1e-3, atol=1e-5)
