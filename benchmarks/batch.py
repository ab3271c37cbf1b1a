"""A batch of real size: how well its stages overlap, how much memory it takes, and what kills do to it.

    python benchmarks/batch.py overlap IMAGES [--images 1000]
    python benchmarks/batch.py kills IMAGES [--images 60] [--kills 20]

IMAGES is a folder of images. They are copied, under other names, until there are enough.

overlap: one process upscales them all. Prints its time against the sum of the times that the stages (reading,
upscaling, writing) took, and against the slowest stage; and its memory after every tenth of the images.

kills: a process upscales them and is killed (SIGKILL) at random moments, again and again, and then runs to its end.
Prints whether every file that was there after a kill was complete, and whether the results equal those of a run that
was not killed.
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

from process_memory import measure_memory_mib

from trinas.timer import Timer

SCALE = "4"
MEASURE_EVERY_S = 0.5


def main() -> None:
    """Run the task that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("overlap", "kills"))
    parser.add_argument("folder", type=Path, metavar="IMAGES")
    parser.add_argument("--images", type=int)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.task == "overlap":
            copy_images(arguments.folder, folder / "images", arguments.images or 1000)
            measure_overlap(folder)
        else:
            copy_images(arguments.folder, folder / "images", arguments.images or 60)
            measure_kills(folder, arguments.kills)


def copy_images(originals: Path, folder: Path, count: int) -> None:
    """Fill a new folder with `count` copies of the files in `originals`."""
    folder.mkdir()
    sources = sorted(path for path in originals.iterdir() if path.is_file())
    for number, source in enumerate(islice(cycle(sources), count)):
        shutil.copy(source, folder / f"{number:05d}{source.suffix}")


def build_command(folder: Path, results: str, *options: str) -> list[str]:
    """Return the command that upscales the images of `folder` into its sub-folder `results`."""
    places = [str(folder / "images"), "-s", SCALE, "-o", str(folder / results)]
    return [sys.executable, "-m", "trinas_app", *places, *options]


def measure_overlap(folder: Path) -> None:
    """Run the batch and print its times and its memory."""
    process = subprocess.Popen(build_command(folder, "results", "--json"), stdout=subprocess.PIPE, text=True)
    count = len(list((folder / "images").iterdir()))
    memory: dict[int, float] = {}

    def watch() -> None:
        while process.poll() is None:
            done = len(list((folder / "results").glob("0*"))) if (folder / "results").exists() else 0
            memory[done * 10 // count] = max(memory.get(done * 10 // count, 0), measure_memory_mib(process.pid))
            time.sleep(MEASURE_EVERY_S)

    watcher = threading.Thread(target=watch)
    with Timer() as timer:
        watcher.start()
        summary = json.loads(process.communicate()[0])
    watcher.join()
    assert not summary["failed"], summary["failed"][:3]
    stages = {
        stage: sum(entry[f"{stage}_seconds"] for entry in summary["done"]) for stage in ("read", "enlarge", "write")
    }
    slowest = max(stages, key=lambda stage: stages[stage])
    print(f"{len(summary['done'])} images, {timer.seconds:.0f} s in all, including the start of the program")
    print(", ".join(f"{stage} {total:.0f} s" for stage, total in stages.items()))
    print(f"time against the sum of the stages: {timer.seconds / sum(stages.values()):.2f}")
    print(f"time against the slowest ({slowest}): {timer.seconds / stages[slowest]:.2f}")
    print("largest memory in each tenth, MiB: " + " ".join(f"{memory[tenth]:.0f}" for tenth in sorted(memory)))


def measure_kills(folder: Path, kills: int) -> None:
    """Kill the batch again and again, and print what the kills left."""
    subprocess.run(build_command(folder, "expected", "-q"), check=True)
    expected = checksums(folder / "expected")
    with Timer() as timer:
        subprocess.run(build_command(folder, "timed", "-q"), check=True)
    shutil.rmtree(folder / "timed")
    moments = random.Random(0)
    damaged, leftovers, killed = 0, 0, 0
    while killed < kills:
        process = subprocess.Popen(build_command(folder, "results", "-q"))
        try:
            # A run that resumes late in the batch ends soon: within a quarter of the whole time most still run.
            process.wait(moments.uniform(0, timer.seconds / 4))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        else:
            shutil.rmtree(folder / "results")  # it reached its end: begin again
        found = checksums(folder / "results")
        damaged += sum(expected[name] != checksum for name, checksum in found.items())
        leftovers = max(leftovers, len(list((folder / "results").glob(".trinas-*.tmp"))))
    subprocess.run(build_command(folder, "results", "-q"), check=True)
    is_equal = checksums(folder / "results") == expected
    print(f"{killed} kills over a batch of {len(expected)} images, then one run to its end")
    print(f"files that were not complete after a kill: {damaged}; hidden temporary files left at most: {leftovers}")
    print(f"results equal to those of a run that was not killed, byte for byte: {'yes' if is_equal else 'NO'}")
    if damaged or not is_equal:
        sys.exit(1)


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every result by its name; hidden files are not results."""
    paths = folder.glob("[!.]*") if folder.exists() else []
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


if __name__ == "__main__":
    main()
