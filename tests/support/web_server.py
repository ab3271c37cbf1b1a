"""`trinas-upscale web` as a process, and what browsers do with its page."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import httpx
from playwright.sync_api import Page

from support.processes import PATIENCE_S

STRANGER = "evil.example"
"""A name that leads to this machine in the tests' browser, without being its own."""

PATIENCE_MS = 180_000
"""How long a browser waits for what should happen."""

get, post = (partial(ask, timeout=PATIENCE_S) for ask in (httpx.get, httpx.post))
"""Requests of a program, which also waits for a busy machine."""


class Server:
    """`trinas-upscale web` in a process of its own, on a free port."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        hub: str = "http://127.0.0.1:9",
        python: tuple[str, str] = ("-m", "trinas_app"),
    ) -> None:
        web = [*python, "web", "--port", str(free_port()), "--device", "cpu"]
        self.start(folder, [*web, *options], HF_ENDPOINT=hub)

    def start(self, folder: Path, arguments: list[str], **variables: str) -> None:
        """Run Python until it has said where it listens."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._log = folder, (folder / "web.log").open("w+")
        command = [sys.executable, *arguments]
        environment = os.environ | {"TMPDIR": str(folder), "HF_HOME": str(folder / "hf")} | variables
        self.process = subprocess.Popen(command, cwd=folder, stdout=self._log, stderr=self._log, env=environment)
        end = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"http://\S+", self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)
        self.url = found[0].rstrip("/")

    def said(self) -> str:
        """Return what the process wrote to its terminal."""
        return (self.folder / "web.log").read_text()

    def find_files(self, name: str) -> list[Path]:
        """Return the files of that name among the visitors' ones, which may be deleted meanwhile."""
        folders = self.folder.glob("trinas-web-*")
        return [Path(parent, name) for folder in folders for parent, _, names in os.walk(folder) if name in names]

    def close(self) -> None:
        """End the process as Ctrl-C does, and wait for it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_S)
        self._log.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def open_tab(page: Page, name: str) -> None:
    """Choose a tab."""
    page.get_by_role("tab", name=name, exact=True).click()


def upload(page: Page, box: str, *paths: Path) -> None:
    """Choose files in the box of a CSS selector."""
    page.locator(f"{box} input[type=file]").first.set_input_files([str(path) for path in paths])


def download(page: Page, button: str, folder: Path) -> Path:
    """Press the button of a CSS selector and return the file, saved in `folder`."""
    with page.expect_download() as waiting:
        page.locator(button).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def fill(page: Page, label: str, value: str) -> None:
    """Fill the first field of a label and leave it."""
    field = page.get_by_label(label).first
    field.fill(value)
    field.press("Tab")
