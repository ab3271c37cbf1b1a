"""The command line as its user meets it: real files in, files, text and exit codes out."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import generated_photograph
from PIL import Image as PillowImage
from trinas_app.cli import cli
from typer.testing import CliRunner

from trinas.errors import TrinasError
from trinas.store import load_model


def run(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def save(path, levels):
    PillowImage.fromarray(levels).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """The folder of an ordinary user: good pictures of every kind, and bad ones."""
    folder = tmp_path / "photos"
    folder.mkdir()
    levels = generated_photograph(24, 32)
    save(folder / "holiday.jpg", levels)
    alpha = np.where(np.arange(32) < 16, 255, 0).astype(np.uint8)[None].repeat(24, axis=0)
    save(folder / "logo.png", np.dstack([levels, alpha]))
    deep = levels[:, :, 0].astype(np.uint16) * 250 + 3
    (folder / "scan.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    save(folder / "灰色 の 写真.png", levels[:, :, 0])
    (folder / "broken.jpg").write_bytes((folder / "holiday.jpg").read_bytes()[:-100])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture at all")
    (folder / "notes.txt").write_text("left alone")
    (folder / ".hidden.png").write_bytes(b"left alone")
    return folder


def test_good_pictures_are_enlarged_and_bad_ones_named(photos, tmp_path, tiny_model_dir):
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    output = tmp_path / "results"
    result = run(photos, "-o", output, "--model", tiny_model_dir, "--device", "cpu")
    assert result.exit_code == 1
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before
    kinds = {}
    for path in output.iterdir():
        with PillowImage.open(path) as picture:
            kinds[path.name] = (picture.format, picture.mode, picture.size)
    assert kinds == {
        "holiday_x2.jpg": ("JPEG", "RGB", (64, 48)),
        "logo_x2.png": ("PNG", "RGBA", (64, 48)),
        "scan_x2.png": ("PNG", "I;16", (64, 48)),
        "灰色 の 写真_x2.png": ("PNG", "L", (64, 48)),
    }
    lines = result.stderr.splitlines()
    assert f"failed: {photos / 'empty.png'}: the file is empty" in lines
    assert f"failed: {photos / 'text.jpg'}: not a PNG, JPEG or WebP image, or damaged at its start" in lines
    assert any(line.startswith(f"failed: {photos / 'broken.jpg'}: damaged or cut short") for line in lines)
    assert "4 done, 0 skipped, 3 failed" in result.stdout


def test_results_are_the_library_s(photos, tmp_path, tiny_model_dir):
    import trinas

    run(photos / "logo.png", "-o", tmp_path, "--model", tiny_model_dir, "--precision", "fp32")
    upscaler = trinas.Upscaler(load_model(str(tiny_model_dir)), trinas.UpscaleConfig(precision="fp32"))
    trinas.write_image(tmp_path / "library.png", upscaler(trinas.read_image(photos / "logo.png")))
    assert (tmp_path / "logo_x2.png").read_bytes() == (tmp_path / "library.png").read_bytes()


def test_existing_results_are_skipped_unless_told_otherwise(photos, tmp_path, tiny_model_dir):
    arguments = (photos / "holiday.jpg", "-o", tmp_path, "--model", tiny_model_dir)
    assert run(*arguments).exit_code == 0
    result_path = tmp_path / "holiday_x2.jpg"
    whole = result_path.read_bytes()
    result_path.write_bytes(b"mine")
    second = run(*arguments)
    assert (second.exit_code, result_path.read_bytes()) == (0, b"mine")
    assert "0 done, 1 skipped, 0 failed" in second.stdout
    assert run(*arguments, "--overwrite").exit_code == 0
    assert result_path.read_bytes() == whole


def test_options_and_paths_come_in_any_order(photos, tmp_path, tiny_model_dir):
    orders = [
        ("-s", 2, photos / "logo.png", "-o", tmp_path / "a", "--model", tiny_model_dir),
        (photos / "logo.png", "--model", tiny_model_dir, "-o", tmp_path / "b", "-s", 2),
        ("upscale", "--model", tiny_model_dir, photos / "logo.png", "-o", tmp_path / "c"),
    ]
    for arguments in orders:
        assert run(*arguments).exit_code == 0
    results = [(tmp_path / name / "logo_x2.png").read_bytes() for name in "abc"]
    assert results[0] == results[1] == results[2]


def test_a_folder_named_like_a_command_is_written_with_a_dot(tmp_path, tiny_model_dir, monkeypatch):
    (tmp_path / "models").mkdir()
    save(tmp_path / "models/cat.png", generated_photograph(16, 16))
    monkeypatch.chdir(tmp_path)
    assert run("./models", "--model", tiny_model_dir).exit_code == 0
    assert (tmp_path / "upscaled/cat_x2.png").is_file()
    assert "trinas-xs-x4" in run("models").stdout


def test_a_result_never_replaces_an_input_nor_another_result(tmp_path, tiny_model_dir):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        save(folder / "cat.png", generated_photograph(16, 16))
    save(first / "cat_x2.png", generated_photograph(16, 16))
    before = (first / "cat_x2.png").read_bytes()
    result = run(first, "-o", first, "--model", tiny_model_dir, "--overwrite")
    assert result.exit_code == 1
    assert "would replace the input" in result.stderr
    assert (first / "cat_x2.png").read_bytes() == before
    assert (first / "cat_x2_x2.png").is_file()
    result = run(first / "cat.png", second / "cat.png", "-o", tmp_path / "out", "--model", tiny_model_dir)
    assert result.exit_code == 1
    assert f"{second / 'cat.png'}: its result" in result.stderr
    assert "1 done, 0 skipped, 1 failed" in result.stdout


def test_formats_are_converted_on_request(photos, tmp_path, tiny_model_dir):
    arguments = ("-o", tmp_path, "--model", tiny_model_dir, "--format")
    assert run(photos / "holiday.jpg", *arguments, "webp").exit_code == 0
    with PillowImage.open(tmp_path / "holiday_x2.webp") as picture:
        assert picture.format == "WEBP"
    result = run(photos / "logo.png", *arguments, "jpeg")
    assert result.exit_code == 1
    assert "JPEG cannot hold transparency" in result.stderr
    assert not (tmp_path / "logo_x2.jpg").exists()


def test_the_format_is_what_the_file_holds(photos, tmp_path, tiny_model_dir):
    (photos / "holiday.jpg").rename(tmp_path / "holiday")
    (photos / "logo.png").rename(tmp_path / "logo.jpg")
    result = run(tmp_path / "holiday", tmp_path / "logo.jpg", "-o", tmp_path, "--model", tiny_model_dir)
    assert result.exit_code == 0
    for name, expected in (("holiday_x2.jpg", ("JPEG", "RGB")), ("logo_x2.png", ("PNG", "RGBA"))):
        with PillowImage.open(tmp_path / name) as picture:
            assert (picture.format, picture.mode) == expected


def test_inputs_that_are_not_there_do_not_stop_the_others(photos, tmp_path, tiny_model_dir):
    (tmp_path / "nothing").mkdir()
    too_long = "x" * 300
    inputs = ("missing.png", tmp_path / "nothing", too_long, photos / "logo.png", photos / "logo.png")
    result = run(*inputs, "-o", tmp_path / "out", "--model", tiny_model_dir)
    assert result.exit_code == 1
    assert "1 done, 0 skipped, 3 failed" in result.stdout, "naming a file twice asks for it once"
    assert "failed: missing.png: no such file or folder" in result.stderr
    assert f"failed: {tmp_path / 'nothing'}: no PNG, JPEG or WebP images in this folder" in result.stderr
    assert f"failed: {too_long}: cannot be read (File name too long)" in result.stderr


def test_results_that_cannot_be_written_are_named(photos, tmp_path, tiny_model_dir):
    long_name = photos / f"{'x' * 250}.png"
    (photos / "logo.png").rename(long_name)
    (tmp_path / "file").write_text("in the way")
    for arguments in ((long_name, "-o", tmp_path / "out"), (photos / "scan.png", "-o", tmp_path / "file")):
        result = run(*arguments, "--model", tiny_model_dir)
        assert result.exit_code == 1
        last_line = result.stderr.splitlines()[-1]
        assert last_line.startswith("failed: ")
        assert arguments[0].stem in last_line


def test_json_is_all_that_is_printed(photos, tmp_path, tiny_model_dir):
    result = run(photos, "-o", tmp_path, "--model", tiny_model_dir, "--json")
    summary = json.loads(result.stdout)
    assert (summary["model"], summary["scale"]) == (str(tiny_model_dir), 2)
    assert [len(summary[state]) for state in ("done", "skipped", "failed")] == [4, 0, 3]
    assert all(Path(entry["result"]).is_file() and entry["seconds"] > 0 for entry in summary["done"])
    assert all(entry["source"] in entry["reason"] for entry in summary["failed"])


def test_quiet_prints_failures_only(photos, tmp_path, tiny_model_dir):
    result = run(photos / "logo.png", photos / "empty.png", "-q", "-o", tmp_path, "--model", tiny_model_dir)
    assert result.stdout == ""
    assert result.stderr.splitlines() == [f"failed: {photos / 'empty.png'}: the file is empty"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["x.png", "--model", "nothing"], "nothing: no such model; bundled are"),
        (["x.png", "-s", "7"], "no bundled model enlarges 7 times"),
        (["x.png", "-s", "2", "--model", "trinas-xs-x4"], "trinas-xs-x4 enlarges 4 times, not 2"),
        (["x.png", "--device", "tpu"], "no device 'tpu' here"),
        (["evaluate", "missing"], "missing: no such folder"),
        (["evaluate", ".", "--model", "bicubic"], "no images here to measure"),
        (["train", "--data", ".", "--from", "trinas-xs-x4", "-o", "run", "--steps", "1"], "no images here to learn"),
        (["train", "--data", ".", "--arch", "a.json", "-o", "run", "--steps", "1"], "a.json: cannot be read"),
        (["train", "--data", ".", "--from", "trinas-xs-x4", "-o", ".", "--steps", "1"], "exists already"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(TrinasError, match=complaint) as caught:
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["x.png", "-s", "0"],
        ["x.png", "--tile", "0"],
        ["x.png", "--format", "gif"],
        ["train", "--data", ".", "--from", "trinas-xs-x4", "-o", "run"],
        ["train", "--data", ".", "--from", "trinas-xs-x4", "-o", "run", "--minutes", "nan"],
        ["train", "--data", ".", "--from", "trinas-xs-x4", "-o", "run", "--steps", "9", "--learning-rate", "-1"],
        ["train", "--data", ".", "--resume", "run", "--steps", "9"],
    ],
)
def test_options_out_of_range_are_refused(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Invalid value" in result.stderr


def test_an_error_ends_the_process_with_one_line_and_exit_code_1(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "trinas_app", "evaluate", "missing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: missing: no such folder\n"


def test_models_are_listed_with_their_figures():
    result = run("models")
    assert result.exit_code == 0
    assert "trinas-xs-x4" in result.stdout
    rows = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    row = rows["trinas-xs-x4"]
    assert set(row) == {"name", "scale", "params", "macs", "figures", "licence"}
    assert f"Set5 {row['figures']['Set5']['psnr']:.2f}" in result.stdout


def test_evaluating_prints_each_image_and_the_mean(tmp_path, tiny_model_dir):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", generated_photograph(40, 40, seed))
    figures = json.loads(run("evaluate", tmp_path, "--model", tiny_model_dir, "--json").stdout)
    assert [image["image"] for image in figures["images"]] == ["0.png", "1.png"]
    assert figures["mean"]["psnr"] == pytest.approx(np.mean([image["psnr"] for image in figures["images"]]))
    text = run("evaluate", tmp_path, "-s", 2, "--model", "bicubic").stdout
    assert "mean of 2" in text
    assert "bicubic, x2" in text


def test_help_needs_neither_torch_nor_gradio():
    """So that it answers at once; the same for the version."""
    code = (
        "import sys\nfrom trinas_app.cli import cli\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        "assert not {'torch', 'gradio', 'cv2', 'numpy'} & set(sys.modules), 'a heavy import'"
    )
    for arguments in (["--help"], ["upscale", "--help"], ["models", "--help"], ["--version"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_the_library_needs_no_gradio():
    code = "import sys, trinas\n[getattr(trinas, name) for name in trinas.__all__]\nassert 'gradio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_goes_on_to_the_same_end(number, tmp_path, tiny_spec):
    """Real processes, really stopped."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for seed in range(4):
        save(photographs / f"{seed}.png", generated_photograph(64, 64, seed))
    (tmp_path / "arch.json").write_text(tiny_spec.to_json())

    def train(*arguments):
        command = [sys.executable, "-m", "trinas_app", "train", "--data", photographs]
        return subprocess.Popen(
            [*command, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    new_run = ("--arch", tmp_path / "arch.json", "--steps", "400", "--batch-size", "2", "--patch", "12")
    settings = ("--validate-every", "100", "--precision", "fp32", "--device", "cpu", "-o")
    straight = train(*new_run, *settings, tmp_path / "straight")
    straight.communicate()
    assert straight.returncode == 0
    stopped = train(*new_run, *settings, tmp_path / "stopped")
    for line in stopped.stderr:
        if line.startswith("step 100/"):
            break
    stopped.send_signal(number)
    _, last_words = stopped.communicate()
    assert stopped.returncode == 130
    assert f"--resume {tmp_path / 'stopped'} --data {photographs}" in last_words
    assert (tmp_path / "stopped/model.safetensors").is_file()
    deadline = time.monotonic() + 60
    resumed = train("--resume", tmp_path / "stopped")
    resumed.communicate(timeout=deadline - time.monotonic())
    assert resumed.returncode == 0
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
