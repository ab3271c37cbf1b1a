"""Damaged files by the thousand: none may end the program, hang it, or take more memory than is planned.

    python benchmarks/fuzz.py run RUN [--files 20000] [--seed 0] [--kinds png tiff ...] [--write]
    python benchmarks/fuzz.py one NUMBER [--seed 0] [--kinds png tiff ...] [--guarded] [--save FOLDER]
    python benchmarks/fuzz.py page [--files 1000] [--seed 0] [--write]
    python benchmarks/fuzz.py render

run: makes whole files of every format, with all metadata, archives and model folders, damages them, by structure or at
random, and gives them to the program in worker processes (`fuzzing/checks.py` says what must come of it). RUN is a new
folder. After Ctrl-C the same command continues. Prints every fault when it is found, and in the end the figures. A few
files of each kind of fault are kept in RUN/faults. Exits with 1 if there is any. `--write` stores the figures in
fuzz_figures.json and renders them in docs/reliability.md; `render` only renders what is stored.

one: makes one file of a run again, checks it in this process, and shows the whole error. `--save` writes the file.

page: starts the web page, sends it damaged images, with a good one now and then, and asks for the page all the while.

The same seed, number and kinds give the same file, as long as the libraries that write whole files are the same. All of
this needs Linux.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fuzzing.checks import FAULTS, OUTCOMES, Check, move_temporary_files
from fuzzing.damage import make_file
from fuzzing.page import send_files
from fuzzing.run import Run, Settings
from fuzzing.seeds import KINDS
from fuzzing.worker import Verdict
from tables import replace_between

from trinas.files import write_atomically
from trinas.images.guard import DecoderPool
from trinas.timer import Timer

ROOT = Path(__file__).parent.parent
FIGURES, DOCS = ROOT / "benchmarks/fuzz_figures.json", ROOT / "docs/reliability.md"


def main() -> None:
    """Do what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    run, one, page, _ = (tasks.add_parser(name) for name in ("run", "one", "page", "render"))
    for task in (run, one, page):
        task.add_argument("--seed", type=int, default=0)
    for task in (run, one):
        task.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    run.add_argument("folder", type=Path, metavar="RUN")
    run.add_argument("--files", type=int, default=20_000)
    run.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    run.add_argument("--max-seconds", type=float, default=5, help="CPU time of a file")
    run.add_argument("--max-mib", type=int, default=2048, help="memory of a worker beyond what it has at its start")
    page.add_argument("--files", type=int, default=1000)
    for task in (run, page):
        task.add_argument("--write", action="store_true", help="store the figures, and render them")
    one.add_argument("number", type=int)
    one.add_argument("--guarded", action="store_true", help="decode the image in another process only")
    one.add_argument("--save", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.task == "run":
        check_many(arguments)
    elif arguments.task == "one":
        check_one(arguments)
    elif arguments.task == "page":
        check_page(arguments)
    else:
        render()


def check_many(arguments: argparse.Namespace) -> None:
    """Check the files of a run, and print or store the figures. Exit with 1 if there are faults."""
    settings = Settings(arguments.seed, tuple(arguments.kinds), arguments.max_seconds, arguments.max_mib)
    run = Run(arguments.folder, settings)
    with Timer() as timer:
        verdicts = run.finish(arguments.files, arguments.workers)
    figures = measure_run(verdicts, settings, timer.seconds)
    print(make_table(figures))
    if arguments.write:
        store("run", figures)
    if any(verdict.outcome not in OUTCOMES for verdict in verdicts):
        sys.exit(1)


def check_one(arguments: argparse.Namespace) -> None:
    """Check one file of a run in this process."""
    file = make_file(arguments.seed, arguments.number, arguments.kinds)
    print(f"{file.kind}, made of: {file.seed.name}{', its end left out' if file.is_cut else ''}")
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
        for name, content in file.files.items():
            (arguments.save / name).write_bytes(content)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "check")
        folder.mkdir()
        temporary = move_temporary_files(Path(name))
        with DecoderPool() as decoders:
            print(Check(file, folder, temporary, decoders).run(guarded=arguments.guarded))


def check_page(arguments: argparse.Namespace) -> None:
    """Send damaged images to the page, and print or store the figures. Exit with 1 if there are faults."""
    figures = send_files(arguments.files, arguments.seed)
    print(describe_page(figures))
    if arguments.write:
        store("page", figures)
    if figures["faults"]:
        sys.exit("\n".join(figures["faults"]))


def measure_run(verdicts: Sequence[Verdict], settings: Settings, seconds: float) -> dict[str, Any]:
    """Return the figures of a run, by kind of file."""
    kinds = [kind for kind in KINDS if any(verdict.kind == kind for verdict in verdicts)]
    return {
        "files": len(verdicts),
        "settings": asdict(settings),
        "minutes": round(seconds / 60, 1),
        "cpu_seconds": round(sum(verdict.seconds for verdict in verdicts)),
        "kinds": {kind: _measure([verdict for verdict in verdicts if verdict.kind == kind]) for kind in kinds},
    }


def _measure(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "outcomes": dict(Counter(verdict.outcome for verdict in verdicts)),
        "mean_ms": round(statistics.mean(verdict.seconds for verdict in verdicts) * 1000, 1),
        "max_seconds": round(max(verdict.seconds for verdict in verdicts), 2),
        "max_mib": round(max(verdict.mib for verdict in verdicts)),
    }


def make_table(figures: dict[str, Any]) -> str:
    """Return the figures of a run as a table, with a line below it that says what was run."""
    lines = [
        "| files | number | work | refused | contained | faults | CPU time, mean | longest | most memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, found in figures["kinds"].items():
        counts = found["outcomes"]
        expected = [counts.get(outcome, 0) for outcome in OUTCOMES]
        cells = [kind, sum(counts.values()), *expected, sum(counts.values()) - sum(expected)]
        cells += [f"{found['mean_ms']} ms", f"{found['max_seconds']} s", f"{found['max_mib']} MiB"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    total: Counter[str] = Counter()
    for found in figures["kinds"].values():
        total.update(found["outcomes"])
    faults = [f"{total[kind]} {kind}" for kind in FAULTS if total[kind]]
    settings = figures["settings"]
    lines += [
        "",
        f"{figures['files']:,} files of seed {settings['seed']}. The checks took {figures['cpu_seconds']:,} s of CPU. "
        f"Limits of a file: {settings['max_seconds']:g} s and {settings['max_mib']:,} MiB. "
        f"Faults: {', '.join(faults) or 'none'}.",
    ]
    return "\n".join(lines) + "\n"


def describe_page(figures: dict[str, Any]) -> str:
    """Return in words what the page did with damaged images."""
    return (
        f"{figures['files']:,} damaged images: {figures['works']:,} were upscaled, {figures['refused']:,} refused. "
        f"{figures['good']:,} good images between them became what they should. Meanwhile the page answered "
        f"{figures['answers']:,} times, after {figures['median_s']:.2f} s (median), {figures['longest_s']:.1f} s at "
        f"most. Faults: {len(figures['faults']) or 'none'}.\n"
    )


def store(part: str, figures: dict[str, Any]) -> None:
    """Store the figures of a run or of the page, and render them."""
    stored = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    write_atomically(FIGURES, (json.dumps(stored | {part: figures}, indent=2) + "\n").encode())
    render()


def render() -> None:
    """Render the stored figures in docs/reliability.md."""
    stored = json.loads(FIGURES.read_text(encoding="utf-8"))
    for part, make_text in (("run", make_table), ("page", describe_page)):
        if part in stored:
            replace_between(DOCS, part, make_text(stored[part]))


if __name__ == "__main__":
    main()
