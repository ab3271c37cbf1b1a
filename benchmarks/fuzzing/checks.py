"""What the program must do with a damaged file: work, or say in one line why it does not.

Nothing else counts as right: no other exception, no message of several lines, no output to the terminal, no result that
cannot be read, no pixels where the end of the file is missing, no file left behind, no more memory than is planned.
"""

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unicodedata import category

import tifffile
import torch
from PIL import Image as PillowImage
from trinas_app.web.archives import unpack
from trinas_app.web.limits import Limits

from trinas.config import SaveConfig, SizeConfig
from trinas.errors import TrinasError
from trinas.images.decode import Header
from trinas.images.guard import DecoderPool
from trinas.images.image import Image, to_srgb
from trinas.images.read import open_image, read_header
from trinas.inference.batch import Outcome, run_jobs
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.plan import plan_jobs
from trinas.inference.tiled import TiledUpscaler
from trinas.zoo.card import render_card
from trinas.zoo.folder import load_model

from .damage import DamagedFile
from .seeds import list_seeds

OUTCOMES = ("works", "refused", "contained")
"""What may become of a file. It can be used; or an error says in one line why not; or it ends or exhausts the process
that decodes it, because of a bug in a decoder, and in a batch nothing else is lost by that."""

FAULTS = {
    "exception": "an exception that is not documented",
    "message": "a message of several lines, of control characters, or longer than 1,000 characters",
    "header": "a header that is another one, or refused, when it is read by itself",
    "pixels": "pixels that do not fit the header, or that are not numbers from 0 to 1",
    "cut": "a file without its end is read, and its pixels are not those of the whole file",
    "result": "a result that another program cannot read, or of a wrong size",
    "neighbour": "another image of the batch is not upscaled, or not to the same bytes",
    "leftover": "a file is left behind",
    "terminal": "something is written to the terminal",
    "memory": "more memory than is planned",
    "time": "more time than the limit",
    "crash": "the process ends",
}
"""Kind of fault -> what it is."""

MAX_PX = 4_000_000
"""Larger images are refused, as the default limit refuses images of more than 100 megapixels."""
MAX_BATCH_PX = 20_000
SCALE, MODEL = 2, "trinas-xs-x2"
BATCH_EVERY = 4
"""Each file with a number that this divides is also upscaled in a batch."""

SAVES = (
    SaveConfig(),
    SaveConfig(),
    SaveConfig(".png"),
    SaveConfig(".jpg", background="white"),
    SaveConfig(".tif"),
    SaveConfig(".webp", lossless=True),
    SaveConfig(".avif", quality=50),
    SaveConfig(".bmp", background="#ff8000"),
    SaveConfig(strip_metadata=True),
)
"""How the results of batches are written, in turns."""

MAX_MESSAGE = 1000
_REFUSING_MIB, _SLACK_MIB = 64, 16
"""Of files that are refused, archives and models; and beyond what the header of an image says that reading takes."""
_CONTENT_COPIES = 8
_MIB = 2**20
_ARCHIVE_LIMITS = Limits(files=50, unpacked_mb=20)


class FaultError(Exception):
    """The program did with a file what it must not do."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        """One of `FAULTS`."""


@dataclass
class Check:
    """One file in a folder of its own, and what the check finds out on its way."""

    file: DamagedFile
    folder: Path
    temporary: Path
    """The folder for temporary files, from `move_temporary_files`."""
    decoders: DecoderPool
    """Decode the images of a batch."""
    header: Header | None = None
    """Of the image, if it can be read."""

    @property
    def allowed_mib(self) -> float:
        """The memory that the check may take, beyond what the process has before."""
        if self.header:
            return _SLACK_MIB + self.header.reading_bytes / _MIB
        return _REFUSING_MIB + _CONTENT_COPIES * sum(map(len, self.file.files.values())) / _MIB

    def run(self, *, guarded: bool = False) -> str:
        """Let the program have the file, and return one of `OUTCOMES`.

        Args:
            guarded: decode an image in another process only, as batches and the page do.
        Raises:
            FaultError: it did what it must not do. Every other exception is a fault too.
        """
        for name, content in self.file.files.items():
            (self.folder / name).write_bytes(content)
        if self.file.kind == "zip":
            outcome = self._unpack()
        elif self.file.kind == "model":
            outcome = self._load()
        else:
            outcome = "" if guarded else self._decode()
            if guarded or self.file.number % BATCH_EVERY == 0:
                outcome = self._upscale()
        if left := list(self.temporary.iterdir()):
            for path in left:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            raise FaultError("leftover", f"{left[0].name} stays in the folder for temporary files")
        return outcome

    @property
    def _path(self) -> Path:
        (name,) = self.file.files
        return self.folder / name

    def _decode(self) -> str:
        """Decode an image in this process, which dies of a decoder that crashes."""
        try:
            opened = open_image(self._path, MAX_PX)
            self.header = opened.header
            image = opened.read()
        except TrinasError as error:
            check_message(str(error), self.folder)
            return "refused"
        check_pixels(opened.header, image)
        self._check_header(opened.header)
        if self.file.is_cut:
            check_cut(image, _read_whole(self.file.seed.kind, self.file.seed.name))
        return "works"

    def _check_header(self, header: Header) -> None:
        """Raise FaultError if the header is another one when it is read by itself."""
        try:
            found = read_header(self._path, MAX_PX)
        except TrinasError as error:
            raise FaultError("header", str(error).replace(str(self.folder), "")) from None
        # A PNG may say behind its pixels that it lies on its side.
        if {found.width, found.height} != {header.width, header.height} or found.channels != header.channels:
            raise FaultError("header", f"{found} of the header, {header} of the image")

    def _upscale(self) -> str:
        """Upscale an image in a batch with a good one."""
        source, results = self.folder / "batch", self.folder / "results"
        source.mkdir()
        shutil.copy(self._path, source)
        (source / "good.png").write_bytes(GOOD)
        size, save = SizeConfig(scale=SCALE, max_input_px=MAX_BATCH_PX), SAVES[self.file.number % len(SAVES)]
        plan, opener = plan_jobs([source], results, size, save), self.decoders.open_image
        outcomes = list(run_jobs(plan.jobs, load_upscaler(), size, save, opener=opener))
        good, tried = sorted(outcomes, key=lambda outcome: outcome.job.source.name != "good.png")
        if good.state != "done" or good.job.result.read_bytes() != make_good_result(save):
            raise FaultError("neighbour", f"the good image is {good.state}: {good.reason}")
        written = {path.name for path in results.iterdir()}
        wanted = {outcome.job.result.name for outcome in outcomes if outcome.state == "done"}
        if written != wanted:
            raise FaultError("leftover", f"{sorted(written ^ wanted)} among the results")
        outcome = check_outcome(tried, self.folder)
        if outcome == "works":
            to_srgb(opener(self._path, MAX_PX).read())  # as previews do, with a profile that may be damaged
        return outcome

    def _unpack(self) -> str:
        """Unpack an archive as the page does."""
        unpacked = self.folder / "unpacked"
        unpacked.mkdir()
        try:
            problems = unpack([self._path], unpacked, _ARCHIVE_LIMITS)
        except TrinasError as error:
            check_message(str(error), self.folder)
            return "refused"
        for place, problem in problems.items():
            check_message(f"{place}: {problem}", self.folder)
        paths = [path for path in unpacked.rglob("*") if not path.is_dir()]
        if any(path.is_symlink() or not path.is_file() for path in paths):
            raise FaultError("result", "something is unpacked that is neither a file nor a folder")
        for path in paths:
            check_message(str(path), self.folder)
        size_mb = sum(path.stat().st_size for path in paths) / 1e6
        if len(paths) > _ARCHIVE_LIMITS.files or size_mb > _ARCHIVE_LIMITS.unpacked_mb:
            raise FaultError("result", f"{len(paths)} files of {size_mb:.0f} MB are unpacked")
        outside = {path.name for path in self.folder.iterdir()} - {self._path.name, unpacked.name}
        if outside:
            raise FaultError("leftover", f"{sorted(outside)} beside the folder of the archive")
        return "works" if paths or not problems else "refused"

    def _load(self) -> str:
        """Load a model, write its card and let its network run."""
        try:
            model = load_model(str(self.folder))
            render_card(model.config).encode()
            TiledUpscaler(model, "cpu", "fp32")(Image(torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))))
        except TrinasError as error:
            check_message(str(error), self.folder)
            return "refused"
        return "works"


def check_message(message: str, folder: Path) -> None:
    """Raise FaultError if a message is not one short line that can be shown on a terminal."""
    message = message.replace(str(folder), "")
    if not all(character.isprintable() or category(character) == "Zs" for character in message):  # Zs: wide spaces
        raise FaultError("message", f"{message[:MAX_MESSAGE]!r} cannot be printed in one line")
    if len(message) > MAX_MESSAGE:
        raise FaultError("message", f"{message[:MAX_MESSAGE]} ... has {len(message)} characters")


def check_pixels(header: Header, image: Image) -> None:
    """Raise FaultError if pixels do not fit the header, or are not numbers from 0 to 1."""
    promised, found = (header.channels, header.height, header.width), tuple(image.pixels.shape)
    if promised != found:
        raise FaultError("pixels", f"the header says {promised}, the pixels are {found}")
    lowest, highest = image.pixels.min().item(), image.pixels.max().item()
    if not (lowest >= 0 and highest <= 1):  # also true for what is not a number
        raise FaultError("pixels", f"values from {lowest:g} to {highest:g}")


def check_cut(image: Image, whole: Image | None) -> None:
    """Raise FaultError if a file without its end has other pixels than the whole file, which may be refused."""
    if whole is None:
        return
    if image.pixels.shape != whole.pixels.shape or not torch.equal(image.pixels, whole.pixels):
        raise FaultError("cut", "a file without its end is read as if it were whole")


def check_outcome(outcome: Outcome, folder: Path) -> str:
    """Return what became of a damaged image in a batch. Raise FaultError if its result cannot be read."""
    for text in (outcome.reason, *outcome.notes):
        check_message(text, folder)
    if outcome.state == "failed":
        if "memory is too small" in outcome.reason:
            raise FaultError("memory", outcome.reason.replace(str(folder), ""))
        if re.search(r"\b[A-Z]\w*(Error|Exception)\b", outcome.reason):  # the name of a type: nobody has foreseen it
            raise FaultError("exception", outcome.reason.replace(str(folder), ""))
        return "refused"
    try:
        width, height = read_size(outcome.job.result)
    except Exception as error:  # whatever the other library meets
        raise FaultError("result", f"{type(error).__name__}: {error}") from None
    header = open_image(outcome.job.source).header
    if (width, height) != (header.width * SCALE, header.height * SCALE):
        raise FaultError("result", f"{width}x{height}, made of {header.width}x{header.height}")
    return "works"


def read_size(path: Path) -> tuple[int, int]:
    """Decode an image and its EXIF with another library than the program uses, and return width and height."""
    if path.suffix in (".tif", ".tiff"):
        height, width = tifffile.imread(path).shape[:2]
        return width, height
    with warnings.catch_warnings(), PillowImage.open(path) as opened:
        warnings.simplefilter("ignore")  # of values that another program does not expect, but can read
        opened.load()
        dict(opened.getexif())
        return opened.size


@cache
def load_upscaler() -> CascadeUpscaler:
    """Return what upscales the images of a batch."""
    return CascadeUpscaler(MODEL, "cpu", "fp32")


GOOD = next(seed.content for seed in list_seeds("png") if seed.name.startswith("8 bits"))
"""The good image."""


@cache
def make_good_result(save: SaveConfig) -> bytes:
    """Return what the good image of a batch becomes."""
    size = SizeConfig(scale=SCALE)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "good.png")
        source.write_bytes(GOOD)
        (outcome,) = run_jobs(plan_jobs([source], Path(folder), size, save).jobs, load_upscaler(), size, save)
        return outcome.job.result.read_bytes()


@cache
def _read_whole(kind: str, name: str) -> Image | None:
    """Return the image of a seed; None if it is refused."""
    (seed,) = (seed for seed in list_seeds(kind) if seed.name == name)
    with tempfile.TemporaryDirectory() as folder, suppress(TrinasError):
        path = Path(folder, "seed")
        path.write_bytes(seed.content)
        return open_image(path, MAX_PX).read()
    return None


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for one check, and delete it with what the check wrote."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_temporary_files(parent: Path) -> Path:
    """Let temporary files of this process, and of those that it starts, be written to a new folder. Return it."""
    temporary = Path(tempfile.mkdtemp(dir=parent))
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    return temporary
