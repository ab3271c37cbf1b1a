"""Plan a batch: find the input images, name a result for each, and find every clash of names."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trinas.config import DEFAULT_SCALE, SaveConfig, SizeConfig
from trinas.images.formats import FORMAT_NAMES, is_hidden, is_image_file, sniff_format
from trinas.images.image import parse_colour


@dataclass(frozen=True)
class Job:
    """One image to upscale."""

    source: Path
    result: Path
    problem: str = ""
    """Why the job cannot be done, with the name of the file; empty if planning shows no problem."""


@dataclass(frozen=True)
class Plan:
    """All jobs of a batch."""

    jobs: list[Job]
    left_out: list[Path] = field(default_factory=list)
    """Files in the input folders whose names are not those of images."""
    earlier: list[Path] = field(default_factory=list)
    """Files in the input folders that are results of an earlier run."""


def plan_jobs(
    inputs: Sequence[Path], output_dir: Path, size: SizeConfig, save: SaveConfig, *, recursive: bool = False
) -> Plan:
    """Name a result for every input and find every clash. Only the first bytes of files are read.

    A result is called `<stem>_x<scale>`, or by the size that was asked for. Its suffix is that of the input's format,
    unless another one is asked for. The content of a file decides its format. If the input has a wrong suffix, the
    result gets the right one.

    Args:
        inputs: image files, and folders of image files. Hidden files are left out.
        output_dir: for the results. With `recursive` they go into the same sub-folders as their sources.
        size: decides the names.
        save: decides the suffix.
        recursive: take sub-folders too.
    Returns:
        One job for each image; a file that is named twice has one job. An input that cannot be found or read is a job
        with a problem. If several images would have the same result, all except the first are jobs with a problem.
    Raises:
        ImageError: the background is not a colour.
    """
    if save.background is not None:
        parse_colour(save.background)
    jobs: dict[Path, Job] = {}
    left_out: list[Path] = []
    in_folders: set[Path] = set()
    for path in inputs:
        for source, problem in _find_sources(path, output_dir, recursive, left_out):
            key = source.resolve()
            folder = output_dir / source.parent.relative_to(path) if source != path else output_dir
            result = folder / f"{source.stem}{_name_size(size)}{save.suffix or _choose_suffix(source)}"
            jobs.setdefault(key, Job(source, result, problem))
            if source != path:
                in_folders.add(key)
    # If results are written into the input folder, those of an earlier run are not upscaled again.
    results = {job.result.resolve() for job in jobs.values()}
    earlier = {key for key in in_folders & results if jobs[key].result.resolve() != key}
    kept = [job for key, job in jobs.items() if key not in earlier]
    return Plan(_mark_clashes(kept), left_out, [jobs[key].source for key in sorted(earlier)])


def _find_sources(path: Path, output_dir: Path, recursive: bool, left_out: list[Path]) -> list[tuple[Path, str]]:
    """Return the image files of an input, each with its problem, and add the other files to `left_out`."""
    try:
        if not path.exists():
            return [(path, f"{path}: no such file or folder")]
        if not path.is_dir():  # a pipe might never end
            return [(path, "" if path.is_file() else f"{path}: is neither a file nor a folder")]
    except OSError as error:
        return [(path, f"{path}: cannot be read ({error.strerror})")]
    unreadable: list[OSError] = []
    files = list(_walk(path, output_dir, recursive, unreadable))
    images = [file for file in files if is_image_file(file)]
    left_out += sorted(set(files) - set(images))
    if unreadable:
        problems = [
            (Path(error.filename), f"{error.filename}: cannot be read ({error.strerror})") for error in unreadable
        ]
        return [(image, "") for image in images] + problems
    hint = "" if recursive else "; -r includes its sub-folders"
    return [(image, "") for image in images] or [(path, f"{path}: no {FORMAT_NAMES} images in this folder{hint}")]


def _walk(folder: Path, output_dir: Path, recursive: bool, unreadable: list[OSError]) -> Iterator[Path]:
    """Yield the files of a folder, sorted, and then those of its sub-folders.

    Hidden files and folders, linked folders and the folder for the results are left out.
    """
    output = output_dir.resolve()
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        kept = (name for name in folders if recursive and not is_hidden(Path(name)))
        folders[:] = sorted(name for name in kept if Path(parent, name).resolve() != output)
        yield from (Path(parent, name) for name in sorted(names) if not is_hidden(Path(name)))


def _choose_suffix(source: Path) -> str:
    known = sniff_format(source)
    return source.suffix if known is None or source.suffix.lower() in known.suffixes else known.suffixes[0]


def _name_size(size: SizeConfig) -> str:
    """Return the part of a result's name that says its size, such as _x4, _x1.5, _w1920 or _long4000."""
    if size.long_side is not None:
        return f"_long{size.long_side}"
    sides = (("w", size.width), ("h", size.height))
    text = "".join(f"{letter}{side}" for letter, side in sides if side is not None)
    return f"_{text}" if text else f"_x{size.scale or DEFAULT_SCALE:g}"


def _mark_clashes(jobs: list[Job]) -> list[Job]:
    """Return the jobs. A job whose result is a file of another job gets a problem. Case does not matter in names."""
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
                problem = f"{clash}; upscale them one after the other, each with another -o"
        checked.append(replace(job, problem=problem))
    return checked


def _key(path: Path) -> str:
    return str(path.resolve()).casefold()
