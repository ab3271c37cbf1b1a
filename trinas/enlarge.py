"""Enlarge pictures to any size: networks one after the other, then one resize."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod

import torch
from torch import Tensor

from trinas.config import UpscaleConfig
from trinas.device import memory_shortage_named, pick_device
from trinas.images import Image
from trinas.sizes import choose_passes
from trinas.store import DEFAULT_MODELS, load_config, load_model
from trinas.upscale import Upscaler, count_tiles, resize


class Enlarger:
    """Enlarges pictures to any size with the networks that fit, each loaded when it is first needed."""

    def __init__(self, model: str | None = None, config: UpscaleConfig | None = None) -> None:
        """
        Args:
            model: bundled name or model folder, which is then the only network; None chooses among the bundled.
            config: how each network is run.
        Raises:
            ModelError: there is no such model.
            TrinasError: the device does not exist here.
        """
        self.config = config or UpscaleConfig()
        self.device = pick_device(self.config.device)
        self.models = {load_config(model).spec.scale: model} if model else dict(DEFAULT_MODELS)
        """Scale -> name of the network for it."""
        self._upscalers: dict[int, Upscaler] = {}

    def passes(self, width: int, height: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Scales of the networks that a picture goes through to become `size` (width, height)."""
        return choose_passes(width, height, size, self.models)

    def upscaler(self, scale: int) -> Upscaler:
        """The network for a scale, loaded if need be.

        Raises:
            ModelError: its files are damaged.
        """
        if scale not in self._upscalers:
            self._upscalers[scale] = Upscaler(load_model(self.models[scale]), self.config)
        return self._upscalers[scale]

    @torch.inference_mode()
    @memory_shortage_named()
    def __call__(
        self, image: Image, size: tuple[int, int], on_tile: Callable[[int, int], None] = lambda done, total: None
    ) -> Image:
        """Enlarge a picture to `size`.

        Args:
            image: from `read_image`.
            size: width and height in pixels; a smaller one than the picture's only reduces it.
            on_tile: called after each tile with (tiles done, tiles in all).
        Returns:
            The picture at that size, everything else kept.
        Raises:
            UpscaleError: a network's result is not a picture of its input, or memory is too small.
        """
        width, height = image.size
        passes = self.passes(width, height, size)
        grown = [prod(passes[:number]) for number in range(len(passes))]
        tiles = [count_tiles(height * factor, width * factor, self.config.tile_px) for factor in grown]
        for number, scale in enumerate(passes):
            image = self.upscaler(scale)(image, partial(_report, on_tile, sum(tiles[:number]), sum(tiles)))
        return image if image.size == size else resized(image, size)


def resized(image: Image, size: tuple[int, int]) -> Image:
    """A picture in another size (width, height) by bicubic interpolation.

    Each colour weighs as much as it is seen, so that what lies under transparency does not shine through.
    """
    width, height = size
    return replace(image, pixels=_resized_pixels(image, width, height))


def _resized_pixels(image: Image, width: int, height: int) -> Tensor:
    if not image.has_alpha:
        return resize(image.pixels, height, width)
    colour, alpha = image.pixels[:-1], image.pixels[-1:]
    resized = resize(torch.cat([colour * alpha, alpha]), height, width)
    visible = resized[-1:].clamp(min=1e-6)
    return torch.cat([(resized[:-1] / visible).clamp_(0, 1), resized[-1:]])


def _report(on_tile: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    on_tile(before + done, total)
