import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from support.images import generated_photograph
from trinas.errors import ImageError
from trinas.images.jpeg_quality import estimate_quality, make_standard_table
from trinas.images.read import read_header, read_image

MOZJPEG = (
    16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75,
    16, 20, 24, 31, 43, 62, 91, 135, 18, 27, 31, 40, 53, 74, 106, 156,
    25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94, 124, 169, 238,
    56, 53, 91, 106, 131, 169, 226, 311, 85, 75, 135, 156, 189, 238, 311, 418,
)  # fmt: skip
"""The base of mozjpeg's own tables."""

MPEG = (
    8, 16, 19, 22, 26, 27, 29, 34, 16, 16, 22, 24, 27, 29, 34, 37,
    19, 22, 26, 27, 29, 34, 34, 38, 22, 22, 26, 27, 29, 34, 37, 40,
    22, 26, 27, 29, 32, 35, 40, 48, 26, 27, 29, 32, 35, 40, 48, 58,
    26, 27, 29, 34, 38, 46, 56, 69, 27, 29, 35, 38, 46, 56, 69, 83,
)  # fmt: skip
"""Of MPEG-2, much flatter than JPEG's."""


def made_image():
    return PillowImage.fromarray(generated_photograph(96, 96))


def test_the_quality_that_a_file_was_saved_at_is_found(tmp_path):
    for quality in range(1, 101):
        path = tmp_path / f"{quality}.jpg"
        PillowImage.new("RGB", (8, 8)).save(path, quality=quality)
        assert read_header(path).jpeg_quality == read_image(path).jpeg_quality == quality


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True, "optimize": True}, {"subsampling": "4:4:4"}])
def test_it_is_found_in_every_kind_of_jpeg(tmp_path, mode, options):
    made_image().convert(mode).save(tmp_path / "photo.jpg", quality=62, **options)
    assert read_header(tmp_path / "photo.jpg").jpeg_quality == read_image(tmp_path / "photo.jpg").jpeg_quality == 62


def test_a_phone_s_image_with_a_preview_behind_it_has_one_too(tmp_path):
    made_image().save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[made_image()], quality=62)
    assert read_header(tmp_path / "phone.jpg").jpeg_quality == read_image(tmp_path / "phone.jpg").jpeg_quality == 62


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.avif", "a.bmp", "a.tif"])
def test_other_files_have_none(tmp_path, name):
    made_image().save(tmp_path / name, **({"compression": "jpeg", "quality": 50} if name == "a.tif" else {}))
    assert read_header(tmp_path / name).jpeg_quality is None
    assert read_image(tmp_path / name).jpeg_quality is None


def scaled(table, factor):
    return [min(255, max(1, round(step * factor))) for step in table]


def decibels(**options):
    """PSNR of the brightness that is left after saving."""
    buffer = io.BytesIO()
    made_image().save(buffer, "JPEG", **options)
    with PillowImage.open(buffer) as opened:
        difference = np.asarray(opened.convert("L"), float) - np.asarray(made_image().convert("L"), float)
    return -10 * math.log10((difference**2).mean() / 255**2)


@pytest.mark.parametrize("factor", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("base", [MOZJPEG, MPEG, [32] * 64], ids=["mozjpeg", "mpeg", "flat"])
def test_tables_of_other_programs_are_taken_for_a_standard_one_that_loses_as_much(base, factor):
    table = scaled(base, factor)
    loss = decibels(qtables=[table, table])
    alike = min(range(1, 101), key=lambda quality: abs(decibels(quality=quality) - loss))
    assert estimate_quality(table) == pytest.approx(alike, abs=5)


@given(st.lists(st.integers(1, 255), min_size=64, max_size=64), st.lists(st.integers(0, 20), min_size=64, max_size=64))
def test_a_coarser_table_never_means_a_higher_quality(table, coarser):
    found = estimate_quality([step + more for step, more in zip(table, coarser, strict=True)])
    assert 1 <= found <= estimate_quality(table) <= 100


def test_what_is_coarser_than_any_baseline_table_has_the_least_quality():
    assert estimate_quality([65535] * 64) == 1


@pytest.mark.parametrize("table", [[], [1] * 63, [1] * 65, [0] * 64, [*make_standard_table(50)[:-1], 0]])
def test_what_is_no_table_has_no_quality(table):
    assert estimate_quality(table) is None


def jpeg_segments(content):
    """Marker, and all bytes, of what comes before the coded pixels, and the rest without a marker."""
    position = 2
    while content[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        yield content[position + 1], content[position:end]
        position = end
    yield None, content[position:]


def test_without_sound_tables_there_is_no_quality_or_one_clear_error(tmp_path):
    made_image().save(tmp_path / "whole.jpg", quality=50)
    segments = list(jpeg_segments((tmp_path / "whole.jpg").read_bytes()))
    assert [marker for marker, _ in segments].count(0xDB) == 2

    def written(name, table):
        """The file with something else in the place of its tables."""
        path = tmp_path / name
        path.write_bytes(b"\xff\xd8" + b"".join(table(s) if marker == 0xDB else s for marker, s in segments))
        return path

    zeros = written("zeros.jpg", lambda segment: segment[:5] + bytes(64))
    assert read_header(zeros).jpeg_quality is None
    absent = written("absent.jpg", lambda segment: b"")
    assert read_header(absent).jpeg_quality is None
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(absent)
    cut = written("cut.jpg", lambda segment: b"\xff\xdb\0\x20" + segment[4:34])
    with pytest.raises(ImageError, match="damaged"):
        read_header(cut)
