"""What a network costs, from its spec alone: parameters, multiply-adds, receptive radius."""

from dataclasses import dataclass
from math import ceil

from trinas.networks.space import ArchSpec

QUOTED_OUTPUT_PX = 1280 * 720
"""Multiply-adds are quoted for an output of this many pixels, as the field does."""


@dataclass(frozen=True)
class Cost:
    """Exact cost of a network."""

    params: int
    """Elements of its collapsed weights."""
    macs: float
    """Multiply-adds of its convolutions for a 1280x720 output."""
    radius_px: int
    """Receptive radius: no output pixel depends on input pixels further away than this."""


@dataclass(frozen=True)
class ConvShape:
    """A convolution's share of the cost; `prelu` counts the slopes of an activation behind it."""

    c_in: int
    c_out: int
    kernel: int
    groups: int = 1
    bias: bool = False
    prelu: bool = False

    @property
    def macs(self) -> int:
        """Multiply-adds per output position."""
        return self.kernel**2 * self.c_in // self.groups * self.c_out

    @property
    def params(self) -> int:
        return self.macs + self.c_out * (self.bias + self.prelu)


def primitive_convs(family: str, name: str, c_in: int, c_out: int) -> tuple[ConvShape, ...]:
    """The convolutions of a primitive, those on its longest path first.

    Raises:
        ValueError: the family has no such primitive.
    """
    match family, name:
        case "edge", "skip":
            return ()
        case "edge", "conv3x3":
            return (ConvShape(c_in, c_out, 3, bias=True, prelu=True),)
        case "edge", "residual":
            return (
                ConvShape(c_in, c_out, 3, bias=True, prelu=True),
                ConvShape(c_out, c_out, 3, bias=True),
            )
        case "edge", "gated":
            return ConvShape(c_in, c_out, 3, bias=True), ConvShape(c_in, c_out, 1, bias=True)
        case "edge", "mixer5" | "mixer7":
            return (
                ConvShape(c_in, c_in, int(name[-1]), groups=c_in, bias=True),
                ConvShape(c_in, 2 * c_in, 1, bias=True, prelu=True),
                ConvShape(2 * c_in, c_out, 1, bias=True),
            )
        case "paper", "skip":
            return (ConvShape(c_in, c_out, 1),)
        case "paper", "conv3x3":
            return (ConvShape(c_in, c_out, 3),)
        case "paper", "residual":
            return ConvShape(c_in, c_out, 3), ConvShape(c_out, c_out, 3), *_projection(c_in, c_out)
        case "paper", "dws":
            return (
                ConvShape(c_in, 4 * c_in, 1),
                ConvShape(4 * c_in, 4 * c_in, 3, groups=4 * c_in),
                ConvShape(4 * c_in, c_out, 1),
                *_projection(c_in, c_out),
            )
    raise ValueError(f"{family!r} has no primitive {name!r}")


def _projection(c_in: int, c_out: int) -> tuple[ConvShape, ...]:
    return () if c_in == c_out else (ConvShape(c_in, c_out, 1),)


def spec_cost(spec: ArchSpec) -> Cost:
    """The exact cost of the network that `spec` describes."""
    stages = _stages(spec)
    params = sum(conv.params for conv, _ in stages)
    # Per input pixel a convolution behind upsampling runs at `factor` squared positions.
    macs_per_low_px = sum(conv.macs * factor**2 for conv, factor in stages)
    return Cost(params, macs_per_low_px * QUOTED_OUTPUT_PX / spec.scale**2, _radius_px(stages))


def _stages(spec: ArchSpec) -> list[tuple[ConvShape, int]]:
    """Every convolution in order, with the upsampling factor it runs at."""
    bias, width, factor = spec.family == "edge", spec.trunk_width, 1
    stages = [(ConvShape(3, width, 3, bias=bias), factor)]
    for stage in spec.path():
        if isinstance(stage, int):
            factor *= stage
            stages.append((ConvShape(width, width, 3), factor))
            continue
        c_in = width
        for slot in stage.slots:
            stages += [(conv, factor) for conv in primitive_convs(spec.family, slot.primitive, c_in, slot.width)]
            c_in = slot.width
    stages += [(ConvShape(width, width, 3), factor)] * spec.plain_convs
    c_out = 3 if spec.upsample_after else 3 * spec.scale**2
    return [*stages, (ConvShape(width, c_out, 3, bias=bias), factor)]


def _radius_px(stages: list[tuple[ConvShape, int]]) -> int:
    """Walk back from the output; a 1x1 side path adds nothing, so counting all convolutions is exact."""
    radius, factor = 0, stages[-1][1]
    for conv, conv_factor in reversed(stages):
        radius = ceil(radius / (factor // conv_factor))
        factor = conv_factor
        radius += conv.kernel // 2
    return radius
