"""Upscale images for visitors: previews, single images and batches, within the limits."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trinas.config import SaveConfig, SizeConfig, UpscaleOptions
from trinas.errors import ImageError, Stopped, TrinasError
from trinas.images.formats import is_image_file
from trinas.inference.batch import Outcome, run_jobs
from trinas.inference.estimate import estimate_jobs
from trinas.inference.plan import Job, Plan, plan_jobs

from .catalogue import Catalogue
from .limits import Limits
from .messages import hide_paths
from .uploads import Session, check_disk

OnTile = Callable[[int, float], None]
"""Called after each tile with the number of the job and its finished share."""


def ignore_tile(number: int, share: float) -> None:
    """Do nothing after a tile."""


@dataclass(frozen=True)
class Request:
    """What a visitor asks for."""

    size: SizeConfig
    save: SaveConfig = field(default_factory=SaveConfig)
    model: str = ""
    """A name on offer. Empty: models are chosen for each image."""
    options: UpscaleOptions = field(default_factory=UpscaleOptions)


@dataclass(frozen=True)
class Preview:
    """What an image will become, as it is known before upscaling."""

    size: tuple[int, int]
    """Width and height in pixels."""
    result_size: tuple[int, int]
    models: list[str]
    """Names of the models that it will go through."""
    reason: str
    """As `Work.reason`."""
    seconds: float


class Runner:
    """Upscales images for visitors as the command line does.

    Args:
        catalogue: has the models.
        limits: of each visitor.
        folder: where previews assume the results, and on whose disk visitors' files are. Nothing is written there.
    """

    def __init__(self, catalogue: Catalogue, limits: Limits, folder: Path) -> None:
        self._catalogue = catalogue
        self._limits = limits
        self._folder = folder

    def size(self, **sizes: float | int | None) -> SizeConfig:
        """Return a size within the limits. The arguments are those of `SizeConfig`.

        Raises:
            ImageError: a number is out of range.
        """
        limits = {"max_input_px": self._limits.input_px, "max_output_px": self._limits.output_px}
        try:
            return SizeConfig(**sizes, **limits)  # type: ignore[arg-type]
        except ValueError as error:
            raise ImageError(str(error)) from None

    def preview(self, path: Path, request: Request) -> Preview:
        """Return what an image will become, and how long that will take.

        Raises:
            TrinasError: the image cannot be upscaled, or the model cannot be loaded.
        """
        cascade = self._catalogue.cascade(request.model)
        plan = plan_jobs([path], self._folder, request.size, request.save)
        running = estimate_jobs(plan.jobs, cascade, request.size, request.save, request.options, overwrite=True)
        estimate = next(running)
        if estimate.work is None:
            raise ImageError(hide_paths(estimate.problem, path.parent))
        work = estimate.work
        models = list(map(self._catalogue.find_name, work.models))
        return Preview((work.header.width, work.header.height), work.size, models, work.reason, estimate.seconds)

    def upscale(
        self,
        session: Session,
        stop: threading.Event,
        path: Path,
        request: Request,
        on_tile: OnTile = ignore_tile,
    ) -> Outcome:
        """Upscale one image into a new folder of the session.

        Args:
            session: of the visitor.
            stop: from `Session.stop_request`.
            path: the image file.
            request: what the visitor asks for.
            on_tile: called after each tile.
        Raises:
            TrinasError: the image cannot be upscaled, or the model cannot be loaded.
            Stopped: the visitor stopped the job, or it took too long.
        """
        folder = session.new_folder()
        plan = plan_jobs([path], folder, request.size, request.save)
        try:
            outcome = next(self.run(session, stop, plan.jobs, request, on_tile))
            if outcome.state == "failed":
                raise ImageError(hide_paths(outcome.reason, path.parent, folder))
        except (Stopped, TrinasError):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return outcome

    def run(
        self,
        session: Session,
        stop: threading.Event,
        jobs: Sequence[Job],
        request: Request,
        on_tile: OnTile = ignore_tile,
    ) -> Iterator[Outcome]:
        """Run jobs as `run_jobs` does, until they end, are stopped, or take too long.

        Args:
            session: of the visitor.
            stop: from `Session.stop_request`.
            jobs: from `plan_batch` or `plan_jobs`.
            request: what the visitor asks for.
            on_tile: called after each tile.
        Returns:
            An iterator over one outcome a job. It raises `Stopped` after a tile or an image.
        Raises:
            ModelError: the model cannot be loaded.
        """
        cascade = self._catalogue.cascade(request.model)
        check = self.begin_job(session, stop)

        def check_tile(number: int, share: float) -> None:
            check()
            on_tile(number, share)

        def check_outcomes() -> Iterator[Outcome]:
            """Check between images too, because images that fail or are only reduced have no tiles."""
            check()
            running = run_jobs(jobs, cascade, request.size, request.save, request.options, on_tile=check_tile)
            for outcome in running:
                yield outcome
                check()

        return check_outcomes()

    def begin_job(self, session: Session, stop: threading.Event) -> Callable[[], None]:
        """Start the clock of a job. Return a function that raises `Stopped` when the job must end."""
        end = time.monotonic() + self._limits.seconds

        def check() -> None:
            if stop.is_set():
                raise Stopped("Stopped.")
            try:
                check_disk(self._folder, self._limits)
            except ImageError as error:
                raise Stopped(f"Stopped: {error}.") from None
            if time.monotonic() > end:
                limit = f"{self._limits.seconds:g} seconds, the limit of this server"
                raise Stopped(f"Stopped: it took longer than {limit}.")
            session.last_used = time.monotonic()

        return check


def plan_batch(
    folder: Path, results: Path, size: SizeConfig, save: SaveConfig, problems: Mapping[Path, str] | None = None
) -> Plan:
    """Plan the jobs of an unpacked batch. A file whose name is not that of an image becomes a job that fails.

    Args:
        folder: of the batch.
        results: folder for the results.
        size: how large results are.
        save: how results are written.
        problems: path in the folder -> why there is no such file. Each becomes a job that fails.
    Raises:
        ImageError: the batch has no files.
    """
    problems = problems or {}
    plan = plan_jobs([folder], results, size, save, recursive=True)
    if not any(is_image_file(job.source) for job in plan.jobs) and not plan.left_out and not problems:
        raise ImageError("there are no files in it")
    jobs = [job for job in plan.jobs if job.source != folder]
    jobs += [Job(path, path, f"{path}: its name is not that of an image") for path in plan.left_out]
    jobs += [Job(path, path, f"{path}: {problem}") for path, problem in problems.items()]
    return replace(plan, jobs=jobs, left_out=[])
