"""Upscale images for visitors: previews, single images and batches, within the limits."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from trinas.config import DEFAULT_PRESET, PRESETS, SaveConfig, SizeConfig, UpscaleOptions
from trinas.errors import ImageError, Stopped, TrinasError
from trinas.images.formats import is_image_file
from trinas.images.guard import DecoderPool
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
    """A name on offer. Empty: bundled models are chosen for each image."""
    preset: str = DEFAULT_PRESET
    """Which bundled models are chosen: fast, balanced or best."""
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
    seconds_of_other_presets: dict[str, float]
    """Preset -> seconds; empty if the visitor named a model."""


class Runner:
    """Upscales images for visitors as the command line does.

    Args:
        catalogue: has the models.
        decoders: open the files.
        limits: of each visitor.
        folder: where previews assume the results, and on whose disk visitors' files are. Nothing is written there.
    """

    def __init__(self, catalogue: Catalogue, decoders: DecoderPool, limits: Limits, folder: Path) -> None:
        self._catalogue = catalogue
        self._decoders = decoders
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
        cascade = self._catalogue.cascade(request.model, request.preset)
        plan = plan_jobs([path], self._folder, request.size, request.save)
        others = [] if request.model else [preset for preset in PRESETS if preset != request.preset]
        running = estimate_jobs(
            plan.jobs, cascade, request.size, request.save, request.options, overwrite=True,
            alternatives={preset: self._catalogue.cascade(preset=preset) for preset in others},
            opener=self._decoders.open_image,
        )  # fmt: skip
        estimate = next(running)
        if estimate.work is None:
            raise ImageError(hide_paths(estimate.problem, path.parent))
        work = estimate.work
        models = list(map(self._catalogue.find_name, work.models))
        return Preview(
            (work.header.width, work.header.height), work.size, models, work.reason, estimate.seconds,
            estimate.alternatives,
        )  # fmt: skip

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
            An iterator over one outcome a job. It raises `Stopped` after a tile or an image, or while one is decoded.
        Raises:
            ModelError: the model cannot be loaded.
        """
        cascade = self._catalogue.cascade(request.model, request.preset)
        check = self.begin_job(session, stop)

        def check_tile(number: int, share: float) -> None:
            check()
            on_tile(number, share)

        def check_outcomes() -> Iterator[Outcome]:
            """Check between images too, because images that fail or are only reduced have no tiles."""
            check()
            running = run_jobs(
                jobs, cascade, request.size, request.save, request.options, on_tile=check_tile,
                opener=partial(self._decoders.open_image, check=check),
            )  # fmt: skip
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
