"""The limits of a visitor of the page. The command line takes its defaults from here."""

from dataclasses import dataclass

from trinas.config import MAX_INPUT_PX


@dataclass(frozen=True)
class Limits:
    """The limits of one visitor."""

    upload_mb: float = 200
    """Size of one file."""
    input_px: int = MAX_INPUT_PX
    """Pixels of an input image."""
    output_px: int = 200_000_000
    """Pixels of a result. One of this size takes about 4 GB of memory."""
    files: int = 1000
    """Files in a batch, counted after unpacking."""
    unpacked_mb: float = 4000
    """Size of all files in a batch, before and after unpacking, and of the results that are kept for a visitor."""
    hourly_upload_mb: float = 16_000
    """Size of all uploads of one address within an hour."""
    free_mb: float = 1000
    """Space that must stay free on the disk. Uploads and jobs that need it are refused or stopped."""
    seconds_per_file: float = 60
    """Time to decode one file."""
    seconds: float = 3600
    """Time of one job: an image, a batch, a comparison."""
    queue: int = 32
    """Jobs that may wait. Further jobs are refused."""
    search_minutes: float = 240
    """Time of a search. 0: the page has no searches."""
