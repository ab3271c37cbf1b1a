"""Enlarge pictures to any size: networks one after the other, then one resize."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from operator import mul
from typing import NamedTuple

import torch
from torch import Tensor

from trinas.config import UpscaleConfig
from trinas.device import memory_shortage_named, pick_device
from trinas.errors import UpscaleError
from trinas.images.image import Image
from trinas.inference.sizes import choose_passes
from trinas.inference.tiled import Upscaler, count_tiles, resize
from trinas.zoo.folder import DEFAULT_MODELS, PHOTO_MAX_JPEG_QUALITY, PHOTO_MODELS, load_config, load_model

NOT_SMOOTHED = "its compression is left in, since the network against that fails on patterns of single pixels"
"""Note on a picture that the usual networks enlarged after all."""


class Pass(NamedTuple):
    """One network on the way to a size."""

    scale: int
    model: str
    """As `load_model` takes it."""
    smooths: bool = False
    """Whether it was chosen because it smooths the compression of a JPEG away."""


class Enlarger:
    """Enlarges pictures to any size with the networks that fit, each loaded when it is first needed."""

    def __init__(self, model: str | None = None, config: UpscaleConfig | None = None) -> None:
        """
        Args:
            model: bundled name or model folder, which is then the only network; None chooses among the bundled,
                by the size, and for a compressed JPEG one that smooths that away.
            config: how each network is run.
        Raises:
            ModelError: there is no such model.
            TrinasError: the device does not exist here.
        """
        self.config = config or UpscaleConfig()
        self.device = pick_device(self.config.device)
        self._chooses = not model
        self._models = {load_config(model).spec.scale: model} if model else DEFAULT_MODELS
        self._upscalers: dict[str, Upscaler] = {}

    def passes(
        self, width: int, height: int, size: tuple[int, int], jpeg_quality: int | None = None
    ) -> tuple[Pass, ...]:
        """The networks that a picture goes through to become `size` (width, height).

        Args:
            jpeg_quality: as `Image.jpeg_quality`. A compressed JPEG meets one of `PHOTO_MODELS` first; what follows
                is as usual, since there is nothing left then to smooth away.
        """
        smooths = self._chooses and jpeg_quality is not None and jpeg_quality <= PHOTO_MAX_JPEG_QUALITY
        first = PHOTO_MODELS if smooths else self._models
        scales = choose_passes(width, height, size, self._models, first)
        return (
            *(Pass(scale, first[scale], smooths) for scale in scales[:1]),
            *(Pass(scale, self._models[scale]) for scale in scales[1:]),
        )

    def upscaler(self, model: str) -> Upscaler:
        """A network of `passes`, loaded if need be.

        Raises:
            ModelError: its files are damaged.
        """
        if model not in self._upscalers:
            self._upscalers[model] = Upscaler(load_model(model), self.config)
        return self._upscalers[model]

    def __call__(
        self, image: Image, size: tuple[int, int], on_tile: Callable[[int, int], None] = lambda done, total: None
    ) -> Image:
        """`enlarge`, for those who need not know by which networks."""
        return self.enlarge(image, size, on_tile)[0]

    @torch.inference_mode()
    @memory_shortage_named()
    def enlarge(
        self, image: Image, size: tuple[int, int], on_tile: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[Image, tuple[Pass, ...]]:
        """Enlarge a picture to `size`.

        A network that smooths compression away may take a pattern of single pixels for compression and fail on it; if
        nobody has named it, the usual networks enlarge the picture instead, and a note says so.

        Args:
            image: from `read_image`.
            size: width and height in pixels; a smaller one than the picture's only reduces it.
            on_tile: called after each tile with (tiles done, tiles in all).
        Returns:
            The picture at that size, everything else kept, and the networks that it went through.
        Raises:
            UpscaleError: a network's result is not a picture of its input, or memory is too small.
        """
        passes = self.passes(*image.size, size, image.jpeg_quality)
        try:
            return self._through(passes, image, size, on_tile), passes
        except UpscaleError:
            if not any(step.smooths for step in passes):
                raise
        image = replace(image, jpeg_quality=None, notes=(*image.notes, NOT_SMOOTHED))
        passes = self.passes(*image.size, size)
        return self._through(passes, image, size, on_tile), passes

    def _through(
        self, passes: Sequence[Pass], image: Image, size: tuple[int, int], on_tile: Callable[[int, int], None]
    ) -> Image:
        width, height = image.size
        grown = growth(passes)
        tiles = [count_tiles(height * factor, width * factor, self.config.tile_px) for factor in grown[:-1]]
        for number, step in enumerate(passes):
            image = self.upscaler(step.model)(image, partial(_report, on_tile, sum(tiles[:number]), sum(tiles)))
        return image if image.size == size else resized(image, size)


def growth(passes: Sequence[Pass]) -> list[int]:
    """How many times larger a picture is, along each side, before each pass and after the last."""
    return list(accumulate((step.scale for step in passes), mul, initial=1))


def resized(image: Image, size: tuple[int, int]) -> Image:
    """A picture in another size (width, height) by bicubic interpolation.

    Each colour weighs as much as it is seen, so that what lies under transparency does not shine through.
    """
    width, height = size
    return replace(image, pixels=_resized_pixels(image, width, height), jpeg_quality=None)


def _resized_pixels(image: Image, width: int, height: int) -> Tensor:
    if not image.has_alpha:
        return resize(image.pixels, height, width)
    colour, alpha = image.pixels[:-1], image.pixels[-1:]
    resized = resize(torch.cat([colour * alpha, alpha]), height, width)
    visible = resized[-1:].clamp(min=1e-6)
    return torch.cat([(resized[:-1] / visible).clamp_(0, 1), resized[-1:]])


def _report(on_tile: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    on_tile(before + done, total)
