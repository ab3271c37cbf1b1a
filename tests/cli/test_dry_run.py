"""`upscale --dry-run`: what is said beforehand is what then happens."""

import json

import numpy as np
from PIL import Image as PillowImage

from support.command_line import run, save_image
from support.images import generated_photograph


def test_a_dry_run_says_what_a_run_then_does(photos, tmp_path, tiny_model_dir):
    arguments = (photos, "-o", tmp_path / "out", "--model", tiny_model_dir)
    save_image(photos / "holiday.png", generated_photograph(16, 16))
    dry = run(*arguments, "--format", "png", "--dry-run")
    assert dry.exit_code == 1
    assert not (tmp_path / "out").exists()
    files = json.loads(run(*arguments, "--format", "png", "--dry-run", "--json").stdout)["files"]
    run(*arguments, "--format", "png")
    will_work = {file["result"]: file["size"] for file in files if "problem" not in file}
    written = {}
    for path in (tmp_path / "out").iterdir():
        with PillowImage.open(path) as image:
            written[str(path)] = list(image.size)
    assert will_work == written
    assert all(file["seconds"] > 0 and file["memory_mb"] > 50 for file in files if "problem" not in file)
    problems = sorted(file["problem"].split(": ")[1] for file in files if "problem" in file)
    assert len(problems) == 4, "three broken files and a clash"
    assert any("is also that of" in problem for problem in problems)
    again = run(*arguments, "--format", "png", "--dry-run")
    assert "4 with a result already, 4 will fail. Nothing was written." in again.stdout


def test_an_output_folder_that_cannot_be_is_found_before_the_work(photos, tmp_path, tiny_model_dir):
    (tmp_path / "file").write_text("in the way")
    for options in ((), ("--dry-run",)):
        result = run(photos / "scan.png", "-o", tmp_path / "file", "--model", tiny_model_dir, *options)
        assert result.exit_code == 1
        assert f"scan_x2.png cannot be written, {tmp_path / 'file'} is not a folder" in result.stderr


def test_an_alpha_channel_without_transparency_does_not_keep_an_image_from_being_a_jpeg(tmp_path, tiny_model_dir):
    opaque = np.dstack([generated_photograph(16, 24), np.full((16, 24), 255, np.uint8)])
    save_image(tmp_path / "opaque.png", opaque)
    arguments = (tmp_path / "opaque.png", "--format", "jpg", "-o", tmp_path, "--model", tiny_model_dir)
    assert run(*arguments, "--dry-run").exit_code == 0
    assert run(*arguments).exit_code == 0
    with PillowImage.open(tmp_path / "opaque_x2.jpg") as image:
        assert image.mode == "RGB"


def test_a_compressed_jpeg_gets_a_restoration_model_unless_a_model_is_named(tmp_path):
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
        save_image(tmp_path / name, generated_photograph(16, 16))
    arguments = (tmp_path / "cat.png", tmp_path / "Cat.jpg", "-o", tmp_path / "out", "--model", tiny_model_dir)
    dry = run(*arguments, "--format", "png", "--dry-run")
    assert f"will fail: {tmp_path / 'Cat.jpg'}: its result" in dry.stderr
    assert run(*arguments).exit_code == 0, "with suffixes of their own there is no clash"


def test_a_dry_run_also_says_how_long_the_other_presets_take(photos, tmp_path, tiny_model_dir):
    arguments = (photos / "logo.png", "-o", tmp_path / "out", "--dry-run")
    assert "With another --preset: fast about " in run(*arguments).stdout
    seconds = json.loads(run(*arguments, "--preset", "fast", "--json").stdout)["seconds_of_other_presets"]
    assert list(seconds) == ["balanced", "best"]
    assert all(each > 0 for each in seconds.values())
    assert "--preset" not in run(*arguments, "--model", tiny_model_dir).stdout
