"""Standard streams that are closed or full, names that no terminal should print, and signals that end the process."""

import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image as PillowImage
from trinas_app.cli import main

from support.command_line import run, save_image
from support.images import generated_photograph
from support.processes import start
from trinas.files import HIDDEN

NAMES = [b"a\nb.png", b"\x1b]0;x\x07.png", b"caf\xe9.png", "\u202egnp.cat.png".encode()]
"""A second line, a terminal's title, no UTF-8, and a name that is written from right to left."""

RAW = {chr(code) for code in (*range(10), *range(11, 32), 127, 0x9B, 0x202E, 0xFFFD)}
"""Characters that no command may print; the end of a line is looked for by itself."""


@pytest.fixture
def photo(tmp_path):
    return save_image(tmp_path / "cat.png", generated_photograph(18, 24))


def shell(line, folder, *arguments, **environment):
    """Run the program by a shell, with the redirections of a line in which `$@` stands for its arguments."""
    command = ["bash", "-o", "pipefail", "-c", line, "bash", sys.executable, "-m", "trinas_app", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | environment)


def check_result(folder):
    with PillowImage.open(folder / "upscaled/cat_x4.png") as result:
        result.load()
        assert result.size == (96, 72)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    ['"$@" >/dev/full', '"$@" >&-', '"$@" 2>/dev/full', '"$@" 2>&-', '"$@" <&- >&- 2>&-', '"$@" 2>&1 >&- | true'],
)
def test_a_stream_that_cannot_be_written_fails_without_a_traceback_and_leaves_results_whole(line, photo):
    ended = shell(line, photo.parent, "cat.png")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("error: standard output: cannot be written") == line.endswith(('" >/dev/full', '" >&-'))
    check_result(photo.parent)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["--version"], ["models", "--json"], ["devices"], ["cat.png", "--dry-run"], ["cat.png", "--json"],
        ["evaluate", "cat.png", "--model", "bicubic", "-s", "2"], ["compare", "cat.png", "--models", "trinas-xs-x2"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_full_disk_under_standard_output_is_one_line(arguments, photo):
    ended = shell('"$@" >/dev/full', photo.parent, *arguments)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "error: standard output: cannot be written (No space left on device)"
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_reader_that_has_gone_is_no_traceback(photo):
    ended = shell('"$@" | true', photo.parent, "models")
    assert ended.returncode == 1
    assert ended.stderr == "error: standard output: cannot be written (Broken pipe)\n"


@pytest.mark.slow
@pytest.mark.parametrize("closing", ['"$@" >&- 2>&-', '"$@" >/dev/full 2>/dev/full'])
def test_a_training_without_streams_ends_well(closing, tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        save_image(tmp_path / f"photos/{seed}.png", generated_photograph(48, 48, seed))
    options = ["--data", "photos", "--from", "trinas-xs-x2", "--steps", "2", "--batch-size", "1", "--patch", "12"]
    ended = shell(closing, tmp_path, "train", *options, "-o", "run", "--device", "cpu")
    assert ended.returncode == 1, "its messages could not be written"
    metrics = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert json.loads(metrics[-1])["step"] == 2


@pytest.fixture
def strange_photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES:
        save_image(folder / os.fsdecode(name), generated_photograph(18, 24))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "utf-8:strict"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=str,
)
def test_names_are_printed_in_any_encoding(environment, strange_photos):
    for _ in ("first", "second run, which skips all"):
        ended = shell('"$@"', strange_photos.parent, "photos", "-s", "2", **environment)
        assert ended.returncode == 0, ended.stderr
    assert "Skipped, because results of these names exist" in ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["--dry-run"], ["--json"], ["--dry-run", "--json"], ["--strength", "0", "--format", "bmp"],
        ["--model", "no\n\x1b[31m\udce9"], ["--background", "\x1b[31m"], ["-\x1b[31m\n"],
    ],
    ids=repr,
)  # fmt: skip
def test_names_reach_the_terminal_escaped(arguments, strange_photos, monkeypatch, capsys):
    broken = strange_photos / "b\x1b[31m\nb.png"
    broken.write_bytes(b"no image")
    output = strange_photos.parent / "out\x1b[31m\n"
    monkeypatch.setattr(sys, "argv", ["trinas-upscale", str(strange_photos), "-o", str(output), "-s", "2", *arguments])
    for _ in ("first", "second run"):
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code != 0
        printed = capsys.readouterr()
        assert printed.out.isprintable() or not RAW & set(printed.out)
        assert not RAW & set(printed.err)
        assert not any(line.startswith(("b.png", "b\\")) for line in (printed.out + printed.err).splitlines())
        (printed.out + printed.err).encode()


@pytest.mark.parametrize("command", ["evaluate", "compare", "train --steps 1 -o run --data"])
def test_a_missing_file_of_a_strange_name_is_one_line(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["trinas-upscale", *command.split(), "a\nb\x1b[31m\udce9", *_more(command)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert r"a\nb\x1b[31m\xe9" in line


def _more(command):
    return ["--from", "trinas-xs-x2"] if command.startswith("train") else []


def test_a_model_of_a_strange_name_can_be_trained_and_used(tmp_path):
    images = tmp_path / "caf\udce9\n"
    images.mkdir()
    for seed in range(3):
        save_image(images / f"{seed}.png", generated_photograph(48, 48, seed))
    run_dir = tmp_path / "run\n\udce9"
    options = ["--steps", "1", "--batch-size", "1", "--patch", "12", "--device", "cpu"]
    trained = run("train", "--data", images, "--from", "trinas-xs-x2", *options, "-o", run_dir)
    assert trained.exit_code == 0, trained.exception
    config = json.loads((run_dir / "config.json").read_text())
    assert (config["name"], config["training"]["data"]) == (r"run\n\xe9", [r"caf\xe9\n"])
    assert run("evaluate", images / "0.png", "--model", run_dir).exit_code == 0


SLOW_WRITE = """
import sys, threading, time
from pathlib import Path
import trinas.files
from trinas_app.cli import main

def pause(path, target):
    print("writing", file=sys.stderr, flush=True)
    time.sleep(600)

Path.replace = pause
main()
"""
"""The program, which stops for ever while its first result is a temporary file."""


def start_slow_write(photo):
    return start(sys.executable, "-c", SLOW_WRITE, "cat.png", "--quiet", cwd=photo.parent)


def find_temporary(photo):
    return list((photo.parent / "upscaled").glob(f"{HIDDEN}*"))


@pytest.mark.slow
def test_the_next_run_deletes_what_a_killed_one_has_left(photo):
    with start_slow_write(photo) as killed, start_slow_write(photo) as alive:
        for process in (killed, alive):
            assert process.stderr.readline() == "writing\n"
        first = set(find_temporary(photo))
        assert len(first) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert shell('"$@"', photo.parent, "cat.png").returncode == 0
        (kept,) = find_temporary(photo)
        assert kept in first, "the file of the process that still runs"
    check_result(photo.parent)


@pytest.mark.slow
def test_sigterm_leaves_nothing_behind(photo):
    with start_slow_write(photo) as process:
        assert process.stderr.readline() == "writing\n"
        assert len(find_temporary(photo)) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert find_temporary(photo) == []
    assert list((photo.parent / "upscaled").iterdir()) == []
