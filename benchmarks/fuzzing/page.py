"""The page while it gets damaged images: does it answer, and do good images become what they should?"""

import re
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from gradio_client import Client, handle_file
from web_load import start_server

from trinas.config import SaveConfig
from trinas.timer import Timer

from .checks import GOOD, MODEL, SCALE, FaultError, check_message, make_good_result, move_temporary_files
from .damage import make_file
from .seeds import IMAGE_KINDS

OUTCOMES = ("works", "refused", "good")
"""What may come of an image."""

GOOD_EVERY = 20
"""After so many damaged images comes a good one."""
ASK_EVERY_S = 0.2
_PATIENCE_S = 120


@dataclass
class Answers:
    """How long the page took to answer those who only look at it."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def send_files(files: int, seed: int) -> dict[str, Any]:
    """Start a server, send it damaged images one after the other, and return what came of it.

    Args:
        files: how many damaged images.
        seed: as for `make_file`.
    Returns:
        How many of them were upscaled and refused, the faults, and the times of answers in seconds.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        move_temporary_files(folder)  # the client leaves folders there
        server, url = start_server(folder)
        try:
            client = Client(url, verbose=False, download_files=str(folder))
            with _keep_asking(url) as answers:
                outcomes = [_send(client, folder / name, content) for name, content in _make_contents(files, seed)]
            client.close()
            faults = [
                *answers.errors,
                *(outcome for outcome in outcomes if outcome not in ("works", "refused", "good")),
            ]
            if server.poll() is not None:
                faults.append(f"the server has ended ({server.returncode})")
        finally:
            server.terminate()
            server.wait()
        log = (folder / "web.log").read_text()
        faults += re.findall(r"^Traceback .*", log, re.MULTILINE)
    return {
        "files": files,
        **{outcome: outcomes.count(outcome) for outcome in OUTCOMES},
        "faults": faults,
        "answers": len(answers.seconds),
        "median_s": round(statistics.median(answers.seconds), 2),
        "longest_s": round(max(answers.seconds), 2),
    }


def _make_contents(files: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents: damaged images, and now and then the good one."""
    for number in range(files):
        ((name, content),) = make_file(seed, number, IMAGE_KINDS).files.items()
        yield name, content
        if number % GOOD_EVERY == GOOD_EVERY - 1:
            yield "good.png", GOOD


def _send(client: Client, path: Path, content: bytes) -> str:
    """Send one image. Return works, refused or good, or what is wrong."""
    path.write_bytes(content)
    try:
        result = Path(client.predict(handle_file(str(path)), SCALE, MODEL, api_name="/upscale")).read_bytes()
    except Exception as error:  # gradio_client has one class for all errors of a server
        try:
            check_message(str(error), path.parent)
        except FaultError as fault:
            return str(fault)
        return "refused" if path.name != "good.png" else f"the good image is refused: {error}"
    if path.name != "good.png":
        return "works"
    return "good" if result == make_good_result(SaveConfig()) else "the good image became something else"


@contextmanager
def _keep_asking(url: str) -> Iterator[Answers]:
    """Get the page again and again while the block runs."""
    answers, ended = Answers(), threading.Event()

    def ask() -> None:
        while not ended.wait(ASK_EVERY_S):
            try:
                with Timer() as timer, urlopen(url, timeout=_PATIENCE_S) as page:
                    page.read()
            except OSError as error:
                answers.errors.append(f"the page does not answer: {error}")
            else:
                answers.seconds.append(timer.seconds)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        ended.set()
        asking.join()
