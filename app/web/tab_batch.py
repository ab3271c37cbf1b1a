"""The tab for many images or archives. It shows the state of each image in a table, and offers all results."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from trinas.errors import Stopped, TrinasError
from trinas.inference.batch import Outcome
from trinas.inference.plan import Job

from ..words import format_bytes, format_count, format_duration
from .archives import unpack, write_zip
from .backend import Backend
from .components import (
    PROGRESS,
    QUIET,
    Controls,
    JobButtons,
    Picker,
    TileProgress,
    read_controls,
    render_note,
    render_table,
)
from .messages import escape, hide_paths
from .runner import Request, plan_batch
from .uploads import Session, check_disk, measure_folder

HEADERS = {"File": "long", "State": "whole", "Details": "long"}
JOB = "batch"
ARCHIVE = "upscaled.zip"
EMPTY = (
    "Choose several images, or a zip archive. All become as large as you say, and come back in one archive. The "
    "folders in your archive are kept."
)
WAITING, WORKING, LEFT = "waiting", "working…", "not done"
SIGNS = {"done": "✓ done", "failed": "✕ failed"}


class BatchTable:
    """A row for each file of a batch: name, state, details."""

    def __init__(self, names: list[str], folder: Path, results: Path) -> None:
        self._folder, self._results = folder, results
        self._rows = [[name, WAITING, ""] for name in names]
        self._states: list[str] = []

    def mark_working(self, number: int) -> None:
        """Mark all files up to a number that are not done. Earlier files may still have to be written."""
        for row in self._rows[len(self._states) : number + 1]:
            row[1] = WORKING

    def add(self, outcome: Outcome) -> None:
        """Fill the next row."""
        self._rows[len(self._states)][1:] = describe_row(outcome, self._folder, self._results)
        self._states.append(outcome.state)

    def leave_rest(self) -> None:
        """Mark the files that are not done."""
        for row in self._rows[len(self._states) :]:
            row[1] = LEFT

    def counts(self) -> Counter[str]:
        """Return how many files are in each state."""
        return Counter(self._states) | Counter({LEFT: len(self._rows) - len(self._states)})

    def html(self) -> str:
        """Return the table as HTML."""
        return render_table(HEADERS, self._rows)


class BatchTab:
    """The tab for many images."""

    def __init__(self, backend: Backend, picker: Picker) -> None:
        """Add the tab's components to the page at the present place."""
        self._backend = backend
        with gr.Row(elem_classes="sides"):
            with gr.Column(scale=2, min_width=320):
                self._uploads = gr.File(
                    label="Images or zip archives", show_label=False, file_count="multiple", height=180,
                    elem_id="image-files", elem_classes=["drop", "many"],
                )  # fmt: skip
                self._controls = Controls(picker)
                with gr.Row():
                    self._buttons = JobButtons(backend.sessions, JOB, "Upscale all", "start-batch", "stop-batch")
            with gr.Column(scale=3, min_width=320):
                self._said = gr.HTML(render_note(EMPTY), elem_id="said-batch")
                self._download = gr.DownloadButton(
                    "Download all results", variant="primary", visible=False, elem_id="download-batch"
                )
                self._files = gr.HTML(elem_id="table-batch")

    def connect(self) -> None:
        """Connect events to handlers."""
        shown = [self._said, self._buttons.start, self._download, self._files]
        self._uploads.change(self._receive, self._uploads, shown, **QUIET)
        inputs = [self._uploads, *self._controls.components]
        results = [self._files, self._said, self._download]
        self._buttons.connect(self._run, inputs, results, self._said, {self._download: gr.update(visible=False)})

    def _receive(self, paths: list[str] | None) -> tuple[Any, ...]:
        """Take new files, and hide the results of an earlier batch."""
        words = f"{format_count(len(paths), 'file')} chosen." if paths else EMPTY
        return render_note(words), gr.update(interactive=bool(paths)), gr.update(visible=False), ""

    def _run(
        self, paths: list[str], request: gr.Request, progress: gr.Progress = PROGRESS, *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        """Upscale the files. Yield the table after each file, and at the end a message and the archive."""
        session = self._backend.sessions.get(request.session_hash)
        try:
            wanted = read_controls(self._backend.runner, *values)
            with session.borrow_folder() as folder, session.borrow_folder() as results:
                problems = unpack([Path(path) for path in paths], folder, self._backend.limits)
                jobs = plan_batch(folder, results, wanted.size, wanted.save, problems).jobs
                batch = _Batch(session, jobs, wanted, folder, results)
                yield from self._run_jobs(batch, progress)
        except TrinasError as error:
            yield gr.update(), render_note(escape(error), "bad"), gr.update()

    def _run_jobs(self, batch: "_Batch", progress: gr.Progress) -> Iterator[tuple[Any, ...]]:
        """Upscale files that are unpacked and planned."""
        names = [str(job.source.relative_to(batch.folder)) for job in batch.jobs]
        rows, show_progress = BatchTable(names, batch.folder, batch.results), TileProgress(progress, names)

        def on_tile(number: int, share: float) -> None:
            rows.mark_working(number)
            show_progress(number, share)

        session = batch.session
        outcomes = self._backend.runner.run(session, session.stop_request(JOB), batch.jobs, batch.wanted, on_tile)
        yield rows.html(), render_note(f"{format_count(len(names), 'file')}."), gr.update()
        ended = ""
        try:
            for outcome in outcomes:
                rows.add(outcome)
                yield rows.html(), gr.update(), gr.update()
        except Stopped as stopped:
            ended = str(stopped)
            rows.leave_rest()
        counts = rows.counts()
        archive = gr.update()
        if counts["done"]:
            check_disk(batch.results, self._backend.limits, measure_folder(batch.results))
            archive = gr.update(value=str(write_zip(batch.results, session.new_folder() / ARCHIVE)), visible=True)
        words = f"{ended} {', '.join(f'{count} {state}' for state, count in counts.items() if count)}.".strip()
        yield rows.html(), render_note(escape(words), "" if counts["failed"] or ended else "good"), archive


@dataclass(frozen=True)
class _Batch:
    """A batch that is ready to run."""

    session: Session
    jobs: Sequence[Job]
    wanted: Request
    folder: Path
    """Of the unpacked files."""
    results: Path
    """Folder for the results."""


def describe_row(outcome: Outcome, folder: Path, results: Path) -> list[str]:
    """Return the state and the details of a row.

    Args:
        outcome: of the job.
        folder, results: folders of the batch and of its results.
    """
    if outcome.state != "done":
        reason = hide_paths(outcome.reason, folder, results)
        return [SIGNS["failed"], reason.removeprefix(f"{outcome.job.source.relative_to(folder)}: ")]
    seconds = outcome.read_seconds + outcome.upscale_seconds + outcome.write_seconds
    name, size = outcome.job.result.relative_to(results), format_bytes(outcome.job.result.stat().st_size)
    return [SIGNS["done"], "; ".join([f"{name}, {size}, {format_duration(seconds)}", *outcome.notes])]
