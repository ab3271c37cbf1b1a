"""One optimiser step: the loss, its gradient, and the learning rate."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trinas.config import TrainConfig
from trinas.device import autocast
from trinas.networks.network import Network
from trinas.training.muon import Muon

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in luma."""

UNRECORDED_STEPS = 3
"""Steps that run before a CUDA graph is recorded, as PyTorch asks for."""


class TrainStep:
    """Takes optimiser steps. On a CUDA device a step is recorded as a graph, because Python would slow it down."""

    def __init__(
        self,
        network: Network,
        averaged: Network,
        optimizer: Muon,
        config: TrainConfig,
        precision: str,
    ) -> None:
        """Prepare to train a network.

        Args:
            network: the network that learns.
            averaged: gets the running mean of the network's weights.
            optimizer: of the network's parameters.
            config: `luma_share`, `clip_norm` and `ema_decay` are used here.
            precision: fp32 or bf16, for the trunk.
        """
        self.network, self.averaged, self.optimizer = network, averaged, optimizer
        self.config, self.precision = config, precision
        self.device = next(network.parameters()).device
        self._rate: Tensor = optimizer.param_groups[0]["lr"]
        self._averaging = torch.zeros((), device=self.device)
        self._luma_weights = torch.tensor(LUMA_WEIGHTS, device=self.device).view(3, 1, 1, 1)
        self._graphs: dict[bool, _RecordedStep] = {}

    def __call__(self, low: Tensor, high: Tensor, rate: float, step: int, squared: bool) -> Tensor:
        """Learn from one batch.

        Args:
            low: (N, 3, H, W) in [0, 1].
            high: (N, 3, scale * H, scale * W) in [0, 1].
            rate: learning rate of this step.
            step: number of steps taken before.
            squared: whether to minimise the squared error instead of the absolute one.
        Returns:
            The loss, still on the device.
        """
        self._rate.fill_(rate)
        # The mean follows closely at first, when the weights change fast.
        self._averaging.fill_(1 - min(self.config.ema_decay, (1 + step) / (10 + step)))
        if self.device.type != "cuda":
            return self._step(low, high, squared)
        if squared not in self._graphs:
            self._graphs[squared] = self._record(low, high, squared)
        return self._graphs[squared].replay(low, high)

    def _step(self, low: Tensor, high: Tensor, squared: bool) -> Tensor:
        low = low.contiguous(memory_format=torch.channels_last)
        if not self.network.spec.upsample_after:
            high = F.pixel_unshuffle(high, self.network.spec.scale)
        with autocast(self.device, self.precision):
            output = self.network.forward_unshuffled(low)
        # The gradient of the loss is computed by hand. By autograd it takes as long as the trunk of a small network.
        error = output.detach() - high.contiguous(memory_format=torch.channels_last)
        if squared:
            loss, gradient = _compute_squared_loss(error, self._luma_weights, self.config.luma_share)
        else:
            loss, gradient = error.abs().mean(), error.sign_().div_(error.numel())
        self.optimizer.zero_grad(set_to_none=True)
        output.backward(gradient)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            for mean, weight in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(weight, self._averaging)
        return loss

    def _record(self, low: Tensor, high: Tensor, squared: bool) -> "_RecordedStep":
        """Record one step as a graph. Recording needs some steps before, which are undone."""
        static_low, static_high = low.clone(), high.clone()
        modules = (self.network, self.averaged)
        before = [copy.deepcopy(module.state_dict()) for module in modules]
        optimizer_before = copy.deepcopy(self.optimizer.state_dict())
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(UNRECORDED_STEPS):
                self._step(static_low, static_high, squared)
        torch.cuda.current_stream().wait_stream(side)
        for module, weights in zip(modules, before, strict=True):
            module.load_state_dict(weights)
        self._restore_optimizer(optimizer_before)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self._step(static_low, static_high, squared)
        return _RecordedStep(graph, static_low, static_high, loss)

    def _restore_optimizer(self, before: dict[str, Any]) -> None:
        """Restore the optimiser's moments in place, because a graph uses the tensors that it was recorded with."""
        with torch.no_grad():
            for index, state in enumerate(self.optimizer.state.values()):
                for name, tensor in state.items():
                    old = before["state"].get(index, {}).get(name)
                    tensor.copy_(old) if old is not None else tensor.zero_()


@dataclass(frozen=True)
class _RecordedStep:
    """A CUDA graph of one step, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    low: Tensor
    high: Tensor
    loss: Tensor

    def replay(self, low: Tensor, high: Tensor) -> Tensor:
        """Take the recorded step with another batch of the same shape; return its loss."""
        self.low.copy_(low)
        self.high.copy_(high)
        self.graph.replay()
        return self.loss.clone()


def _compute_squared_loss(error: Tensor, luma_weights: Tensor, luma_share: float) -> tuple[Tensor, Tensor]:
    """Return the root of the mean squared error, and its gradient.

    Args:
        error: (N, 3 * k, H, W). The k values of a colour follow each other.
        luma_weights: (3, 1, 1, 1), summing to 1.
        luma_share: share of the error of luma, which PSNR on Y measures; the rest is that of all colours.
    """
    by_colour = error.unflatten(1, (3, -1))
    luma = (by_colour * luma_weights).sum(dim=1, keepdim=True)
    loss = (luma_share * luma.square().mean() + (1 - luma_share) * error.square().mean()).sqrt()
    # Luma has a third of the values, so each value weighs three times as much in the mean.
    weighted = 3 * luma_share * luma * luma_weights + (1 - luma_share) * by_colour
    return loss, weighted.flatten(1, 2) / (loss.clamp(min=1e-6) * error.numel())


def compute_learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the learning rate of a step. It rises linearly, then falls to zero along a cosine.

    Args:
        config: peak rate and warm-up steps.
        step: number of steps taken before.
        steps: of the whole training.
    """
    warmup_steps = min(config.warmup_steps, steps // 10)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
