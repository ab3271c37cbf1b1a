"""The program: mistakes, help, completion, and what is not imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trinas_app.cli import cli, main
from typer.testing import CliRunner

from support.command_line import run
from trinas.errors import TrinasError


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["x.png", "--model", "nothing"], "nothing: no such model; bundled are"),
        (["x.png", "--background", "reddish"], "'reddish' is no colour; give a name such as white, or #rrggbb"),
        (["evaluate", ".", "-s", "7"], "no bundled model upscales 7 times"),
        (["evaluate", ".", "-s", "2", "--model", "trinas-xs-x4"], "trinas-xs-x4 has scale 4, not 2"),
        (["compare", "x.png", "-o", "x.jpg"], "x.jpg: a comparison is written as PNG"),
        (["compare", "notes.txt", "-o", ".taken.png"], ".taken.png: exists; choose another -o, or --overwrite"),
        (["compare", ".taken.png", "-o", ".taken.png", "--overwrite"], ".taken.png: is the image itself"),
        (["compare", "x.png", "--models", "trinas-xs-x2,trinas-xs-x4"], "trinas-xs-x2 x2, trinas-xs-x4 x4"),
        (
            ["compare", "x.png", "--models", "trinas-xs-x2", "--models", "trinas-xs-x4"],
            "trinas-xs-x2 x2, trinas-xs-x4 x4",
        ),
        (["compare", "x.png", "-s", "3", "--models", "trinas-xs-x4"], "trinas-xs-x4 x4, -s 3"),
        (["compare", "missing.png"], "missing.png: cannot be read"),
        (["x.png", "--device", "tpu"], "no device 'tpu' here"),
        (["evaluate", "missing"], "missing: no such file or folder"),
        (["evaluate", ".", "--model", "bicubic"], "no images here to measure"),
        (["train", "--data", ".", "--from", "trinas-xs-x4", "-o", "run", "--steps", "1"], "no images here to learn"),
        (["train", "--data", ".", "--arch", "a.json", "-o", "run", "--steps", "1"], "a.json: cannot be read"),
        (["train", "--data", ".", "--from", "trinas-xs-x4", "-o", ".", "--steps", "1"], "exists already"),
        (["train", "--data", ".", "--arch", "paper-b1", "-o", "run", "--steps", "1"], "no images here to learn"),
        (["search", "--data", ".", "--max-params", "50k"], "no images here to learn"),
        (["search", "--max-params", "50k", "-o", "."], "exists already"),
        (["search", "--max-params", "1k"], r"no network .* has at most 1,000 parameters: the smallest has 3,728"),
        (["search", "--max-params", "50k", "--max-macs", "1M"], "at most 1,000,000 multiply-adds: the smallest"),
        (["search", "--max-params", "30k", "--space", "paper-b"], "x4 and trunk width 64 has at most 30,000"),
        (["search", "--resume", "run"], "run: no search was stopped here"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".taken.png").write_text("not an image either")
    with pytest.raises(TrinasError, match=complaint) as caught:
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["x.png", "-s", "0"],
        ["x.png", "-s", "17"],
        ["x.png", "-s", "2", "--width", "100"],
        ["x.png", "--strength", "1.5"],
        ["x.png", "--quality", "101"],
        ["x.png", "--max-input-mp", "inf"],
        ["web", "--max-output-mp", "inf"],
        ["x.png", "--quality", "90", "--lossless"],
        ["x.png", "--tile", "0"],
        ["x.png", "--format", "gif"],
        ["train", "--data", ".", "--from", "trinas-xs-x4", "-o", "run"],
        ["train", "--data", ".", "--from", "trinas-xs-x4", "-o", "run", "--minutes", "nan"],
        ["train", "--data", ".", "--from", "trinas-xs-x4", "-o", "run", "--steps", "9", "--learning-rate", "-1"],
        ["train", "--data", ".", "--resume", "run", "--steps", "9"],
        ["search"],
        ["search", "--max-params", "many"],
        ["search", "--max-params", "-5"],
        ["search", "--max-params", "50k", "-s", "5"],
        ["search", "--max-params", "50k", "--steps", "9", "--minutes", "9"],
        ["search", "--max-params", "50k", "--steps", "9,9"],
        ["search", "--max-params", "50k", "--minutes", "nan"],
        ["search", "--resume", "run", "--max-params", "50k"],
    ],
)
def test_options_out_of_range_are_refused(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Invalid value" in result.stderr


@pytest.mark.slow
def test_an_error_ends_the_process_with_one_line_and_exit_code_1(tmp_path):
    command = [sys.executable, "-m", "trinas_app", "evaluate", "missing"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: missing: no such file or folder\n"


def test_a_name_that_is_too_long_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["trinas-upscale", "evaluate", "n" * 300])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {'n' * 300}: File name too long\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "forbidden/images"],
        ["compare", "cat.png", "-o", "forbidden/comparison.png"],
        ["train", "--data", "images", "--from", "trinas-xs-x4", "--steps", "5", "-o", "forbidden/run"],
        ["search", "--max-params", "20k", "-o", "forbidden/run"],
    ],
)
def test_a_folder_without_permission_is_one_line(arguments, tmp_path, monkeypatch, capsys, forbid):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forbidden").mkdir()
    forbid(Path("forbidden"))
    monkeypatch.setattr(sys, "argv", ["trinas-upscale", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: forbidden/")
    assert "Permission denied" in line


@pytest.mark.parametrize(("word", "meant"), [("compar", "compare"), ("help", "--help"), ("device", "devices")])
def test_a_mistyped_command_is_not_an_image(word, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(word, "x.png")
    assert result.exit_code == 2
    assert f"did you mean {meant}?" in result.stderr.replace("│", "").replace("\n", " ")


def test_help_has_a_short_name():
    assert run("-h").stdout == run("--help").stdout
    assert run("compare", "-h").stdout == run("compare", "--help").stdout


@pytest.mark.slow
def test_the_shell_completes_commands_options_and_models():
    """The first by the installed program, which is what a shell calls."""

    def environment(line):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return {"_TRINAS_UPSCALE_COMPLETE": "complete_bash", **words}

    def complete(line):
        return CliRunner().invoke(cli, prog_name="trinas-upscale", env=environment(line)).stdout.split()

    program = [str(Path(sys.executable).parent / "trinas-upscale")]
    ended = subprocess.run(program, env=os.environ | environment("trinas-upscale comp"), capture_output=True, text=True)
    assert ended.stdout.split() == complete("trinas-upscale comp") == ["compare"]
    assert "--strip-metadata" in complete("trinas-upscale upscale --str")
    assert complete("trinas-upscale upscale --model trinas-xs-x") == ["trinas-xs-x2", "trinas-xs-x3", "trinas-xs-x4"]


@pytest.mark.slow
def test_help_and_version_need_neither_torch_nor_gradio():
    """So that they answer at once."""
    code = (
        "import sys\nfrom trinas_app.cli import cli\n"
        "for line in ('--help', 'upscale --help', 'models --help', '--version'):\n"
        "    cli(line.split(), standalone_mode=False)\n"
        "    assert not {'torch', 'gradio', 'PIL', 'numpy'} & set(sys.modules), 'a heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_the_library_needs_no_gradio():
    code = "import sys, trinas\n[getattr(trinas, name) for name in trinas.__all__]\nassert 'gradio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
