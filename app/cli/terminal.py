"""Messages and tables. On a terminal, rich draws the tables. Elsewhere every line is plain text and complete."""

import json
import sys
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import typer

from trinas.text import escape_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

UNLIMITED_WIDTH = 1_000_000
"""Width of an output that is not a terminal, so that no line is wrapped or cut."""

LEAST_FOLDED_WIDTH = 12
"""Long cells are folded to no fewer columns than this. On a narrower terminal, the terminal itself folds the lines."""


def say(line: str) -> None:
    """Print a line to standard error. Everything that is not the result of a command goes there.

    Control characters, which the names of files and models may hold, are printed escaped here and everywhere below.
    """
    typer.echo(escape_text(line), err=True)


def print_line(line: str) -> None:
    """Print a line to standard output."""
    typer.echo(escape_text(line))


def print_json(value: Any) -> None:
    """Print `value` to standard output."""
    typer.echo(json.dumps(value, indent=2))


def print_table(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str] = (),
    *,
    numbers: Container[int] = (),
    foldable: Container[int] = (),
) -> None:
    """Print a table to standard output.

    Args:
        rows: the cells, as plain text without markup.
        headers: one for each column, or none at all.
        numbers: columns that are aligned at the right.
        foldable: columns whose long cells may take several lines on a narrow terminal. Elsewhere no cell is folded.
            Cells are never cut.
    """
    is_terminal = sys.stdout.isatty()
    rows, headers = [list(map(escape_text, row)) for row in rows], list(map(escape_text, headers))
    table = _build_table(rows, headers, numbers, foldable, has_rule=is_terminal)
    console = make_console(width=None if is_terminal else UNLIMITED_WIDTH)
    console.width = max(console.width, sum((column.min_width or 0) + 2 for column in table.columns))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def make_console(*, stderr: bool = False, width: int | None = None) -> "Console":
    """Return a console that prints text unchanged, without markup, emoji codes or highlighting.

    Whether the output is a terminal depends on the output alone, not on environment variables.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=is_terminal,
        color_system="auto" if is_terminal else None,
        width=width,
        markup=False,
        emoji=False,
        highlight=False,
    )


def _build_table(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str],
    numbers: Container[int],
    foldable: Container[int],
    *,
    has_rule: bool,
) -> "Table":
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    lines = [headers, *rows] if headers else rows
    frame = box.SIMPLE_HEAD if has_rule and headers else None
    gap = 1 if frame else 2  # a frame adds one itself
    table = Table(box=frame, show_header=bool(headers), show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    for number, cells in enumerate(zip(*lines, strict=True)):
        width = max(map(cell_len, cells))
        table.add_column(
            Text(cells[0]) if headers else "",
            justify="right" if number in numbers else "left",
            overflow="fold",
            no_wrap=number not in foldable,
            min_width=min(width, LEAST_FOLDED_WIDTH) if number in foldable else width,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table
