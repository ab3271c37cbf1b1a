"""From input paths to result files: what the command line and the web page both run."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trinas.errors import ImageError, TrinasError
from trinas.images import (
    IMAGE_SUFFIXES,
    SUFFIXES,
    check_fits,
    format_of_suffix,
    image_files,
    read_image,
    read_size,
    write_image,
)
from trinas.upscale import Upscaler


@dataclass(frozen=True)
class Job:
    """One picture to enlarge."""

    source: Path
    result: Path


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    job: Job
    state: str
    """done, skipped or failed."""
    reason: str = ""
    """Why it was skipped or failed; names the file."""
    seconds: float = 0.0


def plan_jobs(inputs: Sequence[Path], output_dir: Path, scale: int, file_format: str | None = None) -> list[Job]:
    """Name a result for every input: `<stem>_x<scale>.<ext>`, with the input's own suffix unless a format is given.

    An input whose suffix names no image format becomes a PNG.

    Args:
        inputs: image files, and folders, whose image files are taken (sub-folders and hidden files are not).
        output_dir: where results go.
        scale: output pixels per input pixel, along each side.
        file_format: PNG, JPEG, WEBP or None.
    Raises:
        ImageError: an input does not exist, or a folder holds no image.
    """
    jobs: dict[Path, Job] = {}  # by source: naming a file twice asks for it once
    for path in inputs:
        if not path.exists():
            raise ImageError(f"{path}: no such file or folder")
        sources = image_files(path) if path.is_dir() else [path]
        if not sources:
            raise ImageError(f"{path}: no PNG, JPEG or WebP images in this folder")
        for source in sources:
            suffix = source.suffix if source.suffix.lower() in IMAGE_SUFFIXES else ".png"
            if file_format:
                suffix = SUFFIXES[file_format][0]
            jobs[source] = Job(source, output_dir / f"{source.stem}_x{scale}{suffix}")
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

        def report(done: int, total: int, number: int = number) -> None:
            on_tile(number, done / total)

        try:
            result = job.result.resolve()
            if result in inputs:
                raise ImageError(f"{job.source}: its result would replace the input {job.result}; choose another -o")
            if result in taken:
                raise ImageError(
                    f"{job.source}: its result {job.result} is also that of {taken[result]}; use separate folders"
                )
            taken[result] = job.source
            if job.result.exists() and not overwrite:
                yield Outcome(job, "skipped", f"{job.source}: {job.result} exists; --overwrite replaces it")
                continue
            _upscale_file(job, upscaler, report)
        except TrinasError as error:
            yield Outcome(job, "failed", str(error))
        else:
            yield Outcome(job, "done", seconds=time.perf_counter() - start)


def _upscale_file(job: Job, upscaler: Upscaler, on_tile: Callable[[int, int], None]) -> None:
    _, width, height = read_size(job.source)
    check_fits(job.source, format_of_suffix(job.result), width * upscaler.scale, height * upscaler.scale)
    result = upscaler(read_image(job.source), on_tile)
    try:
        job.result.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{job.result.parent}: cannot be made ({error.strerror})") from None
    write_image(job.result, result)
