"""The page under load, and what it adds to a call in Python.

    python benchmarks/web_load.py DATA [--clients 20] [--images 5]

DATA is laid out as docs/data.md says; the pictures are Set14's at a quarter of their size. Starts the server itself,
on a free port. So many clients at once send so many pictures each to `/upscale` and compare every result with the
command line's; one that is told that the queue is full waits and tries again, anything else is an error. Then one
client sends a picture that becomes 1 megapixel, and the same is done in Python.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gradio_client import Client, handle_file
from PIL import Image as PillowImage

from trinas.config import SaveConfig, SizeConfig
from trinas.inference.batch import run_jobs
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.plan import plan_jobs

SIZE = SizeConfig(scale=4)
LAPS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--images", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = reduced(sorted((arguments.data / "benchmarks" / "Set14" / "HR_x4").glob("*.png")), folder)
        wanted = enlarged(pictures, folder / "wanted")
        server, url = started(folder)
        try:
            load(url, server.pid, pictures, wanted, arguments.clients, arguments.images)
            overhead(url, pictures[0], folder)
        finally:
            server.terminate()
            server.wait()


def started(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The server and its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "trinas_app", "web", "--port", str(port), "--device", "cpu"]
    said = folder / "web.log"
    with said.open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stderr=log)
    while server.poll() is None:
        if found := re.search(r"http://\S+", said.read_text()):
            return server, found[0]
        time.sleep(0.1)
    raise SystemExit(f"the server did not start: {said.read_text()}")


def reduced(pictures: list[Path], folder: Path) -> list[Path]:
    """Copies at a quarter of the width and height."""
    made = []
    for path in pictures:
        with PillowImage.open(path) as picture:
            made.append(folder / path.name)
            picture.resize((picture.width // 4, picture.height // 4)).save(made[-1])
    return made


def enlarged(pictures: list[Path], folder: Path) -> dict[str, bytes]:
    """What the command line writes, by the picture's name."""
    enlarger, save = CascadeUpscaler(), SaveConfig()
    outcomes = run_jobs(plan_jobs(pictures, folder, SIZE, save).jobs, enlarger, SIZE, save)
    return {outcome.job.source.name: outcome.job.result.read_bytes() for outcome in outcomes}


def load(url: str, pid: int, pictures: list[Path], wanted: dict[str, bytes], clients: int, images: int) -> None:
    turned_away, wrong, errors, done = [0], [0], [], [0]
    lock, at_once = threading.Lock(), threading.Barrier(clients)
    seconds: list[float] = []
    before = memory_mb(pid)
    highest = [before]

    def visit(number: int) -> None:
        client = Client(url, verbose=False, download_files=tempfile.mkdtemp())
        at_once.wait()
        for index in range(images):
            picture = pictures[(number + index) % len(pictures)]
            start = time.perf_counter()
            while True:
                try:
                    result = client.predict(handle_file(str(picture)), 4, "", api_name="/upscale")
                except Exception as error:  # what clients meet is what is counted
                    with lock:
                        if "queue is full" not in str(error).lower():
                            errors.append(str(error))
                            break
                        turned_away[0] += 1
                    time.sleep(0.5)
                    continue
                with lock:
                    done[0] += 1
                    seconds.append(time.perf_counter() - start)
                    wrong[0] += Path(result).read_bytes() != wanted[picture.name]
                    highest[0] = max(highest[0], memory_mb(pid))
                break
        client.close()

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(visit, range(clients)))
    whole = time.perf_counter() - start
    print(
        "| clients | pictures | done | wrong | errors | turned away | s in all | s, median | MB before | MB at most |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {clients} | {clients * images} | {done[0]} | {wrong[0]} | {len(errors)} | {turned_away[0]} | {whole:.1f} | "
        f"{statistics.median(seconds):.1f} | {before:.0f} | {highest[0]:.0f} |"
    )
    for error in errors[:5]:
        print(f"error: {error}", file=sys.stderr)


def overhead(url: str, picture: Path, folder: Path) -> None:
    """A result of 1 megapixel, by the server and in Python, in turns."""
    side = folder / "side.png"
    PillowImage.open(picture).convert("RGB").resize((250, 250)).save(side)
    client, enlarger, save = Client(url, verbose=False, download_files=str(folder)), CascadeUpscaler(), SaveConfig()
    laps: dict[str, list[float]] = {"page": [], "Python": []}
    for lap in range(LAPS + 1):
        start = time.perf_counter()
        client.predict(handle_file(str(side)), 4, "", api_name="/upscale")
        middle = time.perf_counter()
        plan = plan_jobs([side], folder / str(lap), SIZE, save)
        assert [outcome.state for outcome in run_jobs(plan.jobs, enlarger, SIZE, save)] == ["done"]
        if lap:  # the first one loads the network
            laps["page"].append(middle - start)
            laps["Python"].append(time.perf_counter() - middle)
    client.close()
    page, python = (statistics.median(laps[name]) for name in ("page", "Python"))
    print(f"\n1 megapixel: {page:.2f} s through the page, {python:.2f} s in Python, {page - python:.2f} s added")


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
