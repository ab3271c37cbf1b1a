"""What one visitor of the page may ask for; the command line takes its defaults from here."""

from dataclasses import dataclass

from trinas.config import MAX_INPUT_PX


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for."""

    upload_mb: float = 200
    """Of one file."""
    input_px: int = MAX_INPUT_PX
    output_px: int = 200_000_000
    """A result of so many takes about 4 GB of memory."""
    files: int = 1000
    """Of a batch, those in archives included."""
    unpacked_mb: float = 4000
    """Of all files of a batch."""
    seconds: float = 3600
    """For one job: a picture, a batch, a comparison."""
    queue: int = 32
    """Jobs that wait; more are turned away."""
    search_minutes: float = 240
    """The longest search; 0: there are none."""
