"""The command line as its user meets it: real files in, files, text and exit codes out."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PillowImage
from trinas_app.cli import cli
from typer.testing import CliRunner

import trinas.search.pace
import trinas.training.data
from support.images import generated_photograph
from trinas.config import GOING_ON_RATE, TrainConfig
from trinas.errors import TrinasError
from trinas.images.formats import FORMAT_NAMES
from trinas.zoo.folder import DEFAULT_MODELS, load_model


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
    (folder / "scan.png").write_bytes(imagecodecs.png_encode(deep))
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
    assert (
        f"failed: {photos / 'text.jpg'}: not a PNG, JPEG, WebP, TIFF, AVIF or BMP image, or damaged at its start"
        in lines
    )
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
    assert "perhaps of other pictures" in second.stdout
    assert str(result_path) in second.stdout
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
    inputs = (first / "cat.png", first / "cat_x2.png")
    result = run(*inputs, "-o", first, "--model", tiny_model_dir, "--overwrite")
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
    for suffix in ("webp", "png", "tiff", "avif", "bmp"):
        assert run(photos / "holiday.jpg", *arguments, suffix).exit_code == 0
        with PillowImage.open(tmp_path / f"holiday_x2.{suffix}") as picture:
            assert picture.format == suffix.upper()
    result = run(photos / "logo.png", *arguments, "jpg")
    assert result.exit_code == 1
    assert "JPEG cannot hold transparency; choose --format png, or a --background" in result.stderr
    assert not (tmp_path / "logo_x2.jpg").exists()
    assert run(photos / "logo.png", *arguments, "jpg", "--background", "white").exit_code == 0
    with PillowImage.open(tmp_path / "logo_x2.jpg") as picture:
        assert np.asarray(picture)[:, 40:].min() > 250, "where it was transparent"


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
    assert f"failed: {tmp_path / 'nothing'}: no {FORMAT_NAMES} images in this folder" in result.stderr
    assert f"failed: {too_long}: cannot be read (File name too long)" in result.stderr


def test_an_output_folder_that_cannot_be_is_found_before_the_work(photos, tmp_path, tiny_model_dir):
    (tmp_path / "file").write_text("in the way")
    for options in ((), ("--dry-run",)):
        result = run(photos / "scan.png", "-o", tmp_path / "file", "--model", tiny_model_dir, *options)
        assert result.exit_code == 1
        assert f"scan_x2.png cannot be written, {tmp_path / 'file'} is not a folder" in result.stderr


def test_a_sub_folder_that_cannot_be_read_is_named_and_the_others_go_on(photos, tmp_path, tiny_model_dir, monkeypatch):
    (photos / "locked").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    result = run(photos, "-r", "-o", tmp_path / "out", "--model", tiny_model_dir)
    assert f"failed: {photos / 'locked'}: cannot be read (Permission denied)" in result.stderr
    assert "4 done, 0 skipped, 4 failed" in result.stdout


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


def test_the_networks_that_were_taken_are_named(photos, tmp_path, tiny_model_dir):
    alone = run(photos / "logo.png", "-o", tmp_path / "alone", "--model", tiny_model_dir)
    assert f"s per image, by {tiny_model_dir}." in alone.stdout
    levels = generated_photograph(24, 32)
    for quality in (40, 95):
        PillowImage.fromarray(levels).save(tmp_path / f"{quality}.jpg", quality=quality)
    pictures = [photos / "logo.png", tmp_path / "40.jpg", tmp_path / "95.jpg"]
    result = run(*pictures, "-s", "4", "-o", tmp_path / "out")
    assert "s per image, by trinas-xs-x4 (2 images); trinas-s-photo-x4 (1 image)." in result.stdout
    done = json.loads(run(*pictures, "-s", "8", "-o", tmp_path / "out", "--json").stdout)["done"]
    assert [entry["models"] for entry in done][1][0].startswith("trinas-s-photo")
    reduced = run(photos / "logo.png", "-s", "1", "-o", tmp_path / "reduced")
    assert "s per image, by no network." in reduced.stdout


def test_json_is_all_that_is_printed(photos, tmp_path, tiny_model_dir):
    result = run(photos, "-o", tmp_path, "--model", tiny_model_dir, "--json")
    summary = json.loads(result.stdout)
    assert [len(summary[state]) for state in ("done", "skipped", "failed")] == [4, 0, 3]
    assert all(Path(entry["result"]).is_file() for entry in summary["done"])
    assert all(entry["source"] in entry["reason"] for entry in summary["failed"])


def test_quiet_prints_failures_only(photos, tmp_path, tiny_model_dir):
    result = run(photos / "logo.png", photos / "empty.png", "-q", "-o", tmp_path, "--model", tiny_model_dir)
    assert result.stdout == ""
    assert result.stderr.splitlines() == [f"failed: {photos / 'empty.png'}: the file is empty"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["x.png", "--model", "nothing"], "nothing: no such model; bundled are"),
        (["x.png", "--background", "reddish"], "'reddish' is no colour; give a name such as white, or #rrggbb"),
        (["evaluate", ".", "-s", "7"], "no bundled model enlarges 7 times"),
        (["evaluate", ".", "-s", "2", "--model", "trinas-xs-x4"], "trinas-xs-x4 enlarges 4 times, not 2"),
        (["compare", "x.png", "-o", "x.jpg"], "x.jpg: a comparison is written as PNG"),
        (["compare", "notes.txt", "-o", ".taken.png"], ".taken.png: exists; choose another -o, or --overwrite"),
        (["compare", ".taken.png", "-o", ".taken.png", "--overwrite"], ".taken.png: is the picture itself"),
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


@pytest.mark.parametrize(
    ("name", "complaint"), [("missing", "no such file or folder"), ("n" * 300, "File name too long")]
)
def test_an_error_ends_the_process_with_one_line_and_exit_code_1(tmp_path, name, complaint):
    result = subprocess.run(
        [sys.executable, "-m", "trinas_app", "evaluate", name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: {name}: {complaint}\n"


def test_a_batch_gives_the_bytes_that_single_files_give(photos, tmp_path, tiny_model_dir):
    """And one run after the other the same: the only path there is."""
    arguments = ("--model", tiny_model_dir, "--precision", "fp32", "-s", "3.5")
    run(photos, "-o", tmp_path / "batch", *arguments)
    names = sorted(path.name for path in (tmp_path / "batch").iterdir())
    assert len(names) == 4
    for source in photos.iterdir():
        run(source, "-o", tmp_path / "single", *arguments)
    assert sorted(path.name for path in (tmp_path / "single").iterdir()) == names
    for name in names:
        assert (tmp_path / "batch" / name).read_bytes() == (tmp_path / "single" / name).read_bytes()


def test_sub_folders_are_mirrored(photos, tmp_path, tiny_model_dir):
    (photos / "a/b").mkdir(parents=True)
    (photos / ".git").mkdir()
    for folder in ("a", "a/b", ".git"):
        save(photos / folder / "x.png", generated_photograph(16, 16))
    (photos / "a/clip.mov").write_bytes(b"")
    run(photos, "-o", tmp_path / "flat", "--model", tiny_model_dir)
    assert not (tmp_path / "flat/a").exists()
    result = run(photos, photos / "a/x.png", "-r", "-o", tmp_path / "tree", "--model", tiny_model_dir)
    written = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*x_x2.png")}
    assert written == {"a/x_x2.png", "a/b/x_x2.png"}
    assert "6 done, 0 skipped, 3 failed" in result.stdout, "the file that was named twice is done once"
    assert f"Left out, no images by their names: {photos / 'a/clip.mov'}" in result.stderr
    assert str(photos / "notes.txt") in result.stderr


def test_a_folder_s_results_are_not_enlarged_again(tmp_path, tiny_model_dir):
    save(tmp_path / "cat.png", generated_photograph(16, 16))
    for scale in (2, 3):
        assert run(tmp_path, "-r", "-s", scale, "-o", tmp_path / "out", "--model", tiny_model_dir).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["cat_x2.png", "cat_x3.png"]
    for _ in range(2):
        result = run(tmp_path, "-o", tmp_path, "--model", tiny_model_dir)
        assert result.exit_code == 0
    assert "0 done, 1 skipped" in result.stdout
    assert f"Left out, results of an earlier run: {tmp_path / 'cat_x2.png'}" in result.stderr
    assert not (tmp_path / "cat_x2_x2.png").exists()


def test_any_size_is_made(tmp_path, tiny_model_dir):
    save(tmp_path / "cat.png", generated_photograph(16, 24))
    wishes = {
        ("-s", "1.5"): ("cat_x1.5.png", (36, 24)),
        ("-s", "5"): ("cat_x5.png", (120, 80)),
        ("--width", "100"): ("cat_w100.png", (100, 67)),
        ("--width", "100", "--height", "50"): ("cat_w100h50.png", (75, 50)),
        ("--long-side", "20"): ("cat_long20.png", (20, 13)),
    }
    for wish, (name, size) in wishes.items():
        for model in ((), ("--model", tiny_model_dir)):
            assert run(tmp_path / "cat.png", "-o", tmp_path, "--overwrite", *wish, *model).exit_code == 0
            with PillowImage.open(tmp_path / name) as picture:
                assert picture.size == size


def test_a_size_below_the_picture_s_own_is_said(tmp_path, tiny_model_dir):
    save(tmp_path / "cat.png", generated_photograph(16, 24))
    result = run(tmp_path / "cat.png", "--width", 10, "-o", tmp_path, "--model", tiny_model_dir)
    assert "cat_w10.png: it was larger than asked for, and is only reduced" in result.stderr


def test_an_alpha_channel_without_transparency_does_not_keep_a_picture_from_being_a_jpeg(tmp_path, tiny_model_dir):
    opaque = np.dstack([generated_photograph(16, 24), np.full((16, 24), 255, np.uint8)])
    save(tmp_path / "opaque.png", opaque)
    arguments = (tmp_path / "opaque.png", "--format", "jpg", "-o", tmp_path, "--model", tiny_model_dir)
    assert run(*arguments, "--dry-run").exit_code == 0
    assert run(*arguments).exit_code == 0
    with PillowImage.open(tmp_path / "opaque_x2.jpg") as picture:
        assert picture.mode == "RGB"


@pytest.mark.parametrize(("word", "meant"), [("compar", "compare"), ("help", "--help"), ("device", "devices")])
def test_a_mistyped_command_is_no_picture(word, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(word, "x.png")
    assert result.exit_code == 2
    assert f"did you mean {meant}?" in result.stderr.replace("│", "").replace("\n", " ")


def test_help_has_a_short_name():
    assert run("-h").stdout == run("--help").stdout
    assert run("compare", "-h").stdout == run("compare", "--help").stdout


def test_limits_can_be_set(tmp_path, tiny_model_dir):
    save(tmp_path / "cat.png", generated_photograph(40, 50))
    arguments = (tmp_path / "cat.png", "-o", tmp_path, "--model", tiny_model_dir)
    result = run(*arguments, "--max-input-mp", "0.001")
    assert (result.exit_code, "50x40 is too large; the limit is 1,000 pixels (--max-input-mp)" in result.stderr) == (
        1,
        True,
    )
    result = run(*arguments, "--max-output-mp", "0.005")
    assert result.exit_code == 1
    assert "100x80 is too large; the limit is 5,000 pixels (--max-output-mp)" in result.stderr
    result = run(*arguments, "-s", "1.1", "--max-output-mp", "0.005")
    assert "55x44 is too large; on the way there are 8,000 pixels; the limit is 5,000 pixels" in result.stderr


def test_limits_can_be_raised(tmp_path, tiny_model_dir, monkeypatch):
    """Above those of this program, and of Pillow, which has one of its own."""
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 500)
    monkeypatch.setattr("trinas.inference.batch.write_image", lambda path, image, save: [f"{image.size}"])
    save(tmp_path / "cat.png", generated_photograph(40, 50))
    result = run(tmp_path / "cat.png", "-o", tmp_path, "--model", tiny_model_dir, "--max-output-mp", "9000", "--json")
    assert json.loads(result.stdout)["done"][0]["notes"] == ["(100, 80)"]


def test_a_dry_run_says_what_a_run_then_does(photos, tmp_path, tiny_model_dir):
    arguments = (photos, "-o", tmp_path / "out", "--model", tiny_model_dir)
    save(photos / "holiday.png", generated_photograph(16, 16))
    dry = run(*arguments, "--format", "png", "--dry-run")
    assert dry.exit_code == 1
    assert not (tmp_path / "out").exists()
    files = json.loads(run(*arguments, "--format", "png", "--dry-run", "--json").stdout)["files"]
    run(*arguments, "--format", "png")
    will_work = {file["result"]: file["size"] for file in files if "problem" not in file}
    written = {}
    for path in (tmp_path / "out").iterdir():
        with PillowImage.open(path) as picture:
            written[str(path)] = list(picture.size)
    assert will_work == written
    assert all(file["seconds"] > 0 and file["memory_mb"] > 50 for file in files if "problem" not in file)
    problems = sorted(file["problem"].split(": ")[1] for file in files if "problem" in file)
    assert len(problems) == 4, "three broken files and a clash"
    assert any("is also that of" in problem for problem in problems)
    again = run(*arguments, "--format", "png", "--dry-run")
    assert "4 with a result already, 4 will fail. Nothing was written." in again.stdout


def test_a_compressed_jpeg_gets_a_network_that_smooths_unless_a_model_is_named(tmp_path):
    import trinas

    path = tmp_path / "cat.jpg"
    PillowImage.fromarray(generated_photograph(24, 32)).save(path, quality=62)
    arguments = (path, "-s", "2", "--format", "png", "--device", "cpu", "-o")
    dry = run(*arguments, tmp_path, "--dry-run")
    assert "trinas-s-photo-x2 (JPEG of quality 62)" in dry.stdout
    (row,) = json.loads(run(*arguments, tmp_path, "--dry-run", "--json").stdout)["files"]
    assert (row["models"], row["why"]) == (["trinas-s-photo-x2"], "JPEG of quality 62")
    named = run(*arguments, tmp_path, "--dry-run", "--model", "trinas-xs-x2").stdout
    assert ("trinas-xs-x2" in named, "JPEG of quality" in named) == (True, False)
    for folder, model in (
        ("chosen", ()),
        ("photo", ("--model", "trinas-s-photo-x2")),
        ("xs", ("--model", "trinas-xs-x2")),
    ):
        assert run(*arguments, tmp_path / folder, *model).exit_code == 0
    trinas.write_image(tmp_path / "library.png", trinas.Enlarger()(trinas.read_image(path), (64, 48)))
    chosen = (tmp_path / "chosen/cat_x2.png").read_bytes()
    assert chosen == (tmp_path / "photo/cat_x2.png").read_bytes() == (tmp_path / "library.png").read_bytes()
    assert chosen != (tmp_path / "xs/cat_x2.png").read_bytes()


def test_a_clash_is_found_before_anything_is_written(tmp_path, tiny_model_dir):
    """Also where names differ only in case, which is one name on other systems."""
    for name in ("cat.png", "Cat.jpg"):
        save(tmp_path / name, generated_photograph(16, 16))
    arguments = (tmp_path / "cat.png", tmp_path / "Cat.jpg", "-o", tmp_path / "out", "--model", tiny_model_dir)
    dry = run(*arguments, "--format", "png", "--dry-run")
    assert f"will fail: {tmp_path / 'Cat.jpg'}: its result" in dry.stderr
    assert run(*arguments).exit_code == 0, "with suffixes of their own there is no clash"


def test_notes_say_what_a_format_cannot_hold(photos, tmp_path, tiny_model_dir):
    result = run(photos / "scan.png", "--format", "jpg", "-o", tmp_path, "--model", tiny_model_dir)
    assert f"note: {tmp_path / 'scan_x2.jpg'}: JPEG holds 8 bits per channel, not 16" in result.stderr
    summary = json.loads(
        run(photos / "scan.png", "--format", "bmp", "-o", tmp_path, "--model", tiny_model_dir, "--json").stdout
    )
    assert summary["done"][0]["notes"] == ["BMP holds 8 bits per channel, not 16"]


def test_what_is_always_lossy_is_not_written_without_losses(photos, tmp_path, tiny_model_dir):
    arguments = (photos / "holiday.jpg", "--lossless", "-o", tmp_path, "--model", tiny_model_dir)
    result = run(*arguments)
    assert (result.exit_code, "JPEG is written with losses; choose --format png or webp" in result.stderr) == (1, True)
    assert run(*arguments, "--format", "webp").exit_code == 0


def test_comparing_makes_one_labelled_picture(photos, tmp_path, tiny_model_dir):
    result = run(
        "compare", photos / "holiday.jpg", "--models", f"{tiny_model_dir},trinas-xs-x2", "-o", tmp_path / "c.png"
    )
    assert (result.exit_code, "bicubic and 2 models" in result.stdout) == (0, True)
    with PillowImage.open(tmp_path / "c.png") as sheet:
        assert sheet.width > 3 * 384


def test_devices_are_listed():
    assert any(line.startswith("cpu") for line in run("devices").stdout.splitlines())
    rows = json.loads(run("devices", "--json").stdout)
    assert [row["is_default"] for row in rows].count(True) == 1
    assert rows[-1]["name"] == "cpu"


def test_the_shell_completes_commands_options_and_models():
    def complete(line):
        words = line.split(" ")
        environment = {
            **os.environ,
            "_TRINAS_UPSCALE_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        command = [str(Path(sys.executable).parent / "trinas-upscale")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.split()

    assert complete("trinas-upscale comp") == ["compare"]
    assert "--strip-metadata" in complete("trinas-upscale upscale --str")
    assert complete("trinas-upscale upscale --model trinas-xs-x") == ["trinas-xs-x2", "trinas-xs-x3", "trinas-xs-x4"]


@pytest.mark.slow
def test_ctrl_c_ends_within_a_tile_and_leaves_whole_files(tmp_path):
    """A real process, really interrupted, in the middle of a picture that would take much longer."""
    save(tmp_path / "a.png", generated_photograph(64, 64))
    save(tmp_path / "b.png", generated_photograph(1500, 2000))
    command = [sys.executable, "-m", "trinas_app", tmp_path, "-s", "4", "--tta", "-o", tmp_path / "out"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "out/a_x4.png").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "1 done" in output
    assert "Stopped; 1 image not done." in errors
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_x4.png"]


def test_models_are_listed_with_their_figures():
    result = run("models")
    assert result.exit_code == 0
    assert "trinas-xs-x4" in result.stdout
    rows = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    row = rows["trinas-xs-x4"]
    assert set(row) == {"name", "scale", "is_default", "restores", "params", "macs", "figures", "licence"}
    head, *lines = result.stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("trinas-xs-x4 * "))
    column = head.index("Set5") + len("Set5")
    assert line[:column].endswith(f" {row['figures']['Set5']['psnr']:.2f}")
    assert [name for name, row in rows.items() if row["is_default"]] == list(DEFAULT_MODELS.values())


def test_evaluating_prints_each_image_and_the_mean(tmp_path, tiny_model_dir):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", generated_photograph(40, 40, seed))
    figures = json.loads(run("evaluate", tmp_path, "--model", tiny_model_dir, "--json").stdout)
    assert [image["image"] for image in figures["images"]] == ["0.png", "1.png"]
    assert figures["mean"]["psnr"] == pytest.approx(np.mean([image["psnr"] for image in figures["images"]]))
    single = json.loads(run("evaluate", tmp_path / "1.png", "--model", tiny_model_dir, "--json").stdout)
    assert single["images"] == figures["images"][1:]
    text = run("evaluate", tmp_path, "-s", 2, "--model", "bicubic").stdout
    assert "mean of 2" in text
    assert "bicubic, x2" in text


def test_help_needs_neither_torch_nor_gradio():
    """So that it answers at once; the same for the version."""
    code = (
        "import sys\nfrom trinas_app.cli import cli\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        "assert not {'torch', 'gradio', 'PIL', 'numpy'} & set(sys.modules), 'a heavy import'"
    )
    for arguments in (["--help"], ["upscale", "--help"], ["models", "--help"], ["--version"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_the_library_needs_no_gradio():
    code = "import sys, trinas\n[getattr(trinas, name) for name in trinas.__all__]\nassert 'gradio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def small_search(*arguments):
    sizes = ("--trunk-width", "8", "--cells", "2", "--slots", "2", "-s", "2", "--max-params", "3k")
    return run("search", *sizes, "--device", "cpu", "--precision", "fp32", *arguments)


def test_a_search_gives_a_model_that_enlarges(tmp_path, monkeypatch):
    """Without photographs, into the default folder, named after the wish."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trinas.training.data, "GENERATED_IMAGES", 4)
    monkeypatch.setattr(trinas.training.data, "GENERATED_SIDE_PX", 100)
    result = small_search("--steps", "2,3,60")
    assert result.exit_code == 0, result.output
    assert "Learning from generated images" in result.stderr
    assert "search 3/3  t 1.00  expected params" in result.stderr
    assert "use it with --model searched-x2-3k" in result.stderr
    assert {path.name for path in Path("searched-x2-3k").iterdir()} >= {
        "model.safetensors", "config.json", "README.md", "report.json", "report.html", "events.jsonl", "metrics.jsonl",
        "curve.png",
    }  # fmt: skip
    save("photo.png", generated_photograph(20, 30))
    assert run("photo.png", "--model", "searched-x2-3k").exit_code == 0
    with PillowImage.open("upscaled/photo_x2.png") as enlarged:
        assert enlarged.size == (60, 40)
    again = run("reproduce", "searched-x2-3k/report.json")
    assert again.exit_code == 0, again.output
    assert "The same network." in again.stderr
    weights = [Path(folder) / "model.safetensors" for folder in ("searched-x2-3k", "searched-x2-3k-again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    with pytest.raises(TrinasError, match="searched-x2-3k: exists already"):
        CliRunner().invoke(cli, ["search", "-s", "2", "--max-params", "3k"], catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_search_goes_on_to_the_same_end(number, tmp_path):
    """Real processes, really stopped."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for seed in range(4):
        save(photographs / f"{seed}.png", generated_photograph(100, 100, seed))

    def search(*arguments):
        command = [sys.executable, "-m", "trinas_app", "search", "--data", photographs, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    sizes = ("--trunk-width", "8", "--cells", "2", "--slots", "2", "-s", "2", "--max-params", "3k")
    settings = (*sizes, "--steps", "8,80,8", "--precision", "fp32", "--device", "cpu", "-o")
    straight = search(*settings, tmp_path / "straight")
    straight.communicate()
    assert straight.returncode == 0
    stopped = search(*settings, tmp_path / "run/straight")
    for line in stopped.stderr:
        if line.startswith("search 20/"):
            break
    stopped.send_signal(number)
    _, last_words = stopped.communicate()
    assert stopped.returncode == 130
    assert f"--resume {tmp_path / 'run/straight'} --data {photographs}" in last_words
    resumed = search("--resume", tmp_path / "run/straight")
    resumed.communicate(timeout=120)
    assert resumed.returncode == 0
    weights = [(folder / "straight/model.safetensors").read_bytes() for folder in (tmp_path, tmp_path / "run")]
    assert weights[0] == weights[1]


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


def test_the_help_of_a_search_says_how_steps_are_shared_out():
    words = " ".join(run("search", "--help").output.replace("│", " ").split())
    warm_up, search, tuning = (f"{100 * share:g}" for share in trinas.search.pace.SHARES)
    assert f"({warm_up}, {search} and {tuning} %)" in words


def test_training_that_gains_nothing_says_so(tmp_path):
    """A rate that is far too high: the start's weights are kept, and nobody is to think otherwise."""
    for seed in range(3):
        PillowImage.fromarray(generated_photograph(112, 112, seed)).save(tmp_path / f"{seed}.png")
    options = ["--steps", "3", "--batch-size", "2", "--patch", "8", "--learning-rate", "1", "--device", "cpu"]
    result = run("train", "--data", tmp_path, "--from", "trinas-xs-x2", "-o", tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    assert "Nothing was better than the start" in result.stderr
    assert "Done; use it with --model" in result.stderr


def test_a_teacher_is_announced_and_a_training_stopped_meanwhile_can_go_on(tmp_path, monkeypatch):
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr("trinas_app.cli.commands._stop_on_signals", lambda: stop)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for seed in range(3):
        PillowImage.fromarray(generated_photograph(96, 96, seed)).save(photographs / f"{seed}.png")
    options = ["--from", "trinas-xs-x2", "--teacher", "trinas-xs-x2", "--steps", "1", "--patch", "8"]
    result = run("train", "--data", photographs, *options, "-o", tmp_path / "run")
    assert result.exit_code == 130, result.output
    first, *_, last = result.stderr.splitlines()
    assert first == "trinas-xs-x2 enlarges all images before the first step, which may take minutes"
    assert last.startswith("Stopped; go on with: ")
    stop.clear()
    assert run(*shlex.split(last.partition(": trinas-upscale ")[2])).exit_code == 0


def test_a_wish_to_stop_in_the_last_step_comes_too_late(tmp_path, monkeypatch):
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr("trinas_app.cli.commands._stop_on_signals", lambda: stop)
    for seed in range(3):
        PillowImage.fromarray(generated_photograph(96, 96, seed)).save(tmp_path / f"{seed}.png")
    options = ["--data", tmp_path, "--from", "trinas-xs-x2", "--batch-size", "1", "--patch", "8", "-o"]
    for steps, words, code in ((1, "Done; use it", 0), (2, "Stopped; go on with", 130)):
        result = run("train", *options, tmp_path / f"{steps}", "--steps", steps)
        assert (result.exit_code, words in result.stderr) == (code, True), result.stderr


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        (["--from", "trinas-xs-x2"], GOING_ON_RATE),
        (["--from", "trinas-xs-x2", "-s", "2"], GOING_ON_RATE),
        (["--from", "trinas-xs-x2", "-s", "3"], TrainConfig.learning_rate),
        (["--from", "trinas-xs-x2", "--learning-rate", "0.001"], 0.001),
    ],
)
def test_what_is_trained_already_goes_on_at_a_gentler_rate(options, rate, tmp_path):
    for seed in range(3):
        PillowImage.fromarray(generated_photograph(96, 96, seed)).save(tmp_path / f"{seed}.png")
    result = run("train", "--data", tmp_path, *options, "-o", tmp_path / "run", "--steps", "1", "--patch", "8")
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "run/config.json").read_text())["training"]["config"]
    assert config["learning_rate"] == rate
