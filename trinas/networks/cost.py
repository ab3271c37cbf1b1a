"""The cost of a network, computed from its spec alone: parameters, multiply-adds, receptive radius."""

from dataclasses import dataclass
from math import ceil

from trinas.networks.primitives import ConvShape, find_primitive
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
    convs = _list_convs(spec)
    params = sum(conv.params for conv, _ in convs)
    # After upsampling by `factor`, a convolution runs at `factor` squared positions per input pixel.
    macs_per_low_px = sum(conv.macs * factor**2 for conv, factor in convs)
    return Cost(params, macs_per_low_px * QUOTED_OUTPUT_PX / spec.scale**2, _compute_radius_px(convs))


def _list_convs(spec: ArchSpec) -> list[tuple[ConvShape, int]]:
    """Return all convolutions in order, each with the upsampling factor at its place."""
    bias, width, factor = spec.family == "edge", spec.trunk_width, 1
    convs = [(ConvShape(3, width, 3, bias=bias), factor)]
    for stage in spec.path():
        if isinstance(stage, int):
            factor *= stage
            convs.append((ConvShape(width, width, 3), factor))
            continue
        c_in = width
        for slot in stage.slots:
            primitive = find_primitive(spec.family, slot.primitive)
            convs += [(conv, factor) for conv in primitive.convs(c_in, slot.width)]
            c_in = slot.width
    convs += [(ConvShape(width, width, 3), factor)] * spec.plain_convs
    c_out = 3 if spec.upsample_after else 3 * spec.scale**2
    return [*convs, (ConvShape(width, c_out, 3, bias=bias), factor)]


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
