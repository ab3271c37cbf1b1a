"""The page under load, and what it adds to a call in Python.

    python benchmarks/web_load.py DATA [--clients 20] [--images 5]

DATA is laid out as docs/data.md says; the images are Set14's at a quarter of their size. The script starts the server
on a free port. Then it measures twice:

- Many clients at once send images to `/upscale` and compare every result with the command line's. A client that is told
  that the queue is full waits and tries again; everything else counts as an error.
- One client sends an image that becomes 1 megapixel, and the same is done in Python.
"""

import argparse
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gradio_client import Client, handle_file
from PIL import Image as PillowImage
from process_memory import measure_memory_mib

from trinas.config import SaveConfig, SizeConfig
from trinas.inference.batch import run_jobs
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.plan import plan_jobs
from trinas.timer import Timer

SIZE = SizeConfig(scale=4)
LAPS = 9
RETRY_S = 0.5
PATIENCE_S = 600
ERRORS_SHOWN = 5


def main() -> None:
    """Start the server, measure it and stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--images", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = reduce_images(sorted((arguments.data / "benchmarks" / "Set14" / "HR_x4").glob("*.png")), folder)
        wanted = upscale_images(images, folder / "wanted")
        server, url = start_server(folder)
        try:
            measure_load(Load(url, server.pid, images, wanted), arguments.clients, arguments.images)
            measure_overhead(url, images[0], folder)
        finally:
            server.terminate()
            server.wait()


def start_server(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server and return it with its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "trinas_app", "web", "--port", str(port), "--device", "cpu"]
    log_file = folder / "web.log"
    with log_file.open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stderr=log)
    while server.poll() is None:
        if found := re.search(r"http://\S+", log_file.read_text()):
            return server, found[0]
        time.sleep(0.1)
    raise SystemExit(f"the server did not start: {log_file.read_text()}")


def reduce_images(paths: list[Path], folder: Path) -> list[Path]:
    """Write copies at a quarter of the width and height."""
    copies = []
    for path in paths:
        with PillowImage.open(path) as image:
            copies.append(folder / path.name)
            image.resize((image.width // 4, image.height // 4)).save(copies[-1])
    return copies


def upscale_images(paths: list[Path], folder: Path) -> dict[str, bytes]:
    """Return what the command line writes, by the image's name."""
    cascade, save = CascadeUpscaler(), SaveConfig()
    outcomes = run_jobs(plan_jobs(paths, folder, SIZE, save).jobs, cascade, SIZE, save)
    return {outcome.job.source.name: outcome.job.result.read_bytes() for outcome in outcomes}


@dataclass
class Load:
    """What clients send, and what came of it."""

    url: str
    pid: int
    """Of the server."""
    images: list[Path]
    wanted: dict[str, bytes]
    """What the command line writes, by the image's name."""
    seconds: list[float] = field(default_factory=list)
    """Of each image that was upscaled."""
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    turned_away: int = 0
    highest_mib: float = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def visit(self, first: int, count: int, barrier: threading.Barrier) -> None:
        """Send so many images, as one client."""
        patience = {"timeout": PATIENCE_S}  # the client's own 5 s are too few on a busy machine
        client = Client(self.url, verbose=False, download_files=tempfile.mkdtemp(), httpx_kwargs=patience)
        barrier.wait()
        for index in range(count):
            self.send(client, self.images[(first + index) % len(self.images)])
        client.close()

    def send(self, client: Client, path: Path) -> None:
        """Send one image and note what came of it."""
        try:
            with Timer() as timer:
                result = self.upscale(client, path)
        except Exception as error:  # whatever clients meet is counted
            with self.lock:
                self.errors.append(f"{type(error).__name__}: {error}")
            return
        with self.lock:
            self.seconds.append(timer.seconds)
            self.wrong += result != self.wanted[path.name]
            self.highest_mib = max(self.highest_mib, measure_memory_mib(self.pid))

    def upscale(self, client: Client, path: Path) -> bytes:
        """Return the server's result. While the queue is full, wait and try again."""
        while True:
            try:
                return Path(client.predict(handle_file(str(path)), 4, "", api_name="/upscale")).read_bytes()
            except Exception as error:
                if "queue is full" not in str(error).lower():
                    raise
                with self.lock:
                    self.turned_away += 1
                time.sleep(RETRY_S)


def measure_load(load: Load, clients: int, images: int) -> None:
    """Let clients send images at once, and print what came of it."""
    before = load.highest_mib = measure_memory_mib(load.pid)
    barrier = threading.Barrier(clients)
    with Timer() as timer, ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda number: load.visit(number, images, barrier), range(clients)))
    print(
        "| clients | images | done | wrong | errors | turned away | s in all | s, median | MiB before | MiB at most |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {clients} | {clients * images} | {len(load.seconds)} | {load.wrong} | {len(load.errors)} | "
        f"{load.turned_away} | {timer.seconds:.1f} | {statistics.median(load.seconds):.1f} | {before:.0f} | "
        f"{load.highest_mib:.0f} |"
    )
    for error in load.errors[:ERRORS_SHOWN]:
        print(f"error: {error}", file=sys.stderr)


def measure_overhead(url: str, path: Path, folder: Path) -> None:
    """Make a result of 1 megapixel by the server and in Python, in turns, and print the times."""
    side = folder / "side.png"
    PillowImage.open(path).convert("RGB").resize((250, 250)).save(side)
    client, cascade, save = Client(url, verbose=False, download_files=str(folder)), CascadeUpscaler(), SaveConfig()
    laps: dict[str, list[float]] = {"page": [], "Python": []}
    for lap in range(LAPS + 1):
        with Timer() as page_timer:
            client.predict(handle_file(str(side)), 4, "", api_name="/upscale")
        with Timer() as python_timer:
            plan = plan_jobs([side], folder / str(lap), SIZE, save)
            assert [outcome.state for outcome in run_jobs(plan.jobs, cascade, SIZE, save)] == ["done"]
        if lap:  # the first one loads the network
            laps["page"].append(page_timer.seconds)
            laps["Python"].append(python_timer.seconds)
    client.close()
    page, python = (statistics.median(laps[name]) for name in ("page", "Python"))
    print(f"\n1 megapixel: {page:.2f} s through the page, {python:.2f} s in Python, {page - python:.2f} s added")


if __name__ == "__main__":
    main()
