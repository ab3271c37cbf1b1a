"""One module per primitive, and the two ways a network reaches full size.

Every module maps (N, c_in, H, W) to (N, c_out, H, W). Formulas: docs/architecture.md.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAPER_RESIDUAL_SCALE = 0.2
"""How much of its chain a cell of the paper's spaces adds to its input."""

STEP_SLOPE = 0.2
"""What upsampling steps leave of negative features."""

SMALL_START = 0.1
"""Residual branches start this much smaller than usual: at full size they train badly in small networks."""


class Conv(nn.Conv2d):
    """A same-size convolution whose 3x3 kernel may be over-parameterised while it trains.

    With branches open the kernel is the sum of a 3x3, a 1x1 and a diagonal (identity) kernel, all linear,
    so that they collapse exactly into the one kernel that is stored and run. Ding et al., CVPR 2021,
    arXiv:2101.03697, without normalisation.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, bias: bool = True, groups: int = 1) -> None:
        super().__init__(c_in, c_out, kernel, padding=kernel // 2, bias=bias, groups=groups)
        self.pointwise: nn.Parameter | None
        self.diagonal: nn.Parameter | None
        self.register_parameter("pointwise", None)
        self.register_parameter("diagonal", None)

    @property
    def can_branch(self) -> bool:
        """Whether this is a full 3x3 convolution; others have nothing to gain."""
        return self.kernel_size == (3, 3) and self.groups == 1

    def open_branches(self) -> None:
        """Add the 1x1 and identity branches at zero, which changes nothing about what is computed."""
        self.pointwise = nn.Parameter(self.weight.new_zeros(self.out_channels, self.in_channels))
        self.diagonal = nn.Parameter(self.weight.new_zeros(min(self.out_channels, self.in_channels)))

    def close_branches(self) -> None:
        """Collapse the branches into the 3x3 kernel, exactly as `forward` sums them."""
        self.weight = nn.Parameter(self.effective_kernel().detach().clone())
        self.pointwise = None
        self.diagonal = None

    def effective_kernel(self) -> Tensor:
        """The kernel that is convolved with: (c_out, c_in / groups, k, k)."""
        if self.pointwise is None or self.diagonal is None:
            return self.weight
        count = len(self.diagonal)
        identity = F.pad(torch.diag(self.diagonal), (0, self.in_channels - count, 0, self.out_channels - count))
        return self.weight + F.pad((self.pointwise + identity)[:, :, None, None], (1, 1, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self._conv_forward(features, self.effective_kernel(), self.bias)


def shared_prefix(features: Tensor, width: int) -> Tensor:
    """The first `width` channels of (N, C, H, W), zeros where there are fewer: the edge space's identity."""
    channels = features.shape[1]
    if channels >= width:
        return features[:, :width]
    return F.pad(features, (0, 0, 0, 0, 0, width - channels))


class PReLU(nn.PReLU):
    """max(x, 0) + a min(x, 0), a slope per channel: torch's values, bit for bit, and a third of its time.

    torch's own kernel is slow on the CPU wherever there are gradients, and in bf16 without them too: a fifth of a
    training step (docs/LOG.md).
    """

    def forward(self, features: Tensor) -> Tensor:
        slopes = self.weight.to(features.dtype)
        fast_kernel = features.dtype != torch.bfloat16 and not torch.is_grad_enabled()
        if features.device.type != "cpu" or fast_kernel or torch.compiler.is_exporting():
            return F.prelu(features, slopes)
        positive = F.relu(features)
        return positive + (features - positive) * slopes[:, None, None]


class EdgeSkip(nn.Module):
    """x (prefix)"""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.c_out = c_out

    def forward(self, features: Tensor) -> Tensor:
        return shared_prefix(features, self.c_out)


class EdgeConv3x3(nn.Module):
    """act(W3 x + b)"""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = Conv(c_in, c_out, 3)
        self.act = PReLU(c_out)
        start_near_identity(self.conv)

    def forward(self, features: Tensor) -> Tensor:
        return self.act(self.conv(features))


class EdgeResidual(nn.Module):
    """x + W3' act(W3 x + b) + b'"""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = Conv(c_in, c_out, 3)
        self.act = PReLU(c_out)
        self.conv2 = Conv(c_out, c_out, 3)
        start_small(self.conv2)

    def forward(self, features: Tensor) -> Tensor:
        branch = self.conv2(self.act(self.conv1(features)))
        return shared_prefix(features, branch.shape[1]) + branch


class EdgeGated(nn.Module):
    """(W3 x + b) * sigmoid(W1 x + c)"""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = Conv(c_in, c_out, 3)
        self.gate = Conv(c_in, c_out, 1)
        start_near_identity(self.conv, gain=2.0)  # a fresh gate is half open

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(features) * torch.sigmoid(self.gate(features))


class EdgeMixer(nn.Module):
    """x + W1' act(W1 DW_k x), depthwise k x k, hidden width 2 w_in"""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = Conv(c_in, c_in, kernel, groups=c_in)
        self.expand = Conv(c_in, 2 * c_in, 1)
        self.act = PReLU(2 * c_in)
        self.project = Conv(2 * c_in, c_out, 1)
        start_small(self.project)

    def forward(self, features: Tensor) -> Tensor:
        branch = self.project(self.act(self.expand(self.depthwise(features))))
        return shared_prefix(features, branch.shape[1]) + branch


class PaperIdentity(nn.Module):
    """x, or a 1x1 projection of it"""

    def __init__(self, c_in: int, c_out: int, projected: bool) -> None:
        super().__init__()
        self.projection = Conv(c_in, c_out, 1, bias=False) if projected else None

    def forward(self, features: Tensor) -> Tensor:
        return features if self.projection is None else self.projection(features)


class PaperConv(nn.Module):
    """ReLU(W x): `skip` with a 1x1 kernel, `conv3x3` with 3x3"""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = Conv(c_in, c_out, kernel, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.conv(features))


class PaperResidual(nn.Module):
    """ReLU(identity(x) + W3' ReLU(W3 x))"""

    def __init__(self, c_in: int, c_out: int, projected: bool) -> None:
        super().__init__()
        self.conv1 = Conv(c_in, c_out, 3, bias=False)
        self.conv2 = Conv(c_out, c_out, 3, bias=False)
        self.identity = PaperIdentity(c_in, c_out, projected)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.identity(features) + self.conv2(F.relu(self.conv1(features))))


class PaperDws(nn.Module):
    """ReLU(identity(x) + W1' ReLU(DW3 ReLU(W1 x))), hidden width 4 w_in"""

    def __init__(self, c_in: int, c_out: int, projected: bool) -> None:
        super().__init__()
        hidden = 4 * c_in
        self.expand = Conv(c_in, hidden, 1, bias=False)
        self.depthwise = Conv(hidden, hidden, 3, bias=False, groups=hidden)
        self.project = Conv(hidden, c_out, 1, bias=False)
        self.identity = PaperIdentity(c_in, c_out, projected)

    def forward(self, features: Tensor) -> Tensor:
        branch = self.project(F.relu(self.depthwise(F.relu(self.expand(features)))))
        return F.relu(self.identity(features) + branch)


class UpsamplingStep(nn.Module):
    """Nearest-neighbour upsampling by `factor`, a 3x3 convolution, LeakyReLU(0.2)"""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = colour_keeping_conv(width)

    def forward(self, features: Tensor) -> Tensor:
        upsampled = F.interpolate(features, scale_factor=self.factor, mode="nearest")
        return F.leaky_relu(self.conv(upsampled), STEP_SLOPE)


HIDDEN_WIDTHS: dict[tuple[str, str], dict[str, tuple[str, int]]] = {
    ("edge", "residual"): {"conv2": ("out", 1)},
    ("edge", "mixer5"): {"expand": ("in", 1), "project": ("in", 2)},
    ("edge", "mixer7"): {"expand": ("in", 1), "project": ("in", 2)},
    ("paper", "residual"): {"conv2": ("out", 1)},
    ("paper", "dws"): {"project": ("in", 4)},
}
"""Convolutions that read channels from inside their primitive, and which width, times what, those follow."""


def build_primitive(family: str, name: str, c_in: int, c_out: int, projected: bool | None = None) -> nn.Module:
    """The module of a primitive.

    Args:
        projected: whether a paper primitive's identity is a 1x1 projection; by default where widths differ.
    Raises:
        ValueError: the family has no such primitive.
    """
    projected = c_in != c_out if projected is None else projected
    match family, name:
        case "edge", "skip":
            return EdgeSkip(c_in, c_out)
        case "edge", "conv3x3":
            return EdgeConv3x3(c_in, c_out)
        case "edge", "residual":
            return EdgeResidual(c_in, c_out)
        case "edge", "gated":
            return EdgeGated(c_in, c_out)
        case "edge", "mixer5":
            return EdgeMixer(c_in, c_out, 5)
        case "edge", "mixer7":
            return EdgeMixer(c_in, c_out, 7)
        case "paper", "skip":
            return PaperConv(c_in, c_out, 1)
        case "paper", "conv3x3":
            return PaperConv(c_in, c_out, 3)
        case "paper", "residual":
            return PaperResidual(c_in, c_out, projected)
        case "paper", "dws":
            return PaperDws(c_in, c_out, projected)
    raise ValueError(f"{family!r} has no primitive {name!r}")


def start_near_identity(conv: Conv, gain: float = 1.0) -> None:
    """Start a 3x3 convolution as `gain` times the identity plus half its usual noise.

    A chain that starts from noise alone hands on next to nothing after a few convolutions, its biases aside, and
    under a tail that starts at zero it never learns: at 32 channels and 9 convolutions only the image skip was left.
    Source of the idea: Zagoruyko & Komodakis 2017, arXiv:1706.00388.
    """
    count = min(conv.out_channels, conv.in_channels)
    with torch.no_grad():
        conv.weight.mul_(0.5)
        conv.weight[range(count), range(count), 1, 1] += gain
        if conv.bias is not None:
            conv.bias.zero_()


def start_small(conv: Conv) -> None:
    """Shrink a residual branch's last convolution, so that its block starts near the identity."""
    with torch.no_grad():
        conv.weight.mul_(SMALL_START)


def colour_keeping_conv(width: int) -> Conv:
    """A 3x3 convolution that starts by handing on the first six channels.

    With red, green, blue and their negatives in these a rectified activation loses nothing of a picture.
    """
    conv = Conv(width, width, 3, bias=False)
    start_with_colours(conv, torch.diag((torch.arange(width) < 6).float()))
    return conv


def start_with_colours(conv: Conv, mixing: Tensor) -> None:
    """Make the outputs that have a row in `mixing` start as that mixture of the inputs, at the kernel's centre.

    Args:
        mixing: (c_out, c_in); rows of zeros leave an output's weights as they are.
    """
    rows = mixing.any(1)
    centre = conv.kernel_size[0] // 2
    with torch.no_grad():
        conv.weight[rows] = 0
        conv.weight[rows, :, centre, centre] = mixing[rows]


def start_at_zero(conv: Conv) -> None:
    """Make a convolution give zeros at first."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
