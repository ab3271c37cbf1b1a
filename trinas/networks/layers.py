"""The building blocks of primitives and networks: convolution, activation, upsampling step, starting weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEP_SLOPE = 0.2
"""Slope of the LeakyReLU in an upsampling step. Negative features are multiplied by it."""

SMALL_START = 0.1
"""The starting weights of the last convolution in a residual branch are multiplied by this.

With the usual weights, small networks with residual branches train badly.
"""


class Conv(nn.Conv2d):
    """A convolution that keeps height and width. Its 3x3 kernel may be over-parameterised while it trains.

    With open branches the kernel is the sum of a 3x3, a 1x1 and a diagonal (identity) kernel. All three are linear,
    so they collapse exactly into the one kernel that is saved and run.

    Source: Ding et al., CVPR 2021, arXiv:2101.03697, here without normalisation.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, bias: bool = True, groups: int = 1) -> None:
        super().__init__(c_in, c_out, kernel, padding=kernel // 2, bias=bias, groups=groups)
        self.pointwise: nn.Parameter | None
        self.diagonal: nn.Parameter | None
        self.register_parameter("pointwise", None)
        self.register_parameter("diagonal", None)

    @property
    def can_branch(self) -> bool:
        """Whether this is a full 3x3 convolution. Other convolutions gain nothing from branches."""
        return self.kernel_size == (3, 3) and self.groups == 1

    def open_branches(self) -> None:
        """Add the 1x1 and the diagonal kernel. They start at zero, so the output does not change."""
        self.pointwise = nn.Parameter(self.weight.new_zeros(self.out_channels, self.in_channels))
        self.diagonal = nn.Parameter(self.weight.new_zeros(min(self.out_channels, self.in_channels)))

    def close_branches(self) -> None:
        """Collapse the branches into the 3x3 kernel, with the same sum as `forward`."""
        self.weight = nn.Parameter(self.effective_kernel().detach().clone())
        self.pointwise = None
        self.diagonal = None

    def effective_kernel(self) -> Tensor:
        """Return the kernel that `forward` uses, (c_out, c_in / groups, k, k)."""
        if self.pointwise is None or self.diagonal is None:
            return self.weight
        count = len(self.diagonal)
        identity = F.pad(torch.diag(self.diagonal), (0, self.in_channels - count, 0, self.out_channels - count))
        return self.weight + F.pad((self.pointwise + identity)[:, :, None, None], (1, 1, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        return self._conv_forward(features, self.effective_kernel(), self.bias)


class PReLU(nn.PReLU):
    """max(x, 0) + a min(x, 0), with one slope `a` for each channel.

    The values are those of torch to the bit, in a third of the time. On the CPU, torch's own kernel is slow when
    gradients are computed, and always in bf16. It took a fifth of a training step (docs/LOG.md).
    """

    def forward(self, features: Tensor) -> Tensor:
        """Activate (N, C, H, W); the shape stays."""
        slopes = self.weight.to(features.dtype)
        fast_kernel = features.dtype != torch.bfloat16 and not torch.is_grad_enabled()
        if features.device.type != "cpu" or fast_kernel or torch.compiler.is_exporting():
            return F.prelu(features, slopes)
        positive = F.relu(features)
        return positive + (features - positive) * slopes[:, None, None]


class UpsamplingStep(nn.Module):
    """Nearest-neighbour upsampling by `factor`, then a 3x3 convolution and LeakyReLU."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = build_colour_keeping_conv(width)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, width, H, W) to (N, width, factor * H, factor * W)."""
        upsampled = F.interpolate(features, scale_factor=self.factor, mode="nearest")
        return F.leaky_relu(self.conv(upsampled), STEP_SLOPE)


def take_prefix(features: Tensor, width: int) -> Tensor:
    """Return the first `width` channels of (N, C, H, W). If there are fewer, channels of zeros are added.

    This is the identity between slots of different width in the edge family.
    """
    missing = width - features.shape[1]
    return F.pad(features, (0, 0, 0, 0, 0, missing)) if missing > 0 else features[:, :width]


def start_near_identity(conv: Conv, gain: float = 1.0) -> None:
    """Start a 3x3 convolution as `gain` times the identity plus half of its usual noise.

    With noise alone, almost nothing of the input is left after a few convolutions. If the tail then starts at zero, the
    chain does not learn: with 32 channels and 9 convolutions, only the image skip worked.

    Source of the idea: Zagoruyko & Komodakis 2017, arXiv:1706.00388.
    """
    count = min(conv.out_channels, conv.in_channels)
    with torch.no_grad():
        conv.weight.mul_(0.5)
        conv.weight[range(count), range(count), 1, 1] += gain
        if conv.bias is not None:
            conv.bias.zero_()


def start_small(conv: Conv) -> None:
    """Shrink the weights of the last convolution in a residual branch. The primitive then starts near the identity."""
    with torch.no_grad():
        conv.weight.mul_(SMALL_START)


def start_at_zero(conv: Conv) -> None:
    """Set all weights of a convolution to zero."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def start_with_colours(conv: Conv, mixing: Tensor) -> None:
    """Start some outputs of a convolution as mixtures of its inputs, at the centre of the kernel.

    Args:
        conv: the convolution.
        mixing: (c_out, c_in), the mixtures. An output whose row is all zeros keeps its weights.
    """
    if conv.weight.is_meta:  # without memory there are no values to start with
        return
    rows = mixing.any(1)
    centre = conv.kernel_size[0] // 2
    with torch.no_grad():
        conv.weight[rows] = 0
        conv.weight[rows, :, centre, centre] = mixing[rows]


def build_colour_keeping_conv(width: int) -> Conv:
    """Build a 3x3 convolution that at the start passes on its first six channels.

    They hold red, green, blue and their negatives, so a rectifying activation loses nothing of an image.
    """
    conv = Conv(width, width, 3, bias=False)
    start_with_colours(conv, torch.diag((torch.arange(width) < 6).float()))
    return conv
