"""What a batch will take, before it is started: time and memory per picture."""

import math
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path

from trinas.config import SaveConfig, SizeConfig
from trinas.errors import TrinasError
from trinas.images.image import Image
from trinas.images.write import write_image
from trinas.inference.batch import LARGE_PX, WRITERS, Job, Work, failed, inspect_job, read_job
from trinas.inference.cascade import Enlarger, Pass, growth

SAMPLE_PX = 256
"""Longest side of the piece of the first picture of a kind that is really enlarged, to time it."""

TRIALS = 4
"""Times that it is enlarged; the fastest counts."""

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Estimate:
    """What one job will take."""

    job: Job
    work: Work | None
    """None where the job will fail."""
    problem: str = ""
    seconds: float = 0.0
    """For reading, enlarging and writing, one after the other."""
    memory_bytes: int = 0
    """Highest, while no other picture is in memory, the program included."""


def estimate_jobs(
    jobs: Sequence[Job], enlarger: Enlarger, size: SizeConfig, save: SaveConfig, *, overwrite: bool = False
) -> Iterator[Estimate]:
    """Say for each job what it will take on this machine, or why it will fail; nothing is written.

    Of the first picture of each kind (networks and file format) a piece is enlarged and encoded, to time it.
    Existing results are left out unless `overwrite` is given.
    """
    seconds_per_px: dict[tuple[tuple[Pass, ...], str], float] = {}
    for job in jobs:
        try:
            if not job.problem and job.result.exists() and not overwrite:
                continue
            work = inspect_job(job, enlarger, size, save)
            kind = (work.passes, job.result.suffix.lower())
            if kind not in seconds_per_px:
                seconds_per_px[kind] = _seconds_per_px(job, work, enlarger, size, save)
        except (TrinasError, OSError) as error:
            yield Estimate(job, None, failed(job, error).reason)
            continue
        yield Estimate(job, work, "", seconds_per_px[kind] * prod(work.size), _memory_bytes(work))


def batch_memory_bytes(estimates: Iterable[Estimate]) -> int:
    """The most memory that all of them together will take: large ones by themselves, small ones several at once."""
    program = peak_memory_bytes()
    highest = program
    for estimate in estimates:
        if estimate.work is not None:
            at_once = 1 if prod(estimate.work.size) > LARGE_PX else WRITERS + 2
            highest = max(highest, program + at_once * (estimate.memory_bytes - program))
    return highest


def _seconds_per_px(job: Job, work: Work, enlarger: Enlarger, size: SizeConfig, save: SaveConfig) -> float:
    """Seconds per pixel of the result, from a piece in the middle of the picture; its reading is timed whole."""
    start = time.perf_counter()
    image, work = read_job(job, work, enlarger, size, save)
    reading = (time.perf_counter() - start) / prod(work.size)
    piece = _middle(image)
    width, height = piece.size
    factor = work.size[0] / work.header.width
    larger = (max(1, round(width * factor)), max(1, round(height * factor)))
    fastest = math.inf
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(TRIALS):  # the first loads kernels and libraries
            start = time.perf_counter()
            write_image(Path(folder, f"piece{job.result.suffix}"), enlarger(piece, larger), save)
            fastest = min(fastest, time.perf_counter() - start)
    return reading + fastest / prod(larger)


def _middle(image: Image) -> Image:
    width, height = image.size
    top, left = max(0, (height - SAMPLE_PX) // 2), max(0, (width - SAMPLE_PX) // 2)
    return replace(image, pixels=image.pixels[:, top : top + SAMPLE_PX, left : left + SAMPLE_PX])


def _memory_bytes(work: Work) -> int:
    """The program as it is now, the largest pictures that exist at once as 32-bit numbers, and the encoded one."""
    pixels = work.header.width * work.header.height
    grown = [pixels * factor**2 for factor in growth(work.passes)]
    if grown[-1] != prod(work.size):
        grown.append(prod(work.size))
    floats = max((sum(pair) for pair in pairwise(grown)), default=pixels)
    encoded = 2 * prod(work.size)  # the values as integers, and the file that is made of them
    return peak_memory_bytes() + work.header.channels * (4 * floats + encoded)


def peak_memory_bytes() -> int:
    """The most memory this process has taken so far; 0 where the system does not say (Windows)."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
