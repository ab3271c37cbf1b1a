"""What `train` and `search` share: options of a resumed run, stopping, and the last messages."""

import shlex
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from .options import start_decoders
from .process import end_on_signal, write_from_handler
from .terminal import say

if TYPE_CHECKING:
    from trinas.training.data import TrainingImage


def check_resume_options(ctx: typer.Context, resume: Path | None) -> None:
    """Refuse settings beside --resume, because a run keeps its own settings.

    Args:
        ctx: of the command.
        resume: value of --resume.
    Raises:
        typer.BadParameter: an option other than --data was given with --resume.
    """
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if resume is not None and given - {"resume", "data"}:
        raise typer.BadParameter("a resumed run keeps its settings: give only --resume and --data")


def stop_on_signals() -> threading.Event:
    """Return an event that SIGINT or SIGTERM sets. A second signal ends the process at once."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, end_on_signal)
        write_from_handler(b"\nStopping after this step; the state is saved. A second signal ends at once.\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop


def load_images(folders: Sequence[Path]) -> "list[TrainingImage]":
    """Return the training images of folders. Raise DataError if one of them cannot be read."""
    from trinas.training.data import load_photographs

    with start_decoders() as decoders:
        return load_photographs(folders, decoders.open_image)


def announce_teacher(teacher: str | None, before: str) -> None:
    """If there is a teacher, say that it upscales all images `before` the work that follows.

    Nothing is said of a folder of targets, which upscales nothing.
    """
    from trinas.training.targets import is_target_folder

    if teacher and not is_target_folder(Path(teacher)):
        say(f"{teacher} upscales all images before {before}, which may take minutes")


def end_stopped(command: str, run_dir: Path, data: Sequence[Path] | None) -> NoReturn:
    """Say how to resume a stopped run, and end the program.

    Args:
        command: that resumes the run, such as train.
        run_dir: folder of the run.
        data: folders of the images, as --data had them.
    Raises:
        typer.Exit: always, with exit code 130.
    """
    folders = [word for folder in data or [] for word in ("--data", str(folder))]
    again = shlex.join(["trinas-upscale", command, "--resume", str(run_dir), *folders])
    say(f"Stopped; resume with: {again}")
    raise typer.Exit(130)
