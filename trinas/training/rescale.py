"""Take a trained network to another scale: its head and trunk stay, and its tail is fitted by least squares."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from trinas.errors import ModelError
from trinas.networks.network import Network
from trinas.training.data import Pair, TrainingImage, crop_centres, make_pairs

FIT_IMAGES, FIT_SIDE_PX = 256, 96
"""On how many images a tail is fitted at most, and the side of their middles, in low-resolution pixels. That makes two
million equations for the 289 unknowns of a tail behind 32 channels. A quarter of them made it 0.04 dB worse."""

RIDGE = 1e-9
"""Added to the normal equations, as a share of their mean diagonal: channels may be dead or alike."""


def rescale(network: Network, scale: int, images: Sequence[TrainingImage], variants: int = 0) -> Network:
    """Return a network of another scale with the head and the trunk of `network`.

    What a trunk computes serves every scale, and the tail of the edge family is linear. So the best tail, in squared
    error, is the solution of linear equations (docs/LOG.md). In the paper family the tail is fresh.

    Args:
        network: it stays as it is.
        scale: output pixels per input pixel, along each side.
        images: to fit the tail on; some of them are taken.
        variants: as `TrainConfig.variants`; 1 of them is used.
    Raises:
        ModelError: the trunk itself depends on the scale, as upsampling steps do.
    """
    if network.spec.upsample_after:
        raise ModelError("a network with upsampling steps cannot start another scale; start from fresh weights")
    rescaled = Network(replace(network.spec, scale=scale))
    rescaled.head.load_state_dict(network.head.state_dict())
    rescaled.trunk.load_state_dict(network.trunk.state_dict())
    if rescaled.family == "edge":
        chosen = images[:: -(-len(images) // FIT_IMAGES)]
        _fit_tail(rescaled, make_pairs(crop_centres(chosen, FIT_SIDE_PX * scale), scale, min(variants, 1)))
    return rescaled


@torch.no_grad()
def _fit_tail(network: Network, pairs: Sequence[Pair]) -> None:
    """Minimise the squared error of an edge network over the weights of its tail."""
    tail = network.tail
    unknowns = tail.weight[0].numel() + 1
    squares = torch.zeros(unknowns, unknowns, dtype=torch.float64)
    products = torch.zeros(unknowns, len(tail.weight), dtype=torch.float64)
    for low, high in pairs:
        left, right = _make_equations(network, _to_batch(low), _to_batch(high))
        squares += left.T @ left
        products += left.T @ right
    ridge = RIDGE * squares.diagonal().mean() * torch.eye(unknowns, dtype=torch.float64)
    solution = torch.linalg.solve(squares + ridge, products).T
    tail.weight.copy_(solution[:, :-1].reshape(tail.weight.shape))
    assert tail.bias is not None
    tail.bias.copy_(solution[:, -1])


def _make_equations(network: Network, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the tail reads at each position, with a 1 for its bias, and what it should return there.

    Args:
        network: of the edge family.
        low, high: (1, 3, H, W) and (1, 3, scale * H, scale * W).
    Returns:
        (H * W, 9 * trunk_width + 1) and (H * W, 3 * scale**2).
    """
    under_kernel = F.unfold(network.extract_features(low), 3, padding=1)[0].T.double()
    missing = F.pixel_unshuffle(high, network.scale).unflatten(1, (3, -1)) - low[:, :, None]  # less the image skip
    equations = torch.cat([under_kernel, torch.ones(len(under_kernel), 1, dtype=torch.float64)], 1)
    return equations, missing[0].flatten(0, 1).flatten(1).T.double()


def _to_batch(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
