"""The primitives. Each has a module, and a row of `PRIMITIVES` with everything else about it.

A primitive maps (N, c_in, H, W) to (N, c_out, H, W). It is local: an output pixel only depends on the input pixels that
its kernels cover. There are two families, `edge` and `paper`; docs/architecture.md explains both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trinas.networks.layers import (
    Conv,
    PReLU,
    start_at_zero,
    start_near_identity,
    start_small,
    start_with_colours,
    take_prefix,
)


@runtime_checkable
class CanBeIdentity(Protocol):
    """A primitive that can return its input, where both have the same channels."""

    def make_identity(self) -> None:
        """Take the weights with which the output is the input."""


class EdgeSkip(nn.Module):
    """The input itself, cut or filled up with zero channels."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.c_out = c_out

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        return take_prefix(features, self.c_out)


class EdgeConv3x3(nn.Module):
    """A 3x3 convolution and its activation."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = Conv(c_in, c_out, 3)
        self.act = PReLU(c_out)
        start_near_identity(self.conv)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        return self.act(self.conv(features))

    def make_identity(self) -> None:
        """Copy each channel, with an activation that does nothing."""
        start_at_zero(self.conv)
        start_with_colours(self.conv, torch.eye(self.conv.out_channels))
        nn.init.ones_(self.act.weight)


class EdgeResidual(nn.Module):
    """A residual branch of two 3x3 convolutions."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = Conv(c_in, c_out, 3)
        self.act = PReLU(c_out)
        self.conv2 = Conv(c_out, c_out, 3)
        start_small(self.conv2)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        branch = self.conv2(self.act(self.conv1(features)))
        return take_prefix(features, branch.shape[1]) + branch


class EdgeGated(nn.Module):
    """A 3x3 convolution, multiplied by a gate between 0 and 1 at each pixel and channel."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = Conv(c_in, c_out, 3)
        self.gate = Conv(c_in, c_out, 1)
        start_near_identity(self.conv, gain=2.0)  # a fresh gate is about 0.5

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        return self.conv(features) * torch.sigmoid(self.gate(features))


class EdgeMixer(nn.Module):
    """A residual branch: a depthwise convolution, then two 1x1 convolutions. Between these it is twice as wide."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = Conv(c_in, c_in, kernel, groups=c_in)
        self.expand = Conv(c_in, 2 * c_in, 1)
        self.act = PReLU(2 * c_in)
        self.project = Conv(2 * c_in, c_out, 1)
        start_small(self.project)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        branch = self.project(self.act(self.expand(self.depthwise(features))))
        return take_prefix(features, branch.shape[1]) + branch


class EdgeBlock4(nn.Module):
    """A residual branch of four 3x3 convolutions. The last one starts at zero, so a fresh block is the identity."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1, self.act1 = Conv(c_in, c_out, 3), PReLU(c_out)
        self.conv2, self.act2 = Conv(c_out, c_out, 3), PReLU(c_out)
        self.conv3, self.act3 = Conv(c_out, c_out, 3), PReLU(c_out)
        self.conv4 = Conv(c_out, c_out, 3)
        start_at_zero(self.conv4)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        branch = self.act1(self.conv1(features))
        branch = self.act2(self.conv2(branch))
        branch = self.conv4(self.act3(self.conv3(branch)))
        return take_prefix(features, branch.shape[1]) + branch

    def make_identity(self) -> None:
        """Leave out the branch."""
        start_at_zero(self.conv4)


class PaperIdentity(nn.Module):
    """The input itself, or a 1x1 projection of it."""

    def __init__(self, c_in: int, c_out: int, projected: bool) -> None:
        super().__init__()
        self.projection = Conv(c_in, c_out, 1, bias=False) if projected else None

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        return features if self.projection is None else self.projection(features)


class PaperConv(nn.Module):
    """A convolution and its ReLU: 1x1 for `skip`, 3x3 for `conv3x3`."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = Conv(c_in, c_out, kernel, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        return F.relu(self.conv(features))


class PaperResidual(nn.Module):
    """A residual branch of two 3x3 convolutions, with a ReLU behind the sum."""

    def __init__(self, c_in: int, c_out: int, projected: bool) -> None:
        super().__init__()
        self.conv1 = Conv(c_in, c_out, 3, bias=False)
        self.conv2 = Conv(c_out, c_out, 3, bias=False)
        self.identity = PaperIdentity(c_in, c_out, projected)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        return F.relu(self.identity(features) + self.conv2(F.relu(self.conv1(features))))


class PaperDws(nn.Module):
    """A residual branch: a 1x1 convolution to four times the width, a depthwise 3x3 convolution, and one 1x1 back."""

    def __init__(self, c_in: int, c_out: int, projected: bool) -> None:
        super().__init__()
        hidden = 4 * c_in
        self.expand = Conv(c_in, hidden, 1, bias=False)
        self.depthwise = Conv(hidden, hidden, 3, bias=False, groups=hidden)
        self.project = Conv(hidden, c_out, 1, bias=False)
        self.identity = PaperIdentity(c_in, c_out, projected)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        branch = self.project(F.relu(self.depthwise(F.relu(self.expand(features)))))
        return F.relu(self.identity(features) + branch)


@dataclass(frozen=True)
class ConvShape:
    """The shape of a convolution, from which its cost follows."""

    c_in: int
    c_out: int
    kernel: int
    groups: int = 1
    bias: bool = False
    prelu: bool = False  # whether a PReLU with a slope per output channel follows

    @property
    def macs(self) -> int:
        """Multiply-adds per output position."""
        return self.kernel**2 * self.c_in // self.groups * self.c_out

    @property
    def params(self) -> int:
        """Weights, biases and slopes."""
        return self.macs + self.c_out * (self.bias + self.prelu)


class HiddenWidth(NamedTuple):
    """How many channels a convolution inside a primitive reads: `times` the primitive's width in or width out."""

    side: Literal["in", "out"]
    times: int


class Colours(NamedTuple):
    """A colour in drawings, as CSS writes it."""

    light: str  # on a light background
    dark: str


@dataclass(frozen=True)
class Primitive:
    """Everything about a primitive."""

    module: Callable[[int, int, bool], nn.Module]
    """Builds the module from c_in, c_out, and whether its identity is a 1x1 projection (paper family only)."""
    convs: Callable[[int, int], tuple[ConvShape, ...]]
    """Returns its convolutions for c_in and c_out. The convolutions on the longest path come first, in order."""
    formula: str
    """As in docs/architecture.md."""
    words: str
    """What it does, for readers who do not know formulas."""
    colours: Colours
    """Its colours in drawings. Primitives of the same name have the same colours in both families."""
    hidden: Mapping[str, HiddenWidth] = field(default_factory=dict)
    """The convolutions that read channels from inside the primitive, by attribute name.

    The supernet needs them: as long as a width is undecided, it masks the channels that these convolutions read.
    """


GREY = Colours("#ced4da", "#495057")
BLUE = Colours("#2563eb", "#4c8dff")
GREEN = Colours("#2b8a3e", "#51cf66")
ORANGE = Colours("#e8710a", "#ff922b")
PURPLE = Colours("#9c36b5", "#cc5de8")
PINK = Colours("#d6336c", "#f06595")
CYAN = Colours("#0c8599", "#22b8cf")
YELLOW = Colours("#a17100", "#ffd43b")


def _make_mixer_row(kernel: int, colours: Colours) -> Primitive:
    """Return the row of a mixer. Mixers only differ in the kernel of their depthwise convolution."""
    return Primitive(
        module=lambda c_in, c_out, _: EdgeMixer(c_in, c_out, kernel),
        convs=lambda c_in, c_out: (
            ConvShape(c_in, c_in, kernel, groups=c_in, bias=True),
            ConvShape(c_in, 2 * c_in, 1, bias=True, prelu=True),
            ConvShape(2 * c_in, c_out, 1, bias=True),
        ),
        formula=f"x (prefix) + W1' act(W1 DW{kernel} x)",
        words=f"looks at {kernel} by {kernel} neighbours, channel by channel, then mixes channels",
        colours=colours,
        hidden={"expand": HiddenWidth("in", 1), "project": HiddenWidth("in", 2)},
    )


def _list_projection(c_in: int, c_out: int) -> tuple[ConvShape, ...]:
    """Return the convolution of a `PaperIdentity`, or nothing if it has none."""
    return () if c_in == c_out else (ConvShape(c_in, c_out, 1),)


PRIMITIVES: dict[str, dict[str, Primitive]] = {
    "edge": {
        "skip": Primitive(
            module=lambda c_in, c_out, _: EdgeSkip(c_in, c_out),
            convs=lambda c_in, c_out: (),
            formula="x (prefix)",
            words="passes its input on, at no cost",
            colours=GREY,
        ),
        "conv3x3": Primitive(
            module=lambda c_in, c_out, _: EdgeConv3x3(c_in, c_out),
            convs=lambda c_in, c_out: (ConvShape(c_in, c_out, 3, bias=True, prelu=True),),
            formula="act(W3 x + b)",
            words="looks at 3 by 3 neighbours",
            colours=BLUE,
        ),
        "residual": Primitive(
            module=lambda c_in, c_out, _: EdgeResidual(c_in, c_out),
            convs=lambda c_in, c_out: (
                ConvShape(c_in, c_out, 3, bias=True, prelu=True),
                ConvShape(c_out, c_out, 3, bias=True),
            ),
            formula="x (prefix) + W3' act(W3 x + b) + b'",
            words="adds a correction made by two 3 by 3 convolutions",
            colours=GREEN,
            hidden={"conv2": HiddenWidth("out", 1)},
        ),
        "gated": Primitive(
            module=lambda c_in, c_out, _: EdgeGated(c_in, c_out),
            convs=lambda c_in, c_out: (ConvShape(c_in, c_out, 3, bias=True), ConvShape(c_in, c_out, 1, bias=True)),
            formula="(W3 x + b) * sigmoid(W1 x + c)",
            words="a 3 by 3 convolution whose output is dimmed place by place",
            colours=ORANGE,
        ),
        "mixer5": _make_mixer_row(5, PURPLE),
        "mixer7": _make_mixer_row(7, PINK),
        "block4": Primitive(
            module=lambda c_in, c_out, _: EdgeBlock4(c_in, c_out),
            convs=lambda c_in, c_out: (
                ConvShape(c_in, c_out, 3, bias=True, prelu=True),
                ConvShape(c_out, c_out, 3, bias=True, prelu=True),
                ConvShape(c_out, c_out, 3, bias=True, prelu=True),
                ConvShape(c_out, c_out, 3, bias=True),
            ),
            formula="x (prefix) + W3''' act(W3'' act(W3' act(W3 x)))",
            words="adds a correction made by four 3 by 3 convolutions",
            colours=YELLOW,
            hidden=dict.fromkeys(("conv2", "conv3", "conv4"), HiddenWidth("out", 1)),
        ),
    },
    "paper": {
        "skip": Primitive(
            module=lambda c_in, c_out, _: PaperConv(c_in, c_out, 1),
            convs=lambda c_in, c_out: (ConvShape(c_in, c_out, 1),),
            formula="relu(W1 x)",
            words="mixes channels, each place by itself",
            colours=GREY,
        ),
        "conv3x3": Primitive(
            module=lambda c_in, c_out, _: PaperConv(c_in, c_out, 3),
            convs=lambda c_in, c_out: (ConvShape(c_in, c_out, 3),),
            formula="relu(W3 x)",
            words="looks at 3 by 3 neighbours",
            colours=BLUE,
        ),
        "residual": Primitive(
            module=PaperResidual,
            convs=lambda c_in, c_out: (
                ConvShape(c_in, c_out, 3),
                ConvShape(c_out, c_out, 3),
                *_list_projection(c_in, c_out),
            ),
            formula="relu(identity(x) + W3' relu(W3 x))",
            words="adds a correction made by two 3 by 3 convolutions",
            colours=GREEN,
            hidden={"conv2": HiddenWidth("out", 1)},
        ),
        "dws": Primitive(
            module=PaperDws,
            convs=lambda c_in, c_out: (
                ConvShape(c_in, 4 * c_in, 1),
                ConvShape(4 * c_in, 4 * c_in, 3, groups=4 * c_in),
                ConvShape(4 * c_in, c_out, 1),
                *_list_projection(c_in, c_out),
            ),
            formula="relu(identity(x) + W1' relu(DW3 relu(W1 x)))",
            words="spreads its input over four times as many channels, looks at 3 by 3 neighbours in each, "
            "and gathers them",
            colours=CYAN,
            hidden={"project": HiddenWidth("in", 4)},
        ),
    },
}
"""Family, name -> primitive. Stored shares are by position, so append a new primitive to its family. A search of a
space that has gained a primitive can neither be resumed nor repeated."""


def find_primitive(family: str, name: str) -> Primitive:
    """Return the row of a primitive.

    Raises:
        ValueError: the family has no such primitive.
    """
    try:
        return PRIMITIVES[family][name]
    except KeyError:
        raise ValueError(f"{family!r} has no primitive {name!r}") from None


def build_primitive(family: str, name: str, c_in: int, c_out: int, projected: bool | None = None) -> nn.Module:
    """Build the module of a primitive, with fresh weights.

    Args:
        family, name: of the primitive.
        c_in, c_out: channels of its input and output.
        projected: whether the identity of a paper primitive is a 1x1 projection. None: if `c_in` and `c_out` differ.
    Raises:
        ValueError: the family has no such primitive.
    """
    projected = c_in != c_out if projected is None else projected
    return find_primitive(family, name).module(c_in, c_out, projected)
