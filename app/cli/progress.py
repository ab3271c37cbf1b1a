"""Progress on standard error: a bar that is renewed in place on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from ..words import format_duration, format_megabytes
from .terminal import make_console, say

BAR_WIDTH = 20


class _TimeLeftColumn(ProgressColumn):
    """The time left, as far as the progress so far tells."""

    def render(self, task: Task) -> Text:
        seconds = task.time_remaining
        return Text("" if seconds is None else f"{format_duration(seconds)} left")


class ProgressLine:
    """A title, a bar and some words in one line that is renewed in place. Use it as a context manager.

    Attributes:
        is_drawn: whether the line is drawn: standard error is a terminal, and the line is not hidden.
    """

    def __init__(self, *, hidden: bool = False, estimates_time: bool = False) -> None:
        """
        Args:
            hidden: draw nothing, even on a terminal.
            estimates_time: end the line with the time left, estimated from the progress so far.
        """
        self.is_drawn = sys.stderr.isatty() and not hidden
        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(BAR_WIDTH),
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(overflow="fold")),
            *([_TimeLeftColumn()] if estimates_time else []),
        ]
        console = make_console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not self.is_drawn)
        self._task = self._progress.add_task("", visible=False, words="")

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *details: object) -> None:
        self._progress.stop()

    def show(self, title: str, done: float, total: float | None, words: str = "", *, keeps: bool = False) -> None:
        """Draw the line anew; where it is not drawn, print it if it is worth a line of its own.

        Args:
            title: stands before the bar.
            done: how much is done, in any unit.
            total: out of how much; None: unknown.
            words: stand after the bar.
            keeps: whether to print the line where no bar is drawn.
        """
        if self.is_drawn:
            self._progress.update(self._task, description=title, completed=done, total=total, words=words, visible=True)
        elif keeps:
            say(f"{title}  {words}")

    def restart(self) -> None:
        """Forget the speed so far, because other work begins."""
        self._progress.reset(self._task)

    def say(self, line: str) -> None:
        """Print a line that stays, above the bar."""
        if self.is_drawn:
            self._progress.console.print(Text(line), soft_wrap=True)
        else:
            say(line)


class ImageProgress(ProgressLine):
    """A bar over all images of a batch, moved by tiles, with the current file's name and the time left."""

    def __init__(self, sources: Sequence[Path], *, hidden: bool) -> None:
        """
        Args:
            sources: the files, in their order.
            hidden: draw nothing.
        """
        super().__init__(hidden=hidden, estimates_time=True)
        self._names = [path.name for path in sources]

    def move(self, number: int, share: float) -> None:
        """Draw how much of an image is finished.

        Args:
            number: of the image, from 0.
            share: the finished share of it, in 0..1.
        """
        title = f"{number + 1}/{len(self._names)} {self._names[number]}"
        self.show(title, number + share, len(self._names))


class DownloadProgress(ProgressLine):
    """A bar for each step of a download; where it is not drawn, a line for each tenth of a step."""

    def __init__(self) -> None:
        super().__init__(estimates_time=True)
        self._printed: tuple[str, int] = ("", 0)

    def move(self, work: str, done: int, total: int) -> None:
        """Tell how far the work is.

        Args:
            work: what is being done, such as Downloading.
            done: how much of it.
            total: of how much; 0: unknown.
        """
        tenth = done * 10 // total if total else 0
        if work != self._printed[0]:
            self.restart()
        words = f"{done * 100 // total} %" if total else format_megabytes(done)
        self.show(work, done, total or None, words, keeps=(work, tenth) != self._printed)
        self._printed = (work, tenth)
