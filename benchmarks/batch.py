"""A batch of real size: how well its stages overlap, what memory it takes, and what kills do to it.

    python benchmarks/batch.py overlap PHOTOS [--images 1000]
    python benchmarks/batch.py kills PHOTOS [--images 60] [--kills 20]

PHOTOS is a folder of images; they are copied, under other names, until there are enough.

overlap: one process enlarges them all. Prints its time against the sum of what the stages (reading, enlarging,
writing) took one by one and against the slowest of them, and its memory after every tenth of the images.

kills: a process enlarges them and is killed (SIGKILL) at random moments, again and again, then runs to its end. Prints
whether each file that was there after a kill was whole, and whether the results are those of a run left in peace.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path

SCALE = "4"
RSS_EVERY_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("overlap", "kills"))
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.task == "overlap":
            copy_photos(arguments.photos, folder / "photos", arguments.images or 1000)
            measure_overlap(folder)
        else:
            copy_photos(arguments.photos, folder / "photos", arguments.images or 60)
            measure_kills(folder, arguments.kills)


def copy_photos(photos: Path, folder: Path, count: int) -> None:
    folder.mkdir()
    sources = sorted(path for path in photos.iterdir() if path.is_file())
    for number, source in enumerate(islice(cycle(sources), count)):
        shutil.copy(source, folder / f"{number:05d}{source.suffix}")


def command(folder: Path, results: str, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "trinas_app",
        str(folder / "photos"),
        "-s",
        SCALE,
        "-o",
        str(folder / results),
        *options,
    ]


def measure_overlap(folder: Path) -> None:
    """Run the batch, watching its memory."""
    process = subprocess.Popen(command(folder, "results", "--json"), stdout=subprocess.PIPE, text=True)
    count = len(list((folder / "photos").iterdir()))
    memory: dict[int, float] = {}

    def watch() -> None:
        while process.poll() is None:
            done = len(list((folder / "results").glob("0*"))) if (folder / "results").exists() else 0
            memory[done * 10 // count] = max(memory.get(done * 10 // count, 0), rss_mib(process.pid))
            time.sleep(RSS_EVERY_S)

    start = time.perf_counter()
    watcher = threading.Thread(target=watch)
    watcher.start()
    summary = json.loads(process.communicate()[0])
    seconds = time.perf_counter() - start
    watcher.join()
    assert not summary["failed"], summary["failed"][:3]
    stages = {
        stage: sum(entry[f"{stage}_seconds"] for entry in summary["done"]) for stage in ("read", "enlarge", "write")
    }
    slowest = max(stages, key=lambda stage: stages[stage])
    print(f"{len(summary['done'])} images, {seconds:.0f} s in all, start of the program included")
    print(", ".join(f"{stage} {total:.0f} s" for stage, total in stages.items()))
    print(f"time against the sum of the stages: {seconds / sum(stages.values()):.2f}")
    print(f"time against the slowest ({slowest}): {seconds / stages[slowest]:.2f}")
    print("largest memory in each tenth, MiB: " + " ".join(f"{memory[tenth]:.0f}" for tenth in sorted(memory)))


def rss_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * 4096 / 2**20


def measure_kills(folder: Path, kills: int) -> None:
    subprocess.run(command(folder, "expected", "-q"), check=True)
    expected = checksums(folder / "expected")
    start = time.perf_counter()
    subprocess.run(command(folder, "timed", "-q"), check=True)
    whole_run = time.perf_counter() - start
    shutil.rmtree(folder / "timed")
    moments = random.Random(0)
    damaged, leftovers, killed = 0, 0, 0
    while killed < kills:
        process = subprocess.Popen(command(folder, "results", "-q"))
        try:
            # A run that starts late in the batch is over soon: a quarter of the whole time keeps most alive.
            process.wait(moments.uniform(0, whole_run / 4))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        else:
            shutil.rmtree(folder / "results")  # it got to its end: from the beginning again
        found = checksums(folder / "results")
        damaged += sum(expected[name] != checksum for name, checksum in found.items())
        leftovers = max(leftovers, len(list((folder / "results").glob(".trinas-*.tmp"))))
    subprocess.run(command(folder, "results", "-q"), check=True)
    is_equal = checksums(folder / "results") == expected
    print(f"{killed} kills over a batch of {len(expected)} images, then one run to its end")
    print(f"files that were not whole after a kill: {damaged}; hidden temporary files left at most: {leftovers}")
    print(f"results equal to those of a run left in peace, byte for byte: {'yes' if is_equal else 'NO'}")
    if damaged or not is_equal:
        sys.exit(1)


def checksums(folder: Path) -> dict[str, str]:
    """Of every result; hidden files are none."""
    paths = folder.glob("[!.]*") if folder.exists() else []
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


if __name__ == "__main__":
    main()
