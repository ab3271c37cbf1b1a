"""Turn errors and file names into text for visitors."""

import html
from pathlib import Path

from trinas.errors import Stopped, TrinasError

_OPTIONS = {
    " (--max-output-mp)": "",
    " (--max-input-mp)": "",
    " (--max-seconds-per-file)": "",
    "--background": "a background colour",
    "--format": "the format",
}
"""Option of the command line -> the words of the page."""


def hide_paths(text: str, *folders: Path) -> str:
    """Return a message with the file names that the visitor knows.

    Args:
        text: a message of the library. It has paths of files and options of the command line.
        folders: are removed from the paths in the text.
    """
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    for option, words in _OPTIONS.items():
        text = text.replace(option, words)
    return text


def escape(error: TrinasError | Stopped | str) -> str:
    """Return a message as HTML. It is shown as text, whatever the file names in it contain."""
    return html.escape(str(error))
