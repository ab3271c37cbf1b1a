"""Text that comes from outside: file names, the models of others, messages of other libraries."""

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, separators of lines, marks that turn the direction of writing, and halves of characters. A name
that is not UTF-8 holds such halves."""

MAX_LINE = 300
"""Characters of a line that says what is wrong in a file."""


def is_plain_text(text: str) -> bool:
    """Return whether a text is a single line that can be encoded and moves nothing on a terminal."""
    return _UNSAFE.search(text) is None


def escape_text(text: str) -> str:
    r"""Return a text as one line, with its unsafe characters written as Python does: \n, \x1b, \ud800.

    A byte of a name that is not UTF-8 becomes \xff.
    """
    return _UNSAFE.sub(lambda found: _escape(found[0]), text)


def replace_unsafe(text: str) -> str:
    """Return a text with an underscore in place of each unsafe character, as for the name of a file."""
    return _UNSAFE.sub("_", text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else repr(character)[1:-1]


def shorten_text(text: str, limit: int = MAX_LINE) -> str:
    """Return a text as one line of at most `limit` characters. What is too much at its end becomes an ellipsis."""
    escaped = escape_text(text[: limit + 1])  # escaping a very long text would take long
    return escaped if len(escaped) <= limit else escaped[: limit - 2] + " …"
