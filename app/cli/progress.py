"""Progress on standard error: a bar that is updated in place on a terminal, and plain lines elsewhere."""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from trinas.text import escape_text

from ..words import format_duration, format_megabytes
from .terminal import make_console, say

BAR_WIDTH = 20


class _TimeLeftColumn(ProgressColumn):
    """The time left, estimated from the progress so far."""

    def render(self, task: Task) -> Text:
        """Return the text of the column."""
        seconds = task.time_remaining
        return Text("" if seconds is None else f"{format_duration(seconds)} left")


class ProgressLine:
    """A title, a bar and some words in one line that is updated in place. Use it as a context manager.

    Attributes:
        is_drawn: whether the line is drawn. This needs a terminal as standard error, and a line that is not hidden.
    """

    def __init__(self, *, hidden: bool = False, estimates_time: bool = False) -> None:
        """Prepare the line. It appears at the first call of `show`.

        Args:
            hidden: draw nothing, even on a terminal.
            estimates_time: end the line with the time left, estimated from the progress so far.
        """
        console = make_console(stderr=True)
        self.is_drawn = console.is_terminal and not console.is_dumb_terminal and not hidden
        self._last_kept = ""
        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(BAR_WIDTH),
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(overflow="fold")),
            *([_TimeLeftColumn()] if estimates_time else []),
        ]
        self._progress = Progress(*columns, console=console, transient=True, disable=not self.is_drawn)
        self._task = self._progress.add_task("", visible=False, words="", total=None)

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *details: object) -> None:
        self._progress.stop()
        if self._last_kept:
            say(self._last_kept)

    def show(self, title: str, done: float, total: float | None, words: str = "", *, keeps: bool = False) -> None:
        """Update the line. If no line is drawn, print it as a plain line if `keeps` is set.

        Args:
            title: text before the bar.
            done: how much is done, in any unit.
            total: how much there is to do, in the same unit; None: unknown.
            words: text after the bar.
            keeps: whether to print a plain line if no bar is drawn. The last one stays when a drawn bar ends.
        """
        title, words = escape_text(title), escape_text(words)
        if self.is_drawn:
            self._progress.tasks[0].total = total  # `update` takes None for unchanged
            self._progress.update(self._task, description=title, completed=done, words=words, visible=True)
            self._last_kept = f"{title}  {words}" if keeps else self._last_kept
        elif keeps:
            say(f"{title}  {words}")

    def restart(self) -> None:
        """Forget the speed so far, because new work begins."""
        self._progress.reset(self._task)

    def say(self, line: str) -> None:
        """Print a line above the bar. It stays there."""
        if self.is_drawn:
            self._progress.console.print(Text(escape_text(line)), soft_wrap=True)
        else:
            say(line)


class ImageProgress(ProgressLine):
    """A bar over all images of a batch. It moves with each tile, and shows the current file and the time left."""

    def __init__(self, sources: Sequence[Path], *, hidden: bool) -> None:
        """Prepare the bar for these files, in their order; draw nothing if it is `hidden`."""
        super().__init__(hidden=hidden, estimates_time=True)
        self._names = [path.name for path in sources]

    def move(self, number: int, share: float) -> None:
        """Show that a share, 0 to 1, of image `number`, counted from 0, is finished."""
        title = f"{number + 1}/{len(self._names)} {self._names[number]}"
        self.show(title, number + share, len(self._names))


class DownloadProgress(ProgressLine):
    """A bar for each step of a download. If no bar is drawn, a line is printed for each tenth of a step."""

    def __init__(self) -> None:
        super().__init__(estimates_time=True)
        self._printed: tuple[str, int] = ("", 0)

    def move(self, work: str, done: int, total: int) -> None:
        """Show how much of a step is done.

        Args:
            work: name of the step, such as Downloading.
            done: how much of it is done, in bytes or images.
            total: how much there is to do, in the same unit; 0: unknown.
        """
        tenth = done * 10 // total if total else 0
        if work != self._printed[0]:
            self.restart()
        words = f"{done * 100 // total} %" if total else format_megabytes(done)
        self.show(work, done, total or None, words, keeps=(work, tenth) != self._printed)
        self._printed = (work, tenth)
