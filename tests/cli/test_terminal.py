"""Tables and progress, on a terminal and elsewhere."""

import io
import re
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from trinas_app.cli.progress import DownloadProgress, ImageProgress, ProgressLine
from trinas_app.cli.terminal import print_table

LONG = "photos/" + "a very long name " * 20 + "[red]灰色[/red] :smile:.png"
ROWS = [[LONG, "1.5", "389 MB"], ["cat.png", "12.25", "1,234,567 MB"]]
HEADERS = ["result", "seconds", "memory"]


class Terminal(io.StringIO):
    """A terminal of 80 columns, as far as Python sees it."""

    encoding = "utf-8"

    def isatty(self):
        return True


@contextmanager
def on_terminal(columns=80):
    """Let standard output and standard error be a terminal in the block."""
    screen = Terminal()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(screen), redirect_stderr(screen):
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("TERM", "xterm-256color")
        yield screen


def without_codes(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_table_that_is_not_on_a_terminal_is_plain_and_complete(capsys, monkeypatch):
    """Whatever the environment says of colours and widths."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    print_table(ROWS, HEADERS, numbers=[1, 2], foldable=[0])
    head, first, second = capsys.readouterr().out.splitlines()
    assert "\x1b" not in head + first + second
    assert first == f"{LONG}      1.5        389 MB"
    assert re.fullmatch(r"cat\.png +12\.25  1,234,567 MB", second)
    assert re.fullmatch(r"result +seconds +memory", head)


def test_a_table_without_headers_has_only_its_rows(capsys):
    print_table([["cpu *", "2 threads"], ["cuda:0", "GPU"]])
    assert capsys.readouterr().out == "cpu *   2 threads\ncuda:0  GPU\n"


@pytest.mark.parametrize("columns", [48, 80])
def test_a_table_on_a_terminal_folds_long_cells_and_cuts_none(columns):
    with on_terminal(columns) as terminal:
        print_table(ROWS, HEADERS, numbers=[1, 2], foldable=[0])
    text = without_codes(terminal.getvalue())
    assert max(map(len, text.splitlines())) <= columns
    assert "1,234,567 MB" in text
    assert "…" not in text
    first_cell = re.sub(r"1\.5 +389 MB|\s", "", text[text.index("photos") : text.index("cat.png")])
    assert first_cell == "".join(LONG.split())


def test_numbers_are_whole_on_a_terminal_that_is_far_too_narrow():
    with on_terminal(10) as terminal:
        print_table(ROWS, HEADERS, numbers=[1, 2], foldable=[0])
    assert "1,234,567 MB" in terminal.getvalue()


def test_the_bar_names_the_image_as_it_is_called():
    with on_terminal() as terminal:
        progress = ImageProgress([Path("photos/[red]cat[ :smile:.png"), Path("dog.png")], hidden=False)
        with progress:
            progress.move(0, 0.5)
            progress.say("note: [bold]: kept as it is")
    text = without_codes(terminal.getvalue())
    assert "1/2 [red]cat[ :smile:.png ━" in text
    assert "note: [bold]: kept as it is\n" in text


def test_a_hidden_bar_draws_nothing():
    with on_terminal() as terminal:
        progress = ImageProgress([Path("cat.png")], hidden=True)
        with progress:
            progress.move(0, 0.5)
            progress.say("failed: cat.png")
    assert terminal.getvalue() == "failed: cat.png\n"


def test_no_bar_is_drawn_where_nobody_watches(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    progress = ProgressLine()
    with progress:
        progress.show("step 20/400", 20, 400, "loss 0.1")
        progress.show("step 100/400", 100, 400, "loss 0.1", keeps=True)
    assert capsys.readouterr().err == "step 100/400  loss 0.1\n"


def test_the_line_of_a_run_says_everything_on_a_narrow_terminal():
    words = "anneal 0.10  expected params 12.3k of 50k  loss 0.0213  PSNR 33.12 dB  4 min 10 s left"
    with on_terminal() as terminal:
        line = ProgressLine()
        with line:
            line.show("search 1,200/6,000", 1200, 6000, words)
    drawn = without_codes(terminal.getvalue())
    assert "search 1,200/6,000 ━" in drawn
    assert set(words.split()) <= set(drawn.split())


def test_a_download_prints_a_line_a_tenth(capsys):
    progress = DownloadProgress()
    with progress:
        for percent in range(101):
            progress.move("Downloading", percent, 100)
        progress.move("Unpacking", 1, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [*(f"Downloading  {percent} %" for percent in range(0, 101, 10)), "Unpacking  1 %"]


def test_the_last_validation_stays_on_a_terminal():
    with on_terminal() as terminal:
        line = ProgressLine()
        with line:
            line.show("step 10/20", 10, 20, "PSNR 30.00 dB", keeps=True)
            line.show("step 15/20", 15, 20, "PSNR 30.00 dB")
    assert without_codes(terminal.getvalue()).splitlines()[-1] == "step 10/20  PSNR 30.00 dB"


def test_a_terminal_without_cursor_movements_gets_plain_lines(monkeypatch):
    with on_terminal() as terminal:
        monkeypatch.setenv("TERM", "dumb")
        line = ProgressLine()
        with line:
            line.show("step 10/20", 10, 20, "PSNR 30.00 dB", keeps=True)
    assert not line.is_drawn
    assert terminal.getvalue() == "step 10/20  PSNR 30.00 dB\n"


def test_an_unknown_total_has_no_share():
    with on_terminal():
        progress = DownloadProgress()
        with progress:
            progress.move("Downloading", 5_000_000, 0)
            (task,) = progress._progress.tasks
            assert task.total is None
