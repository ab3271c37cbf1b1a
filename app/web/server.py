"""Build the page from its tabs, and serve it until the process is asked to end."""

import os
import shutil
import signal
import tempfile
import threading
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

# Gradio reads these variables when it is imported. With them it sends nothing and fetches nothing.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}

import gradio as gr
import PIL.Image
import typer

from trinas.errors import TrinasError
from trinas.reports.pages import render_drawing_style

from .api import Api
from .backend import Backend
from .components import Picker
from .limits import Limits
from .searches import Searches
from .tab_batch import BatchTab
from .tab_compare import CompareTab
from .tab_models import ModelsTab
from .tab_search import SearchTab
from .tab_upscale import UpscaleTab
from .theme import build_theme

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")

SWEEP_EVERY_S = 60
"""Seconds between deletions of files that are not needed any more."""

FORGET_DELAY_S = 5
"""Seconds after which the files of a visitor who has left are deleted. The server may still open one of them before."""

ABOUT = """# TriNAS
Makes images larger and keeps them sharp. Everything happens on this computer: no image leaves it."""

ABOUT_SERVER = """# TriNAS
Makes images larger and keeps them sharp. Images are sent to this server, which deletes them after an hour."""


@dataclass(frozen=True)
class WebConfig:
    """How the page is served."""

    host: str = "127.0.0.1"
    port: int = 7860
    auth: tuple[str, str] | None = None
    """Name and password."""
    runs: Path = Path("searches")
    """Folder for the run folders of searches."""
    device: str = "auto"
    limits: Limits = field(default_factory=Limits)

    @property
    def is_loopback(self) -> bool:
        """Whether only users of this machine can reach the page. They can read its folders anyway."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def build_page(backend: Backend, searches: Searches, config: WebConfig) -> gr.Blocks:
    """Build all tabs and the endpoints for programs."""
    with gr.Blocks(title="TriNAS", analytics_enabled=False) as page:
        gr.Markdown(ABOUT if config.is_loopback else ABOUT_SERVER, elem_id="about")
        picker = Picker(backend.catalogue)
        with gr.Tabs() as tabs:
            with gr.Tab("Upscale", id="upscale"):
                UpscaleTab(backend, picker).connect()
            with gr.Tab("Batch", id="batch"):
                BatchTab(backend, picker).connect()
            with gr.Tab("Compare", id="compare"):
                CompareTab(backend, picker).connect()
            with gr.Tab("Models", id="models") as tab:
                ModelsTab(backend, picker, config.is_loopback).connect(page, tab)
            if config.limits.search_minutes > 0:
                with gr.Tab("Search", id="search"):
                    SearchTab(backend, searches, picker, config.is_loopback).connect(page, tabs)
        Api(backend).connect()
        picker.refresh_on(page.load)

        def leave(request: gr.Request) -> None:
            backend.sessions.get(request.session_hash).stop_all()
            forgetting = threading.Timer(FORGET_DELAY_S, backend.sessions.forget, [request.session_hash])
            forgetting.daemon = True  # when the server ends, it deletes the files of all visitors itself
            forgetting.start()

        page.unload(leave)
    return page


def serve(config: WebConfig) -> None:
    """Serve the page until the process is asked to end.

    Raises:
        TrinasError: the address cannot be listened on.
    """
    PIL.Image.MAX_IMAGE_PIXELS = None  # Gradio reads results with Pillow; our own limits are checked before decoding
    folder = Path(tempfile.mkdtemp(prefix="trinas-web-"))
    os.environ |= {"GRADIO_TEMP_DIR": str(folder), **_bypass_proxy(config.host)}
    backend = Backend.create(folder, config.limits, config.device)
    searches = Searches(config.runs, config.device)
    page = build_page(backend, searches, config)
    ended = threading.Event()
    try:
        url = _launch(page, config)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        typer.echo(f"TriNAS is at {url} (Ctrl-C ends it)", err=True)
        backend.catalogue.measure_all(ended)
        while not ended.wait(SWEEP_EVERY_S):
            backend.sessions.sweep()
    finally:
        backend.decoders.close()
        searches.close()
        page.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)


def _launch(page: gr.Blocks, config: WebConfig) -> str:
    """Start Gradio's server in a thread and return its address."""
    page.queue(max_size=config.limits.queue, default_concurrency_limit=4)
    try:
        _, url, _ = page.launch(
            server_name=config.host,
            server_port=config.port,
            auth=config.auth,
            theme=build_theme(),
            css=STYLE + render_drawing_style(),
            max_file_size=round(config.limits.upload_mb * 2**20),
            run_history=False,
            enable_monitoring=False,
            share=False,
            footer_links=["api"],
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        address = f"{config.host}:{config.port}"
        raise TrinasError(f"{address}: cannot be listened on ({error}); choose another --port") from None
    return str(url)


def _bypass_proxy(host: str) -> dict[str, str]:
    """Return variables that exclude the page's own address from any proxy, because Gradio calls itself at the start."""
    names = ("no_proxy", "NO_PROXY")
    known = next(filter(None, map(os.environ.get, names)), "")
    return dict.fromkeys(names, ",".join(filter(None, [known, "localhost", "127.0.0.1", host])))
