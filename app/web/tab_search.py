"""A search from the page: budgets, pictures and minutes in, a network out, and everything to watch in between."""

import html
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from trinas.config import Budgets
from trinas.device import pick_device, resolve_precision
from trinas.errors import ModelError, TrinasError
from trinas.images.read_write import read_header
from trinas.networks.latency import spec_ms_per_mp
from trinas.networks.space import ArchSpec
from trinas.reports.pages import BUDGET_WORDS, PAGE_FILE, live_drawings
from trinas.search.budgets import possible_costs
from trinas.zoo.folder import push_model
from trinas.zoo.hub import is_hub_id

from .components import PRIVATE, Picker, idle, note
from .limits import Limits
from .searches import Searches
from .service import Service, escaped, shown, zipped

POLL_S = 2
WORDS = (
    "For the curious: let TriNAS find a network that keeps within a budget of yours, and train it, on photographs like "
    "those that you want to enlarge (three or more, the more the better) or on generated ones. It goes on when this "
    "page is closed, and is shown to all who open it."
)
EMPTY = (
    "No search yet. Here you will see it happen: how good the network is, what it costs, which candidates are left, "
    "and in the end the network, to use at once or to download."
)
NO_LIMIT = "no limit"
ASK_MS = "click here to measure what is possible"
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
            scale = gr.Radio([("2×", 2), ("3×", 3), ("4×", 4)], value=4, label="Enlarges", elem_classes="choices")
            gr.Markdown("**Budget**: what the network may cost. Fill in one or more; each is kept.")
            params = gr.Number(50, label="Parameters, in thousands", placeholder=NO_LIMIT, elem_id="params")
            macs = gr.Number(
                None, label="Multiply-adds for a 1280×720 result, in billions", placeholder=NO_LIMIT, elem_id="macs"
            )
            ms = gr.Number(
                None, label="Milliseconds per megapixel of result, on this machine", placeholder=NO_LIMIT,
                info=ASK_MS, elem_id="ms",
            )  # fmt: skip
            minutes = gr.Number(
                min(20, limits.search_minutes), label="Minutes", elem_id="minutes",
                info=f"20 are a trial, good networks take hours; at most {limits.search_minutes:g}",
            )  # fmt: skip
            photographs = gr.File(
                label="Photographs", show_label=False, file_count="multiple", height=130,
                elem_id="photographs", elem_classes=["drop", "learn"],
            )  # fmt: skip
            with gr.Row():
                start = gr.Button("Search", variant="primary", elem_id="start-search")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop-search")
                resume = gr.Button("Go on", visible=False, elem_id="resume-search")
        with gr.Column(scale=3, min_width=320):
            wrong = gr.HTML(elem_id="wrong-search", elem_classes="words")
            said = gr.HTML(elem_id="said-search")
            with gr.Row():
                use = gr.Button("Use it", variant="primary", visible=False, elem_id="use")
                download = gr.DownloadButton("Download the run", visible=False, elem_id="download-search")
                report = gr.DownloadButton("Download the report", visible=False)
            with gr.Accordion("Share it on the Hugging Face Hub", open=False, visible=False) as sharing:
                with gr.Row():
                    repo = gr.Textbox(label="Repository", placeholder="user/name", elem_id="repo")
                    token = gr.Textbox(
                        label="Token that may write", info="used once, not kept", type="password", elem_id="token"
                    )
                push = gr.Button("Push the network, with its card", elem_id="push")
                pushed = gr.HTML(elem_id="pushed", elem_classes="words")
            drawings = gr.HTML(elem_id="drawings")
    timer = gr.Timer(POLL_S)
    ms_ranges: dict[int, tuple[float, float]] = {}  # scale -> measured so far, for everybody: it is the machine's

    def ranges(wish: int) -> list[Any]:
        """What is possible at a scale, under each field."""
        found = possible_costs(wish)
        known = [
            gr.update(info=f"possible: {_count(low * factor)} to {_count(high * factor)}")
            for (low, high), factor in ((found["params"], 1e-3), (found["macs"], 1e-9))
        ]
        return [*known, ms_info(wish)]

    def ms_info(wish: int) -> Any:
        if wish not in ms_ranges:
            return gr.update(info=ASK_MS)
        low, high = ms_ranges[wish]
        return gr.update(info=f"possible here: about {low:,.0f} to {high:,.0f}")

    def measured(wish: int) -> Any:
        """The same, measured if need be: that is slow for the largest network."""
        if wish not in ms_ranges:
            ms_ranges[wish] = possible_costs(wish, _ms_per_mp(searches.device))["ms_per_mp"]
        return ms_info(wish)

    def begin(
        wish: int, kilo: float | None, giga: float | None, per_mp: float | None, time: float, paths: list[str] | None
    ) -> str:
        """Words, if it could not be started."""
        try:
            if not 0 < (time or 0) <= limits.search_minutes:
                raise TrinasError(f"minutes must be more than 0, and at most {limits.search_minutes:g}")
            chosen = [Path(path) for path in paths or []]
            if chosen:
                check_photographs(chosen, limits)
            budgets = Budgets(1e3 * (kilo or 0) or None, 1e9 * (giga or 0) or None, per_mp or None)
            least = {name: low for name, (low, _) in possible_costs(wish).items()}
            for name, limit in budgets.given().items():
                words, factor = BUDGET_WORDS[name]
                if limit < least.get(name, 0):
                    low, high = (_count(value * factor) for value in (least[name], limit))
                    raise TrinasError(f"no network has at most {high} {words}: the smallest has {low}")
            searches.start(budgets, wish, time, chosen)
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
        words = note(f"<b>{escaped(status.run_dir.name)}</b><br>{escaped(shown(status.line, searches.folder))}", kind)
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
            gr.update(visible=running, interactive=status.state == "running"),
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
        service.seconds_per_mp(name)
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
    outputs = [said, start, stop, resume, use, download, report, sharing, drawings, drawn]
    watch: dict[str, Any] = {"fn": watched, "inputs": drawn, "outputs": outputs, "queue": False, **quiet}
    timer.tick(**watch)
    page.load(**watch)
    page.load(lambda: (None, None), None, [macs, ms], queue=False, **quiet)  # else they begin as 0
    for event in (page.load, scale.change):
        event(ranges, scale, [params, macs, ms], queue=False, **quiet)
    ms.focus(measured, scale, ms, concurrency_limit=1, show_progress="minimal", **PRIVATE)
    start.click(begin, [scale, params, macs, ms, minutes, photographs], wrong, **quiet).then(**watch)
    stop.click(searches.stop, None, None, queue=False, **quiet).then(**watch)
    resume.click(go_on, None, wrong, **quiet).then(**watch)
    chosen = gr.State("")
    picker.refresh(use.click(used, None, [chosen, tabs], **quiet).then).then(
        lambda name: name, chosen, picker.first, queue=False, **quiet
    )


def check_photographs(photographs: Sequence[Path], limits: Limits) -> None:
    """Refuse photographs that a search cannot learn from, or that are more than one visitor may have it keep.

    Raises:
        TrinasError: says why, and of which.
    """
    if len(photographs) < FEWEST:
        raise TrinasError(
            f"{len(photographs)} photographs are too few: choose {FEWEST} or more, or none for generated ones"
        )
    if len(photographs) > limits.files:
        raise TrinasError(f"{len(photographs):,} photographs are too many; the limit is {limits.files:,}")
    if sum(photo.stat().st_size for photo in photographs) > limits.unpacked_mb * 1e6:
        raise TrinasError(f"more than {limits.unpacked_mb:g} MB of photographs are too much at once")
    for photo in photographs:
        try:
            read_header(photo, limits.input_px)
        except TrinasError as error:
            raise TrinasError(shown(str(error), photo.parent)) from None


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ms_per_mp(device_name: str) -> Any:
    device = pick_device(device_name)

    def measured(spec: ArchSpec) -> float:
        return spec_ms_per_mp(spec, device, resolve_precision("auto", device, spec.trunk_width))

    return measured
