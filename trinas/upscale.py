"""Enlarge pictures with a loaded model, tile by tile; tiled equals whole."""

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
from trinas.cost import spec_cost
from trinas.device import autocast, pick_device, pick_precision
from trinas.errors import UpscaleError
from trinas.images import Image, to_levels
from trinas.store import Model

BF16_TOLERANCE = 1 / 255
"""bf16 may differ from fp32 by one 8-bit level; a network that loses more runs in fp32."""

TRIAL_PX = 128
"""Side of the picture that both precisions are tried on."""


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
        self._radius_px = spec_cost(model.config.spec).radius_px
        self.precision = self.config.precision
        if self.precision == "auto":
            self.precision = pick_precision(self.device, self._try, tolerance=BF16_TOLERANCE)

    @torch.inference_mode()
    def __call__(self, image: Image, on_tile: Callable[[int, int], None] = lambda done, total: None) -> Image:
        """Enlarge a picture; gray stays gray, alpha is enlarged too, depth and profile are kept.

        Args:
            image: from `read_image`; at least 1x1.
            on_tile: called after each tile with (tiles done, tiles in all).
        Returns:
            The picture at `scale` times the size, values in [0, 1], on the CPU.
        Raises:
            UpscaleError: the network gave values that are not numbers, even in fp32, or memory is too small.
        """
        channels, height, width = image.pixels.shape
        scale = self.scale
        # Colour under transparent pixels is bled outwards before enlarging, which looks further around.
        padding = 2 * self._radius_px + 1 if image.has_alpha else self._radius_px
        tiles = list(tile_grid(height, width, self.config.tile_px, padding))
        output = _empty(channels, height * scale, width * scale)
        for number, tile in enumerate(tiles, start=1):
            low = image.pixels[:, tile.padded_top : tile.padded_bottom, tile.padded_left : tile.padded_right]
            high = self._enlarge(low.to(self.device), image.has_alpha)
            rows = slice((tile.top - tile.padded_top) * scale, (tile.bottom - tile.padded_top) * scale)
            columns = slice((tile.left - tile.padded_left) * scale, (tile.right - tile.padded_left) * scale)
            target = output[:, tile.top * scale : tile.bottom * scale, tile.left * scale : tile.right * scale]
            target.copy_(high[:, rows, columns])
            on_tile(number, len(tiles))
        return replace(image, pixels=output)

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
        highest = F.max_pool2d(alpha[None], 3, stride=1, padding=1)
        lowest = -F.max_pool2d(-alpha[None], 3, stride=1, padding=1)
        bounds = F.interpolate(torch.cat([lowest, highest]), scale_factor=self.scale, mode="nearest")
        enlarged = F.interpolate(alpha[None], scale_factor=self.scale, mode="bicubic", align_corners=False)[0]
        return enlarged.clamp(bounds[0], bounds[1])

    def _run(self, low: Tensor) -> Tensor:
        """The network on one RGB tile, (3, h, w) to (3, scale * h, scale * w)."""
        high = self._pass(low, self.precision)
        if not _is_finite(high) and self.precision != "fp32":
            high = self._pass(low, "fp32")
        if not _is_finite(high):
            raise UpscaleError("the network gave values that are not numbers, even in fp32; try another model")
        return high.clamp_(0, 1)

    def _pass(self, low: Tensor, precision: str) -> Tensor:
        batch = low[None].contiguous(memory_format=torch.channels_last)
        with autocast(self.device, precision):
            high: Tensor = self._network(batch)[0]
        return high

    @torch.inference_mode()
    def _try(self, precision: str) -> Tensor:
        """One pass over noise, which is harder on rounding than photographs (docs/LOG.md)."""
        noise = torch.rand(3, TRIAL_PX, TRIAL_PX, generator=torch.Generator().manual_seed(0))
        return self._pass(noise.to(self.device), precision)


def _empty(channels: int, height: int, width: int) -> Tensor:
    try:
        return torch.empty(channels, height, width)
    except RuntimeError:  # torch's only word for "no memory" on the CPU
        gigabytes = channels * height * width * 4 / 1e9
        raise UpscaleError(
            f"a result of {width}x{height} takes {gigabytes:.1f} GB of memory, which is not there"
        ) from None


def _is_finite(values: Tensor) -> bool:
    """Whether all are numbers: a sum with one that is not is none either, and is found four times faster."""
    return bool(values.sum().isfinite())


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
