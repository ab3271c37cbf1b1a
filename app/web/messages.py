"""Errors and file names as text for visitors."""

import html
from pathlib import Path

from trinas.errors import Stopped, TrinasError

_OPTIONS = {
    " (--max-output-mp)": "",
    " (--max-input-mp)": "",
    "--background": "a background colour",
    "--format": "the format",
}
"""Options of the command line, and the words that the page has for them."""


def hide_paths(text: str, *folders: Path) -> str:
    """Return a message that names files as the visitor knows them.

    Args:
        text: a message of the library, which names files by their paths and options by those of the command line.
        folders: taken off the front of paths in the text.
    """
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    for option, words in _OPTIONS.items():
        text = text.replace(option, words)
    return text


def escape(error: TrinasError | Stopped | str) -> str:
    """Return a message as HTML. A file name in it stays text, whatever it contains."""
    return html.escape(str(error))
