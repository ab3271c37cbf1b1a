"""One job: open its input file once, find every error that can be known before upscaling, and decode the image."""

import os
from dataclasses import dataclass, replace
from math import prod

from trinas.config import SaveConfig, SizeConfig
from trinas.errors import ImageError, TrinasError
from trinas.images.decode import Header
from trinas.images.formats import find_format
from trinas.images.image import Image, flatten
from trinas.images.read import ImageFile, OpenImage, open_image
from trinas.images.write import check_fits
from trinas.inference.cascade import CascadeUpscaler, Pass, compute_growth
from trinas.inference.plan import Job
from trinas.inference.sizes import compute_target_size


@dataclass(frozen=True)
class Work:
    """The work of one job, as the header of its file shows it."""

    header: Header
    size: tuple[int, int]
    """Width and height of the result."""
    passes: tuple[Pass, ...]
    """The networks that the image goes through."""

    @property
    def models(self) -> list[str]:
        """The names of the networks."""
        return [step.model for step in self.passes]

    @property
    def reason(self) -> str:
        """Why the first network is not the usual one for its scale; empty if it is the usual one."""
        restores = any(step.restores for step in self.passes)
        return f"JPEG of quality {self.header.jpeg_quality}" if restores else ""


class OpenJob:
    """A job whose input file is open. The file is read once, and decoded at most once.

    Attributes:
        job: from `plan_jobs`.
        work: the size of the result, and the networks.
    """

    def __init__(
        self,
        job: Job,
        upscaler: CascadeUpscaler,
        size: SizeConfig,
        save: SaveConfig,
        opener: OpenImage = open_image,
    ) -> None:
        """Open the file. Every error that can be known before upscaling is raised here.

        Args:
            job: from `plan_jobs`.
            upscaler: chooses the networks.
            size: how large the result is.
            save: how the result is written.
            opener: opens the file.
        Raises:
            TrinasError: the image cannot be read or is too large, or the result cannot be written.
        """
        if job.problem:
            raise ImageError(job.problem)
        self.job = job
        self._upscaler, self._size, self._save = upscaler, size, save
        self._file: ImageFile = opener(job.source, size.max_input_px)
        self._image: Image | None = None
        _check_folder(job)
        self._format = find_format(job.result)
        if save.lossless and self._format.has_quality and not self._format.has_lossless:
            raise ImageError(f"{job.result}: {self._format.name} is written with losses; choose --format png or webp")
        self.work = self._plan_work(self._file.header)
        check_fits(job.result, *self.work.size, self._has_transparency())
        self._check_size()

    def read(self) -> Image:
        """Return the image, laid on the background if one is given.

        Raises:
            ImageError: the image cannot be read.
        """
        image, self._image = self._decode(), None
        if self._save.background is not None:
            image = flatten(image, self._save.background)
        elif image.has_alpha and not self._format.has_alpha:  # it is opaque, otherwise the job was refused
            image = replace(image, pixels=image.pixels[:-1])
        if self.work.size < image.size:
            image = replace(image, notes=(*image.notes, "it was larger than asked for, and is only reduced"))
        return image

    def _decode(self) -> Image:
        if self._image is None:
            self._image = self._file.read()
        return self._image

    def _has_transparency(self) -> bool:
        """Return whether the result is transparent. An opaque image with an alpha channel can still become a JPEG."""
        has_alpha = self._file.header.has_alpha and self._save.background is None
        if has_alpha and not self._format.has_alpha:
            return not self._decode().is_opaque
        return has_alpha

    def _plan_work(self, header: Header) -> Work:
        size = compute_target_size(self._size, header.width, header.height)
        return Work(header, size, self._upscaler.choose_passes(header.width, header.height, size, header.jpeg_quality))

    def _check_size(self) -> None:
        """Refuse results that are too large, and images between two passes that are."""
        size, header = self.work.size, self.work.header
        grown_px = header.width * header.height * compute_growth(self.work.passes)[-1] ** 2
        if max(prod(size), grown_px) > self._size.max_output_px:
            between = "" if grown_px <= prod(size) else f"on the way there are {grown_px:,} pixels; "
            raise ImageError(
                f"{self.job.source}: a result of {size[0]}x{size[1]} is too large; {between}"
                f"the limit is {self._size.max_output_px:,} pixels (--max-output-mp)"
            )


def explain_failure(job: Job, error: Exception) -> str:
    """Return why a job failed, with the name of the file. Unexpected errors are named by their type too."""
    if isinstance(error, MemoryError):
        reason = "memory is too small for this image"
    elif isinstance(error, OSError):
        reason = f"{error.strerror or error} ({error.filename or job.result})"
    else:
        reason = str(error) if isinstance(error, TrinasError) else f"{type(error).__name__}: {error}"
    return reason if str(job.source) in reason else f"{job.source}: {reason}"


def _check_folder(job: Job) -> None:
    """Refuse a job whose result cannot be written."""
    folder = next(parent for parent in job.result.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ImageError(f"{job.source}: its result {job.result} cannot be written, {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise ImageError(f"{job.source}: its result {job.result} cannot be written, {folder} may not be written to")
