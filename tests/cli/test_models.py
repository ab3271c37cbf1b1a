"""`models`, `devices`, `evaluate` and `compare`."""

import json

import numpy as np
import pytest
from PIL import Image as PillowImage

from support.command_line import run, save_image
from support.images import generated_photograph
from trinas.zoo.bundled import PRESET_MODELS


def test_models_are_listed_with_their_metrics():
    result = run("models")
    assert result.exit_code == 0
    assert "trinas-xs-x4" in result.stdout
    rows = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    row = rows["trinas-xs-x4"]
    assert set(row) == {"name", "scale", "presets", "is_default", "restores", "params", "macs", "figures", "licence"}
    head, *lines = result.stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("trinas-xs-x4 "))
    assert line.split()[2] == "fast"
    column = head.index("Set5") + len("Set5")
    assert line[:column].endswith(f" {row['figures']['Set5']['psnr']:.2f}")
    assert [name for name, row in rows.items() if row["is_default"]] == list(PRESET_MODELS["best"].values())


def test_devices_are_listed():
    assert any(line.startswith("cpu") for line in run("devices").stdout.splitlines())
    rows = json.loads(run("devices", "--json").stdout)
    assert [row["is_default"] for row in rows].count(True) == 1
    assert rows[-1]["name"] == "cpu"


def test_evaluating_prints_each_image_and_the_mean(tmp_path, tiny_model_dir):
    for seed in range(2):
        save_image(tmp_path / f"{seed}.png", generated_photograph(40, 40, seed))
    figures = json.loads(run("evaluate", tmp_path, "--model", tiny_model_dir, "--json").stdout)
    assert [image["image"] for image in figures["images"]] == ["0.png", "1.png"]
    assert figures["mean"]["psnr"] == pytest.approx(np.mean([image["psnr"] for image in figures["images"]]))
    single = json.loads(run("evaluate", tmp_path / "1.png", "--model", tiny_model_dir, "--json").stdout)
    assert single["images"] == figures["images"][1:]
    text = run("evaluate", tmp_path, "-s", 2, "--model", "bicubic").stdout
    assert "mean of 2" in text
    assert "bicubic, x2" in text


def test_comparing_makes_one_labelled_image(photos, tmp_path, tiny_model_dir):
    result = run(
        "compare", photos / "holiday.jpg", "--models", f"{tiny_model_dir},trinas-xs-x2", "-o", tmp_path / "c.png"
    )
    assert (result.exit_code, "bicubic and 2 models" in result.stdout) == (0, True)
    with PillowImage.open(tmp_path / "c.png") as sheet:
        assert sheet.width > 3 * 384
