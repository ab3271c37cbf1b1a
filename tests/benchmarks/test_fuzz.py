"""Damaged files do no harm, and a harm would be found."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import fuzz
import pytest
import tifffile
import torch
from fuzzing.checks import OUTCOMES, FaultError, check_cut, check_message, check_pixels
from fuzzing.damage import make_file
from fuzzing.parts_damage import LAYOUTS, find_boxes
from fuzzing.run import VERDICTS, Run, Settings
from fuzzing.seeds import IMAGE_KINDS, KINDS, RARE_COMPRESSIONS, list_seeds
from fuzzing.tiff_damage import Structure
from fuzzing.worker import Verdict

from support.images import generated_photograph
from support.processes import PATIENCE_S
from trinas.errors import ImageError
from trinas.images.image import Image
from trinas.images.read import open_image
from trinas.zoo.folder import load_model

BENCHMARKS = Path(fuzz.__file__).parent
REFUSED_SEEDS = {*RARE_COMPRESSIONS, "floats", "CIELAB", "values of 32 bits", "two images", "a volume", "animated"}
"""Whole files that the program does not read, but must refuse well, by the beginnings of their names."""


@pytest.mark.slow
def test_a_hundred_damaged_files_do_no_harm(tmp_path):
    """`python benchmarks/fuzz.py one NUMBER` shows one of them alone."""
    verdicts = Run(tmp_path, Settings(0, KINDS, max_seconds=20, max_mib=2048)).finish(100, workers=1)
    assert [verdict for verdict in verdicts if verdict.outcome not in OUTCOMES] == []
    assert {verdict.kind for verdict in verdicts} == set(KINDS)
    counts = Counter(verdict.outcome for verdict in verdicts)
    assert min(counts["works"], counts["refused"]) > 20, "files are damaged too much, or too little, to tell anything"


DEEDS = """
import os, signal, sys, tempfile, time
sys.path.insert(0, {benchmarks!r})
from fuzzing import checks, worker

def die():
    os.kill(os.getpid(), signal.SIGSEGV)

def work_for_ever():
    while True:
        pass

def take_much():
    assert b"x" * (1 << 28)

def leave_file():
    tempfile.mkstemp()

deeds = {{
    "crash": die, "time": work_for_ever, "memory": lambda: bytearray(1 << 34), "waits": lambda: time.sleep(1e6),
    "exception": lambda: {{}}["missing"], "terminal": lambda: os.write(2, b"warning"), "much": take_much,
    "leftover": leave_file, "nothing": lambda: None,
}}
plan = {plan!r}

def decode(check):
    deeds[plan.get(check.file.number, ("nothing",))[0]]()
    return "works"

def upscale(check):
    deeds[plan[check.file.number][1]]()
    return "works"

checks.BATCH_EVERY = 10**9
checks.Check._decode, checks.Check._upscale = decode, upscale
worker.Worker._warm_up = lambda self: None
worker.main()
"""
"""A worker whose checks do what `plan` says for each number: in this process, and in a batch."""


@pytest.mark.slow
def test_every_harm_is_found(tmp_path):
    plan = {
        0: ("nothing", "nothing", "works"),
        1: ("crash", "nothing", "contained"),
        2: ("crash", "crash", "crash"),
        3: ("time", "nothing", "contained"),
        4: ("time", "time", "time"),
        5: ("memory", "nothing", "contained"),
        6: ("memory", "memory", "memory"),
        7: ("much", "much", "memory"),
        8: ("exception", "nothing", "exception"),
        9: ("terminal", "nothing", "terminal"),
        10: ("leftover", "nothing", "leftover"),
        11: ("nothing", "nothing", "works"),
    }
    script = tmp_path / "worker.py"
    script.write_text(DEEDS.format(benchmarks=str(BENCHMARKS), plan=plan))
    settings = Settings(0, ("png",), max_seconds=0.5, max_mib=2048)
    run = Run(tmp_path / "run", settings, [str(script)])
    verdicts = run.finish(len(plan), workers=2)
    assert {verdict.number: verdict.outcome for verdict in verdicts} == {key: row[2] for key, row in plan.items()}
    assert "SIGSEGV" in verdicts[2].where
    assert "work_for_ever" in verdicts[4].text, "the stack says where it was"
    assert "KeyError" in verdicts[8].where
    assert verdicts[9].text == "warning"
    (kept,) = (tmp_path / "run" / "faults").glob("*KeyError*/8")
    assert (kept / "image.png").read_bytes() == make_file(0, 8, ["png"]).files["image.png"]
    assert "fuzz.py one 8 --seed 0 --kinds png" in (kept / "fault.txt").read_text()


@pytest.mark.slow
def test_a_worker_that_waits_for_ever_is_ended(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(DEEDS.format(benchmarks=str(BENCHMARKS), plan={0: ("waits", "waits")}))
    run = Run(tmp_path / "run", Settings(0, ("png",), max_seconds=5, max_mib=2048), [str(script)], patience_s=0.5)
    (verdict,) = run.finish(1, workers=1)
    assert (verdict.outcome, verdict.where) == ("time", "waits for ever")


RUN = """
import signal, sys; sys.path.insert(0, {benchmarks!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a test run in the background would ignore
from pathlib import Path
from fuzzing.run import Run, Settings
Run(Path({folder!r}), Settings(0, ("bmp",), 5, 2048), [{worker!r}]).finish(int(sys.argv[1]), workers=1)
"""


@pytest.mark.slow
def test_a_run_that_is_interrupted_is_resumed(tmp_path):
    folder, worker = tmp_path / "run", tmp_path / "worker.py"
    worker.write_text(DEEDS.format(benchmarks=str(BENCHMARKS), plan={}))
    code = RUN.format(benchmarks=str(BENCHMARKS), folder=str(folder), worker=str(worker))
    with subprocess.Popen([sys.executable, "-c", code, "50000"]) as process:
        end = time.monotonic() + PATIENCE_S
        while not (folder / VERDICTS).exists() or (folder / VERDICTS).stat().st_size < 1000:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) != 0
    lines = (folder / VERDICTS).read_text().splitlines()
    (folder / VERDICTS).write_text("\n".join([*lines, '{"number": 99']))
    subprocess.run([sys.executable, "-c", code, str(len(lines) + 20)], check=True)
    found = (folder / VERDICTS).read_text().splitlines()
    assert found[: len(lines)] == lines, "what was checked is not checked again"
    assert [json.loads(line)["number"] for line in found] == list(range(len(lines) + 20))
    with pytest.raises(SystemExit, match="is a run with other settings"):
        Run(folder, Settings(1, ("bmp",), 5, 2048))


@pytest.mark.slow
def test_a_number_gives_the_same_file_in_every_process():
    code = f"""
import sys; sys.path.insert(0, {str(BENCHMARKS)!r})
import hashlib
from fuzzing.damage import make_file
print(hashlib.sha256(repr([make_file(3, number).files for number in range(120)]).encode()).hexdigest())
"""
    here = hashlib.sha256(repr([make_file(3, number).files for number in range(120)]).encode()).hexdigest()
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    there = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert there.stdout.strip() == here
    assert make_file(3, 5).files != make_file(4, 5).files


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_whole_files_are_read(kind, tmp_path):
    """Damage to a file that is refused anyway would show little."""
    for seed in list_seeds(kind):
        path = tmp_path / "seed"
        path.write_bytes(seed.content)
        if seed.name.partition(",")[0] in REFUSED_SEEDS:
            with pytest.raises(ImageError):
                open_image(path).read()
        else:
            shape = open_image(path).read().pixels.shape[1:]
            assert seed.name.startswith("large") or sorted(shape) == [24, 36], seed.name


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_differ_and_are_named(kind):
    seeds = list_seeds(kind)
    assert len({seed.name for seed in seeds}) == len(seeds)
    assert len({tuple(seed.files.values()) for seed in seeds}) == len(seeds)


def test_whole_models_are_loaded(tmp_path):
    for seed in list_seeds("model"):
        for name, content in seed.files.items():
            (tmp_path / name).write_bytes(content)
        assert load_model(str(tmp_path)).config.name


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_parts_make_the_file_again(kind):
    layout = LAYOUTS[kind]
    for seed in list_seeds(kind):
        start, parts = layout.split(seed.content)
        assert parts, seed.name
        assert layout.join(start, parts) == seed.content, seed.name


def test_boxes_are_found_inside_others():
    content = list_seeds("avif")[0].content
    names = {content[start + 4 : start + 8] for start, _ in find_boxes(content, 0, len(content))}
    assert names >= {b"ftyp", b"meta", b"iloc", b"iinf", b"infe", b"ipco", b"ispe", b"mdat"}


def test_directories_are_found_as_another_reader_finds_them():
    for seed in list_seeds("tiff"):
        with tifffile.TiffFile(io.BytesIO(seed.content)) as other:
            tags = [tag.code for tag in other.pages[0].tags]
        assert [entry.tag for entry in Structure(seed.content).directories[0].entries] == tags, seed.name
    (nested,) = (seed for seed in list_seeds("tiff") if seed.name.startswith("directories inside"))
    assert len(Structure(nested.content).directories) == 4


def test_checks_refuse_what_is_not_promised(tmp_path):
    check_message(f"{tmp_path}/{'x' * 900}: damaged", tmp_path)
    for message in ("two\nlines", "\x1b[31mred", "x" * 1001):
        with pytest.raises(FaultError):
            check_message(message, tmp_path)
    pixels = generated_photograph(4, 6).transpose(2, 0, 1) / 255
    image, header = Image(as_tensor(pixels)), SimpleNamespace(width=6, height=4, channels=3)
    check_pixels(header, image)
    for wrong in (Image(as_tensor(pixels[:2])), Image(as_tensor(pixels * 2)), Image(as_tensor(pixels * float("nan")))):
        with pytest.raises(FaultError):
            check_pixels(header, wrong)
    check_cut(image, None)
    check_cut(image, image)
    with pytest.raises(FaultError):
        check_cut(image, Image(as_tensor(1 - pixels)))


def as_tensor(pixels):
    return torch.from_numpy(pixels).float()


def test_the_table_counts_every_outcome():
    verdicts = [Verdict(0, "png", "works", seconds=0.5), Verdict(1, "png", "refused"), Verdict(2, "png", "crash")]
    figures = fuzz.measure_run(verdicts, Settings(0, ("png",), 5, 100), 60)
    assert "| png | 3 | 1 | 1 | 0 | 1 | 166.7 ms | 0.5 s | 0 MiB |" in fuzz.make_table(figures)
    assert "Faults: 1 crash." in fuzz.make_table(figures)


def test_the_docs_show_what_is_stored():
    """`python benchmarks/fuzz.py render` mends it."""
    stored, docs = json.loads(fuzz.FIGURES.read_text()), fuzz.DOCS.read_text()
    assert fuzz.make_table(stored["run"]) in docs
    assert fuzz.describe_page(stored["page"]) in docs


def test_the_docs_name_tests_and_scripts_that_exist():
    named = re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)", fuzz.DOCS.read_text())
    assert len(named) > 10
    assert [name for name in named if not (fuzz.ROOT / name).is_file()] == []
