"""A search from the page: budgets, pictures and minutes in, a network out, and everything to watch in between."""

import html
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from trinas.budgets import possible_costs
from trinas.config import Budgets
from trinas.device import chosen_precision, pick_device
from trinas.errors import ModelError, TrinasError
from trinas.hub import is_hub_id
from trinas.latency import spec_ms_per_mp
from trinas.report import PAGE_FILE, live_drawings
from trinas.space import ArchSpec
from trinas.store import push_model

from .parts import PRIVATE, Picker, idle, note
from .searches import Searches
from .service import Service, escaped, zipped

POLL_S = 2
WORDS = (
    "Let TriNAS find a network of its own that keeps within your budget, and train it: on photographs like those that "
    "you want to enlarge (three or more, the more the better), or on generated ones. It runs on, whether this page is "
    "open or not."
)
EMPTY = "No search yet. What is found, and how, will be shown here as it happens."
FEWEST = 3
"""Photographs that a search needs: to learn weights, to learn the architecture, to validate."""


def search_tab(
    service: Service, searches: Searches, picker: Picker, tabs: gr.Tabs, page: gr.Blocks, is_loopback: bool
) -> None:
    """Lay out the tab and say what its parts do."""
    limits = service.limits
    drawn = gr.State("")  # what the drawings show
    gr.Markdown(WORDS)
    with gr.Row(elem_classes="sides"):
        with gr.Column(scale=2, min_width=320):
            scale = gr.Radio([("2×", 2), ("3×", 3), ("4×", 4)], value=4, label="Enlarges", elem_classes="sizes")
            gr.Markdown("**Budget**: fill in at least one, 0 is no limit. Of several all are kept.")
            params = gr.Number(50, label="Parameters, in thousands", minimum=0, elem_id="params")
            macs = gr.Number(None, label="Multiply-adds for a 1280x720 result, in billions", minimum=0)
            ms = gr.Number(None, label="Milliseconds per megapixel of result, on this machine", minimum=0)
            minutes = gr.Number(
                min(20, limits.search_minutes), label="Minutes", minimum=0.2, maximum=limits.search_minutes,
                info="20 are a trial; good networks take hours", elem_id="minutes",
            )  # fmt: skip
            photographs = gr.File(
                label="Photographs (optional)",
                file_count="multiple",
                height=130,
                elem_id="photographs",
            )
            with gr.Row():
                start = gr.Button("Search", variant="primary", elem_id="start-search")
                stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop-search")
                resume = gr.Button("Go on", visible=False, elem_id="resume-search")
        with gr.Column(scale=3, min_width=320):
            wrong = gr.HTML(elem_id="wrong-search")
            said = gr.HTML(elem_id="said-search")
            with gr.Row():
                use = gr.Button("Use it", variant="primary", visible=False, elem_id="use")
                download = gr.DownloadButton("Download the run folder", visible=False, elem_id="download-search")
                report = gr.DownloadButton("Download the report", visible=False)
    with gr.Group(visible=False) as sharing:
        gr.Markdown("**Share it** on the Hugging Face Hub, with its card. The token is used once and not kept.")
        with gr.Row(equal_height=True):
            repo = gr.Textbox(label="Repository", placeholder="user/name", elem_id="repo")
            token = gr.Textbox(label="Token that may write", type="password", elem_id="token")
            push = gr.Button("Push", elem_id="push")
        pushed = gr.HTML(elem_id="pushed")
    drawings = gr.HTML(elem_id="drawings")
    timer = gr.Timer(POLL_S)

    @lru_cache(maxsize=3)
    def ms_range(wish: int) -> tuple[float, float]:
        """Measured, and slow for the largest: once for each scale."""
        return possible_costs(wish, _ms_per_mp(searches.device))["ms_per_mp"]

    def ranges(wish: int) -> list[Any]:
        """What is possible at a scale, under each field."""
        found = possible_costs(wish)
        return [
            gr.update(info=f"possible: {low * factor:,.3g} to {high * factor:,.5g}")
            for (low, high), factor in ((found["params"], 1e-3), (found["macs"], 1e-9))
        ]

    def ms_info(wish: int) -> Any:
        low, high = ms_range(wish)
        return gr.update(info=f"possible here: about {low:,.0f} to {high:,.0f}")

    def begin(
        wish: int, kilo: float | None, giga: float | None, per_mp: float | None, time: float, paths: list[str] | None
    ) -> str:
        """Words, if it could not be started."""
        try:
            if not 0 < (time or 0) <= limits.search_minutes:
                raise TrinasError(f"minutes must be more than 0, and at most {limits.search_minutes:g}")
            if paths and len(paths) < FEWEST:
                raise TrinasError(
                    f"{len(paths)} photographs are too few: choose {FEWEST} or more, or none for generated ones"
                )
            budgets = Budgets(1e3 * (kilo or 0) or None, 1e9 * (giga or 0) or None, per_mp or None)
            searches.start(budgets, wish, time, [Path(path) for path in paths or []])
        except (TrinasError, ValueError) as error:
            return note(escaped(str(error)), "bad")
        return ""

    def go_on() -> str:
        try:
            searches.resume()
        except TrinasError as error:
            return note(escaped(error), "bad")
        return ""

    def watched(known: str, request: gr.Request) -> tuple[Any, ...]:
        """Everything that depends on where the search stands; drawings and files only when they are others."""
        status = searches.status()
        if status is None:
            return note(EMPTY), *idle(running=False), *(gr.update(visible=False),) * 5, "", ""
        running = status.state in ("running", "stopping")
        kind = {"finished": "good", "failed": "bad"}.get(status.state, "")
        words = note(f"<b>{escaped(status.run_dir.name)}</b><br>{escaped(status.line)}", kind)
        version = f"{status.run_dir} {status.state} {len(status.events)}"
        is_new = version != known
        offered: tuple[Any, ...] = (gr.update(visible=status.state == "finished"),) * 3
        if is_new and status.state == "finished":
            folder = service.session(request.session_hash).new_folder()
            archive = zipped(status.run_dir, folder / f"{status.run_dir.name}.zip")
            story = shutil.copy(status.run_dir / PAGE_FILE, folder / f"{status.run_dir.name}.html")
            offered = (
                gr.update(visible=True),
                *(gr.update(visible=True, value=str(file)) for file in (archive, story)),
            )
        return (
            words,
            gr.update(interactive=not running),
            gr.update(interactive=status.state == "running"),
            gr.update(visible=status.state == "stopped"),
            *offered,
            gr.update(visible=is_loopback and status.state == "finished"),
            (live_drawings(status.events) if status.events else "") if is_new else gr.skip(),
            version,
        )

    def used() -> tuple[Any, ...]:
        """The network on offer, and chosen in the first tab."""
        status = searches.status()
        assert status is not None
        name = service.add_model(str(status.run_dir), "searched", status.run_dir.name)
        return name, gr.update(selected="upscale")

    def shared(name: str, secret: str) -> tuple[str, str]:
        """Words, and the token's field empty again."""
        status = searches.status()
        try:
            if not is_loopback or status is None or status.state != "finished":
                raise ModelError("there is nothing to share")
            if not is_hub_id(name.strip()) or "@" in name:
                raise ModelError(f"{name.strip() or 'nothing'}: not a repository such as user/name")
            address = push_model(status.run_dir, name.strip(), secret.strip() or None)
        except TrinasError as error:
            return note(escaped(error), "bad"), ""
        link = html.escape(address)
        return note(f'It is at <a href="{link}" target="_blank">{link}</a>.', "good"), ""

    quiet: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
    push.click(shared, [repo, token], [pushed, token], **PRIVATE)
    shown = [said, start, stop, resume, use, download, report, sharing, drawings, drawn]
    watch: dict[str, Any] = {"fn": watched, "inputs": drawn, "outputs": shown, "queue": False, **quiet}
    timer.tick(**watch)
    page.load(**watch)
    page.load(ranges, scale, [params, macs], queue=False, **quiet)
    scale.change(ranges, scale, [params, macs], queue=False, **quiet)
    for event in (ms.focus, scale.change):
        event(ms_info, scale, ms, concurrency_id="estimates", concurrency_limit=1, **quiet)
    start.click(begin, [scale, params, macs, ms, minutes, photographs], wrong, **quiet).then(**watch)
    stop.click(searches.stop, None, None, queue=False, **quiet).then(**watch)
    resume.click(go_on, None, wrong, **quiet).then(**watch)
    chosen = gr.State("")
    picker.refresh(use.click(used, None, [chosen, tabs], **quiet).then).then(
        lambda name: name, chosen, picker.first, queue=False, **quiet
    )


def _ms_per_mp(device_name: str) -> Any:
    device = pick_device(device_name)

    def measured(spec: ArchSpec) -> float:
        return spec_ms_per_mp(spec, device, chosen_precision("auto", device, spec.trunk_width))

    return measured
