"""The cost of a network, computed from its spec alone: parameters, multiply-adds, receptive radius."""

from dataclasses import dataclass
from math import ceil

from trinas.networks.primitives import ConvShape
from trinas.networks.space import ArchSpec

QUOTED_OUTPUT_PX = 1280 * 720
"""Multiply-adds are given for an output of this many pixels, as in the literature."""


@dataclass(frozen=True)
class Cost:
    """The exact cost of a network."""

    params: int
    """Parameters: the numbers in its collapsed weights."""
    macs: float
    """Multiply-adds of its convolutions for a 1280x720 output."""
    radius_px: int
    """Receptive radius: an output pixel depends on no input pixel further away than this."""


def compute_cost(spec: ArchSpec) -> Cost:
    """Return the exact cost of the network that `spec` describes."""
    convs = spec.convs()
    params = sum(conv.params for conv, _ in convs)
    # After upsampling by `factor`, a convolution runs at `factor` squared positions per input pixel.
    macs_per_low_px = sum(conv.macs * factor**2 for conv, factor in convs)
    return Cost(params, macs_per_low_px * QUOTED_OUTPUT_PX / spec.scale**2, _compute_radius_px(convs))


def _compute_radius_px(convs: list[tuple[ConvShape, int]]) -> int:
    """Return the receptive radius. Kernels are added up from the output back to the input.

    Convolutions beside the longest path of a primitive are all 1x1 and add nothing, so the sum over all is exact.
    """
    radius, factor = 0, convs[-1][1]
    for conv, conv_factor in reversed(convs):
        radius = ceil(radius / (factor // conv_factor))
        factor = conv_factor
        radius += conv.kernel // 2
    return radius
