"""Numbers and durations in words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trinas_app import words


@pytest.mark.parametrize(("number", "text"), [(0, "0 images"), (1, "1 image"), (1234, "1,234 images")])
def test_a_count_agrees_with_its_noun(number, text):
    assert words.format_count(number, "image") == text


@pytest.mark.parametrize(("number", "text"), [(98288, "98.3k"), (1.2e6, "1.2M"), (6e10, "60G"), (7, "7")])
def test_a_short_number_has_three_digits(number, text):
    assert words.format_short(number) == text


@given(st.floats(1, 1e13))
def test_a_short_number_can_be_read_again(number):
    assert words.parse_short(words.format_short(number)) == pytest.approx(number, rel=5e-3)


@pytest.mark.parametrize("text", ["", "many", "k", "1.2 T", "5kk"])
def test_what_is_not_a_number_is_refused(text):
    with pytest.raises(ValueError, match="is not a number such as 500k"):
        words.parse_short(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (math.nan, "unknown time"), (0, "0.1 s"), (3.21, "3.2 s"), (45.2, "45 s"), (59.6, "1 min 00 s"),
        (250, "4 min 10 s"), (7500, "2 h 05 min"),
    ],
)  # fmt: skip
def test_a_duration_gets_coarser_as_it_gets_longer(seconds, text):
    assert words.format_duration(seconds) == text


def test_sizes_have_units():
    assert words.format_seconds(0.284) == "0.28 s"
    assert [words.format_bytes(count) for count in (10, 24_000, 1_340_000)] == ["1 KB", "24 KB", "1.3 MB"]
    assert words.format_megabytes(3_530_000_000) == "3,530 MB"
    assert words.format_pixels((40, 30)) == "40 × 30 pixels"
    assert words.format_pixels((4000, 3000)) == "4,000 × 3,000 pixels (12 MP)"
    assert (words.format_psnr(31.424), words.format_psnr(31.4249, 3)) == ("31.42 dB", "31.425 dB")


@pytest.mark.parametrize(("names", "text"), [("ab", "a, b"), ("abc", "a, b, c"), ("abcde", "a, b, c and 2 more")])
def test_a_long_list_is_cut_short(names, text):
    assert words.format_list(list(names)) == text
