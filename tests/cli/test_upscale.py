"""`upscale`: real files in; files, text and exit codes out."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from trinas_app.cli.upscale import Preset

from support.command_line import run, save_image
from support.images import generated_photograph, slow_jpeg
from support.processes import PATIENCE_S, is_running, list_decoders, measure_cpu_seconds, start, wait_until
from trinas.config import DEFAULT_PRESET, PRESETS
from trinas.images.formats import FORMAT_NAMES
from trinas.zoo.bundled import PRESET_MODELS
from trinas.zoo.folder import load_model


def test_good_images_are_upscaled_and_bad_ones_named(photos, tmp_path, tiny_model_dir):
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    output = tmp_path / "results"
    result = run(photos, "-o", output, "--model", tiny_model_dir, "--device", "cpu")
    assert result.exit_code == 1
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before
    kinds = {}
    for path in output.iterdir():
        with PillowImage.open(path) as image:
            kinds[path.name] = (image.format, image.mode, image.size)
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
    upscaler = trinas.Upscaler(load_model(str(tiny_model_dir)), precision="fp32")
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
    assert "perhaps of other images" in second.stdout
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
    save_image(tmp_path / "models/cat.png", generated_photograph(16, 16))
    monkeypatch.chdir(tmp_path)
    assert run("./models", "--model", tiny_model_dir).exit_code == 0
    assert (tmp_path / "upscaled/cat_x2.png").is_file()
    assert "trinas-xs-x4" in run("models").stdout


def test_a_result_never_replaces_an_input_nor_another_result(tmp_path, tiny_model_dir):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        save_image(folder / "cat.png", generated_photograph(16, 16))
    save_image(first / "cat_x2.png", generated_photograph(16, 16))
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
        with PillowImage.open(tmp_path / f"holiday_x2.{suffix}") as image:
            assert image.format == suffix.upper()
    result = run(photos / "logo.png", *arguments, "jpg")
    assert result.exit_code == 1
    assert "JPEG cannot hold transparency; choose --format png, or give --background" in result.stderr
    assert not (tmp_path / "logo_x2.jpg").exists()
    assert run(photos / "logo.png", *arguments, "jpg", "--background", "white").exit_code == 0
    with PillowImage.open(tmp_path / "logo_x2.jpg") as image:
        assert np.asarray(image)[:, 40:].min() > 250, "where it was transparent"


def test_the_format_is_what_the_file_holds(photos, tmp_path, tiny_model_dir):
    (photos / "holiday.jpg").rename(tmp_path / "holiday")
    (photos / "logo.png").rename(tmp_path / "logo.jpg")
    result = run(tmp_path / "holiday", tmp_path / "logo.jpg", "-o", tmp_path, "--model", tiny_model_dir)
    assert result.exit_code == 0
    for name, expected in (("holiday_x2.jpg", ("JPEG", "RGB")), ("logo_x2.png", ("PNG", "RGBA"))):
        with PillowImage.open(tmp_path / name) as image:
            assert (image.format, image.mode) == expected


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


def test_the_models_that_were_used_are_named(photos, tmp_path, tiny_model_dir):
    alone = run(photos / "logo.png", "-o", tmp_path / "alone", "--model", tiny_model_dir)
    assert f"s per image, by {tiny_model_dir}." in alone.stdout
    levels = generated_photograph(24, 32)
    for quality in (40, 95):
        PillowImage.fromarray(levels).save(tmp_path / f"{quality}.jpg", quality=quality)
    images = [photos / "logo.png", tmp_path / "40.jpg", tmp_path / "95.jpg"]
    result = run(*images, "-s", "4", "-o", tmp_path / "out", "--preset", "fast")
    assert "s per image, by trinas-xs-x4 (2 images); trinas-s-photo-x4 (1 image)." in result.stdout
    done = json.loads(run(*images, "-s", "8", "-o", tmp_path / "out", "--json").stdout)["done"]
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
        save_image(photos / folder / "x.png", generated_photograph(16, 16))
    (photos / "a/clip.mov").write_bytes(b"")
    run(photos, "-o", tmp_path / "flat", "--model", tiny_model_dir)
    assert not (tmp_path / "flat/a").exists()
    result = run(photos, photos / "a/x.png", "-r", "-o", tmp_path / "tree", "--model", tiny_model_dir)
    written = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*x_x2.png")}
    assert written == {"a/x_x2.png", "a/b/x_x2.png"}
    assert "6 done, 0 skipped, 3 failed" in result.stdout, "the file that was named twice is done once"
    assert f"Left out, not images by their names: {photos / 'a/clip.mov'}" in result.stderr
    assert str(photos / "notes.txt") in result.stderr


def test_a_folder_s_results_are_not_upscaled_again(tmp_path, tiny_model_dir):
    save_image(tmp_path / "cat.png", generated_photograph(16, 16))
    for scale in (2, 3):
        assert run(tmp_path, "-r", "-s", scale, "-o", tmp_path / "out", "--model", tiny_model_dir).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["cat_x2.png", "cat_x3.png"]
    for _ in range(2):
        result = run(tmp_path, "-o", tmp_path, "--model", tiny_model_dir)
        assert result.exit_code == 0
    assert "0 done, 1 skipped" in result.stdout
    assert f"Left out, results of an earlier run: {tmp_path / 'cat_x2.png'}" in result.stderr
    assert not (tmp_path / "cat_x2_x2.png").exists()


def test_results_have_any_size_that_is_asked_for(tmp_path, tiny_model_dir):
    save_image(tmp_path / "cat.png", generated_photograph(16, 24))
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
            with PillowImage.open(tmp_path / name) as image:
                assert image.size == size


def test_a_size_below_the_image_s_own_is_said(tmp_path, tiny_model_dir):
    save_image(tmp_path / "cat.png", generated_photograph(16, 24))
    result = run(tmp_path / "cat.png", "--width", 10, "-o", tmp_path, "--model", tiny_model_dir)
    assert "cat_w10.png: it was larger than asked for, and is only reduced" in result.stderr


def test_limits_can_be_set(tmp_path, tiny_model_dir):
    save_image(tmp_path / "cat.png", generated_photograph(40, 50))
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
    save_image(tmp_path / "cat.png", generated_photograph(40, 50))
    result = run(tmp_path / "cat.png", "-o", tmp_path, "--model", tiny_model_dir, "--max-output-mp", "9000", "--json")
    assert json.loads(result.stdout)["done"][0]["notes"] == ["(100, 80)"]


def test_notes_say_what_a_format_cannot_hold(photos, tmp_path, tiny_model_dir):
    result = run(photos / "scan.png", "--format", "jpg", "-o", tmp_path, "--model", tiny_model_dir)
    assert f"note: {tmp_path / 'scan_x2.jpg'}: JPEG holds 8 bits per channel, not 16" in result.stderr
    summary = json.loads(
        run(photos / "scan.png", "--format", "bmp", "-o", tmp_path, "--model", tiny_model_dir, "--json").stdout
    )
    assert summary["done"][0]["notes"] == ["BMP holds 8 bits per channel, not 16"]


def test_lossless_is_refused_where_the_format_is_always_lossy(photos, tmp_path, tiny_model_dir):
    arguments = (photos / "holiday.jpg", "--lossless", "-o", tmp_path, "--model", tiny_model_dir)
    result = run(*arguments)
    assert (result.exit_code, "JPEG is written with losses; choose --format png or webp" in result.stderr) == (1, True)
    assert run(*arguments, "--format", "webp").exit_code == 0


@pytest.mark.slow
def test_ctrl_c_ends_within_a_tile_and_leaves_whole_files(tmp_path):
    """A real process, really interrupted, in the middle of an image that would take much longer."""
    save_image(tmp_path / "a.png", generated_photograph(64, 64))
    save_image(tmp_path / "b.png", generated_photograph(1500, 2000))
    command = [sys.executable, "-m", "trinas_app", tmp_path, "-s", "4", "--tta", "-o", tmp_path / "out"]
    with start(*command) as process:
        while not (tmp_path / "out/a_x4.png").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "1 done" in output
    assert "Stopped; 1 image not done." in errors
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_x4.png"]


def test_ctrl_c_ends_an_image_that_is_decoded(tmp_path, tiny_model_dir):
    (tmp_path / "slow.jpg").write_bytes(slow_jpeg())
    command = [sys.executable, "-m", "trinas_app", "slow.jpg", "--model", tiny_model_dir, "--device", "cpu"]
    with start(*command, cwd=tmp_path) as process:
        assert process.stderr.readline() == "Upscaling 1 image at scale 2 on cpu\n"
        (decoder,) = list_decoders(process.pid)
        wait_until(lambda: measure_cpu_seconds(decoder) > 3)  # much more than it takes to start
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "Stopped; 1 image not done."
    assert "Traceback" not in errors
    wait_until(lambda: not is_running(decoder))


def test_a_file_may_take_so_many_seconds_to_decode(photos, tmp_path, tiny_model_dir):
    (photos / "slow.jpg").write_bytes(slow_jpeg())
    options = ["--model", tiny_model_dir, "--device", "cpu", "--max-seconds-per-file", 2]
    complaint = f"{photos / 'slow.jpg'}: decoding took longer than 2 s (--max-seconds-per-file)"
    for words, more in (("failed", []), ("will fail", ["--dry-run", "--overwrite"])):
        result = run(photos / "slow.jpg", photos / "logo.png", "-o", tmp_path / "out", *options, *more)
        assert result.exit_code == 1
        assert f"{words}: {complaint}" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["logo_x2.png"]


SLOW_DISK = """
import os, sys
from trinas_app.cli import main
open_file = os.fdopen
def open_slow_file(*arguments):
    file = open_file(*arguments)
    write = file.write
    class Slow:
        def __enter__(self):
            return self
        def __exit__(self, *details):
            file.close()
        def write(self, content):
            write(content[: len(content) // 2])
            file.flush()
            sys.stdin.read()
            write(content[len(content) // 2 :])
    return Slow()
os.fdopen = open_slow_file
main()
"""


@pytest.mark.slow
def test_ctrl_c_while_a_file_is_written_leaves_nothing_of_it(tmp_path, tiny_model_dir):
    save_image(tmp_path / "cat.png", generated_photograph(40, 40))
    out = tmp_path / "out"
    arguments = [tmp_path / "cat.png", "-o", out, "--model", tiny_model_dir]
    with start(sys.executable, "-c", SLOW_DISK, *arguments) as process:
        while not any(path.stat().st_size for path in out.glob(".*")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) == 130, "it does not wait for the disk"
    assert list(out.iterdir()) == []


def test_the_best_preset_is_used_unless_another_is_named(photos, tmp_path):
    assert [preset.value for preset in Preset] == list(PRESETS)
    unnamed = json.loads(run(photos / "logo.png", "-s", "4", "-o", tmp_path / "best", "--json").stdout)["done"]
    fast = run(photos / "logo.png", "-s", "4", "-o", tmp_path / "fast", "--preset", "fast", "--json")
    assert unnamed[0]["models"] == [PRESET_MODELS[DEFAULT_PRESET][4]]
    assert json.loads(fast.stdout)["done"][0]["models"] == [PRESET_MODELS["fast"][4]]
