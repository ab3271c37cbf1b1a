"""Texts from outside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trinas.files import parse_json
from trinas.text import escape_text, is_plain_text, replace_unsafe, shorten_text


@given(st.text())
def test_an_escaped_text_is_plain_and_plain_text_stays(text):
    assert is_plain_text(escape_text(text))
    assert escape_text(escape_text(text)) == escape_text(text)
    assert (escape_text(text) == text) == is_plain_text(text)
    assert is_plain_text(replace_unsafe(text))
    assert len(replace_unsafe(text)) == len(text)


@given(st.text(st.characters(codec="utf-8")))
def test_a_plain_text_can_be_encoded_and_is_one_line(text):
    shown = escape_text(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a\nb\t", r"a\nb\t"), ("\x1b]0;x\x07", r"\x1b]0;x\x07"), ("caf\udce9", r"caf\xe9"), ("\ud800", r"\ud800"),
     ("灰色 👩‍👧 é", "灰色 👩‍👧 é"), ("\u202egnp", r"\u202egnp")],
)  # fmt: skip
def test_control_characters_are_written_as_python_does(text, escaped):
    assert escape_text(text) == escaped


@given(st.text(), st.integers(2, 50))
def test_a_shortened_text_is_no_longer_than_it_may_be(text, limit):
    shown = shorten_text(text, limit)
    assert len(shown) <= limit
    assert is_plain_text(shown)
    assert shown == escape_text(text) or shown.endswith(" …")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[" * 10**6, "nested too deeply"),
        (b"[" * 200 + b"]" * 200, "nested too deeply"),
        (b'{"a": [0, NaN]}', r"a\.1: the number nan is not finite"),
        (b'{"a": 1e999}', "a: the number inf is not finite"),
        (b'{"a": 1' + b"0" * 1000 + b"}", "a: the number 1000"),
        (b'{"a": 1' + b"0" * 10**5 + b"}", "not JSON"),
        (b'{"a": "\\ud800"}', r"a: the text '\\ud800' holds control characters"),
        (b'{"a\\n": 1}', r"the text 'a\\n' holds control characters"),
        (b'["' + b"x" * 5000 + b'"]', "0: a text of 5,000 characters is too long"),
    ],
    ids=range(11),
)
def test_json_of_a_stranger_is_refused_in_one_short_line(content, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_json(content)
    assert is_plain_text(str(caught.value))
    assert len(str(caught.value)) < 400
