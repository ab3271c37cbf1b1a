"""Options that several commands have: each with its type, its help and its panel in the help.

The options of a single command are in its own module, above the command.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from trinas.config import MAX_SECONDS_PER_FILE

if TYPE_CHECKING:
    from trinas.images.guard import DecoderPool


class Precision(str, Enum):
    """Number formats in which networks run. Auto takes bf16 where it is faster: for wide networks and for training."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


def complete_model(incomplete: str) -> list[str]:
    """Return the bundled models whose names begin with `incomplete`, for the shell."""
    from trinas.zoo.bundled import list_bundled_models

    return [name for name in list_bundled_models() if name.startswith(incomplete)]


TEACHER_COST = (
    "The teacher upscales all images before training, 8 times each. This time is added to --minutes. It pays off in "
    "long trainings from scratch."
)

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda (or cuda:1) or mps; see `devices`.", metavar="DEVICE")]
PrecisionOption = Annotated[
    Precision, typer.Option(help="Number format in which the network runs. auto takes the faster one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print only JSON to standard output.")]
ScaleOption = Annotated[
    int | None,
    typer.Option("--scale", "-s", min=2, help="Output pixels per input pixel. [default: the model's, or 4]"),
]
SelfEnsembleOption = Annotated[
    bool, typer.Option("--tta", help="Take the mean over 8 turns and flips. Slightly better, 8 times slower.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the weights and of the batches.")]


@contextmanager
def refuse_bad_values() -> Iterator[None]:
    """Turn the ValueError of a configuration into a usage error, which ends with exit code 2.

    Raises:
        typer.BadParameter: the block raised a ValueError, or an OverflowError for an infinite number.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from None


def to_pixels(megapixels: float) -> int:
    """Return a number of megapixels as pixels.

    Raises:
        OverflowError: the number is infinite.
    """
    return round(megapixels * 1e6)


def start_decoders(max_seconds: float = MAX_SECONDS_PER_FILE) -> "DecoderPool":
    """Return a pool to open images with. Its first process starts while the networks are loaded.

    Args:
        max_seconds: time for one file.
    """
    from trinas.images.guard import DecoderPool

    decoders = DecoderPool(max_seconds)
    decoders.start()
    return decoders
