"""Pillow is used without changing what holds for the whole process."""

import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from support.images import generated_photograph
from trinas.images.pillow import mute_pillow
from trinas.images.read import read_header, read_image
from trinas.images.write import write_image

SUFFIXES = [".png", ".jpg", ".webp", ".avif", ".bmp", ".tif"]


def damaged_exif():
    exif = PillowImage.Exif()
    exif[0x0112], exif[0x010E] = 1, "words" * 20
    return exif.tobytes()[:-60]


def save_with_damaged_exif(path):
    PillowImage.fromarray(generated_photograph(8, 8)).save(path, exif=damaged_exif())


def warn_like_pillow():
    PillowImage.Exif().load(damaged_exif())


@pytest.mark.slow
def test_importing_and_reading_change_no_setting(tmp_path):
    save_with_damaged_exif(tmp_path / "in.jpg")
    program = """
import sys, warnings
import imagecodecs, tifffile, torch
from PIL import Image, ImageFile, PngImagePlugin

def settings():
    return PngImagePlugin.MAX_TEXT_CHUNK, Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES

before, filters = settings(), list(warnings.filters)
from trinas.images.read import read_image
from trinas.images.write import write_image
assert (settings(), warnings.filters) == (before, filters)
write_image(sys.argv[2], read_image(sys.argv[1]))
assert settings() == before
assert warnings.filters[-len(filters):] == filters
warnings.warn("of the caller")
Image.open(sys.argv[1]).getexif()
"""
    command = [sys.executable, "-c", program, tmp_path / "in.jpg", tmp_path / "out.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shown = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert len(shown) == 2, "the caller's own, and that of Pillow in a call of the caller's"
    assert "of the caller" in shown[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_warnings_are_muted_in_our_calls_only(tmp_path, suffix):
    path = tmp_path / f"in{suffix}"
    save_with_damaged_exif(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = read_image(path)
        notes = write_image(tmp_path / "out.avif", image)
        write_image(tmp_path / "out.webp", image)
        assert caught == []
        warn_like_pillow()
        assert len(caught) == 1
    assert notes == ["part of its EXIF was damaged and is left out"]


def test_other_threads_keep_their_warnings():
    caught = []

    def warn():
        try:
            warn_like_pillow()
        except UserWarning as warning:  # as pytest has it
            caught.append(warning)

    with mute_pillow():
        with mute_pillow():
            warn_like_pillow()
        warn_like_pillow()
        other = threading.Thread(target=warn)
        other.start()
        other.join()
    assert len(caught) == 1
    with pytest.raises(UserWarning):
        warn_like_pillow()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_max_px_limits_the_size(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"in{suffix}"
    PillowImage.fromarray(generated_photograph(40, 50)).save(path)
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 10)
    assert read_image(path, 2000).size == (50, 40)
    assert read_header(path, 2000).width == 50
    write_image(tmp_path / f"out{suffix}", read_image(path))


@pytest.mark.parametrize("after_idat", [False, True])
def test_texts_of_a_png_have_no_limit_and_no_say(tmp_path, after_idat):
    """They are not kept, whatever their names are."""
    text = PngImagePlugin.PngInfo()
    long = zlib.compress(bytes(20 << 20))
    for kind, body in ((b"zTXt", b"workflow\0\0" + long), (b"tEXt", b"transparency\0none"), (b"tEXt", b"dpi\0none")):
        text.add(kind, body, after_idat=after_idat)
    levels = generated_photograph(8, 8)
    PillowImage.fromarray(levels).save(tmp_path / "in.png", pnginfo=text)
    image = read_image(tmp_path / "in.png")
    np.testing.assert_array_equal(np.rint(image.pixels.permute(1, 2, 0).numpy() * 255), levels)
    assert image.metadata.dpi is None
