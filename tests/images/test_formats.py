"""Every format with every kind of image: what is promised, and the page that says what was found."""

from pathlib import Path

import pytest

from support.format_matrix import INTRODUCTION, KINDS, NOTES, cases, find, table_line
from trinas.errors import ImageError
from trinas.images.formats import FORMATS, find_format, list_image_files, sniff_format

PAGE = Path(__file__).parents[2] / "docs/formats.md"
BECOMES = {"1 bit": "gray", "palette": "RGB", "palette with transparency": "RGB with alpha", "CMYK": "RGB"}
ENCODER_LEVELS = {"jpg": 1, "webp": 2, "avif": 2}
"""What lossy encoders themselves do to one even colour, by way of YCbCr in whole levels."""


def test_the_page_has_a_line_for_each_case():
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(INTRODUCTION)
    assert text.endswith(NOTES)
    lines = text[len(INTRODUCTION) : -len(NOTES)].splitlines()
    assert [line.split(" | ")[:2] for line in lines] == [[f"| {case.file_format}", case.kind] for case in cases()]


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_pixels_colours_and_metadata_come_through(case, tmp_path):
    found = find(case, tmp_path)
    assert found.kind == BECOMES.get(case.kind, case.kind)
    if case.is_lossy:
        assert found.error_levels < 5
        assert found.flat_levels <= ENCODER_LEVELS[case.file_format]
    else:
        assert found.error_levels == 0
        assert found.flat_levels < 0.5
    is_bmp = case.file_format == "bmp"
    expected_profile = "none" if is_bmp else "sRGB" if case.kind == "CMYK" else "kept"
    assert (found.profile, found.resolution) == (expected_profile, "kept")
    assert (found.exif, found.xmp) == (("none", "none") if is_bmp else ("kept", "kept"))

    beginning = f"| {case.file_format} | {case.kind} |"
    (line,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(beginning)]
    said, seen = line.split(" | "), table_line(case, found).split(" | ")
    if case.is_lossy:  # these two numbers depend on the encoder's version
        del said[3:5], seen[3:5]
    assert said == seen


def test_every_kind_of_image_is_tried():
    assert {case.kind for case in cases()} == set(KINDS)
    assert {case.suffix for case in cases()} == {known.suffixes[0].lstrip(".") for known in FORMATS.values()} - {
        "tif"
    } | {"tiff"}


def test_a_format_is_told_by_suffix_and_by_content(tmp_path):
    assert find_format(Path("Photo.TIFF")).name == "TIFF"
    assert find_format(Path("photo.jfif")).name == "JPEG"
    with pytest.raises(ImageError, match=r"photo\.gif: cannot write this format; choose one of \.png"):
        find_format(Path("photo.gif"))
    assert sniff_format(tmp_path / "missing") is None


def test_hidden_files_and_others_are_no_images(tmp_path):
    for name in ("b.png", "a.JPG", ".c.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_image_files(tmp_path)] == ["a.JPG", "b.png"]
