"""Many pictures, or an archive of them: a table with a state for each, and an archive of the results."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from trinas.batch import Outcome
from trinas.errors import Stopped, TrinasError

from .parts import NETWORKS, PRIVATE, PROGRESS, Controls, Picker, TileProgress, idle, note, read_controls
from .service import Service, escaped, plan_batch, seconds_text, shown, zipped

HEADERS = ["file", "state", "details"]
ARCHIVE = "upscaled.zip"
EMPTY = "Choose several pictures, or a zip archive, whose folders are kept."


def batch_tab(service: Service, picker: Picker) -> None:
    """Lay out the tab and say what its parts do."""
    with gr.Row(elem_classes="sides"):
        with gr.Column(scale=2, min_width=320):
            uploads = gr.File(label="Pictures or zip archives", file_count="multiple", height=180, elem_id="pictures")
            controls = Controls.shown(picker)
            with gr.Row():
                start = gr.Button("Upscale all", variant="primary", interactive=False, elem_id="start-batch")
                stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop-batch")
        with gr.Column(scale=3, min_width=320):
            said = gr.HTML(note(EMPTY), elem_id="said-batch")
            download = gr.DownloadButton(
                "Download all results", variant="primary", visible=False, elem_id="download-batch"
            )
            table = gr.Dataframe(
                headers=HEADERS, datatype="str", interactive=False, wrap=True, visible=False, label="Files",
                column_widths=["40%", "15%", "45%"], max_height=560, buttons=[], elem_id="table-batch",
            )  # fmt: skip

    def chosen(paths: list[str] | None) -> tuple[Any, ...]:
        """New files: nothing of an earlier batch is left."""
        words = f"{len(paths)} file{'s' if len(paths) > 1 else ''} chosen." if paths else EMPTY
        return note(words), gr.update(interactive=bool(paths)), gr.update(visible=False), gr.update(visible=False)

    def begin(request: gr.Request) -> tuple[Any, ...]:
        service.session(request.session_hash).stop.clear()
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
            size, save, enlarger = read_controls(service, list(values))
            folder = service.unpack(session, [Path(path) for path in paths])
            results = session.new_folder()
            plan = plan_batch(folder, results, size, save)
        except TrinasError as error:
            yield gr.update(), note(escaped(error), "bad"), gr.update()
            return
        names = [str(job.source.relative_to(folder)) for job in plan.jobs]
        rows = [[name, "waiting", ""] for name in names]
        yield gr.update(value=rows, visible=True), note(f"{len(rows)} files."), gr.update()
        outcomes: list[Outcome] = []
        ended = ""
        try:
            for outcome in service.run(session, plan.jobs, enlarger, size, save, TileProgress(progress, names)):
                rows[len(outcomes)][1:] = _told(outcome, folder, results)
                outcomes.append(outcome)
                yield gr.update(value=rows), gr.update(), gr.update()
        except Stopped as stopped:
            ended = str(stopped)
            for row in rows[len(outcomes) :]:
                row[1] = "not done"
        counts = Counter(outcome.state for outcome in outcomes)
        words = (
            f"{ended} {counts['done']} done, {counts['failed']} failed, {len(rows) - len(outcomes)} not done.".strip()
        )
        archive = gr.update()
        if counts["done"]:
            archive = gr.update(value=str(zipped(results, session.new_folder() / ARCHIVE)), visible=True)
        yield gr.update(value=rows), note(escaped(words), "" if counts["failed"] or ended else "good"), archive

    def stopped(request: gr.Request) -> None:
        service.session(request.session_hash).stop.set()

    quiet: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
    uploads.change(chosen, uploads, [said, start, download, table], **quiet)
    running = start.click(begin, None, [start, stop, download], queue=False, **quiet)
    running = running.then(
        run, [uploads, *controls.list()], [table, said, download], show_progress_on=said, **NETWORKS, **PRIVATE
    )
    running.then(lambda: idle(running=False), None, [start, stop], queue=False, **quiet)
    stop.click(stopped, None, None, queue=False, **quiet)


def _told(outcome: Outcome, folder: Path, results: Path) -> list[str]:
    """State and details of a row."""
    if outcome.state != "done":
        reason = shown(outcome.reason, folder, results)
        return [outcome.state, reason.removeprefix(f"{outcome.job.source.relative_to(folder)}: ")]
    seconds = outcome.read_seconds + outcome.enlarge_seconds + outcome.write_seconds
    name, size_mb = outcome.job.result.relative_to(results), outcome.job.result.stat().st_size / 1e6
    return ["done", "; ".join([f"{name}, {size_mb:.1f} MB, {seconds_text(seconds)}", *outcome.notes])]
