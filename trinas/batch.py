"""From input paths to result files: what the command line and the web page both run."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trinas.errors import ImageError, TrinasError, UpscaleError
from trinas.images import SUFFIXES, check_fits, image_files, read_image, read_size, sniff_format, write_image
from trinas.upscale import Upscaler


@dataclass(frozen=True)
class Job:
    """One picture to enlarge."""

    source: Path
    result: Path
    problem: str = ""
    """Why it cannot be done, as far as planning shows it; names the file."""


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    job: Job
    state: str
    """done, skipped or failed."""
    reason: str = ""
    """Why it was skipped or failed; names the file."""
    seconds: float = 0.0


def plan_jobs(inputs: Sequence[Path], output_dir: Path, scale: int, suffix: str | None = None) -> list[Job]:
    """Name a result for every input: `<stem>_x<scale>` with the suffix of the input's own format, unless one is given.

    The format is what the file holds; where the suffix says otherwise, the result gets the right one.

    Args:
        inputs: image files, and folders, whose image files are taken (sub-folders and hidden files are not).
        output_dir: where results go.
        scale: output pixels per input pixel, along each side.
        suffix: one of `images.IMAGE_SUFFIXES`, or None.
    Returns:
        A job per picture, each file once; inputs that cannot be found or read are jobs with a problem.
    """
    jobs: dict[Path, Job] = {}
    for path in inputs:
        for source, problem in _sources(path):
            result = output_dir / f"{source.stem}_x{scale}{suffix or _own_suffix(source)}"
            jobs.setdefault(source.absolute(), Job(source, result, problem))
    return list(jobs.values())


def run_jobs(
    jobs: Sequence[Job],
    upscaler: Upscaler,
    *,
    overwrite: bool = False,
    on_tile: Callable[[int, float], None] = lambda number, share: None,
) -> Iterator[Outcome]:
    """Enlarge picture after picture; one that fails does not stop the others.

    Args:
        jobs: from `plan_jobs`.
        upscaler: does the work.
        overwrite: replace results that exist instead of skipping their pictures.
        on_tile: called after each tile with (the job's number from 0, its finished share in 0..1).
    Yields:
        One outcome per job, in order, as soon as it is known.
    """
    inputs = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for number, job in enumerate(jobs):
        start = time.perf_counter()
        try:
            _claim(job, inputs, taken)
            if job.result.exists() and not overwrite:
                yield Outcome(job, "skipped", f"{job.source}: {job.result} exists; --overwrite replaces it")
                continue
            _upscale_file(job, upscaler, partial(_report, on_tile, number))
        except TrinasError as error:
            reason = str(error)
            yield Outcome(job, "failed", reason if str(job.source) in reason else f"{job.source}: {reason}")
        except OSError as error:
            yield Outcome(job, "failed", f"{job.source}: {error.strerror or error} ({error.filename or job.result})")
        else:
            yield Outcome(job, "done", seconds=time.perf_counter() - start)


def _sources(path: Path) -> list[tuple[Path, str]]:
    """The image files that an input stands for, each with what is wrong with it, if anything is."""
    try:
        if not path.exists():
            return [(path, f"{path}: no such file or folder")]
        if not path.is_dir():
            return [(path, "")]
        return [(source, "") for source in image_files(path)] or [
            (path, f"{path}: no PNG, JPEG or WebP images in this folder")
        ]
    except OSError as error:
        return [(path, f"{path}: cannot be read ({error.strerror})")]


def _own_suffix(source: Path) -> str:
    file_format = sniff_format(source)
    if file_format is None or source.suffix.lower() in SUFFIXES[file_format]:
        return source.suffix
    return SUFFIXES[file_format][0]


def _claim(job: Job, inputs: set[Path], taken: dict[Path, Path]) -> None:
    """Make sure that a job can be tried and that its result is nobody else's file."""
    if job.problem:
        raise ImageError(job.problem)
    result = job.result.resolve()
    if result in inputs:
        raise ImageError(f"{job.source}: its result would replace the input {job.result}; choose another -o")
    other = taken.setdefault(result, job.source)
    if other != job.source:
        raise ImageError(f"{job.source}: its result {job.result} is also that of {other}; use separate folders")


def _report(on_tile: Callable[[int, float], None], number: int, done: int, total: int) -> None:
    on_tile(number, done / total)


def _upscale_file(job: Job, upscaler: Upscaler, on_tile: Callable[[int, int], None]) -> None:
    """Read, enlarge and write one picture; what can be known to fail fails before the long work."""
    width, height = (side * upscaler.scale for side in read_size(job.source))
    check_fits(job.result, width, height, has_alpha=False)
    image = read_image(job.source)
    check_fits(job.result, width, height, image.has_alpha)
    job.result.parent.mkdir(parents=True, exist_ok=True)
    try:
        result = upscaler(image, on_tile)
    except UpscaleError as error:
        raise UpscaleError(f"{job.source}: {error}") from None
    write_image(job.result, result)
