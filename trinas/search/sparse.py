"""From architecture parameters to mixtures: sparsemax, sparsestmax and survival, for any leading dimensions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def sparsemax(parameters: Tensor, dim: int = -1) -> Tensor:
    """Project parameters onto the nearest point of the probability simplex.

    Args:
        parameters: (..., K, ...) unnormalised, K candidates along `dim`.
        dim: the candidate axis.
    Returns:
        A mixture shaped like `parameters`: non-negative, summing to 1 along `dim`, often with exact zeros.

    Source: Martins & Astudillo, ICML 2016, arXiv:1602.02068.
    """
    ordered = parameters.sort(dim=dim, descending=True).values
    counts = _count_along(ordered, dim)
    sums = ordered.cumsum(dim)
    survivors = (1 + counts * ordered > sums).sum(dim, keepdim=True)
    threshold = (sums.gather(dim, survivors - 1) - 1) / survivors
    return (parameters - threshold).clamp(min=0)


def sparsestmax(parameters: Tensor, radius: float, dim: int = -1) -> Tensor:
    """Mix K candidates, keeping the mixture at least `radius` away from uniform.

    At radius 0 this is sparsemax; at `find_largest_radius(K)` it is one-hot. So a radius that grows during a search
    turns a mixture into a choice, with no temperature to tune. The result is sparsemax(a * parameters) with the
    smallest a >= 1 that reaches the radius; a is found in closed form.

    Args:
        parameters: (..., K, ...) unnormalised, K candidates along `dim`.
        radius: Euclidean distance from (1/K, ..., 1/K), at least 0.
        dim: the candidate axis.
    Returns:
        A mixture shaped like `parameters`: non-negative, summing to 1 along `dim`. From `find_largest_radius(K)` on it
        is exactly one-hot. Where parameters are equal, the lower index wins.
    Raises:
        ValueError: `radius` is negative.

    Source: Shao et al., CVPR 2019, arXiv:1903.03793; on a face of k candidates the radius that remains is
    sqrt(radius^2 + 1/K - 1/k).
    """
    if radius < 0:
        raise ValueError(f"radius must not be negative, got {radius:g}")
    parameters = parameters.movedim(dim, -1)
    count = parameters.shape[-1]
    if radius >= find_largest_radius(count):
        mixture = F.one_hot(parameters.argmax(-1), count).to(parameters.dtype) + 0 * parameters
    elif radius == 0:
        mixture = sparsemax(parameters)
    else:
        nearest = sparsemax(parameters)
        norm = radius**2 + 1 / count  # what |mixture|^2 must reach
        pushed, order = _push_out(parameters, norm)
        pushed = torch.zeros_like(pushed).scatter(-1, order, pushed)
        mixture = torch.where(nearest.square().sum(-1, keepdim=True) >= norm, nearest, pushed)
    return mixture.movedim(-1, dim)


def find_largest_radius(count: int) -> float:
    """Return the distance from uniform at which only one of `count` candidates is left."""
    return math.sqrt(1 - 1 / count)


def survival(mixture: Tensor, below: Tensor) -> Tensor:
    """Return the survival of each node of a tree: the sum of the shares of all candidates at or below it.

    Survival never grows along a path. So the deepest nodes are lost first, and any depth can still win. The mixture of
    the features equals h_0 + the sum over all nodes of survival * (h_node - h_before).

    Args:
        mixture: (K,) non-negative, summing to 1: one share for each candidate.
        below: (D, K), 1 if the candidate lies at or below the node, otherwise 0. For a chain it is triangular.
    Returns:
        (D,) between 0 and 1; exactly 0 for nodes that no candidate needs.
    """
    return (below * mixture).sum(-1)  # no matrix product: autocast would round it


def _push_out(parameters: Tensor, norm: float) -> tuple[Tensor, Tensor]:
    """Return mixtures with exactly this squared norm, in descending order, and the order itself. K is the last axis."""
    ordered, order = parameters.sort(dim=-1, descending=True, stable=True)
    counts = _count_along(ordered, -1)
    # No factor separates candidates that are as good as the best one. Among them, rank decides.
    tied = ordered == ordered[..., :1]
    hopeless = norm > 1 / tied.sum(-1, keepdim=True)
    offsets = torch.where(hopeless, 1 - counts, ordered - ordered[..., :1])
    means = offsets.cumsum(-1) / counts
    # The spread of the best k around their mean, summed term by term, so that nothing cancels.
    before = F.pad(means, (1, 0))[..., :-1]
    spreads = ((offsets - before).square() * (counts - 1) / counts).cumsum(-1)
    # The distance that is left on the face of the best k. A spread of 0 belongs to a face that is too large.
    left = (norm - 1 / counts).clamp(min=0).sqrt()
    factors = left / spreads.masked_fill(spreads == 0, 1).sqrt()
    lowest = 1 / counts + factors * (offsets - means)
    fits = (norm * counts >= 1) & (lowest > 0) & (spreads > 0) & (tied | ~hopeless)
    survivors = (fits * counts).amax(-1, keepdim=True).clamp(min=1)
    last = survivors.long() - 1
    factor, mean = factors.gather(-1, last), means.gather(-1, last)
    mixture = 1 / survivors + factor * (offsets - mean)
    return torch.where(counts <= survivors, mixture, 0).clamp(min=0), order


def _count_along(ordered: Tensor, dim: int) -> Tensor:
    """Return 1, 2, ..., K along `dim`, in a shape that broadcasts with `ordered`."""
    shape = [1] * ordered.ndim
    shape[dim] = -1
    return torch.arange(1, ordered.shape[dim] + 1, device=ordered.device, dtype=ordered.dtype).view(shape)
