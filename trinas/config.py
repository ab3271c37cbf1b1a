"""Every setting, with its default and unit. The command line takes its defaults from here."""

from dataclasses import dataclass
from math import inf

MAX_INPUT_PX = 100_000_000
"""By default, images with more pixels are refused before they are decoded."""

MAX_OUTPUT_PX = 800_000_000
"""By default, results with more pixels are refused before they are computed. This many take about 16 GB of memory."""

PRESETS = ("fast", "balanced", "best")
"""Names of the choices among the bundled models, the fastest first. `zoo.bundled.PRESET_MODELS` has their models."""

DEFAULT_PRESET = "best"
"""The preset if neither a preset nor a model is named."""

MAX_SECONDS_PER_FILE = 300.0
"""By default, files that take longer to decode fail. A photograph of 100 megapixels takes seconds."""

DEFAULT_SCALE = 4
"""The scale of results if none is given."""

MAX_SCALE = 16
"""The largest scale of results."""

TEST_SETS = ("Set5", "Set14", "BSD100")
"""The field's test sets on which models are measured. Metrics are shown in this order."""

DEFAULT_QUALITY = 95
"""Quality of JPEG, AVIF and lossy WebP. JPEG and AVIF have full colour resolution."""

DEFAULT_DEVICE, DEFAULT_PRECISION = "auto", "auto"
"""Device and precision if none is given: the first GPU, otherwise the CPU; and bf16 where it is faster
(`device.pick_precision`)."""


@dataclass(frozen=True)
class UpscaleOptions:
    """How one image is upscaled. These options belong to one call; the loaded networks do not change."""

    strength: float = 1.0
    """Share of the network's result in the output: 0 is bicubic, 1 is the network's result."""
    self_ensemble: bool = False
    """Take the mean over the image's 8 turns and flips. This is a little better and 8 times slower."""
    tile_px: int = 256
    """Longest side of a tile, in input pixels. Smaller tiles take less memory and a little more time."""

    def __post_init__(self) -> None:
        if self.tile_px < 1:
            raise ValueError(f"tile_px must be at least 1, got {self.tile_px}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be between 0 and 1, got {self.strength:g}")


@dataclass(frozen=True)
class SizeConfig:
    """How large results are: a scale, or sizes in pixels. If nothing is given, the scale is 4."""

    scale: float | None = None
    """Output pixels per input pixel, along each side, 1 to 16."""
    width: int | None = None
    """Width of the result, in pixels. With `height` too, the result is the largest that fits into both."""
    height: int | None = None
    """Height of the result, in pixels."""
    long_side: int | None = None
    """The longer side of the result, in pixels."""
    max_input_px: int = MAX_INPUT_PX
    """Images with more pixels are refused."""
    max_output_px: int = MAX_OUTPUT_PX
    """Results with more pixels are refused."""

    def __post_init__(self) -> None:
        sizes = self.width is not None or self.height is not None
        if (self.scale is not None) + sizes + (self.long_side is not None) > 1:
            raise ValueError("give either scale, or width and height, or long_side")
        if self.scale is not None and not 1 <= self.scale <= MAX_SCALE:
            raise ValueError(f"scale must be between 1 and {MAX_SCALE}, got {self.scale:g}")
        for name in ("width", "height", "long_side", "max_input_px", "max_output_px"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class SaveConfig:
    """How results are written."""

    suffix: str | None = None
    """One of `formats.IMAGE_SUFFIXES`; None keeps the input's format."""
    quality: int | None = None
    """Quality of JPEG, WebP and AVIF, 1 to 100. None: 95, and a lossless WebP stays lossless."""
    lossless: bool = False
    """Write lossless WebP."""
    background: str | None = None
    """Lay transparent images onto this colour. None: keep transparency."""
    strip_metadata: bool = False
    """Leave out EXIF, XMP and resolution. The colour profile is kept, because colours would change without it."""

    def __post_init__(self) -> None:
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be between 1 and 100, got {self.quality}")
        if self.quality is not None and self.lossless:
            raise ValueError("give either quality or lossless")


@dataclass(frozen=True)
class Budgets:
    """The most that a network may cost. None means that there is no such budget."""

    params: float | None = None
    """Parameters: the numbers in its collapsed weights."""
    macs: float | None = None
    """Multiply-adds of its convolutions for a 1280x720 output."""
    ms_per_mp: float | None = None
    """Milliseconds per megapixel of output, on the device of the search."""

    def __post_init__(self) -> None:
        if not self.given():
            raise ValueError("give at least one budget")
        for name, value in self.given().items():
            if not 0 < value < inf:
                raise ValueError(f"a budget must be positive, got {name} {value:g}")

    def given(self) -> dict[str, float]:
        """Return the budgets that are not None, by name."""
        budgets = {"params": self.params, "macs": self.macs, "ms_per_mp": self.ms_per_mp}
        return {name: value for name, value in budgets.items() if value is not None}


@dataclass(frozen=True)
class SearchConfig:
    """Every setting of a search. Saved with the run, so that resuming needs none of them again."""

    budgets: Budgets
    """What the network may cost."""
    steps: int | tuple[int, int, int] | None = None
    """Steps of all stages together, or of warm-up, search and fine-tuning. Exactly one of `steps` and `minutes` is
    given."""
    minutes: float | None = None
    """Wall-clock time. When a stage starts, its share is turned into steps by timing a few of them."""
    batch_size: int = 8
    """Patches in a batch, in warm-up and search. A step of the search takes two batches."""
    patch_px: int = 32
    """Side of a square patch in warm-up and search, in low-resolution pixels."""
    weight_rate: float | None = None
    """Rate of the optimiser (`muon.Muon`) for the weights, in warm-up and search. None: 0.024 / trunk width."""
    arch_rate: float | None = None
    """Rate of Adam for the architecture parameters. None: 3e-4, but at least 4 / steps of the search."""
    clip_norm: float = 5.0
    """Largest norm of the weights' gradient in warm-up and search. A longer gradient is shortened to it."""
    warm_start: bool = True
    """Start from the bundled pretrained supernet if there is one for the space (`warmstart.find_bundled_supernet`)."""
    teacher: str | None = None
    """A model to imitate in the fine-tuning, as in `TrainConfig.teacher`."""
    shortened: tuple[tuple[int, int], ...] = ()
    """As `TrainConfig.shortened`, for the fine-tuning."""
    seed: int = 0
    """Seed of the initial weights and of every batch."""
    device: str = "auto"
    """auto, cpu, cuda (or cuda:1) or mps."""
    precision: str = "auto"
    """auto, fp32 or bf16; auto takes bf16 where the hardware has it."""

    def __post_init__(self) -> None:
        _check_run(self)
        _check_positive(self, "minutes", "batch_size", "patch_px", "weight_rate", "arch_rate", "clip_norm")
        counts = self.steps if isinstance(self.steps, tuple) else (1 if self.steps is None else self.steps,)
        if len(counts) not in (1, 3) or min(counts) < 1:
            raise ValueError(f"steps must be one positive number or three, got {self.steps}")


FINETUNE_LEARNING_RATE = 4e-4
"""Peak learning rate for fine-tuning. At the rate for fresh weights, an hour of training only regained what it had lost
at first (docs/LOG.md)."""


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training. Saved with the run, so that resuming needs none of them again."""

    steps: int | None = None
    """Optimiser steps. Exactly one of `steps` and `minutes` is given."""
    minutes: float | None = None
    """Wall-clock time. It is turned into steps by timing a few of them at the start. If the machine becomes slower,
    later validations reduce the number of steps."""
    shortened: tuple[tuple[int, int], ...] = ()
    """Only for repeating a run with `minutes`: after which steps the number of steps was reduced, and to how many."""
    batch_size: int = 16
    """Patches per step."""
    patch_px: int = 48
    """Side of a square patch, in low-resolution pixels."""
    learning_rate: float = 2e-3
    """Peak rate of the optimiser (`muon.Muon`). It rises over `warmup_steps` and falls to zero along a cosine."""
    warmup_steps: int = 1000
    """Steps over which the rate rises from zero, at most a tenth of all steps."""
    l2_share: float = 0.0
    """Share of the steps, at the end, that minimise the squared error, mostly on luma, instead of the absolute one."""
    luma_share: float = 0.85
    """Share of luma in that squared error. The rest is the error of all three colours, so that they do not drift."""
    clip_norm: float = 1.0
    """Largest norm of the gradient. A longer gradient is shortened to it."""
    weight_decay: float = 0.1
    """Share of a kernel that a step of rate 1 takes away. It improves long trainings (docs/LOG.md)."""
    ema_decay: float = 0.999
    """Decay per step of the running mean of the weights. This mean is validated and saved."""
    branches: bool = False
    """Over-parameterise 3x3 convolutions while training. The saved model is collapsed and has the usual size."""
    validate_every: int = 500
    """Steps between validations. Each validation also saves the state."""
    variants: int = 0
    """0: low-resolution images are made by the field's protocol. Otherwise each image gets so many of them, with the
    faults of real images: blurred, noisy and compressed (`degrade.degrade_image`)."""
    teacher: str | None = None
    """A model to imitate instead of the images, until the L2 share begins. It upscales all images first, which takes
    additional time. Or a folder of targets that were made beforehand (`trinas.training.targets`)."""
    seed: int = 0
    """Seed of the initial weights and of every batch."""
    device: str = "auto"
    """auto, cpu, cuda (or cuda:1) or mps."""
    precision: str = "auto"
    """auto, fp32 or bf16; auto takes bf16 where the hardware has it."""

    def __post_init__(self) -> None:
        _check_run(self)
        _check_positive(
            self, "steps", "minutes", "batch_size", "patch_px", "learning_rate", "clip_norm", "validate_every"
        )
        for name in ("warmup_steps", "variants", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("l2_share", "luma_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name):g}")
        if self.teacher and self.l2_share == 1:
            raise ValueError("with an l2_share of 1 there is nothing to imitate a teacher in")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay:g}")


def _check_run(config: SearchConfig | TrainConfig) -> None:
    """Refuse bad values of the settings that searches and trainings share."""
    if (config.steps is None) == (config.minutes is None):
        raise ValueError("give exactly one of steps and minutes")
    if config.shortened and config.minutes is not None:
        raise ValueError("shortened goes with steps")
    if config.seed < 0:
        raise ValueError(f"seed must not be negative, got {config.seed}")
    check_precision(config.precision)


def _check_positive(config: object, *names: str) -> None:
    """Refuse numbers that are not positive and finite. None is allowed.

    Raises:
        ValueError: a number is not positive, or is infinite; the message names it.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < inf:
            raise ValueError(f"{name} must be positive, got {value:g}")


def check_precision(precision: str) -> None:
    """Refuse everything except auto, fp32 and bf16.

    Raises:
        ValueError: `precision` is none of them.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision must be auto, fp32 or bf16, got {precision!r}")
