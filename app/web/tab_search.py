"""The tab that starts searches and shows the latest one, while it runs and when it is finished."""

import html
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from trinas.config import Budgets
from trinas.device import pick_device, resolve_precision
from trinas.errors import ImageError, ModelError, TrinasError
from trinas.images.guard import DecoderPool
from trinas.networks.latency import measure_spec_ms_per_mp
from trinas.networks.space import ArchSpec
from trinas.reports.pages import BUDGET_WORDS, PAGE_FILE, render_live_drawings
from trinas.search.budgets import find_possible_costs
from trinas.zoo.folder import push_model
from trinas.zoo.hub import is_hub_id

from .archives import write_zip
from .backend import Backend
from .components import PRIVATE, QUIET, SCALES, SETTING_UP, Picker, render_note, update_buttons
from .limits import Limits
from .messages import escape, hide_paths
from .searches import Searches, SearchStatus
from .uploads import check_disk, measure_folder

POLL_S = 2
ABOUT = (
    "For the curious: let TriNAS find a network within your budget and train it. It learns from photographs like those "
    "that you want to upscale (three or more, the more the better), or from generated images. The search continues "
    "when this page is closed, and everybody who opens the page sees it."
)
ABOUT_BUDGETS = "**Budget**: what the network may cost. Fill in one or more. The network meets all of them."
EMPTY = (
    "No search yet. Here you will see how good the network is, what it costs, and which candidates are left. At the "
    "end you can use the network at once, or download it."
)
NO_LIMIT = "no limit"
ASK_MS = "click here to measure what is possible"
FEWEST = 3
"""Images that a search needs at least: one for the weights, one for the architecture, one for validation."""


class SearchTab:
    """The tab that starts searches and shows the latest one."""

    def __init__(self, backend: Backend, searches: Searches, picker: Picker, is_loopback: bool) -> None:
        """Add the tab's components to the page at the present place.

        Args:
            backend: of the page.
            searches: runs the searches.
            picker: shows the found network in the other tabs.
            is_loopback: whether only users of this machine can reach the page. They may push to the Hub.
        """
        self._backend = backend
        self._searches = searches
        self._picker = picker
        self._is_loopback = is_loopback
        self._ms_ranges: dict[int, tuple[float, float]] = {}  # scale -> the range on this machine, for all visitors
        self._offered: dict[Path, tuple[Path, Path]] = {}  # run folder -> files for all visitors
        self._offering = threading.Lock()
        self._drawn = gr.State("")  # version of the drawings that the visitor sees
        self._chosen = gr.State("")
        gr.Markdown(ABOUT)
        with gr.Row(elem_classes="sides"):
            with gr.Column(scale=2, min_width=320):
                self._lay_out_settings()
            with gr.Column(scale=3, min_width=320):
                self._lay_out_status()
        self._timer = gr.Timer(POLL_S)

    def _lay_out_settings(self) -> None:
        most = self._backend.limits.search_minutes
        self._scale = gr.Radio(SCALES, value=4, label="Upscales", elem_classes="choices")
        gr.Markdown(ABOUT_BUDGETS)
        self._params = gr.Number(50, label="Parameters, in thousands", placeholder=NO_LIMIT, elem_id="params")
        self._macs = gr.Number(
            None, label="Multiply-adds for a 1280×720 result, in billions", placeholder=NO_LIMIT, elem_id="macs"
        )
        self._ms = gr.Number(
            None, label="Milliseconds per megapixel of result, on this machine", placeholder=NO_LIMIT,
            info=ASK_MS, elem_id="ms",
        )  # fmt: skip
        self._minutes = gr.Number(
            min(20, most), label="Minutes", elem_id="minutes",
            info=f"20 are a trial, good networks take hours; at most {most:g}",
        )  # fmt: skip
        self._photographs = gr.File(
            label="Photographs", show_label=False, file_count="multiple", height=130,
            elem_id="photographs", elem_classes=["drop", "learn"],
        )  # fmt: skip
        with gr.Row():
            self._start = gr.Button("Search", variant="primary", elem_id="start-search")
            self._stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop-search")
            self._resume = gr.Button("Resume", visible=False, elem_id="resume-search")

    def _lay_out_status(self) -> None:
        self._wrong = gr.HTML(elem_id="wrong-search", elem_classes="words")
        self._said = gr.HTML(elem_id="said-search")
        with gr.Row():
            self._use = gr.Button("Use it", variant="primary", visible=False, elem_id="use")
            self._download = gr.DownloadButton("Download the run", visible=False, elem_id="download-search")
            self._report = gr.DownloadButton("Download the report", visible=False)
        with gr.Accordion("Share it on the Hugging Face Hub", open=False, visible=False) as self._sharing:
            with gr.Row():
                self._repo = gr.Textbox(label="Repository", placeholder="user/name", elem_id="repo")
                self._token = gr.Textbox(
                    label="Token that may write", info="used once, not kept", type="password", elem_id="token"
                )
            self._push = gr.Button("Push the network, with its card", elem_id="push")
            self._pushed = gr.HTML(elem_id="pushed", elem_classes="words")
        self._drawings = gr.HTML(elem_id="drawings")

    def connect(self, page: gr.Blocks, tabs: gr.Tabs) -> None:
        """Connect events to handlers."""
        watching: dict[str, Any] = {
            "fn": self._watch,
            "inputs": self._drawn,
            "outputs": [
                self._said, self._start, self._stop, self._resume, self._use, self._download, self._report,
                self._sharing, self._drawings, self._drawn,
            ],
            "queue": False,
            **QUIET,
        }  # fmt: skip
        self._timer.tick(**watching)
        page.load(**watching)
        page.load(lambda: (None, None), None, [self._macs, self._ms], queue=False, **QUIET)  # else they begin as 0
        budgets = [self._params, self._macs, self._ms]
        for event in (page.load, self._scale.change):
            event(self._show_ranges, self._scale, budgets, queue=False, **QUIET)
        self._ms.focus(self._measure_ms_range, self._scale, self._ms, show_progress="minimal", **SETTING_UP, **PRIVATE)
        settings = [self._scale, *budgets, self._minutes, self._photographs]
        self._start.click(self._begin, settings, self._wrong, **SETTING_UP, **QUIET).then(**watching)
        self._stop.click(self._searches.stop, None, None, queue=False, **QUIET).then(**watching)
        self._resume.click(self._resume_search, None, self._wrong, **SETTING_UP, **QUIET).then(**watching)
        used = self._use.click(self._use_network, None, [self._chosen, tabs], **SETTING_UP, **QUIET)
        self._picker.refresh_on(used.then).then(
            lambda name: name, self._chosen, self._picker.first, queue=False, **QUIET
        )
        self._push.click(
            self._push_network, [self._repo, self._token], [self._pushed, self._token], **SETTING_UP, **PRIVATE
        )

    def _show_ranges(self, scale: int) -> list[Any]:
        """Show the possible range under each field, for a scale."""
        found = find_possible_costs(scale)
        known = [
            gr.update(info=f"possible: {_format_amount(low * factor)} to {_format_amount(high * factor)}")
            for (low, high), factor in ((found["params"], 1e-3), (found["macs"], 1e-9))
        ]
        return [*known, self._show_ms_range(scale)]

    def _show_ms_range(self, scale: int) -> Any:
        if scale not in self._ms_ranges:
            return gr.update(info=ASK_MS)
        low, high = self._ms_ranges[scale]
        return gr.update(info=f"possible here: about {low:,.0f} to {high:,.0f}")

    def _measure_ms_range(self, scale: int) -> Any:
        """Show the range of milliseconds, and measure it if it is not known. The largest network takes long."""
        if scale not in self._ms_ranges:
            costs = find_possible_costs(scale, _make_timer(self._searches.device))
            self._ms_ranges[scale] = costs["ms_per_mp"]
        return self._show_ms_range(scale)

    def _begin(
        self, scale: int, kilo_params: float | None, giga_macs: float | None, ms_per_mp: float | None,
        minutes: float | None, paths: list[str] | None,
    ) -> str:  # fmt: skip
        """Start a search. Return a message if that fails."""
        limits = self._backend.limits
        try:
            if minutes is None or not 0 < minutes <= limits.search_minutes:
                raise TrinasError(f"minutes must be more than 0, and at most {limits.search_minutes:g}")
            photographs = [Path(path) for path in paths or []]
            if photographs:
                check_photographs(photographs, limits, self._backend.decoders)
            budgets = Budgets(1e3 * (kilo_params or 0) or None, 1e9 * (giga_macs or 0) or None, ms_per_mp or None)
            check_budgets(budgets, scale)
            self._searches.start(budgets, scale, minutes, photographs)
        except (TrinasError, ValueError) as error:
            return render_note(escape(str(error)), "bad")
        return ""

    def _resume_search(self) -> str:
        """Resume the stopped search. Return a message if that fails."""
        try:
            self._searches.resume()
        except TrinasError as error:
            return render_note(escape(error), "bad")
        return ""

    def _watch(self, known: str) -> tuple[Any, ...]:
        """Show the status of the latest search. Drawings and files are only sent if they are new for the visitor.

        Args:
            known: the version of the drawings that the visitor sees.
        """
        status = self._searches.status()
        if status is None:
            return render_note(EMPTY), *update_buttons(running=False), *(gr.update(visible=False),) * 5, "", ""
        is_running, is_finished = status.state in ("running", "stopping"), status.state == "finished"
        version = f"{status.run_dir} {status.state} {len(status.events)}"
        is_new, said = version != known, self._describe(status)
        offered: tuple[Any, ...] = (gr.update(visible=is_finished),) * 2
        if is_new and is_finished:
            try:
                files = self._offer_results(status.run_dir)
                offered = tuple(gr.update(visible=True, value=str(file)) for file in files)
            except ImageError as error:  # the next call tries again, because the visitor keeps the known version
                said += render_note(escape(f"It cannot be downloaded now: {error}"), "bad")
                offered, version = (gr.update(visible=False),) * 2, known
        return (
            said,
            gr.update(interactive=not is_running),
            gr.update(visible=is_running, interactive=status.state == "running"),
            gr.update(visible=status.state == "stopped"),
            gr.update(visible=is_finished),
            *offered,
            gr.update(visible=self._is_loopback and is_finished),
            (render_live_drawings(status.events) if status.events else "") if is_new else gr.skip(),
            version,
        )

    def _offer_results(self, run_dir: Path) -> tuple[Path, Path]:
        """Return an archive of a run folder and a copy of its report. All visitors get the same files.

        Raises:
            ImageError: the disk is nearly full.
        """
        with self._offering:
            files = self._offered.get(run_dir, ())
            if not files or not all(file.exists() for file in files):  # the server deletes them after some time
                check_disk(self._backend.sessions.folder, self._backend.limits, measure_folder(run_dir))
                files = _copy_results(run_dir, self._backend.sessions.new().new_folder())
                self._offered = {run_dir: files}
            return files

    def _describe(self, status: SearchStatus) -> str:
        line = escape(hide_paths(status.line, self._searches.folder))
        kind = {"finished": "good", "failed": "bad"}.get(status.state, "")
        return render_note(f"<b>{escape(status.run_dir.name)}</b><br>{line}", kind)

    def _use_network(self) -> tuple[Any, ...]:
        """Put the network on offer. Return its name, and show the first tab."""
        status = self._searches.status()
        if status is None or status.state != "finished":
            raise gr.Error("there is no finished search", print_exception=False)
        try:
            name = self._backend.catalogue.add(str(status.run_dir), "searched", status.run_dir.name)
            self._backend.catalogue.seconds_per_mp(name)
        except TrinasError as error:
            raise gr.Error(escape(error), print_exception=False) from None
        return name, gr.update(selected="upscale")

    def _push_network(self, repo: str, token: str) -> tuple[str, str]:
        """Push the network to the Hub. Return a message, and an empty value for the field of the token."""
        status = self._searches.status()
        repo = repo.strip()
        try:
            if not self._is_loopback or status is None or status.state != "finished":
                raise ModelError("there is nothing to share")
            if not is_hub_id(repo) or "@" in repo:
                raise ModelError(f"{repo or 'nothing'}: not a repository such as user/name")
            if not token.strip():  # the login of this machine is its owner's, and not every visitor is the owner
                raise ModelError("a token is needed that may write to the repository")
            link = html.escape(push_model(status.run_dir, repo, token.strip()))
        except TrinasError as error:
            return render_note(escape(error), "bad"), ""
        return render_note(f'It is at <a href="{link}" target="_blank">{link}</a>.', "good"), ""


def check_budgets(budgets: Budgets, scale: int) -> None:
    """Refuse budgets that no network meets.

    Raises:
        TrinasError: a budget is too small; the message says the smallest possible cost.
    """
    smallest = {name: low for name, (low, _) in find_possible_costs(scale).items()}
    for name, budget in budgets.given().items():
        words, factor = BUDGET_WORDS[name]
        if budget < smallest.get(name, 0):
            low, high = (_format_amount(value * factor) for value in (smallest[name], budget))
            raise TrinasError(f"no network has at most {high} {words}: the smallest has {low}")


def check_photographs(photographs: Sequence[Path], limits: Limits, decoders: DecoderPool) -> None:
    """Refuse photographs that a search cannot learn from, or that exceed the limits of a batch.

    Raises:
        TrinasError: there are too few or too many, they are too large, or one cannot be read; the message names it.
    """
    if len(photographs) < FEWEST:
        raise TrinasError(
            f"{len(photographs)} photographs are too few: choose {FEWEST} or more, or none for generated images"
        )
    if len(photographs) > limits.files:
        raise TrinasError(f"{len(photographs):,} photographs are too many; the limit is {limits.files:,}")
    size = sum(path.stat().st_size for path in photographs)
    check_disk(photographs[0].parent, limits, size)
    if size > limits.unpacked_mb * 1e6:
        raise TrinasError(f"more than {limits.unpacked_mb:g} MB of photographs are too much at once")
    for path in photographs:
        try:
            decoders.open_image(path, limits.input_px)
        except TrinasError as error:
            raise TrinasError(hide_paths(str(error), path.parent)) from None


def _copy_results(run_dir: Path, folder: Path) -> tuple[Path, Path]:
    """Return an archive of a run folder and a copy of its report, both in `folder`."""
    archive = write_zip(run_dir, folder / f"{run_dir.name}.zip")
    return archive, Path(shutil.copy(run_dir / PAGE_FILE, folder / f"{run_dir.name}.html"))


def _format_amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _make_timer(device_name: str) -> Callable[[ArchSpec], float]:
    """Return a function that measures the milliseconds per output megapixel of an architecture on a device."""
    device = pick_device(device_name)

    def measure(spec: ArchSpec) -> float:
        return measure_spec_ms_per_mp(spec, device, resolve_precision("auto", device, spec.trunk_width))

    return measure
