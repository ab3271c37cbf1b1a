"""The network: an `ArchSpec` with weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trinas.networks.layers import (
    STEP_SLOPE,
    Conv,
    UpsamplingStep,
    build_colour_keeping_conv,
    start_at_zero,
    start_with_colours,
)
from trinas.networks.primitives import build_primitive
from trinas.networks.space import UPSAMPLING_STEPS, ArchSpec, CellSpec

PAPER_RESIDUAL_SCALE = 0.2
"""A cell of the paper family adds this share of its chain to its input."""

TANH_GAIN = 1.3
"""When a network of the paper family starts, the tanh gets colours from -1 to 1 multiplied by this.

The result of the tanh then differs from the colour by at most 0.14.
"""


class Cell(nn.Sequential):
    """A chain of primitives. Cells of the paper family add a fifth of the chain's output to their input."""

    def __init__(self, family: str, trunk_width: int, spec: CellSpec) -> None:
        widths = [trunk_width, *(slot.width for slot in spec.slots)]
        slots = zip(spec.slots, widths, strict=False)
        super().__init__(*(build_primitive(family, slot.primitive, c_in, slot.width) for slot, c_in in slots))
        self.residual = family == "paper"

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, trunk_width, H, W) to the same shape."""
        chain = super().forward(features)
        return features + PAPER_RESIDUAL_SCALE * chain if self.residual else chain


class Frame(nn.Module):
    """Everything around a trunk. It is the same in networks and supernets.

    It has a head, a tail, and the long skip. At the output there is an image skip (edge family) or a tanh (paper
    family), and a pixel shuffle.

    Attributes:
        trunk: maps features (N, trunk_width, H, W) to features for the tail. It also takes the `choices` of `forward`.
    """

    def __init__(
        self, family: str, scale: int, trunk_width: int, shuffles: bool, trunk: nn.Module, long_skip: bool
    ) -> None:
        """Build head and tail around a trunk.

        Args:
            family: edge or paper.
            scale: output pixels per input pixel, along each side.
            trunk_width: channels between cells.
            shuffles: whether a pixel shuffle follows the tail. Without it, the trunk upsamples to the full size.
            trunk: as the attribute.
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
        """Let head and tail pass the input on, so that the network starts near the nearest-upsampled input.

        This family has no image skip, so it would have to learn the colours first (docs/LOG.md).
        """
        width = len(self.head.weight)
        signed = torch.cat([torch.eye(3), -torch.eye(3)])[:width]
        start_with_colours(self.head, F.pad(signed, (0, 0, 0, width - len(signed))))
        # Each step multiplies negative features by its slope. The sum of both signs then needs this correction.
        steps = 0 if self.shuffles else len(UPSAMPLING_STEPS[self.scale])
        mixing = TANH_GAIN / (1 + STEP_SLOPE**steps) * F.pad(signed.T, (0, width - len(signed)))
        start_with_colours(self.tail, mixing.repeat_interleave(len(self.tail.weight) // 3, 0))

    def forward(self, low: Tensor, *choices: object) -> Tensor:
        """Upscale a batch.

        The trunk runs under the caller's autocast, if there is one. Head, tail and image skip always run in the
        precision of `low`. This keeps results in bf16 within one 8-bit level of those in fp32.

        Args:
            low: (N, 3, H, W), values in [0, 1].
            choices: further arguments of the trunk. A supernet takes its mixtures here; a network takes nothing.
        Returns:
            (N, 3, scale * H, scale * W), about in [0, 1]. Values are not clamped.
        """
        with torch.autocast(low.device.type, enabled=False):
            features = self.head(self._centre(low))
        features = self._run_trunk(features, *choices)
        with torch.autocast(low.device.type, enabled=False):
            output = self._finish(self.tail(features.to(low.dtype)), low)
        return _shuffle_pixels(output, self.scale) if self.shuffles else output

    def forward_unshuffled(self, low: Tensor, *choices: object) -> Tensor:
        """Return the output before its pixel shuffle, as training compares it.

        All of it runs under the caller's autocast.

        Args:
            low: (N, 3, H, W), values in [0, 1].
            choices: further arguments of the trunk.
        Returns:
            (N, 3 * scale**2, H, W), or (N, 3, scale * H, scale * W) if upsampling steps replace the shuffle. The
            precision is that of `low`.
        """
        return self._finish(self.tail(self.extract_features(low, *choices)).to(low.dtype), low)

    def extract_features(self, low: Tensor, *choices: object) -> Tensor:
        """Return what the tail reads, (N, trunk_width, H, W), or of the full size behind upsampling steps.

        Args:
            low, choices: as for `forward_unshuffled`.
        """
        return self._run_trunk(self.head(self._centre(low)), *choices)

    def _run_trunk(self, features: Tensor, *choices: object) -> Tensor:
        trunk = self.trunk(features, *choices)
        return features + trunk if self.long_skip else trunk

    def _centre(self, low: Tensor) -> Tensor:
        # A network without biases maps 0 to 0, which the tanh turns into medium grey. So 0 must mean grey in the input.
        return 2 * low - 1 if self.family == "paper" else low

    def _finish(self, output: Tensor, low: Tensor) -> Tensor:
        if self.family == "paper":
            return (torch.tanh(output) + 1) / 2
        # The image skip. Before the shuffle, nearest upsampling means adding each colour to all of its channels.
        return (output.unflatten(1, (3, -1)) + low[:, :, None]).flatten(1, 2)


class Network(Frame):
    """The network that a spec describes, with fresh weights.

    Attributes:
        spec: the architecture.
        trunk: cells, upsampling steps and plain convolutions, in the order they run.
    """

    trunk: nn.Sequential

    def __init__(self, spec: ArchSpec) -> None:
        trunk = nn.Sequential(*_build_trunk(spec))
        super().__init__(spec.family, spec.scale, spec.trunk_width, not spec.upsample_after, trunk, spec.long_skip)
        self.spec = spec

    def open_branches(self) -> None:
        """Over-parameterise every full 3x3 convolution for training. The output does not change."""
        for conv in self._branching_convs():
            conv.open_branches()

    def close_branches(self) -> None:
        """Collapse the branches of `open_branches`, exactly. Call it before saving a model."""
        for conv in self._branching_convs():
            conv.close_branches()

    def _branching_convs(self) -> list[Conv]:
        return [module for module in self.modules() if isinstance(module, Conv) and module.can_branch]


def _shuffle_pixels(output: Tensor, scale: int) -> Tensor:
    """Do as torch's pixel_shuffle on (N, 3 * scale**2, H, W), with a single copy in every memory format."""
    batch, _, height, width = output.shape
    blocks = output.unflatten(1, (3, scale, scale)).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(batch, 3, height * scale, width * scale)


def _build_trunk(spec: ArchSpec) -> list[nn.Module]:
    width = spec.trunk_width
    path = [
        UpsamplingStep(width, stage) if isinstance(stage, int) else Cell(spec.family, width, stage)
        for stage in spec.path()
    ]
    return [*path, *(build_colour_keeping_conv(width) for _ in range(spec.plain_convs))]
