"""Build the page from its tabs, and serve it until the process is asked to end."""

import hmac
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
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
from .connections import replace_server
from .gate import ABOUT_PASSWORDS, Gate, Rules
from .hosts import Hosts
from .limits import Limits
from .log import limit_log
from .searches import Searches
from .tab_batch import BatchTab
from .tab_compare import CompareTab
from .tab_models import ModelsTab
from .tab_search import SearchTab
from .tab_upscale import UpscaleTab
from .theme import build_theme
from .uploads import MOST_SESSIONS, open_folder

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

    hosts: Hosts = field(default_factory=lambda: Hosts("127.0.0.1"))
    """Where to listen, and the names by which the page may be reached."""
    port: int = 7860
    auth: tuple[str, str] | None = None
    """Name and password."""
    runs: Path = Path("searches")
    """Folder for the run folders of searches."""
    device: str = "auto"
    limits: Limits = field(default_factory=Limits)
    embedders: tuple[str, ...] = ()
    """Origins of web sites that may show the page in a frame."""


def build_page(backend: Backend, searches: Searches, config: WebConfig) -> gr.Blocks:
    """Build all tabs and the endpoints for programs."""
    with gr.Blocks(title="TriNAS", analytics_enabled=False) as page:
        gr.Markdown(ABOUT if config.hosts.is_loopback else ABOUT_SERVER, elem_id="about")
        picker = Picker(backend.catalogue)
        with gr.Tabs() as tabs:
            with gr.Tab("Upscale", id="upscale"):
                UpscaleTab(backend, picker).connect()
            with gr.Tab("Batch", id="batch"):
                BatchTab(backend, picker).connect()
            with gr.Tab("Compare", id="compare"):
                CompareTab(backend, picker).connect()
            with gr.Tab("Models", id="models") as tab:
                ModelsTab(backend, picker, config.hosts.is_loopback).connect(page, tab)
            if config.limits.search_minutes > 0:
                with gr.Tab("Search", id="search"):
                    SearchTab(backend, searches, picker, config.hosts.is_loopback).connect(page, tabs)
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
    with limit_log(), open_folder() as folder:
        os.environ |= {"GRADIO_TEMP_DIR": str(folder), **_bypass_proxy(config.hosts.listening)}
        backend = Backend.create(folder, config.limits, config.device)
        searches = Searches(config.runs, config.device)
        page = build_page(backend, searches, config)
        ended = threading.Event()
        try:
            url = _launch(page, backend, config)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: ended.set())
            typer.echo(f"TriNAS is at {url} (Ctrl-C ends it)", err=True)
            _try(partial(backend.catalogue.measure_all, ended))
            while not ended.wait(SWEEP_EVERY_S):
                _try(backend.sessions.sweep)
        finally:
            backend.decoders.close()
            searches.close()
            page.close(verbose=False)


def _try(action: Callable[[], None]) -> None:
    """Do what the page can do without. If it fails, because of too many open files for example, say so and go on."""
    try:
        action()
    except (OSError, TrinasError) as error:
        typer.echo(f"note: {error}", err=True)


def _launch(page: gr.Blocks, backend: Backend, config: WebConfig) -> str:
    """Start the server in a thread and return its address."""
    page.queue(max_size=config.limits.queue, default_concurrency_limit=1, api_open=False)
    rules = Rules(config.hosts, config.limits, backend.sessions.folder, config.embedders)
    try:
        with replace_server(lambda app: Gate(app, rules, backend.sessions.stop)):
            _, url, _ = page.launch(
                server_name=config.hosts.listening,
                server_port=config.port,
                auth=partial(check_password, config.auth) if config.auth else None,
                auth_message=ABOUT_PASSWORDS,
                theme=build_theme(),
                css=STYLE + render_drawing_style(),
                max_file_size=round(config.limits.upload_mb * 2**20),
                run_history=False,
                enable_monitoring=False,
                mcp_server=False,
                ssr_mode=False,
                share=False,
                state_session_capacity=MOST_SESSIONS,
                footer_links=["api"],
                prevent_thread_lock=True,
                quiet=True,
            )
    except OSError as error:
        address = f"{config.hosts.listening}:{config.port}"
        raise TrinasError(f"{address}: cannot be listened on ({error}); choose another --port") from None
    return str(url)


def check_password(known: tuple[str, str], name: str, password: str) -> bool:
    """Return whether name and password are the known ones. How long that takes tells nothing about them."""
    is_name, is_password = (
        hmac.compare_digest(right.encode(), given.encode("utf-8", "replace"))
        for right, given in zip(known, (name, password), strict=True)
    )
    return is_name and is_password


def _bypass_proxy(host: str) -> dict[str, str]:
    """Return variables that exclude the page's own address from any proxy, because Gradio calls itself at the start."""
    names = ("no_proxy", "NO_PROXY")
    known = next(filter(None, map(os.environ.get, names)), "")
    return dict.fromkeys(names, ",".join(filter(None, [known, "localhost", "127.0.0.1", host])))
