"""Upscale images to any size: apply networks one after the other, then resize once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor

from trinas.config import DEFAULT_DEVICE, DEFAULT_PRECISION, DEFAULT_PRESET, UpscaleOptions, check_precision
from trinas.device import pick_device, translate_memory_errors
from trinas.errors import InconsistentResultError
from trinas.images.image import Image
from trinas.inference.sizes import choose_scales
from trinas.inference.tensors import resize
from trinas.inference.tiled import DEFAULT_OPTIONS, TiledUpscaler
from trinas.inference.tiles import count_tiles
from trinas.zoo.bundled import PRESET_MODELS, RESTORATION_MAX_JPEG_QUALITY, RESTORATION_MODELS
from trinas.zoo.folder import load_config, load_model

RESTORATION_FAILED = "compression artefacts kept: the restoration model failed on this image"
"""Note on a result that the usual models upscaled, because the restoration model failed."""


@dataclass(frozen=True)
class Pass:
    """One network on the way to a size."""

    scale: int
    model: str
    """Its name, as `load_model` takes it."""
    restores: bool = False
    """Whether it was chosen because the image is a compressed JPEG."""


class CascadeUpscaler:
    """Upscales images to any size. It chooses the networks, and loads each one when it is first needed.

    Attributes:
        device: where the networks run.
    """

    def __init__(
        self,
        model: str | None = None,
        device: str = DEFAULT_DEVICE,
        precision: str = DEFAULT_PRECISION,
        preset: str = DEFAULT_PRESET,
    ) -> None:
        """Choose where to run, and check that the model exists.

        Args:
            model: bundled name, model folder or Hub id; only this network is used. None: bundled models are chosen by
                the size, with a restoration model for a compressed JPEG.
            device: auto, cpu, cuda (or cuda:1) or mps.
            precision: auto, fp32 or bf16.
            preset: fast, balanced or best. It says which bundled models are chosen if no model is named.
        Raises:
            ModelError: there is no such model.
            TrinasError: this machine has no such device.
            ValueError: there is no such precision or preset.
        """
        check_precision(precision)
        if preset not in PRESET_MODELS:
            raise ValueError(f"preset must be one of {', '.join(PRESET_MODELS)}, got {preset!r}")
        self.device = pick_device(device)
        self._precision = precision
        self._chooses = not model
        self._models = {load_config(model).spec.scale: model} if model else PRESET_MODELS[preset]
        self._upscalers: dict[str, TiledUpscaler] = {}

    def choose_passes(
        self, width: int, height: int, size: tuple[int, int], jpeg_quality: int | None = None
    ) -> tuple[Pass, ...]:
        """Return the networks that an image goes through.

        Args:
            width: of the image, in pixels.
            height: of the image, in pixels.
            size: width and height of the result.
            jpeg_quality: as `Image.jpeg_quality`. A compressed JPEG goes through one of `RESTORATION_MODELS` first.
                After that the image is clean, and the usual models follow.
        """
        restores = self._chooses and jpeg_quality is not None and jpeg_quality <= RESTORATION_MAX_JPEG_QUALITY
        first = RESTORATION_MODELS if restores else self._models
        scales = choose_scales(width, height, size, self._models, first)
        return (
            *(Pass(scale, first[scale], restores) for scale in scales[:1]),
            *(Pass(scale, self._models[scale]) for scale in scales[1:]),
        )

    def load_upscaler(self, model: str) -> TiledUpscaler:
        """Return the upscaler of one model, loading it at the first call.

        Raises:
            ModelError: the model's files are damaged.
        """
        if model not in self._upscalers:
            self._upscalers[model] = TiledUpscaler(load_model(model), str(self.device), self._precision)
        return self._upscalers[model]

    def __call__(
        self,
        image: Image,
        size: tuple[int, int],
        options: UpscaleOptions = DEFAULT_OPTIONS,
        on_tile: Callable[[int, int], None] = lambda done, total: None,
    ) -> Image:
        """Do as `upscale` and return the image alone."""
        return self.upscale(image, size, options, on_tile)[0]

    @torch.inference_mode()
    @translate_memory_errors()
    def upscale(
        self,
        image: Image,
        size: tuple[int, int],
        options: UpscaleOptions = DEFAULT_OPTIONS,
        on_tile: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[Image, tuple[Pass, ...]]:
        """Upscale an image to `size`.

        A restoration model can mistake a pattern of single pixels for compression artefacts, and fail. If no model was
        named, the usual models then upscale the image, and a note says so.

        Args:
            image: from `read_image`.
            size: width and height of the result in pixels. If it is smaller than the image, the image is only reduced.
            options: strength, self-ensemble and tile size of this call.
            on_tile: called after each tile with (finished tiles, all tiles).
        Returns:
            The image at that size, with everything else unchanged, and the networks that it went through.
        Raises:
            InconsistentResultError: a network's result does not match its input.
            MemoryShortageError: memory is too small.
        """
        passes = self.choose_passes(*image.size, size, image.jpeg_quality)
        try:
            return self._run_passes(passes, image, size, options, on_tile), passes
        except InconsistentResultError:
            if not any(step.restores for step in passes):
                raise
        image = replace(image, jpeg_quality=None, notes=(*image.notes, RESTORATION_FAILED))
        passes = self.choose_passes(*image.size, size)
        return self._run_passes(passes, image, size, options, on_tile), passes

    def _run_passes(
        self,
        passes: Sequence[Pass],
        image: Image,
        size: tuple[int, int],
        options: UpscaleOptions,
        on_tile: Callable[[int, int], None],
    ) -> Image:
        width, height = image.size
        tiles = [
            count_tiles(height * factor, width * factor, options.tile_px) for factor in compute_growth(passes)[:-1]
        ]
        for number, step in enumerate(passes):
            report = partial(_report_tiles, on_tile, sum(tiles[:number]), sum(tiles))
            image = self.load_upscaler(step.model)(image, options, report)
        return image if image.size == size else resize_image(image, size)


def compute_growth(passes: Sequence[Pass]) -> list[int]:
    """Return how many times larger an image is along each side, before each pass and after the last one."""
    return list(accumulate((step.scale for step in passes), mul, initial=1))


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Resize an image to `size` (width, height) by bicubic interpolation.

    Colours are weighted by alpha, so that the colours of transparent pixels stay hidden.
    """
    width, height = size
    return replace(image, pixels=_resize_pixels(image, width, height), jpeg_quality=None)


def _resize_pixels(image: Image, width: int, height: int) -> Tensor:
    if not image.has_alpha:
        return resize(image.pixels, height, width)
    colour, alpha = image.pixels[:-1], image.pixels[-1:]
    resized = resize(torch.cat([colour * alpha, alpha]), height, width)
    visible = resized[-1:].clamp(min=1e-6)
    return torch.cat([(resized[:-1] / visible).clamp_(0, 1), resized[-1:]])


def _report_tiles(on_tile: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    on_tile(before + done, total)
