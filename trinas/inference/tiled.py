"""Enlarge pictures with a loaded model, tile by tile; tiled equals whole, and every tile is checked."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from trinas.config import UpscaleConfig
from trinas.device import autocast, memory_shortage_named, pick_device, pick_precision
from trinas.errors import UpscaleError
from trinas.images.image import Image, to_levels
from trinas.networks.cost import spec_cost
from trinas.zoo.folder import Model

BF16_TOLERANCE = 1 / 255
"""bf16 may differ from fp32 by one 8-bit level; a network that loses more runs in fp32."""

TRIAL_PX = 128
"""Side of the picture that both precisions are tried on."""

REACH_MARGIN = 0.4 / 255
"""How far beyond its surroundings a value may always lie (`within_reach`): less than what rounds to another level."""

MAX_MEAN_SHIFT, MAX_INCONSISTENCY = 0.01, 0.02
"""How far a tile may be from its input, beyond bicubic's own inconsistency: its mean colour, and, RMS, all of it when
reduced again. Sound networks stay below a tenth of that on photographs, and within it on noise (docs/LOG.md)."""

RESTORED_PX = 8
"""Those that remove noise and compression change pixels as they must, but not means over squares of this side."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of the input in pixels, ends excluded, and the same with the surroundings it depends on."""

    top: int
    bottom: int
    left: int
    right: int
    padded_top: int
    padded_bottom: int
    padded_left: int
    padded_right: int


class Upscaler:
    """Enlarges pictures with one model on one device.

    Tiles overlap by exactly what the network can see, so that they leave no trace; beyond the decoded input
    and the one output array, memory depends on the tile alone.
    """

    def __init__(self, model: Model, config: UpscaleConfig | None = None) -> None:
        """
        Args:
            model: from `load_model`.
            config: tile size, device, precision; the defaults suit any machine.
        Raises:
            TrinasError: the device does not exist here.
        """
        self.config = config or UpscaleConfig()
        self.scale = model.scale
        self.device = pick_device(self.config.device)
        self._network = copy.deepcopy(model.network).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._compared_px = RESTORED_PX if model.config.restores else 1
        self._radius_px = spec_cost(model.config.spec).radius_px
        self.precision = self.config.precision
        if self.precision == "auto":
            self.precision = pick_precision(self.device, model.config.spec.trunk_width)
            if self.precision == "bf16" and self._bf16_error() > BF16_TOLERANCE:
                self.precision = "fp32"

    @torch.inference_mode()
    @memory_shortage_named()
    def __call__(self, image: Image, on_tile: Callable[[int, int], None] = lambda done, total: None) -> Image:
        """Enlarge a picture; gray stays gray, alpha is enlarged too, depth and profile are kept.

        Args:
            image: from `read_image`; at least 1x1.
            on_tile: called after each tile with (tiles done, tiles in all).
        Returns:
            The picture at `scale` times the size, values in [0, 1], on the CPU.
        Raises:
            UpscaleError: the network's result is not a picture of the input, even in fp32, or memory is too small.
        """
        channels, height, width = image.pixels.shape
        scale = self.scale
        # Colour under transparent pixels is bled outwards before enlarging, which looks further around.
        padding = 2 * self._radius_px + 1 if image.has_alpha else self._radius_px
        tiles = list(tile_grid(height, width, self.config.tile_px, padding))
        output = torch.empty(channels, height * scale, width * scale)
        for number, tile in enumerate(tiles, start=1):
            low = image.pixels[:, tile.padded_top : tile.padded_bottom, tile.padded_left : tile.padded_right]
            high = self._enlarge(low.to(self.device), image.has_alpha)
            rows = slice((tile.top - tile.padded_top) * scale, (tile.bottom - tile.padded_top) * scale)
            columns = slice((tile.left - tile.padded_left) * scale, (tile.right - tile.padded_left) * scale)
            target = output[:, tile.top * scale : tile.bottom * scale, tile.left * scale : tile.right * scale]
            target.copy_(high[:, rows, columns])
            on_tile(number, len(tiles))
        return replace(image, pixels=output, jpeg_quality=None)

    def rgb8(self, low: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Enlarge uint8 (H, W, 3) to uint8 (scale * H, scale * W, 3), as the measuring protocol does."""
        pixels = torch.from_numpy(low).permute(2, 0, 1).float() / 255
        return to_levels(self(Image(pixels)).pixels, 8)

    def _enlarge(self, low: Tensor, has_alpha: bool) -> Tensor:
        """(C, h, w) to (C, scale * h, scale * w) in [0, 1], any kind of picture."""
        if not has_alpha:
            return self._enlarge_colour(low)
        colour, alpha = low[:-1], low[-1:]
        # One pixel more than the network sees, since enlarged alpha reaches one pixel beyond the visible ones.
        high_colour = self._enlarge_colour(bleed(colour, alpha, self._radius_px + 1))
        return torch.cat([high_colour, self._enlarge_alpha(alpha)])

    def _enlarge_colour(self, low: Tensor) -> Tensor:
        if low.shape[0] == 3:
            return self._run(low)
        return self._run(low.expand(3, -1, -1)).mean(dim=0, keepdim=True)

    def _enlarge_alpha(self, alpha: Tensor) -> Tensor:
        """Bicubic, which keeps edges smooth, but never outside the values around: opaque stays wholly opaque."""
        bounds = torch.stack(surroundings(alpha))
        lowest, highest = F.interpolate(bounds, scale_factor=self.scale, mode="nearest")
        return resize(alpha, alpha.shape[1] * self.scale, alpha.shape[2] * self.scale).clamp(lowest, highest)

    def _run(self, low: Tensor) -> Tensor:
        """The network on one RGB tile, (3, h, w) to (3, scale * h, scale * w), checked against bicubic."""
        baseline = resize(low, low.shape[1] * self.scale, low.shape[2] * self.scale)
        for precision in dict.fromkeys((self.precision, "fp32")):
            high = self._pass(low, precision)
            if not high.sum().isfinite():  # a sum with a value that is not a number is none either
                complaint = "holds values that are not numbers"
                continue
            high = within_reach(high, low)
            complaint = _complaint(high, baseline, low, self._compared_px)
            if not complaint:
                return high if self.config.strength == 1 else baseline.lerp_(high, self.config.strength)
        raise UpscaleError(f"the network's result {complaint}, even in fp32; try another model")

    def _pass(self, low: Tensor, precision: str) -> Tensor:
        if not self.config.tta:
            return self._network_on(low, precision)
        total = torch.zeros(())
        for turns in range(4):
            for flip in ([], [2]):
                turned = torch.rot90(low, turns, (1, 2)).flip(flip)
                total = total + torch.rot90(self._network_on(turned, precision).flip(flip), -turns, (1, 2))
        return total / 8

    def _network_on(self, low: Tensor, precision: str) -> Tensor:
        batch = low[None].contiguous(memory_format=torch.channels_last)
        with autocast(self.device, precision):
            high: Tensor = self._network(batch)[0]
        return high

    @torch.inference_mode()
    def _bf16_error(self) -> float:
        """Largest difference between bf16 and fp32 on noise, which is harder on rounding than photographs."""
        noise = torch.rand(3, TRIAL_PX, TRIAL_PX, generator=torch.Generator().manual_seed(0)).to(self.device)
        return float((self._network_on(noise, "bf16") - self._network_on(noise, "fp32")).abs().max())


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with antialiasing, (C, H, W) to (C, height, width), values in [0, 1].

    The kernel (a = -0.5) is widened where the picture shrinks, as in `degrade.imresize`.
    """
    size = (height, width)
    return F.interpolate(pixels[None], size, mode="bicubic", antialias=True, align_corners=False)[0].clamp_(0, 1)


def within_reach(high: Tensor, low: Tensor) -> Tensor:
    """Keep each value within what its surroundings suggest, and in [0, 1]; `high` is changed in place.

    Around each input pixel the range of the 3x3 values there, widened by as much again on both sides and by
    0.4/255, is what the output may hold. On photographs that changes next to nothing; an even patch keeps its
    colour, whatever the network makes of it or of the picture's border.

    Args:
        high: (C, scale * H, scale * W).
        low: (C, H, W).
    """
    channels, height, width = low.shape
    scale = high.shape[1] // height
    lowest, highest = surroundings(low)
    reach = highest - lowest + REACH_MARGIN
    # Each row of bounds is spread out to the width of the output: whole rows are compared fastest.
    floor = (lowest - reach).clamp_(min=0).repeat_interleave(scale, dim=2)[:, :, None]
    ceiling = (highest + reach).clamp_(max=1).repeat_interleave(scale, dim=2)[:, :, None]
    rows = high.reshape(channels, height, scale, width * scale)
    return torch.clamp(rows, floor, ceiling, out=rows).view_as(high)


def surroundings(low: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of each pixel's 3x3 neighbourhood, both (C, H, W)."""
    return _spread(low, torch.minimum), _spread(low, torch.maximum)


def _spread(low: Tensor, better: Callable[..., Tensor]) -> Tensor:
    """The best value of each 3x3 neighbourhood, down and then across: several times faster than torch's pooling."""
    down = low.clone()
    better(down[:, 1:], low[:, :-1], out=down[:, 1:])
    better(down[:, :-1], low[:, 1:], out=down[:, :-1])
    across = down.clone()
    better(across[:, :, 1:], down[:, :, :-1], out=across[:, :, 1:])
    better(across[:, :, :-1], down[:, :, 1:], out=across[:, :, :-1])
    return across


def _complaint(high: Tensor, baseline: Tensor, low: Tensor, compared_px: int) -> str:
    """What shows that `high` is no enlargement of `low`, next to bicubic's; nothing if all is well.

    Means over squares of `compared_px` input pixels are compared, of less where a tile is smaller.
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


def count_tiles(height: int, width: int, tile_px: int) -> int:
    """How many tiles a picture is cut into."""
    return ceil(height / tile_px) * ceil(width / tile_px)


def tile_grid(height: int, width: int, tile_px: int, padding: int) -> Iterator[Tile]:
    """Cut a picture into tiles of nearly equal size, at most `tile_px` a side, each padded where it can be."""
    for top, bottom in _intervals(height, tile_px):
        for left, right in _intervals(width, tile_px):
            yield Tile(
                top, bottom, left, right,
                max(0, top - padding), min(height, bottom + padding),
                max(0, left - padding), min(width, right + padding),
            )  # fmt: skip


def _intervals(length: int, longest: int) -> list[tuple[int, int]]:
    count = ceil(length / longest)
    ends = [round(length * number / count) for number in range(count + 1)]
    return list(pairwise(ends))


def bleed(colour: Tensor, alpha: Tensor, distance_px: int) -> Tensor:
    """Give fully transparent pixels the colour of visible ones nearby, so that no hidden colour shines through.

    Args:
        colour: (C, H, W).
        alpha: (1, H, W); pixels at 0 are replaced.
        distance_px: how far colour is carried; pixels beyond keep their own.
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
