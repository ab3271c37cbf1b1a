"""Many pictures, or an archive of them: a table with a state for each, and an archive of the results."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from trinas.errors import Stopped, TrinasError
from trinas.inference.batch import Outcome

from .components import NETWORKS, PRIVATE, PROGRESS, Controls, Picker, TileProgress, idle, note, read_controls, table
from .service import Service, bytes_text, escaped, plan_batch, seconds_text, shown, zipped

HEADERS = {"File": "long", "State": "whole", "Details": "long"}
JOB = "batch"
ARCHIVE = "upscaled.zip"
EMPTY = (
    "Choose several pictures, or a zip archive. All become as large as you say, and come back in one archive; "
    "the folders of yours are kept."
)
WAITING, WORKING, LEFT = "waiting", "working…", "not done"
SIGNS = {"done": "✓ done", "failed": "✕ failed"}


def batch_tab(service: Service, picker: Picker) -> None:
    """Lay out the tab and say what its parts do."""
    with gr.Row(elem_classes="sides"):
        with gr.Column(scale=2, min_width=320):
            uploads = gr.File(
                label="Pictures or zip archives", show_label=False, file_count="multiple", height=180,
                elem_id="pictures", elem_classes=["drop", "many"],
            )  # fmt: skip
            controls = Controls.shown(picker)
            with gr.Row():
                start = gr.Button("Upscale all", variant="primary", interactive=False, elem_id="start-batch")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop-batch")
        with gr.Column(scale=3, min_width=320):
            said = gr.HTML(note(EMPTY), elem_id="said-batch")
            download = gr.DownloadButton(
                "Download all results", variant="primary", visible=False, elem_id="download-batch"
            )
            files = gr.HTML(elem_id="table-batch")

    def chosen(paths: list[str] | None) -> tuple[Any, ...]:
        """New files: nothing of an earlier batch is left."""
        words = f"{len(paths)} file{'s' if len(paths) > 1 else ''} chosen." if paths else EMPTY
        return note(words), gr.update(interactive=bool(paths)), gr.update(visible=False), ""

    def begin(request: gr.Request) -> tuple[Any, ...]:
        service.session(request.session_hash).stop(JOB).clear()
        return *idle(running=True), gr.update(visible=False)

    def run(
        paths: list[str],
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
        *values: Any,
    ) -> Iterator[tuple[Any, ...]]:
        """The table as it fills, words, and in the end the archive."""
        session = service.session(request.session_hash)
        try:
            size, save, enlarger, options = read_controls(service, list(values))
            folder = service.unpack(session, [Path(path) for path in paths])
            results = session.new_folder()
            plan = plan_batch(folder, results, size, save)
        except TrinasError as error:
            yield gr.update(), note(escaped(error), "bad"), gr.update()
            return
        names = [str(job.source.relative_to(folder)) for job in plan.jobs]
        rows = [[name, WAITING, ""] for name in names]
        yield table(HEADERS, rows), note(f"{len(rows)} files."), gr.update()
        outcomes: list[Outcome] = []
        ended = ""
        progressed = TileProgress(progress, names)

        def on_tile(number: int, share: float) -> None:
            """The files before it may still have to be written; the table is shown whenever one of them is."""
            for row in rows[len(outcomes) : number + 1]:
                row[1] = WORKING
            progressed(number, share)

        try:
            stop = session.stop(JOB)
            for outcome in service.run(session, stop, plan.jobs, enlarger, size, save, on_tile, options):
                rows[len(outcomes)][1:] = _told(outcome, folder, results)
                outcomes.append(outcome)
                yield table(HEADERS, rows), gr.update(), gr.update()
        except Stopped as stopped:
            ended = str(stopped)
            for row in rows[len(outcomes) :]:
                row[1] = LEFT
        counts = Counter(outcome.state for outcome in outcomes) | Counter({LEFT: len(rows) - len(outcomes)})
        words = f"{ended} {', '.join(f'{count} {state}' for state, count in counts.items() if count)}.".strip()
        archive = gr.update()
        if counts["done"]:
            archive = gr.update(value=str(zipped(results, session.new_folder() / ARCHIVE)), visible=True)
        yield table(HEADERS, rows), note(escaped(words), "" if counts["failed"] or ended else "good"), archive

    def stopped(request: gr.Request) -> None:
        service.session(request.session_hash).stop(JOB).set()

    quiet: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
    uploads.change(chosen, uploads, [said, start, download, files], **quiet)
    running = start.click(begin, None, [start, stop, download], queue=False, **quiet)
    running = running.then(
        run, [uploads, *controls.list()], [files, said, download], show_progress_on=said, **NETWORKS, **PRIVATE
    )
    running.then(lambda: idle(running=False), None, [start, stop], queue=False, **quiet)
    stop.click(stopped, None, None, queue=False, **quiet)


def _told(outcome: Outcome, folder: Path, results: Path) -> list[str]:
    """State and details of a row."""
    if outcome.state != "done":
        reason = shown(outcome.reason, folder, results)
        return [SIGNS["failed"], reason.removeprefix(f"{outcome.job.source.relative_to(folder)}: ")]
    seconds = outcome.read_seconds + outcome.upscale_seconds + outcome.write_seconds
    name, size = outcome.job.result.relative_to(results), bytes_text(outcome.job.result.stat().st_size)
    return [SIGNS["done"], "; ".join([f"{name}, {size}, {seconds_text(seconds)}", *outcome.notes])]
