"""`data`: get public training images."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .terminal import say

data_cli = typer.Typer(help="Get public training images.", no_args_is_help=True)


class DataName(str, Enum):
    """Names of public training sets; see `trinas.training.datasets`."""

    DIV2K = "div2k"
    FLICKR2K = "flickr2k"


@data_cli.callback()
def describe_group() -> None:
    """Get public training images."""


@data_cli.command("get")
def get_data(
    name: Annotated[DataName, typer.Argument(help="The set.")],
    folder: Annotated[Path, typer.Argument(help="Folder in which a new sub-folder gets the images.", metavar="DIR")],
) -> None:
    """Download a set of training images, check it and unpack it. Run the same command again to resume.

    - `div2k`: 800 photographs, 3.5 GB
    - `flickr2k`: 2650 photographs, 20 GB

    Both are for academic research only. Unpacking needs twice the size of a set.
    """
    from trinas.training.datasets import DATA_SETS, get_data_set

    from .progress import DownloadProgress

    say(DATA_SETS[name.value].about)
    progress = DownloadProgress()
    with progress:
        images = get_data_set(DATA_SETS[name.value], folder, progress.move)
    say(f"Done; train on it with --data {images}")
