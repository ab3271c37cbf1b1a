"""The program `trinas-upscale`: its commands, and how errors end."""

import difflib
import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trinas.errors import TrinasError
from trinas.text import escape_text

from .compare import write_comparison
from .data import data_cli
from .devices import print_devices
from .evaluate import measure_model
from .export import export_model
from .models import models_cli
from .process import ending_on_sigterm, guard_streams
from .search import rerun_search, run_search
from .terminal import print_line, say
from .train import run_training
from .upscale import upscale_images
from .web import serve_page


class MainGroup(TyperGroup):
    """Runs `upscale` if the first word is not a command, so that `trinas-upscale photos/ -s 4` works."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `upscale` before the arguments if they name no command, then parse them as usual.

        Raises:
            click.UsageError: the first word is neither a file nor a command, but looks like a misspelt command.
        """
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            meant = difflib.get_close_matches(args[0], [*self.commands, "help"], n=1)
            if meant and not Path(args[0]).exists():
                ctx.fail(f"No file, folder or command {args[0]!r}; did you mean {meant[0].replace('help', '--help')}?")
            args = ["upscale", *args]
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the first words of the command line. What was typed wrong is printed escaped."""
        with _escape_mistakes():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Parse the rest of the command line, as above, and run the command."""
        with _escape_mistakes():
            return super().invoke(ctx)


@contextmanager
def _escape_mistakes() -> Iterator[None]:
    """Escape what an error of the command line quotes, such as the name of a file that begins with a hyphen."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = escape_text(message)  # type: ignore[attr-defined]
        raise


cli = typer.Typer(
    cls=MainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.command("upscale")(upscale_images)
cli.command("compare")(write_comparison)
cli.command("evaluate")(measure_model)
cli.command("devices")(print_devices)
cli.command("search")(run_search)
cli.command("reproduce")(rerun_search)
cli.command("train")(run_training)
cli.command("export")(export_model)
cli.command("web")(serve_page)
cli.add_typer(models_cli, name="models")
cli.add_typer(data_cli, name="data")


USER_ERRNOS = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)
"""OSErrors about a path that the user gave. Any other one that gets this far is our own mistake."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"trinas-upscale {version('trinas-upscale')}")
        raise typer.Exit


@cli.callback()
def start(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Upscale photographs with tiny super-resolution networks.

    `trinas-upscale photos/ cat.jpg -s 4` makes every image four times as wide and high, in the folder `upscaled`.
    If the first word is not a command, it is an input. Write a folder named `models` as `./models`.
    """


def main() -> None:
    """Run the command line. Every expected error ends with one line and exit code 1."""
    with ending_on_sigterm(), guard_streams():
        try:
            _run_commands()
        except TrinasError as error:
            say(f"error: {error}")
            sys.exit(1)
        except OSError as error:
            if error.errno not in USER_ERRNOS:
                raise
            say(f"error: {error.filename}: {error.strerror}")
            sys.exit(1)


def _run_commands() -> None:
    try:
        cli()
    finally:
        sys.stdout.flush()
