"""Pure functions on tensors: resize, keep values in bounds, compare a result with its input."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

CLAMP_MARGIN = 0.4 / 255
"""`clamp_to_neighbourhood` always allows this much beyond the neighbourhood: too little to round to another level."""

MAX_MEAN_SHIFT, MAX_INCONSISTENCY = 0.01, 0.02
"""How far a result may be from its input, in addition to the difference of bicubic: in its mean colour, and in the RMS
of all values after it is reduced again. Good networks stay below a tenth of this on photographs, and within it on noise
(docs/LOG.md)."""


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Resize by bicubic interpolation with antialiasing.

    The kernel (a = -0.5) is widened if the image shrinks, as in `degrade.imresize`.

    Args:
        pixels: (C, H, W), values in [0, 1].
        height: of the result, in pixels.
        width: of the result, in pixels.
    Returns:
        (C, height, width), values in [0, 1].
    """
    size = (height, width)
    return F.interpolate(pixels[None], size, mode="bicubic", antialias=True, align_corners=False)[0].clamp_(0, 1)


def upscale_alpha(alpha: Tensor, scale: int) -> Tensor:
    """Upscale alpha by bicubic interpolation, and clamp it to the range of the values around it.

    So opaque areas stay fully opaque.

    Args:
        alpha: (1, H, W), values in [0, 1].
        scale: output pixels per input pixel, along each side.
    Returns:
        (1, scale * H, scale * W), values in [0, 1].
    """
    bounds = torch.stack(find_neighbourhood_range(alpha))
    lowest, highest = F.interpolate(bounds, scale_factor=scale, mode="nearest")
    return resize(alpha, alpha.shape[1] * scale, alpha.shape[2] * scale).clamp(lowest, highest)


def clamp_to_neighbourhood(high: Tensor, low: Tensor) -> Tensor:
    """Clamp each output value to the range of the input values around it, and to [0, 1]. `high` is changed in place.

    The bounds are the range of the 3x3 input values around the pixel, widened on both sides by its own width and by
    0.4/255. Photographs hardly change. An even area keeps its colour, whatever the network does there, also at the
    border of the image.

    Args:
        high: (C, scale * H, scale * W).
        low: (C, H, W), values in [0, 1].
    Returns:
        `high`.
    """
    channels, height, width = low.shape
    scale = high.shape[1] // height
    lowest, highest = find_neighbourhood_range(low)
    margin = highest - lowest + CLAMP_MARGIN
    # Bounds are repeated along the width only, and each row is compared with them. This was the fastest way.
    floor = (lowest - margin).clamp_(min=0).repeat_interleave(scale, dim=2)[:, :, None]
    ceiling = (highest + margin).clamp_(max=1).repeat_interleave(scale, dim=2)[:, :, None]
    rows = high.reshape(channels, height, scale, width * scale)
    return torch.clamp(rows, floor, ceiling, out=rows).view_as(high)


def find_neighbourhood_range(low: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each 3x3 neighbourhood, both (C, H, W) like `low`."""
    return _reduce_neighbourhood(low, torch.minimum), _reduce_neighbourhood(low, torch.maximum)


def _reduce_neighbourhood(low: Tensor, choose: Callable[..., Tensor]) -> Tensor:
    """Reduce each 3x3 neighbourhood, first down and then across. It is several times faster than torch's pooling."""
    down = low.clone()
    choose(down[:, 1:], low[:, :-1], out=down[:, 1:])
    choose(down[:, :-1], low[:, 1:], out=down[:, :-1])
    across = down.clone()
    choose(across[:, :, 1:], down[:, :, :-1], out=across[:, :, 1:])
    choose(across[:, :, :-1], down[:, :, 1:], out=across[:, :, :-1])
    return across


def bleed_colour(colour: Tensor, alpha: Tensor, distance_px: int) -> Tensor:
    """Give fully transparent pixels the colour of visible pixels nearby, so that hidden colours cannot be seen.

    Args:
        colour: (C, H, W).
        alpha: (1, H, W). Where it is 0, the colour is replaced.
        distance_px: how far colours are spread. Pixels further away keep their own.
    Returns:
        (C, H, W).
    """
    known = (alpha > 0).to(colour.dtype)
    for _ in range(distance_px):
        if known.all() or not known.any():
            break
        window = F.avg_pool2d(torch.cat([colour * known, known])[None], 3, stride=1, padding=1)[0]
        total, count = window[:-1], window[-1:]
        colour = torch.where((known == 0) & (count > 0), total / count.clamp(min=1e-6), colour)
        known = (count > 0).to(colour.dtype)
    return colour


def describe_inconsistency(high: Tensor, baseline: Tensor, low: Tensor, compared_px: int) -> str:
    """Compare a result with its input and with the bicubic result, and say what is wrong.

    Args:
        high: the result, (C, scale * H, scale * W).
        baseline: the bicubic result, of the same shape.
        low: the input, (C, H, W).
        compared_px: side of the squares whose means are compared, in input pixels. A smaller input has one square.
    Returns:
        What is wrong with `high`; empty if nothing is.
    """
    scale = high.shape[1] // low.shape[1]
    side = min(compared_px, *low.shape[1:])
    reduced = F.avg_pool2d(low, side) if side > 1 else low
    inconsistency, unavoidable = (
        float((F.avg_pool2d(pixels, scale * side) - reduced).square().mean().sqrt()) for pixels in (high, baseline)
    )
    shift = float((high.mean(dim=(1, 2)) - baseline.mean(dim=(1, 2))).abs().max())
    if shift > MAX_MEAN_SHIFT + unavoidable:
        return f"differs in colour from its input by {shift * 255:.0f} levels"
    if inconsistency > MAX_INCONSISTENCY + unavoidable:
        return f"differs from its input, when reduced again, by {inconsistency * 255:.0f} levels"
    return ""
