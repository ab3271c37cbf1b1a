"""Upscale images with one loaded model, tile by tile.

The tiles together equal the result of the whole image. Every tile is checked.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trinas.config import DEFAULT_DEVICE, DEFAULT_PRECISION, UpscaleOptions, check_precision
from trinas.device import autocast, pick_device, pick_precision, translate_memory_errors
from trinas.errors import InconsistentResultError
from trinas.images.image import Image, to_levels
from trinas.inference.tensors import (
    bleed_colour,
    clamp_to_neighbourhood,
    describe_inconsistency,
    resize,
    upscale_alpha,
)
from trinas.inference.tiles import Tile, tile_grid
from trinas.networks.cost import compute_cost
from trinas.zoo.folder import Model

DEFAULT_OPTIONS = UpscaleOptions()

BF16_TOLERANCE = 1 / 255
"""bf16 may differ from fp32 by one 8-bit level. Networks that differ more run in fp32."""

TRIAL_PX = 128
"""Side of the noise image on which both precisions are compared."""

RESTORATION_COMPARED_PX = 8
"""Side of the squares whose means a restoration model must keep. It may change single pixels."""


class TiledUpscaler:
    """Upscales images with one model on one device.

    Tiles overlap by exactly the network's receptive radius, so that no seams are visible. Apart from the decoded input
    and the output, memory only depends on the size of a tile.

    Attributes:
        scale: output pixels per input pixel, along each side.
        device: where the network runs.
        precision: fp32 or bf16.
    """

    def __init__(self, model: Model, device: str = DEFAULT_DEVICE, precision: str = DEFAULT_PRECISION) -> None:
        """Copy the model's network to a device.

        Args:
            model: from `load_model`; it is not changed.
            device: auto, cpu, cuda (or cuda:1) or mps.
            precision: auto, fp32 or bf16; auto takes bf16 for wide networks where the hardware has it.
        Raises:
            TrinasError: this machine has no such device.
            ValueError: there is no such precision.
        """
        check_precision(precision)
        self.scale = model.scale
        self.device = pick_device(device)
        self._network = copy.deepcopy(model.network).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._compared_px = RESTORATION_COMPARED_PX if model.config.restores else 1
        self._radius_px = compute_cost(model.config.spec).radius_px
        self.precision = precision
        if precision == "auto":
            self.precision = pick_precision(self.device, model.config.spec.trunk_width)
            if self.precision == "bf16" and self._measure_bf16_error() > BF16_TOLERANCE:
                self.precision = "fp32"

    @torch.inference_mode()
    @translate_memory_errors()
    def __call__(
        self,
        image: Image,
        options: UpscaleOptions = DEFAULT_OPTIONS,
        on_tile: Callable[[int, int], None] = lambda done, total: None,
    ) -> Image:
        """Upscale an image. Gray stays gray, alpha is upscaled too, and depth and profile are kept.

        Args:
            image: from `read_image`; at least 1x1.
            options: strength, self-ensemble and tile size of this call.
            on_tile: called after each tile with (finished tiles, all tiles).
        Returns:
            The image at `scale` times the size, values in [0, 1], on the CPU.
        Raises:
            InconsistentResultError: the network's result does not match the input, even in fp32.
            MemoryShortageError: memory is too small.
        """
        channels, height, width = image.pixels.shape
        # Colours are first spread into transparent pixels, which needs more of the surrounding pixels.
        padding = 2 * self._radius_px + 1 if image.has_alpha else self._radius_px
        tiles = list(tile_grid(height, width, options.tile_px, padding))
        output = torch.empty(channels, height * self.scale, width * self.scale)
        for number, tile in enumerate(tiles, start=1):
            low = image.pixels[:, tile.padded_top : tile.padded_bottom, tile.padded_left : tile.padded_right]
            high = self._upscale_padded(low.to(self.device), image.has_alpha, options)
            self._paste(output, high, tile)
            on_tile(number, len(tiles))
        return replace(image, pixels=output, jpeg_quality=None)

    def upscale_rgb8(self, low: NDArray[np.uint8], options: UpscaleOptions = DEFAULT_OPTIONS) -> NDArray[np.uint8]:
        """Upscale uint8 (H, W, 3) to uint8 (scale * H, scale * W, 3), as for measuring metrics.

        Raises:
            UpscaleError: as for a call.
        """
        pixels = torch.from_numpy(low).permute(2, 0, 1).float() / 255
        return to_levels(self(Image(pixels), options).pixels, 8)

    def _paste(self, output: Tensor, high: Tensor, tile: Tile) -> None:
        """Copy a tile's result, without its padding, to its place in the output."""
        scale = self.scale
        rows = slice((tile.top - tile.padded_top) * scale, (tile.bottom - tile.padded_top) * scale)
        columns = slice((tile.left - tile.padded_left) * scale, (tile.right - tile.padded_left) * scale)
        target = output[:, tile.top * scale : tile.bottom * scale, tile.left * scale : tile.right * scale]
        target.copy_(high[:, rows, columns])

    def _upscale_padded(self, low: Tensor, has_alpha: bool, options: UpscaleOptions) -> Tensor:
        """Upscale a padded tile of any kind, (C, h, w) to (C, scale * h, scale * w), values in [0, 1]."""
        if not has_alpha:
            return self._upscale_colour(low, options)
        colour, alpha = low[:-1], low[-1:]
        # One pixel further than the receptive radius, since upscaled alpha extends one pixel beyond visible pixels.
        high_colour = self._upscale_colour(bleed_colour(colour, alpha, self._radius_px + 1), options)
        return torch.cat([high_colour, upscale_alpha(alpha, self.scale)])

    def _upscale_colour(self, low: Tensor, options: UpscaleOptions) -> Tensor:
        if low.shape[0] == 3:
            return self._upscale_checked(low, options)
        return self._upscale_checked(low.expand(3, -1, -1), options).mean(dim=0, keepdim=True)

    def _upscale_checked(self, low: Tensor, options: UpscaleOptions) -> Tensor:
        """Upscale an RGB tile, (3, h, w) to (3, scale * h, scale * w), and check it. If it fails, try again in fp32."""
        baseline = resize(low, low.shape[1] * self.scale, low.shape[2] * self.scale)
        for precision in dict.fromkeys((self.precision, "fp32")):
            high = self._run_ensemble(low, precision) if options.self_ensemble else self.run_network(low, precision)
            if not high.sum().isfinite():  # if one value is not a number, the sum is not one either
                complaint = "holds values that are not numbers"
                continue
            high = clamp_to_neighbourhood(high, low)
            complaint = describe_inconsistency(high, baseline, low, self._compared_px)
            if not complaint:
                return high if options.strength == 1 else baseline.lerp_(high, options.strength)
        raise InconsistentResultError(f"the network's result {complaint}, even in fp32; try another model")

    def _run_ensemble(self, low: Tensor, precision: str) -> Tensor:
        """Return the mean of the network's results over the tile's 8 turns and flips."""
        total = torch.zeros(())
        for turns in range(4):
            for flip in ([], [2]):
                turned = torch.rot90(low, turns, (1, 2)).flip(flip)
                total = total + torch.rot90(self.run_network(turned, precision).flip(flip), -turns, (1, 2))
        return total / 8

    def run_network(self, low: Tensor, precision: str) -> Tensor:
        """Return the network's unchecked result on one RGB image: (3, h, w) to (3, scale * h, scale * w).

        Args:
            low: values in [0, 1], on the network's device.
            precision: fp32 or bf16.
        """
        batch = low[None].contiguous(memory_format=torch.channels_last)
        with autocast(self.device, precision):
            high: Tensor = self._network(batch)[0]
        return high

    @torch.inference_mode()
    def _measure_bf16_error(self) -> float:
        """Return the largest difference between bf16 and fp32 on noise. On photographs it is smaller."""
        noise = torch.rand(3, TRIAL_PX, TRIAL_PX, generator=torch.Generator().manual_seed(0)).to(self.device)
        return float((self.run_network(noise, "bf16") - self.run_network(noise, "fp32")).abs().max())
