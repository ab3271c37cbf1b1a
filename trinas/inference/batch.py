"""From input paths to result files: what the command line and the web page both run.

Reading, enlarging and writing overlap: one thread decodes the next picture, the caller's thread runs the
networks, a few threads encode what is done. Never more than those pictures are in memory.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path

from trinas.config import DEFAULT_SCALE, SaveConfig, SizeConfig
from trinas.errors import ImageError, Stopped, TrinasError
from trinas.images.formats import FORMAT_NAMES, format_of_suffix, is_hidden, is_image_file, sniff_format
from trinas.images.image import Image, flatten, parse_colour
from trinas.images.read import Header, read_header, read_image
from trinas.images.write import check_fits, write_image
from trinas.inference.cascade import Enlarger, Pass, growth
from trinas.inference.sizes import target_size

WRITERS = min(4, os.cpu_count() or 1)
"""Results that are encoded at the same time; encoding takes longer than the smallest networks."""

LARGE_PX = 16_000_000
"""Results larger than this are made one at a time, so that memory holds one of them and not several."""


@dataclass(frozen=True)
class Job:
    """One picture to enlarge."""

    source: Path
    result: Path
    problem: str = ""
    """Why it cannot be done, as far as planning shows it; names the file."""


@dataclass(frozen=True)
class Plan:
    """What is to be done, all names settled."""

    jobs: list[Job]
    left_out: list[Path] = field(default_factory=list)
    """Files in the input folders that are no images by their names."""
    earlier: list[Path] = field(default_factory=list)
    """Files in the input folders that are results of an earlier run."""


@dataclass(frozen=True)
class Work:
    """What one job amounts to, known from its file's header."""

    header: Header
    size: tuple[int, int]
    """Width and height of the result."""
    passes: tuple[Pass, ...]
    """The networks it goes through."""

    @property
    def models(self) -> list[str]:
        """Their names."""
        return [step.model for step in self.passes]

    @property
    def why(self) -> str:
        """Why the first is not the usual one for its scale; empty where it is."""
        smooths = any(step.smooths for step in self.passes)
        return f"JPEG of quality {self.header.jpeg_quality}" if smooths else ""


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    job: Job
    state: str
    """done, skipped or failed."""
    reason: str = ""
    """Why it was skipped or failed; names the file."""
    notes: tuple[str, ...] = ()
    """What the result does not hold as its source did."""
    read_seconds: float = 0.0
    enlarge_seconds: float = 0.0
    write_seconds: float = 0.0
    models: tuple[str, ...] = ()
    """The networks that it went through."""


def plan_jobs(
    inputs: Sequence[Path], output_dir: Path, size: SizeConfig, save: SaveConfig, *, recursive: bool = False
) -> Plan:
    """Name a result for every input and find every clash, without opening more than the files' first bytes.

    A result is called `<stem>_x<scale>` (or by the size asked for), with the suffix of the input's own format
    unless another is asked for. The format is what the file holds; where the suffix says otherwise, the result
    gets the right one.

    Args:
        inputs: image files, and folders, whose image files are taken; hidden files are not.
        output_dir: where results go; with `recursive` into the same sub-folders as their sources.
        size: only for the names here.
        save: its suffix.
        recursive: take the folders within folders too.
    Returns:
        A job per picture, each file once; inputs that cannot be found or read, and all but the first of
        those that would get the same result, are jobs with a problem.
    """
    if save.background is not None:
        parse_colour(save.background)
    jobs: dict[Path, Job] = {}
    left_out: list[Path] = []
    in_folders: set[Path] = set()
    for path in inputs:
        for source, problem in _sources(path, output_dir, recursive, left_out):
            key = source.resolve()
            folder = output_dir / source.parent.relative_to(path) if source != path else output_dir
            result = folder / f"{source.stem}{_size_suffix(size)}{save.suffix or _own_suffix(source)}"
            jobs.setdefault(key, Job(source, result, problem))
            if source != path:
                in_folders.add(key)
    # A folder that results were written into holds them beside their sources: they are no pictures to enlarge.
    results = {job.result.resolve() for job in jobs.values()}
    earlier = {key for key in in_folders & results if jobs[key].result.resolve() != key}
    kept = [job for key, job in jobs.items() if key not in earlier]
    return Plan(_without_clashes(kept), left_out, [jobs[key].source for key in sorted(earlier)])


def inspect_job(job: Job, enlarger: Enlarger, size: SizeConfig, save: SaveConfig) -> Work:
    """What a job amounts to; everything that can be known to fail before decoding fails here.

    Raises:
        TrinasError: the picture cannot be read, is too large, or its result cannot be held.
    """
    if job.problem:
        raise ImageError(job.problem)
    header = read_header(job.source, size.max_input_px)
    _check_folder(job)
    known = format_of_suffix(job.result)
    if save.lossless and known.has_quality and not known.has_lossless:
        raise ImageError(f"{job.result}: {known.name} is written with losses; choose --format png or webp")
    work = _work(header, enlarger, size)
    has_alpha = header.has_alpha and save.background is None
    if has_alpha and not known.has_alpha:  # there may be an alpha channel and yet no transparency
        has_alpha = not read_image(job.source, size.max_input_px).is_opaque
    check_fits(job.result, *work.size, has_alpha)
    grown_px = header.width * header.height * growth(work.passes)[-1] ** 2
    if max(prod(work.size), grown_px) > size.max_output_px:
        way = "" if grown_px <= prod(work.size) else f"on the way there are {grown_px:,} pixels; "
        raise ImageError(
            f"{job.source}: a result of {work.size[0]}x{work.size[1]} is too large; {way}"
            f"the limit is {size.max_output_px:,} pixels (--max-output-mp)"
        )
    return work


def read_job(job: Job, work: Work, enlarger: Enlarger, size: SizeConfig, save: SaveConfig) -> tuple[Image, Work]:
    """The picture of a job, laid on its background, and what there is to do with it.

    Raises:
        ImageError: it cannot be read.
    """
    image = read_image(job.source, size.max_input_px)
    if save.background is not None:
        image = flatten(image, save.background)
    elif image.has_alpha and not format_of_suffix(job.result).has_alpha:  # opaque, or it would not have come so far
        image = replace(image, pixels=image.pixels[:-1])
    if image.size != (work.header.width, work.header.height):  # a turn that is told behind the pixels of a PNG
        work = _work(replace(work.header, width=image.size[0], height=image.size[1]), enlarger, size)
    if work.size < image.size:
        image = replace(image, notes=(*image.notes, "it was larger than asked for, and is only reduced"))
    return image, work


def _work(header: Header, enlarger: Enlarger, size: SizeConfig) -> Work:
    target = target_size(size, header.width, header.height)
    return Work(header, target, enlarger.passes(header.width, header.height, target, header.jpeg_quality))


def _check_folder(job: Job) -> None:
    """Find out before the work that a result could not be written."""
    folder = next(parent for parent in job.result.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ImageError(f"{job.source}: its result {job.result} cannot be written, {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise ImageError(f"{job.source}: its result {job.result} cannot be written, {folder} may not be written to")


def run_jobs(
    jobs: Sequence[Job],
    enlarger: Enlarger,
    size: SizeConfig,
    save: SaveConfig,
    *,
    overwrite: bool = False,
    on_tile: Callable[[int, float], None] = lambda number, share: None,
) -> Iterator[Outcome]:
    """Enlarge picture after picture; one that fails does not stop the others.

    Closing the iterator, or an exception in the caller's thread (Ctrl-C, or `Stopped` from `on_tile`), ends the work:
    what is being encoded may still be written, nothing else is begun.

    Args:
        jobs: from `plan_jobs`.
        enlarger: does the work.
        size, save: how large, and how written.
        overwrite: replace results that exist instead of skipping their pictures.
        on_tile: called after each tile with (the job's number from 0, its finished share in 0..1).
    Yields:
        One outcome per job, in order, as soon as it is known.
    """
    read = partial(_read, enlarger=enlarger, size=size, save=save, overwrite=overwrite)
    reader, writers = ThreadPoolExecutor(1), ThreadPoolExecutor(WRITERS)
    writing: deque[Future[Outcome]] = deque()
    upcoming = reader.submit(read, jobs[0]) if jobs else None
    try:
        for number in range(len(jobs)):
            assert upcoming is not None
            current = upcoming.result()
            upcoming = reader.submit(read, jobs[number + 1]) if number + 1 < len(jobs) else None
            is_large = isinstance(current, _Decoded) and prod(current.work.size) > LARGE_PX
            if is_large:
                yield from _finished(writing, leave=0)
            writing.append(_enlarged(current, enlarger, save, writers, partial(_report, on_tile, number)))
            del current
            yield from _finished(writing, leave=0 if is_large else WRITERS)
        yield from _finished(writing, leave=0)
    except (KeyboardInterrupt, Stopped):
        yield from _finished(writing, leave=len(writing))  # results that are there already
        raise
    finally:
        reader.shutdown(wait=False, cancel_futures=True)
        writers.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Decoded:
    """A picture between two stages."""

    job: Job
    work: Work
    image: Image
    read_seconds: float
    enlarge_seconds: float = 0.0


def _read(job: Job, *, enlarger: Enlarger, size: SizeConfig, save: SaveConfig, overwrite: bool) -> _Decoded | Outcome:
    start = time.perf_counter()
    try:
        if not job.problem and job.result.exists() and not overwrite:
            return Outcome(job, "skipped", f"{job.source}: {job.result} exists; --overwrite replaces it")
        work = inspect_job(job, enlarger, size, save)
        image, work = read_job(job, work, enlarger, size, save)
        return _Decoded(job, work, image, time.perf_counter() - start)
    except Exception as error:  # whatever happens to one picture, the others go on
        return failed(job, error)


def _enlarged(
    current: _Decoded | Outcome,
    enlarger: Enlarger,
    save: SaveConfig,
    writers: ThreadPoolExecutor,
    on_tile: Callable[[int, int], None],
) -> Future[Outcome]:
    """The outcome to come of a picture that was read, or of one that was not."""
    if isinstance(current, _Decoded):
        start = time.perf_counter()
        try:
            image, passes = enlarger.enlarge(current.image, current.work.size, on_tile)
        except Exception as error:
            current = failed(current.job, error)
        else:
            seconds = time.perf_counter() - start
            current = replace(current, image=image, work=replace(current.work, passes=passes), enlarge_seconds=seconds)
            return writers.submit(_write, current, save)
    known: Future[Outcome] = Future()
    known.set_result(current)
    return known


def _write(enlarged: _Decoded, save: SaveConfig) -> Outcome:
    start = time.perf_counter()
    job = enlarged.job
    try:
        job.result.parent.mkdir(parents=True, exist_ok=True)
        notes = write_image(job.result, enlarged.image, save)
    except Exception as error:
        return failed(job, error)
    seconds = (enlarged.read_seconds, enlarged.enlarge_seconds, time.perf_counter() - start)
    return Outcome(job, "done", "", (*enlarged.image.notes, *notes), *seconds, tuple(enlarged.work.models))


def _finished(writing: deque[Future[Outcome]], leave: int) -> Iterator[Outcome]:
    """Outcomes in order: those known by now, and as many more as must be waited for to leave only `leave`."""
    while writing and (len(writing) > leave or writing[0].done()):
        yield writing.popleft().result()


def failed(job: Job, error: Exception) -> Outcome:
    """A failure in words, with its file; what nobody foresaw is named by its type too."""
    if isinstance(error, MemoryError):
        reason = "memory is too small for this picture"
    elif isinstance(error, OSError):
        reason = f"{error.strerror or error} ({error.filename or job.result})"
    else:
        reason = str(error) if isinstance(error, TrinasError) else f"{type(error).__name__}: {error}"
    return Outcome(job, "failed", reason if str(job.source) in reason else f"{job.source}: {reason}")


def _report(on_tile: Callable[[int, float], None], number: int, done: int, total: int) -> None:
    on_tile(number, done / total)


def _sources(path: Path, output_dir: Path, recursive: bool, left_out: list[Path]) -> list[tuple[Path, str]]:
    """The image files that an input stands for, each with what is wrong with it, if anything is."""
    unreadable: list[OSError] = []
    try:
        if not path.exists():
            return [(path, f"{path}: no such file or folder")]
        if not path.is_dir():
            return [(path, "")]
    except OSError as error:
        return [(path, f"{path}: cannot be read ({error.strerror})")]
    files = list(_files(path, output_dir, recursive, unreadable))
    images = [file for file in files if is_image_file(file)]
    others = set(files) - set(images)
    left_out += sorted(others)
    if unreadable:
        problems = [
            (Path(error.filename), f"{error.filename}: cannot be read ({error.strerror})") for error in unreadable
        ]
        return [(image, "") for image in images] + problems
    hint = "" if recursive else ", sub-folders are taken with -r"
    return [(image, "") for image in images] or [(path, f"{path}: no {FORMAT_NAMES} images in this folder{hint}")]


def _files(folder: Path, output_dir: Path, recursive: bool, unreadable: list[OSError]) -> Iterator[Path]:
    """The files of a folder, sorted, without hidden ones; sub-folders after them.

    Neither links are followed nor the folder where results go.
    """
    output = output_dir.resolve()
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        kept = (name for name in folders if recursive and not is_hidden(Path(name)))
        folders[:] = sorted(name for name in kept if Path(parent, name).resolve() != output)
        yield from (Path(parent, name) for name in sorted(names) if not is_hidden(Path(name)))


def _own_suffix(source: Path) -> str:
    known = sniff_format(source)
    return source.suffix if known is None or source.suffix.lower() in known.suffixes else known.suffixes[0]


def _size_suffix(size: SizeConfig) -> str:
    """What a result's name says of its size, such as _x4, _x1.5, _w1920 or _long4000."""
    if size.long_side is not None:
        return f"_long{size.long_side}"
    wishes = (("w", size.width), ("h", size.height))
    text = "".join(f"{letter}{side}" for letter, side in wishes if side is not None)
    return f"_{text}" if text else f"_x{size.scale or DEFAULT_SCALE:g}"


def _without_clashes(jobs: list[Job]) -> list[Job]:
    """The jobs, with a problem for each whose result is another's file; names differing in case are the same."""
    inputs = {_key(job.source) for job in jobs}
    taken: dict[str, Path] = {}
    checked = []
    for job in jobs:
        problem = job.problem
        if not problem:
            key = _key(job.result)
            other = taken.setdefault(key, job.source)
            if key in inputs:
                problem = f"{job.source}: its result would replace the input {job.result}; choose another -o"
            elif other != job.source:
                clash = f"{job.source}: its result {job.result} is also that of {other}"
                problem = f"{clash}; enlarge them one after the other, each with another -o"
        checked.append(replace(job, problem=problem))
    return checked


def _key(path: Path) -> str:
    return str(path.resolve()).casefold()
