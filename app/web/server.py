"""The page: tabs over the library, served by Gradio. What is public is said here; everything else is private."""

import os
import shutil
import signal
import tempfile
import threading
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

# Gradio reads these when it is imported: nothing is sent anywhere, and nothing is fetched.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}

import gradio as gr
import typer

from trinas.config import SaveConfig
from trinas.errors import Stopped, TrinasError
from trinas.reports.pages import drawing_style

from .components import NETWORKS, Picker, models_table
from .limits import Limits
from .searches import Searches
from .service import Service, escaped
from .tab_batch import batch_tab
from .tab_compare import compare_tab
from .tab_models import models_tab
from .tab_search import search_tab
from .tab_upscale import upscale_tab

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")

SWEEP_EVERY_S = 60
"""Seconds between looks for files that nobody needs any more."""

ON_THE_WAY_S = 5
"""A visitor's files are deleted so long after the page is left: the server may still be about to open one of them."""

FONTS = ["system-ui", "sans-serif"]
"""Of the system: others would be fetched."""

ABOUT = """# TriNAS
Makes photographs larger and keeps them sharp. Everything happens on this computer; no picture leaves it."""

ABOUT_SERVER = """# TriNAS
Makes photographs larger and keeps them sharp. Pictures are sent to this server, which deletes them after an hour."""


@dataclass(frozen=True)
class WebConfig:
    """How the page is served."""

    host: str = "127.0.0.1"
    port: int = 7860
    auth: tuple[str, str] | None = None
    """Name and password."""
    runs: Path = Path("searches")
    """Folder of the searches' run folders."""
    device: str = "auto"
    limits: Limits = field(default_factory=Limits)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine's users reach it, who may read its folders anyway."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def build_page(service: Service, searches: Searches, config: WebConfig) -> gr.Blocks:
    """All tabs and the two public endpoints."""
    with gr.Blocks(title="TriNAS", analytics_enabled=False) as page:
        gr.Markdown(ABOUT if config.is_loopback else ABOUT_SERVER, elem_id="about")
        picker = Picker(service)
        with gr.Tabs() as tabs:
            with gr.Tab("Upscale", id="upscale"):
                upscale_tab(service, picker)
            with gr.Tab("Batch", id="batch"):
                batch_tab(service, picker)
            with gr.Tab("Compare", id="compare"):
                compare_tab(service, picker)
            with gr.Tab("Models", id="models") as tab:
                models_tab(service, picker, page, tab, config.is_loopback)
            if config.limits.search_minutes > 0:
                with gr.Tab("Search", id="search"):
                    search_tab(service, searches, picker, tabs, page, config.is_loopback)
        _endpoints(service)
        picker.refresh(page.load)

        def left(request: gr.Request) -> None:
            service.session(request.session_hash).stop_all()
            forgetting = threading.Timer(ON_THE_WAY_S, service.forget, [request.session_hash])
            forgetting.daemon = True  # the files of all visitors go with the server
            forgetting.start()

        page.unload(left)
    return page


def _endpoints(service: Service) -> None:
    """What programs call; the page itself does not."""

    def upscale(file: str, scale: float = 4, model: str = "", request: gr.Request = None) -> str:  # type: ignore[assignment]
        """Enlarge an image file; returns the file that the command line would write.

        Args:
            file: the image.
            scale: output pixels per input pixel, 1 to 16.
            model: a name that /models lists; empty: chosen by the scale, and by how compressed a JPEG is.
        """
        session = service.session(request.session_hash)
        stop = session.stop("API")
        stop.clear()
        try:
            size = service.size(scale=scale)
            outcome = service.upscale(session, stop, Path(file), service.enlarger(model), size, SaveConfig())
        except (TrinasError, Stopped) as error:
            raise gr.Error(escaped(error), print_exception=False) from None
        return str(outcome.job.result)

    def models() -> list[dict[str, object]]:
        """The models there are: name, scale, parameters, multiply-adds, measured figures, licence."""
        return models_table(service)

    with gr.Row(visible=False):
        file, scale, model = gr.File(label="image"), gr.Number(4, label="scale"), gr.Textbox("", label="model")
        result, table = gr.File(label="result"), gr.JSON(label="models")
        gr.Button().click(upscale, [file, scale, model], result, api_name="upscale", **NETWORKS)
        gr.Button().click(models, None, table, api_name="models")


def serve(config: WebConfig, ready: threading.Event | None = None) -> None:
    """Serve the page until the process is asked to end.

    Raises:
        TrinasError: the address cannot be listened on.
    """
    folder = Path(tempfile.mkdtemp(prefix="trinas-web-"))
    os.environ |= {"GRADIO_TEMP_DIR": str(folder), **_no_proxy(config.host)}
    service, searches = Service(folder, config.limits, config.device), Searches(config.runs, config.device)
    page = build_page(service, searches, config)
    page.queue(max_size=config.limits.queue, default_concurrency_limit=4)
    ended = threading.Event()
    try:
        try:
            _, url, _ = page.launch(
                server_name=config.host,
                server_port=config.port,
                auth=config.auth,
                theme=theme(),
                css=STYLE + drawing_style(),
                max_file_size=round(config.limits.upload_mb * 2**20),
                run_history=False,
                enable_monitoring=False,
                share=False,
                footer_links=["api"],
                prevent_thread_lock=True,
                quiet=True,
            )
        except OSError as error:
            raise TrinasError(
                f"{config.host}:{config.port}: cannot be listened on ({error}); choose another --port"
            ) from None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        typer.echo(f"TriNAS is at {url} (Ctrl-C ends it)", err=True)
        service.measure(ended)
        while not ended.wait(SWEEP_EVERY_S):
            service.sweep()
    finally:
        searches.close()
        page.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)


def _no_proxy(host: str) -> dict[str, str]:
    """Environment in which the page reaches itself, as Gradio wants at the start; a proxy is for other addresses."""
    names = ("no_proxy", "NO_PROXY")
    known = next(filter(None, map(os.environ.get, names)), "")
    return dict.fromkeys(names, ",".join(filter(None, [known, "localhost", "127.0.0.1", host])))


def theme() -> gr.themes.Base:
    """Calm colours, and the system's own letters."""
    return gr.themes.Soft(
        primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=FONTS
    ).set(
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_border_width="1px",
        block_border_width_dark="1px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        # White on white would hide where fields and boxes to tick begin and end.
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        input_shadow="none",
        checkbox_border_color="*neutral_400",
        checkbox_label_border_color="*neutral_300",
        checkbox_label_border_width="1px",
        checkbox_label_border_width_dark="1px",
        checkbox_label_border_color_dark="*neutral_600",
        checkbox_label_shadow="none",
        button_primary_shadow="none",
        button_secondary_shadow="none",
        button_border_width="1px",
        button_border_width_dark="1px",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_cancel_border_color="*neutral_300",
        button_cancel_border_color_dark="*neutral_600",
        button_cancel_background_fill_dark="*button_secondary_background_fill",
    )
