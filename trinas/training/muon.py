"""The optimiser: orthogonalised momentum for kernels, Adam for everything else."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

KERNEL_SHARE = 0.5
"""About how far the entries of a kernel move in a step of rate 1, as a root mean square. At 0.2 they move as far as by
Adam, at 0.5 networks learn faster, and at 1 they diverged (docs/LOG.md)."""

MOMENTUM = 0.9
ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the odd polynomial that moves singular values towards 1."""

ROUNDS = 5
"""Rounds of the iteration. After these, singular values are within 0.3 of 1."""


class Muon(torch.optim.Optimizer):
    """Move kernels by orthogonalised momentum, and all other parameters by Adam.

    A kernel is taken as a matrix with a row for each output and a column for each input and position. The gradient of
    such a matrix has a few large singular values, which hide the many small ones. In an orthogonalised gradient all of
    them count the same. Biases, slopes and depthwise kernels are not such matrices, so Adam moves them.

    There is one learning rate for both. It is a tensor on the parameters' device, so that a CUDA graph reads its
    present value.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; the length of a step follows Liu et al.
    2025, arXiv:2502.16982. torch's own Muon only takes matrices, and a CUDA graph cannot record it.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], learning_rate: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        """Take the parameters of a network.

        Args:
            parameters: kernels are recognised by their shapes.
            learning_rate: can be changed at any time, in `param_groups[0]["lr"]`.
            weight_decay: share of a kernel that a step of rate 1 takes away. Without it kernels grow as long as they
                are trained, since the length of a step does not depend on that of the gradient.
        """
        parameters = list(parameters)
        rate = torch.tensor(learning_rate, device=parameters[0].device)
        super().__init__(parameters, {"lr": rate, "weight_decay": weight_decay})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned, from any device.

        Raises:
            ValueError: it is of other parameters.
        """
        super().load_state_dict(state_dict)  # moves all tensors except the rate
        check_moments(self, lambda parameter: ("momentum",) if is_matrix(parameter) else ("mean", "square"))
        (group,) = self.param_groups
        group["lr"] = group["lr"].to(group["params"][0].device)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        (group,) = self.param_groups
        kept = 1 - group["lr"] * group["weight_decay"]
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            if is_matrix(parameter):
                parameter.mul_(kept)
                self._move_kernel(parameter, group["lr"])
            else:
                self._move_by_adam(parameter, group["lr"])

    def _move_kernel(self, kernel: Tensor, rate: Tensor) -> None:
        state, gradient = self.state[kernel], kernel.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(state["momentum"], MOMENTUM)  # Nesterov's
        direction = orthogonalise(ahead.flatten(1))
        length = KERNEL_SHARE * math.sqrt(max(direction.shape))
        kernel.sub_(rate * length * direction.view_as(kernel))

    def _move_by_adam(self, parameter: Tensor, rate: Tensor) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["steps"] = torch.zeros((), device=parameter.device)
        state["steps"] += 1
        state["mean"].lerp_(gradient, 1 - ADAM_BETAS[0])
        state["square"].lerp_(gradient.square(), 1 - ADAM_BETAS[1])
        mean = state["mean"] / (1 - ADAM_BETAS[0] ** state["steps"])
        square = state["square"] / (1 - ADAM_BETAS[1] ** state["steps"])
        parameter.sub_(rate * mean / (square.sqrt() + ADAM_EPS))


def check_moments(optimizer: torch.optim.Optimizer, names: Callable[[Tensor], Sequence[str]]) -> None:
    """Refuse a loaded state whose moments have other shapes than their parameters. torch does not look at them.

    Args:
        optimizer: has loaded a state.
        names: returns the names of a parameter's moments.
    Raises:
        ValueError: as said above.
    """
    for parameter, state in optimizer.state.items():
        if state and any(state[name].shape != parameter.shape for name in names(parameter)):
            raise ValueError("the optimiser's state is of other parameters")


def is_matrix(parameter: Tensor) -> bool:
    """Return whether a parameter is a kernel that mixes channels."""
    return parameter.ndim == 4 and parameter.shape[1] > 1


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return about U V' of a matrix U S V', by Newton-Schulz iteration. A zero matrix stays zero.

    Args:
        matrix: (rows, columns).
    Returns:
        A matrix of the same shape. Its singular values are between 0.7 and 1.2, unless they were tiny.
    """
    first, third, fifth = NEWTON_SCHULZ
    is_tall = matrix.shape[0] > matrix.shape[1]
    turned = matrix.T if is_tall else matrix
    turned = turned / turned.norm().clamp(min=1e-12)
    for _ in range(ROUNDS):
        gram = turned @ turned.T
        turned = first * turned + (third * gram + fifth * gram @ gram) @ turned
    return turned.T if is_tall else turned
