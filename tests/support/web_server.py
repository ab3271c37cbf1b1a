"""`trinas-upscale web` as a process."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class Server:
    """`trinas-upscale web` in a process of its own, on a port that is free."""

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
        end = time.monotonic() + 120
        while not (found := re.search(r"http://\S+", self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)
        self.url = found[0].rstrip("/")

    def said(self) -> str:
        return (self.folder / "web.log").read_text()

    def files(self) -> list[Path]:
        """What visitors have left on the disk."""
        return [path for path in self.folder.glob("trinas-web-*/**/*") if path.is_file()]

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self._log.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
