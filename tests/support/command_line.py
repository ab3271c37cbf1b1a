"""The command line in this process, and what it is given."""

import signal
import threading

from PIL import Image as PillowImage
from trinas_app.cli import cli
from typer.testing import CliRunner

from support.images import generated_photograph


def run(*arguments):
    """Run the command line in this process; unexpected errors and TrinasErrors are in the result's `exception`."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def save_image(path, levels):
    """Write uint8 pixels as an image file, in the format of its suffix."""
    PillowImage.fromarray(levels).save(path)
    return path


def make_training_images(folder, count, side_px):
    """Make a folder of square images to train on."""
    folder.mkdir(exist_ok=True)
    for seed in range(count):
        save_image(folder / f"{seed}.png", generated_photograph(side_px, side_px, seed))
    return folder


def ask_to_stop(monkeypatch, module):
    """Make a command's run stop after its first step; clear the event that is returned to let it go on."""
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr(f"trinas_app.cli.{module}.stop_on_signals", lambda: stop)
    return stop
