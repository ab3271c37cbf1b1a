"""Every knob, with its default and unit. The command line takes its defaults from here."""

from dataclasses import dataclass
from math import inf

MAX_INPUT_PX = 100_000_000
"""Larger pictures are refused before they are decoded, unless the limit is raised."""

MAX_OUTPUT_PX = 800_000_000
"""Larger results are refused before they are computed; this many take about 16 GB of memory."""

DEFAULT_SCALE = 4
"""How much a picture is enlarged where nothing else is asked for."""

MAX_SCALE = 16
"""The most that a picture is enlarged."""

TEST_SETS = ("Set5", "Set14", "BSD100")
"""The field's test sets that models have figures on, in the order in which these are shown."""

DEFAULT_QUALITY = 95
"""Of JPEG and AVIF (both with full colour resolution) and of lossy WebP."""


@dataclass(frozen=True)
class UpscaleConfig:
    """How an image is enlarged."""

    tile_px: int = 256
    """Longest side of a tile, in input pixels. Smaller tiles take less memory and a little more time."""
    strength: float = 1.0
    """How much of the network's work is kept: 0 is bicubic, 1 is the network's result."""
    tta: bool = False
    """Mean over the picture's 8 turns and flips (self-ensemble): a little better, 8 times slower."""
    device: str = "auto"
    """auto, cpu, cuda (or cuda:1) or mps."""
    precision: str = "auto"
    """auto, fp32 or bf16; auto takes bf16 for wide networks where the hardware has it."""

    def __post_init__(self) -> None:
        if self.tile_px < 1:
            raise ValueError(f"tile_px must be at least 1, got {self.tile_px}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be between 0 and 1, got {self.strength:g}")
        _check_precision(self.precision)


@dataclass(frozen=True)
class SizeConfig:
    """How large results get: a scale, or sizes in pixels. Nothing given means a scale of 4."""

    scale: float | None = None
    """Output pixels per input pixel, along each side, 1 to 16."""
    width: int | None = None
    """Of the result, in pixels; with `height` as well, the result is the largest that fits into both."""
    height: int | None = None
    """Of the result, in pixels."""
    long_side: int | None = None
    """The longer side of the result, in pixels."""
    max_input_px: int = MAX_INPUT_PX
    """Larger pictures are refused."""
    max_output_px: int = MAX_OUTPUT_PX
    """Larger results are refused."""

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
    """Of JPEG, WebP and AVIF, 1 to 100. None: 95, and a WebP without losses stays without."""
    lossless: bool = False
    """Write WebP without losses."""
    background: str | None = None
    """Lay transparent pictures onto this colour; None keeps transparency."""
    strip_metadata: bool = False
    """Leave out EXIF, XMP and resolution. The colour profile stays: without it colours would be others."""

    def __post_init__(self) -> None:
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be between 1 and 100, got {self.quality}")
        if self.quality is not None and self.lossless:
            raise ValueError("give either quality or lossless")


@dataclass(frozen=True)
class Budgets:
    """What a network may cost at most, in the units of `cost.Cost`; None is no limit."""

    params: float | None = None
    """Elements of its collapsed weights."""
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
        """The limits that there are, by name."""
        limits = {"params": self.params, "macs": self.macs, "ms_per_mp": self.ms_per_mp}
        return {name: value for name, value in limits.items() if value is not None}


@dataclass(frozen=True)
class SearchConfig:
    """Every knob of a search. Saved with the run, so that resuming needs none of them again."""

    budgets: Budgets
    """What the network may cost."""
    steps: int | tuple[int, int, int] | None = None
    """Steps of all stages together, or of warm-up, search and fine-tuning. Give one of `steps` and `minutes`."""
    minutes: float | None = None
    """Wall-clock time, turned into steps by timing a few of them when a stage starts; see `TrainConfig.minutes`."""
    batch_size: int = 8
    """Patches per step of warm-up and search; a step of the latter takes two such batches."""
    patch_px: int = 32
    """Side of a square patch in low-resolution pixels, in warm-up and search."""
    weight_rate: float | None = None
    """Rate of the optimiser (`muon.Muon`) for the weights, in warm-up and search. None: 0.024 / trunk width."""
    arch_rate: float | None = None
    """Rate of Adam for the architecture parameters. None: 3e-4, or more in a short search, so that rate x steps is at
    least 4."""
    clip_norm: float = 5.0
    """Largest norm of the weights' gradient in warm-up and search; anything longer is shortened to it."""
    warm_start: bool = True
    """Start from the bundled pretrained supernet, where there is one for the space (`warmstart.bundled_supernet`)."""
    teacher: str | None = None
    """A model to imitate in the fine-tuning, as in `TrainConfig.teacher`."""
    shortened: tuple[tuple[int, int], ...] = ()
    """As `TrainConfig.shortened`, of the fine-tuning."""
    seed: int = 0
    """Seed of the initial weights and of every batch."""
    device: str = "auto"
    """auto, cpu, cuda (or cuda:1) or mps."""
    precision: str = "auto"
    """auto, fp32 or bf16; auto takes bf16 where the hardware has it."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give exactly one of steps and minutes")
        if self.shortened and self.minutes is not None:
            raise ValueError("shortened goes with steps")
        _check_positive(self, "minutes", "batch_size", "patch_px", "weight_rate", "arch_rate", "clip_norm")
        counts = self.steps if isinstance(self.steps, tuple) else (1 if self.steps is None else self.steps,)
        if len(counts) not in (1, 3) or min(counts) < 1:
            raise ValueError(f"steps must be one positive number or three, got {self.steps}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        _check_precision(self.precision)


GOING_ON_RATE = 4e-4
"""Peak rate for going on from trained weights: at a fresh network's, an hour only made up for what it had lost at first
(docs/LOG.md)."""


@dataclass(frozen=True)
class TrainConfig:
    """Every knob of a training run. Saved with the run, so that resuming needs none of them again."""

    steps: int | None = None
    """Optimiser steps. Exactly one of `steps` and `minutes` is given."""
    minutes: float | None = None
    """Wall-clock time, turned into steps by timing a few of them at the start; where the machine turns out to be
    slower, validations make them fewer."""
    shortened: tuple[tuple[int, int], ...] = ()
    """Only to repeat such a run: after which steps there were fewer, and how many in all."""
    batch_size: int = 16
    """Patches per step."""
    patch_px: int = 48
    """Side of a square patch, in low-resolution pixels."""
    learning_rate: float = 2e-3
    """Peak rate of the optimiser (`muon.Muon`); it rises over `warmup_steps` and falls to zero along a cosine."""
    warmup_steps: int = 1000
    """Steps over which the rate rises from zero; a tenth of all steps at the most."""
    l2_share: float = 0.0
    """Share of the steps, at the end, that minimise the squared error, mostly luma's, instead of the absolute one."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; anything longer is shortened to it."""
    weight_decay: float = 0.1
    """Share of a kernel that a step of rate 1 takes away; long trainings gain by it (docs/LOG.md)."""
    ema_decay: float = 0.999
    """Decay per step of the running mean of the weights, which is what is validated and kept."""
    branches: bool = False
    """Over-parameterise 3x3 convolutions while training; the saved model is collapsed, and the same size."""
    validate_every: int = 500
    """Steps between validations; each also saves the state."""
    variants: int = 0
    """0: input is made by the field's protocol. Otherwise each photograph is blurred, made noisy and compressed in so
    many ways, as real pictures are (`degrade.degraded`)."""
    teacher: str | None = None
    """A model to imitate in place of the photographs, until the steps that minimise the squared error begin. It
    enlarges all images beforehand, which takes time of its own."""
    seed: int = 0
    """Seed of the initial weights and of every batch."""
    device: str = "auto"
    """auto, cpu, cuda (or cuda:1) or mps."""
    precision: str = "auto"
    """auto, fp32 or bf16; auto takes bf16 where the hardware has it."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give exactly one of steps and minutes")
        if self.shortened and self.minutes is not None:
            raise ValueError("shortened goes with steps")
        _check_positive(
            self, "steps", "minutes", "batch_size", "patch_px", "learning_rate", "clip_norm", "validate_every"
        )
        for name in ("seed", "warmup_steps", "variants", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.l2_share <= 1:
            raise ValueError(f"l2_share must be between 0 and 1, got {self.l2_share:g}")
        if self.teacher and self.l2_share == 1:
            raise ValueError("with an l2_share of 1 there is nothing to imitate a teacher in")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay:g}")
        _check_precision(self.precision)


def _check_positive(config: object, *names: str) -> None:
    """Refuse numbers that are not positive and finite; None is no number."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < inf:
            raise ValueError(f"{name} must be positive, got {value:g}")


def _check_precision(precision: str) -> None:
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision must be auto, fp32 or bf16, got {precision!r}")
