"""What the page and its API do, without a word of how it looks: visitors' folders, models on offer, enlarging."""

import html
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from pathlib import Path, PurePosixPath
from typing import IO

import torch

from trinas.config import SaveConfig, SizeConfig, UpscaleOptions
from trinas.errors import ImageError, ModelError, Stopped, TrinasError
from trinas.files import HIDDEN
from trinas.images.formats import is_image_file
from trinas.images.read_write import Image
from trinas.inference.batch import Outcome, run_jobs
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.estimate import estimate_jobs
from trinas.inference.plan import Job, Plan, plan_jobs
from trinas.inference.tiled import DEFAULT_OPTIONS, TiledUpscaler
from trinas.networks.cost import Cost, spec_cost
from trinas.zoo.bundled import bundled_models
from trinas.zoo.folder import UNSPECIFIED, ModelConfig, load_config, load_model

from .limits import Limits

FORGET_AFTER_S = 3600
"""Files of a visitor that was not heard of for so long are deleted, and so are uploads as old as that."""

TIMED_PX, TIMED_RUNS = 256, 9
"""Side of the picture that a network's speed is measured on, and how often at most; the fastest counts."""

SETTLED_RUNS, SETTLED = 3, 1.1
"""So many runs that are within this factor of the fastest are enough: a quiet machine needs no more."""

TIERS = {"xs": "very small", "s": "small", "m": "medium", "l": "large"}
"""Words for the tier in a bundled name, such as xs in trinas-xs-x4."""


class Session:
    """One visitor's files, and the wishes to stop what is being done for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen = time.monotonic()
        self._stops: dict[str, threading.Event] = {}

    def stop(self, kind: str) -> threading.Event:
        """The wish to stop a kind of job: a picture, a batch and so on may run side by side."""
        return self._stops.setdefault(kind, threading.Event())

    def stop_all(self) -> None:
        """Wish to stop whatever runs."""
        for stop in list(self._stops.values()):
            stop.set()

    def new_folder(self) -> Path:
        """An empty folder with a name that cannot be guessed: whoever knows it may read what is in it."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return folder


@dataclass(frozen=True)
class Offer:
    """A model that can be chosen."""

    config: ModelConfig
    source: str
    """Where it came from: bundled, searched, folder, Hub."""

    @property
    def cost(self) -> Cost:
        return spec_cost(self.config.spec)

    @property
    def licence(self) -> str:
        """As it is called; what nobody has given one says so."""
        return "licence unspecified" if self.config.licence == UNSPECIFIED else self.config.licence

    @property
    def place(self) -> tuple[int, bool, int]:
        """Where it stands in a list."""
        return self.config.spec.scale, self.config.restores, self.cost.params

    @property
    def tier(self) -> str:
        """How large a bundled model is, in a word; where the others came from."""
        return TIERS.get(self.config.name.split("-")[1], "") if self.source == "bundled" else self.source


@dataclass(frozen=True)
class Preview:
    """What is known of a picture before it is enlarged."""

    size: tuple[int, int]
    result: tuple[int, int]
    models: list[str]
    why: str
    """Why the first of them is not the usual one for its scale; empty where it is."""
    seconds: float


@dataclass
class Service:
    """Everything that is shared by all visitors."""

    folder: Path
    """For visitors' files; whatever is in it is deleted after an hour."""
    limits: Limits = field(default_factory=Limits)
    device: str = "auto"

    def __post_init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._added: dict[str, tuple[str, str]] = {}  # name -> where its files are, and where it came from
        self._enlarger = lru_cache(maxsize=8)(CascadeUpscaler)
        self._speeds: dict[str, float] = {}  # name -> seconds per megapixel of result
        self._timing = threading.Lock()
        self.measured = threading.Event()
        """Set once `measure` is through."""

    # Visitors

    def session(self, key: str | None) -> Session:
        """The visitor of a key, a new one if need be."""
        with self._lock:
            session = self._sessions.setdefault(key or "", Session(self.folder / secrets.token_hex(16)))
        session.seen = time.monotonic()
        return session

    def forget(self, key: str | None) -> None:
        """Stop what is being done for a visitor, and delete the files."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            session.stop_all()
            shutil.rmtree(session.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Forget visitors that were not heard of for an hour; delete uploads as old as that, and older results."""
        now = time.monotonic()
        with self._lock:
            old = [key for key, session in self._sessions.items() if now - session.seen > FORGET_AFTER_S]
            known = {session.folder for session in self._sessions.values()}
        for key in old:
            self.forget(key)
        for folder in (folder for visitor in known for folder in visitor.glob("*")):
            with suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > FORGET_AFTER_S + self.limits.seconds:
                    shutil.rmtree(folder, ignore_errors=True)
        for path in self.folder.iterdir():  # uploads: each in a folder of its own, or a file on its way there
            with suppress(OSError):  # moved or deleted meanwhile, or another file has come into its folder
                if path not in known and time.time() - path.stat().st_mtime > FORGET_AFTER_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    # Models

    def offers(self) -> dict[str, Offer]:
        """All models that can be chosen, by name; in the order of scale, purpose and size."""
        found = {name: Offer(load_config(name), "bundled") for name in bundled_models()}
        for name, (where, source) in list(self._added.items()):
            with suppress(ModelError):  # its folder was deleted meanwhile
                found[name] = Offer(load_config(where), source)
        return dict(sorted(found.items(), key=lambda item: item[1].place))

    def add_model(self, where: str, source: str, name: str | None = None) -> str:
        """Offer one more model, that of a folder; returns the name it goes by.

        Raises:
            ModelError: there is none, or its files are damaged.
        """
        model = load_model(where)
        wanted = name or model.config.name
        taken = {*bundled_models(), *self._added}
        known = next((name for name, (other, _) in self._added.items() if other == where), None)
        if known is None:
            known = next(free for free in _numbered(wanted) if free not in taken)
        self._added[known] = (where, source)
        self._enlarger.cache_clear()  # its files may be others than when it was loaded before
        self._speeds.pop(known, None)
        return known

    def name_of(self, where: str) -> str:
        """The name that a model is on offer by."""
        return next((name for name, (other, _) in self._added.items() if other == where), where)

    def where(self, name: str | None) -> str | None:
        """What `CascadeUpscaler` takes for a name on offer; nothing for nothing.

        Raises:
            ModelError: the name is not on offer: a visitor must not try paths of this machine.
        """
        if not name:
            return None
        if name in self._added:
            return self._added[name][0]
        if name in bundled_models():
            return name
        raise ModelError(f"{name}: no such model; there are {', '.join(self.offers())}")

    def measure(self, ended: threading.Event) -> None:
        """Measure the speed of all models on offer, the small ones first, unless there is no more time for that."""
        offers = self.offers()
        for name in sorted(offers, key=lambda name: offers[name].cost.macs):
            if not ended.is_set():
                self.seconds_per_mp(name)
        self.measured.set()

    @property
    def speeds(self) -> dict[str, float]:
        """Name -> seconds per megapixel of result, of the models that have been measured so far."""
        return dict(self._speeds)

    def seconds_per_mp(self, name: str) -> float:
        """Seconds per megapixel of result that a model takes on this machine, measured once."""
        with self._timing:
            if name not in self._speeds:
                self._speeds[name] = self._measured_seconds_per_mp(name)
            return self._speeds[name]

    def _measured_seconds_per_mp(self, name: str) -> float:
        upscaler = TiledUpscaler(load_model(self.where(name) or name), self.device)
        noise = Image(torch.rand(3, TIMED_PX, TIMED_PX, generator=torch.Generator().manual_seed(0)))
        laps: list[float] = []
        while len(laps) < TIMED_RUNS and sum(lap < SETTLED * min(laps) for lap in laps) < SETTLED_RUNS:
            start = time.perf_counter()
            upscaler(noise)
            laps.append(time.perf_counter() - start)
        return min(laps) / ((TIMED_PX * upscaler.scale) ** 2 / 1e6)

    # Enlarging

    def enlarger(self, model: str | None) -> CascadeUpscaler:
        """What enlarges with a model on offer, or with the bundled ones.

        Raises:
            ModelError: there is no such model, or it is damaged.
        """
        return self._enlarger(self.where(model), self.device)

    def size(self, **wishes: float | int | None) -> SizeConfig:
        """A size within the limits.

        Raises:
            ImageError: there is no such size.
        """
        try:
            return SizeConfig(**wishes, max_input_px=self.limits.input_px, max_output_px=self.limits.output_px)  # type: ignore[arg-type]
        except ValueError as error:
            raise ImageError(str(error)) from None

    def preview(
        self,
        picture: Path,
        enlarger: CascadeUpscaler,
        size: SizeConfig,
        save: SaveConfig,
        options: UpscaleOptions = DEFAULT_OPTIONS,
    ) -> Preview:
        """What a picture will come to, and how long it will take.

        Raises:
            ImageError: it cannot be enlarged.
        """
        plan = plan_jobs([picture], self.folder, size, save)
        estimate = next(iter(estimate_jobs(plan.jobs, enlarger, size, save, options, overwrite=True)))
        if estimate.work is None:
            raise ImageError(shown(estimate.problem, picture.parent))
        work = estimate.work
        return Preview((work.header.width, work.header.height), work.size, work.models, work.why, estimate.seconds)

    def upscale(
        self,
        session: Session,
        stop: threading.Event,
        picture: Path,
        enlarger: CascadeUpscaler,
        size: SizeConfig,
        save: SaveConfig,
        on_tile: Callable[[int, float], None] = lambda number, share: None,
        options: UpscaleOptions = DEFAULT_OPTIONS,
    ) -> Outcome:
        """Enlarge one picture into the visitor's folder, as the command line does.

        Args:
            stop: the visitor's wish, of `Session.stop`.
        Raises:
            ImageError: it cannot be done.
            Stopped: the visitor wished so, or it took too long.
        """
        folder = session.new_folder()
        plan = plan_jobs([picture], folder, size, save)
        try:
            outcome = next(iter(self.run(session, stop, plan.jobs, enlarger, size, save, on_tile, options)))
        except Stopped:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if outcome.state == "failed":
            raise ImageError(shown(outcome.reason, picture.parent, folder))
        return outcome

    def run(
        self,
        session: Session,
        stop: threading.Event,
        jobs: Sequence[Job],
        enlarger: CascadeUpscaler,
        size: SizeConfig,
        save: SaveConfig,
        on_tile: Callable[[int, float], None] = lambda number, share: None,
        options: UpscaleOptions = DEFAULT_OPTIONS,
    ) -> Iterator[Outcome]:
        """`run_jobs` for a visitor, ended within a tile or a picture by a wish to stop, or by the limit of time.

        Raises:
            Stopped: so it was.
        """
        check = self.checked(session, stop)

        def on_checked_tile(number: int, share: float) -> None:
            check()
            on_tile(number, share)

        def checked_outcomes() -> Iterator[Outcome]:
            """Where pictures are only reduced, or fail, there are no tiles."""
            check()
            for outcome in run_jobs(jobs, enlarger, size, save, options, on_tile=on_checked_tile):
                yield outcome
                check()

        return checked_outcomes()

    def checked(self, session: Session, stop: threading.Event) -> Callable[[], None]:
        """What a job that begins now is to call at each tile: it raises `Stopped` where the job is to end."""
        end = time.monotonic() + self.limits.seconds

        def check() -> None:
            if stop.is_set():
                raise Stopped("Stopped.")
            if time.monotonic() > end:
                raise Stopped(
                    f"Stopped: it took longer than {self.limits.seconds:g} seconds, the limit of this server."
                )
            session.seen = time.monotonic()

        return check

    # Batches

    def unpack(self, session: Session, uploads: Sequence[Path]) -> Path:
        """A folder with all files of a batch: archives are unpacked, with their folders; no two files share a name.

        Raises:
            ImageError: an archive is damaged, holds what no archive should, or it is too much.
        """
        folder = session.new_folder()
        try:
            self._unpack(uploads, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def _unpack(self, uploads: Sequence[Path], folder: Path) -> None:
        files, free_bytes = 0, self.limits.unpacked_mb * 1e6
        for upload in uploads:
            with _damage_named(upload.name):
                for name, source in _files_of(upload):
                    files += 1
                    if files > self.limits.files:
                        raise ImageError(f"{upload.name}: too many files; the limit is {self.limits.files} at once")
                    target = next(path for path in map(folder.joinpath, _numbered(name)) if not path.exists())
                    free_bytes -= _copied_bytes(source, target, free_bytes)
                    if free_bytes < 0:
                        most = f"{self.limits.unpacked_mb:g} MB"
                        raise ImageError(f"{upload.name}: more than {most} of files are too much at once")


def _copied_bytes(source: IO[bytes], target: Path, most: float) -> int:
    """Copy until that is more than `most` bytes, since what an archive says of its sizes need not be true."""
    count = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        while count <= most and (chunk := source.read(1 << 20)):
            file.write(chunk)
            count += len(chunk)
    return count


def _files_of(upload: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Names and contents: of the files in an archive, with their folders, or of the one that was uploaded."""
    if not zipfile.is_zipfile(upload):
        with upload.open("rb") as file:
            yield upload.name, file
        return
    with zipfile.ZipFile(upload) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            if not is_inside(member.filename):
                raise ImageError(f"{upload.name}: holds the path {member.filename}, which leads out of it")
            with archive.open(member) as file:
                yield member.filename, file


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Whatever goes wrong in unpacking is said of the upload: each compression and kind of damage has its own error."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise ImageError(f"{name}: is damaged, or cannot be unpacked here ({reason})") from None


def is_inside(name: str) -> bool:
    """Whether a path of an archive stays in the folder that it is unpacked to."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]


def plan_batch(folder: Path, results: Path, size: SizeConfig, save: SaveConfig) -> Plan:
    """The jobs of an unpacked batch; a file that is no image by its name is one that fails.

    Raises:
        ImageError: there is nothing at all.
    """
    plan = plan_jobs([folder], results, size, save, recursive=True)
    if not any(is_image_file(job.source) for job in plan.jobs) and not plan.left_out:
        raise ImageError("there are no files in it")
    jobs = [job for job in plan.jobs if job.source != folder]
    jobs += [Job(path, path, f"{path}: not a picture, by its name") for path in plan.left_out]
    return replace(plan, jobs=jobs, left_out=[])


def zipped(folder: Path, target: Path) -> Path:
    """An archive of a folder with its tree; pictures are compressed already, and only stored."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith(HIDDEN):
                archive.write(path, path.relative_to(folder))
    return target


def shown(text: str, *folders: Path) -> str:
    """A message with files called as the visitor knows them, not by where they lie on this machine."""
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    for option, words in (
        (" (--max-output-mp)", ""),
        (" (--max-input-mp)", ""),
        ("--background", "a background colour"),
        ("--format", "the format"),
    ):
        text = text.replace(option, words)
    return text


def escaped(error: TrinasError | Stopped | str) -> str:
    """A message for a page: whatever a file is called, it is text."""
    return html.escape(str(error))


def pixels_text(size: tuple[int, int]) -> str:
    """Such as 4,000 x 3,000 pixels (12 MP)."""
    megapixels = prod(size) / 1e6
    text = f"{size[0]:,} × {size[1]:,} pixels"
    return f"{text} ({megapixels:.{1 if megapixels < 10 else 0}f} MP)" if megapixels >= 0.1 else text


def seconds_text(seconds: float) -> str:
    """Such as 3.2 s or 4 min 10 s."""
    if seconds < 10:
        return f"{max(0.1, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def bytes_text(count: int) -> str:
    """Such as 24 KB or 1.3 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{max(1, round(count / 1e3))} KB"


def _numbered(name: str) -> Iterator[str]:
    """The name, then with -2, -3 and so on before its suffix."""
    path = Path(name)
    yield name
    for number in range(2, 1_000_000):
        yield str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
