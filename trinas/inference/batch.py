"""Run the jobs of a batch, for the command line and the web page.

Reading, upscaling and writing overlap. One thread decodes the next image, the caller's thread runs the networks, and a
few threads encode finished results. Only these images are in memory.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import prod

from trinas.config import SaveConfig, SizeConfig, UpscaleOptions
from trinas.errors import Stopped
from trinas.images.image import Image
from trinas.images.read import OpenImage, open_image
from trinas.images.write import write_image
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.job import OpenJob, Work, explain_failure
from trinas.inference.plan import Job
from trinas.inference.tiled import DEFAULT_OPTIONS
from trinas.timer import Timer

WRITERS = min(4, os.cpu_count() or 1)
"""How many results are encoded at the same time. Encoding takes longer than the smallest networks."""

LARGE_PX = 16_000_000
"""Results with more pixels are made one at a time, so that only one of them is in memory."""


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    job: Job
    state: str
    """done, skipped or failed."""
    reason: str = ""
    """Why it was skipped or failed, with the name of the file."""
    notes: tuple[str, ...] = ()
    """What the user should know about the result."""
    read_seconds: float = 0.0
    upscale_seconds: float = 0.0
    write_seconds: float = 0.0
    models: tuple[str, ...] = ()
    """The networks that the image went through."""


@dataclass(frozen=True)
class _Stage:
    """An image between two stages."""

    job: Job
    work: Work
    image: Image
    read_seconds: float
    upscale_seconds: float = 0.0


def run_jobs(
    jobs: Sequence[Job],
    upscaler: CascadeUpscaler,
    size: SizeConfig,
    save: SaveConfig,
    options: UpscaleOptions = DEFAULT_OPTIONS,
    *,
    overwrite: bool = False,
    on_tile: Callable[[int, float], None] = lambda number, share: None,
    opener: OpenImage = open_image,
) -> Iterator[Outcome]:
    """Upscale image after image. If one fails, the others continue.

    To end the work, close the iterator, or raise an exception in the caller's thread (Ctrl-C, or `Stopped` in
    `on_tile`) or in `opener` (`Stopped`). Then no new work begins, but results that are being encoded may still be
    written.

    Args:
        jobs: from `plan_jobs`.
        upscaler: runs the networks.
        size: how large results are.
        save: how results are written.
        options: how images are upscaled.
        overwrite: replace results that exist instead of skipping their images.
        on_tile: called after each tile with (the job's number from 0, its finished share in 0..1).
        opener: opens the files, in another thread. That of a `DecoderPool` protects from damaged and hostile files.
    Yields:
        One outcome per job, in order, as soon as it is known.
    """
    read = partial(_read, upscaler=upscaler, size=size, save=save, overwrite=overwrite, opener=opener)
    reader, writers = ThreadPoolExecutor(1), ThreadPoolExecutor(WRITERS)
    writing: deque[Future[Outcome]] = deque()
    upcoming = reader.submit(read, jobs[0]) if jobs else None
    try:
        for number in range(len(jobs)):
            assert upcoming is not None
            current = upcoming.result()
            upcoming = reader.submit(read, jobs[number + 1]) if number + 1 < len(jobs) else None
            is_large = isinstance(current, _Stage) and prod(current.work.size) > LARGE_PX
            if is_large:
                yield from _collect(writing, leave=0)
            current = _upscale(current, upscaler, options, partial(_report_share, on_tile, number))
            writing.append(_submit(current, save, writers))
            del current
            yield from _collect(writing, leave=0 if is_large else WRITERS)
        yield from _collect(writing, leave=0)
    except (KeyboardInterrupt, Stopped):
        yield from _collect(writing, leave=len(writing))  # only results that are finished already
        raise
    finally:
        reader.shutdown(wait=False, cancel_futures=True)
        writers.shutdown(wait=False, cancel_futures=True)


def _read(
    job: Job,
    *,
    upscaler: CascadeUpscaler,
    size: SizeConfig,
    save: SaveConfig,
    overwrite: bool,
    opener: OpenImage,
) -> _Stage | Outcome:
    """Decode a job's image, or return the outcome if there is nothing to do for it."""
    try:
        if not job.problem and job.result.exists() and not overwrite:
            return Outcome(job, "skipped", f"{job.source}: {job.result} exists; --overwrite replaces it")
        with Timer() as timer:
            opened = OpenJob(job, upscaler, size, save, opener)
            image = opened.read()
        return _Stage(job, opened.work, image, timer.seconds)
    except Exception as error:  # an unexpected error of one image must not stop the others
        return Outcome(job, "failed", explain_failure(job, error))


def _upscale(
    current: _Stage | Outcome,
    upscaler: CascadeUpscaler,
    options: UpscaleOptions,
    on_tile: Callable[[int, int], None],
) -> _Stage | Outcome:
    """Upscale an image that was read."""
    if isinstance(current, Outcome):
        return current
    try:
        with Timer() as timer:
            image, passes = upscaler.upscale(current.image, current.work.size, options, on_tile)
    except Exception as error:
        return Outcome(current.job, "failed", explain_failure(current.job, error))
    return replace(current, image=image, work=replace(current.work, passes=passes), upscale_seconds=timer.seconds)


def _submit(current: _Stage | Outcome, save: SaveConfig, writers: ThreadPoolExecutor) -> Future[Outcome]:
    """Let a thread write an image that was upscaled, and return its future outcome."""
    if isinstance(current, _Stage):
        return writers.submit(_write, current, save)
    known: Future[Outcome] = Future()
    known.set_result(current)
    return known


def _write(upscaled: _Stage, save: SaveConfig) -> Outcome:
    job = upscaled.job
    try:
        with Timer() as timer:
            job.result.parent.mkdir(parents=True, exist_ok=True)
            notes = write_image(job.result, upscaled.image, save)
    except Exception as error:
        return Outcome(job, "failed", explain_failure(job, error))
    seconds = (upscaled.read_seconds, upscaled.upscale_seconds, timer.seconds)
    return Outcome(job, "done", "", (*upscaled.image.notes, *notes), *seconds, tuple(upscaled.work.models))


def _collect(writing: deque[Future[Outcome]], leave: int) -> Iterator[Outcome]:
    """Yield finished outcomes in order. Wait for further ones until at most `leave` are left."""
    while writing and (len(writing) > leave or writing[0].done()):
        yield writing.popleft().result()


def _report_share(on_tile: Callable[[int, float], None], number: int, done: int, total: int) -> None:
    on_tile(number, done / total)
