"""Estimate the time and the memory of each image of a batch before it starts."""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from pathlib import Path

from trinas.config import SaveConfig, SizeConfig, UpscaleOptions
from trinas.errors import TrinasError
from trinas.images import guard
from trinas.images.image import Image
from trinas.images.read import OpenImage, open_image
from trinas.images.write import write_image
from trinas.inference.batch import LARGE_PX, WRITERS
from trinas.inference.cascade import CascadeUpscaler, Pass, compute_growth
from trinas.inference.job import OpenJob, Work, explain_failure
from trinas.inference.plan import Job
from trinas.inference.tiled import DEFAULT_OPTIONS
from trinas.timer import Timer, time_fastest

SAMPLE_PX = 256
"""Longest side of the piece of an image that is upscaled to measure the time."""

TRIALS = 4
"""How many times the piece is upscaled. The fastest time counts."""

NO_ALTERNATIVES: Mapping[str, CascadeUpscaler] = {}
"""No other upscalers."""

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Estimate:
    """How long one job will take, and how much memory."""

    job: Job
    work: Work | None
    """None if the job will fail."""
    problem: str = ""
    """Why the job will fail, with the name of the file."""
    seconds: float = 0.0
    """Of reading, upscaling and writing, one after the other."""
    memory_bytes: int = 0
    """Peak memory of the process and of its decoder, with no other image in memory."""
    alternatives: dict[str, float] = field(default_factory=dict)
    """Seconds with each of the other upscalers, by their names."""


def estimate_jobs(
    jobs: Sequence[Job],
    upscaler: CascadeUpscaler,
    size: SizeConfig,
    save: SaveConfig,
    options: UpscaleOptions = DEFAULT_OPTIONS,
    *,
    overwrite: bool = False,
    alternatives: Mapping[str, CascadeUpscaler] = NO_ALTERNATIVES,
    opener: OpenImage = open_image,
) -> Iterator[Estimate]:
    """Estimate the time and memory of each job on this machine, or say why it will fail. No result is written.

    Images of the same networks and file format are of one kind. A piece of the first image of each kind is upscaled and
    encoded to measure the time.

    Args:
        jobs: from `plan_jobs`.
        upscaler: as for `run_jobs`.
        size: as for `run_jobs`.
        save: as for `run_jobs`.
        options: as for `run_jobs`.
        overwrite: also estimate jobs whose results exist already.
        alternatives: other upscalers to estimate the time of, by name.
        opener: as for `run_jobs`.
    Yields:
        One estimate per job that would be run, in order.
    """
    speeds = _Speeds(save, options)
    for job in jobs:
        try:
            if not job.problem and job.result.exists() and not overwrite:
                continue
            opened = OpenJob(job, upscaler, size, save, opener)
            work = opened.work
            seconds = speeds.estimate_seconds(opened, upscaler)
            others = {name: speeds.estimate_seconds(opened, other) for name, other in alternatives.items()}
            del opened  # its file, and the image if it was decoded, must not be in memory together with the next one
        except (TrinasError, OSError, MemoryError) as error:
            yield Estimate(job, None, explain_failure(job, error))
            continue
        yield Estimate(job, work, "", seconds, _estimate_memory_bytes(work), others)


def estimate_batch_memory_bytes(estimates: Iterable[Estimate]) -> int:
    """Return the peak memory of a whole batch. Large images are alone in memory, several small ones are not."""
    program = measure_peak_memory_bytes()
    highest = program
    for estimate in estimates:
        if estimate.work is not None:
            at_once = 1 if prod(estimate.work.size) > LARGE_PX else WRITERS + 2
            highest = max(highest, program + at_once * (estimate.memory_bytes - program))
    return highest


def measure_peak_memory_bytes() -> int:
    """Return the peak memory of this process so far; 0 if the system does not say it (Windows)."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Speeds:
    """Seconds per pixel of the result for each kind of images. A kind is measured when its first image comes."""

    def __init__(self, save: SaveConfig, options: UpscaleOptions) -> None:
        self._save, self._options = save, options
        self._seconds_per_px: dict[tuple[tuple[Pass, ...], str], float] = {}

    def estimate_seconds(self, opened: OpenJob, upscaler: CascadeUpscaler) -> float:
        """Return the seconds that an upscaler takes for an image. Raise as `OpenJob.read` does."""
        header, size = opened.work.header, opened.work.size
        passes = upscaler.choose_passes(header.width, header.height, size, header.jpeg_quality)
        kind = (passes, opened.job.result.suffix.lower())
        if kind not in self._seconds_per_px:
            self._seconds_per_px[kind] = _measure_seconds_per_px(opened, upscaler, self._save, self._options)
        return self._seconds_per_px[kind] * prod(size)


def _measure_seconds_per_px(
    opened: OpenJob, upscaler: CascadeUpscaler, save: SaveConfig, options: UpscaleOptions
) -> float:
    """Return the seconds per pixel of the result.

    The whole image is read. A piece in its middle is upscaled and encoded.
    """
    with Timer() as reading:
        image = opened.read()
    work = opened.work
    piece = _crop_middle(image)
    factor = work.size[0] / work.header.width
    width, height = (max(1, round(side * factor)) for side in piece.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"piece{opened.job.result.suffix}")
        # The first run also loads kernels and libraries.
        fastest = time_fastest(
            lambda: write_image(path, upscaler(piece, (width, height), options), save), repeats=TRIALS
        )
    return reading.seconds / prod(work.size) + fastest / (width * height)


def _crop_middle(image: Image) -> Image:
    width, height = image.size
    top, left = max(0, (height - SAMPLE_PX) // 2), max(0, (width - SAMPLE_PX) // 2)
    return replace(image, pixels=image.pixels[:, top : top + SAMPLE_PX, left : left + SAMPLE_PX])


def _estimate_memory_bytes(work: Work) -> int:
    """Add up the process as it is now, the largest images that exist at the same time in 32 bits, and the result.

    Where the result is hardly larger than the image, decoding may take more.
    """
    pixels = work.header.width * work.header.height
    grown = [pixels * factor**2 for factor in compute_growth(work.passes)]
    if grown[-1] != prod(work.size):
        grown.append(prod(work.size))
    floats = max((sum(pair) for pair in pairwise(grown)), default=pixels)
    encoded = 2 * prod(work.size)  # the values as integers, and the file that is made from them
    upscaling = work.header.channels * (4 * floats + encoded)
    return measure_peak_memory_bytes() + guard.IDLE_BYTES + max(upscaling, work.header.reading_bytes)
