"""The derived network: an `ArchSpec` with weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trinas.networks.primitives import (
    PAPER_RESIDUAL_SCALE,
    STEP_SLOPE,
    Conv,
    UpsamplingStep,
    build_primitive,
    colour_keeping_conv,
    start_at_zero,
    start_with_colours,
)
from trinas.networks.space import UPSAMPLING_STEPS, ArchSpec, CellSpec

TANH_GAIN = 1.3
"""With it tanh of a colour from -1 to 1 is within 0.14 of that colour: where networks of the paper's spaces start."""


class Cell(nn.Sequential):
    """A chain of primitives; `paper` cells add their input to a fifth of the chain's output."""

    def __init__(self, family: str, trunk_width: int, spec: CellSpec) -> None:
        widths = [trunk_width, *(slot.width for slot in spec.slots)]
        super().__init__(
            *(
                build_primitive(family, slot.primitive, c_in, slot.width)
                for slot, c_in in zip(spec.slots, widths, strict=False)
            )
        )
        self.residual = family == "paper"

    def forward(self, features: Tensor) -> Tensor:
        chain = super().forward(features)
        return features + PAPER_RESIDUAL_SCALE * chain if self.residual else chain


class Frame(nn.Module):
    """What surrounds every trunk: head and tail, the long skip, the image skip or the squashing, the pixel shuffle.

    Attributes:
        trunk: maps features (N, trunk_width, H, W), and whatever else `forward` is given, to features for the tail.
    """

    def __init__(
        self, family: str, scale: int, trunk_width: int, shuffles: bool, trunk: nn.Module, long_skip: bool
    ) -> None:
        """
        Args:
            shuffles: whether a pixel shuffle follows the tail; else the trunk's features have full size already.
            long_skip: whether the tail reads the sum of head and trunk.
        """
        super().__init__()
        self.family, self.scale, self.shuffles, self.long_skip = family, scale, shuffles, long_skip
        bias = family == "edge"
        self.head = Conv(3, trunk_width, 3, bias=bias)
        self.trunk = trunk
        self.tail = Conv(trunk_width, 3 * scale**2 if shuffles else 3, 3, bias=bias)
        start_at_zero(self.tail)
        if family == "paper":
            self._start_with_input()

    def _start_with_input(self) -> None:
        """Let head and tail hand the input on, nearest-upsampled.

        Without an image skip a network would have to learn the whole picture, its colours first (docs/LOG.md).
        """
        width = len(self.head.weight)
        signed = torch.cat([torch.eye(3), -torch.eye(3)])[:width]
        start_with_colours(self.head, F.pad(signed, (0, 0, 0, width - len(signed))))
        # Each step leaves a fifth of what is negative; what that makes of both signs together is divided out.
        steps = 0 if self.shuffles else len(UPSAMPLING_STEPS[self.scale])
        mixing = TANH_GAIN / (1 + STEP_SLOPE**steps) * F.pad(signed.T, (0, width - len(signed)))
        start_with_colours(self.tail, mixing.repeat_interleave(len(self.tail.weight) // 3, 0))

    def forward(self, low: Tensor, *choices: object) -> Tensor:
        """Enlarge a batch.

        The trunk runs under the caller's autocast, if any; head, tail and image skip always run in the
        precision of `low`, which is what keeps bf16 within one 8-bit level of fp32.

        Args:
            low: (N, 3, H, W), values in [0, 1].
            choices: what the trunk takes beside features; nothing for a derived network.
        Returns:
            (N, 3, scale * H, scale * W), about [0, 1]: not clamped.
        """
        with torch.autocast(low.device.type, enabled=False):
            features = self.head(self._centred(low))
        features = self._through_trunk(features, *choices)
        with torch.autocast(low.device.type, enabled=False):
            output = self._finished(self.tail(features.to(low.dtype)), low)
        return _shuffled(output, self.scale) if self.shuffles else output

    def unshuffled(self, low: Tensor, *choices: object) -> Tensor:
        """What training compares: the output before its pixel shuffle, all of it under the caller's autocast.

        Args:
            low: (N, 3, H, W), values in [0, 1].
            choices: what the trunk takes beside features.
        Returns:
            (N, 3 * scale**2, H, W), or (N, 3, scale * H, scale * W) where upsampling steps take the shuffle's
            place; in the precision of `low`.
        """
        features = self._through_trunk(self.head(self._centred(low)), *choices)
        return self._finished(self.tail(features).to(low.dtype), low)

    def _through_trunk(self, features: Tensor, *choices: object) -> Tensor:
        trunk = self.trunk(features, *choices)
        return features + trunk if self.long_skip else trunk

    def _centred(self, low: Tensor) -> Tensor:
        # Without biases a network maps 0 to 0, which tanh makes a medium grey: that has to be what 0 stands for.
        return 2 * low - 1 if self.family == "paper" else low

    def _finished(self, output: Tensor, low: Tensor) -> Tensor:
        if self.family == "paper":
            return (torch.tanh(output) + 1) / 2
        # The nearest-upsampled input: before the shuffle, each colour added to all of its channels.
        return (output.unflatten(1, (3, -1)) + low[:, :, None]).flatten(1, 2)


class Network(Frame):
    """The network that a spec describes, with fresh weights.

    Attributes:
        spec: the architecture.
        trunk: cells, upsampling steps and plain convolutions, in the order they run.
    """

    trunk: nn.Sequential

    def __init__(self, spec: ArchSpec) -> None:
        trunk = nn.Sequential(*_trunk(spec))
        super().__init__(spec.family, spec.scale, spec.trunk_width, not spec.upsample_after, trunk, spec.long_skip)
        self.spec = spec

    def open_branches(self) -> None:
        """Over-parameterise every full 3x3 convolution for training; computes the same as before."""
        for conv in self._branching_convs():
            conv.open_branches()

    def close_branches(self) -> None:
        """Collapse what `open_branches` opened, exactly; call it before saving a model."""
        for conv in self._branching_convs():
            conv.close_branches()

    def _branching_convs(self) -> list[Conv]:
        return [module for module in self.modules() if isinstance(module, Conv) and module.can_branch]


def _shuffled(output: Tensor, scale: int) -> Tensor:
    """torch's pixel_shuffle, as one copy that does not mind channels being last."""
    batch, _, height, width = output.shape
    blocks = output.unflatten(1, (3, scale, scale)).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(batch, 3, height * scale, width * scale)


def _trunk(spec: ArchSpec) -> list[nn.Module]:
    width = spec.trunk_width
    path = [
        UpsamplingStep(width, stage) if isinstance(stage, int) else Cell(spec.family, width, stage)
        for stage in spec.path()
    ]
    return [*path, *(colour_keeping_conv(width) for _ in range(spec.plain_convs))]
