"""`web`: serve the web page."""

from pathlib import Path
from typing import Annotated

import typer

from trinas.config import DEFAULT_DEVICE

from ..web.hosts import Hosts, is_name
from ..web.limits import Limits
from .options import DeviceOption, refuse_bad_values, to_pixels
from .terminal import say

LIMITS = "Limits for each visitor"

HostOption = Annotated[str, typer.Option(help="Address to listen on. 0.0.0.0 lets other machines in.")]
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A further name by which the page may be reached, such as that of a server in front of it. Repeatable.",
        metavar="NAME",
    ),
]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
AuthOption = Annotated[
    str | None, typer.Option(help="Ask for this name and password.", metavar="USER:PASSWORD", envvar="TRINAS_AUTH")
]
RunsOption = Annotated[Path, typer.Option(help="Folder for the run folders of searches.")]
MaxInputOption = Annotated[
    float, typer.Option(min=0.001, help="Refuse larger images. In megapixels.", rich_help_panel=LIMITS)
]
MaxOutputOption = Annotated[
    float, typer.Option(min=0.001, help="Refuse larger results. In megapixels.", rich_help_panel=LIMITS)
]
MaxUploadOption = Annotated[
    float, typer.Option(min=0.001, help="Refuse larger files. In megabytes.", rich_help_panel=LIMITS)
]
MaxSecondsOption = Annotated[float, typer.Option(min=1, help="Stop a job that takes longer.", rich_help_panel=LIMITS)]
MaxSecondsPerFileOption = Annotated[
    float, typer.Option(min=0.1, help="Refuse files that take longer to decode.", rich_help_panel=LIMITS)
]
MaxQueueOption = Annotated[
    int, typer.Option(min=1, help="Jobs that may wait; more are refused.", rich_help_panel=LIMITS)
]
MaxSearchOption = Annotated[
    float, typer.Option(min=0, help="Longest search. 0: no searches from the page.", rich_help_panel=LIMITS)
]


def serve_page(
    host: HostOption = "127.0.0.1",
    allow_host: AllowHostOption = None,
    port: PortOption = 7860,
    auth: AuthOption = None,
    runs: RunsOption = Path("searches"),
    max_input_mp: MaxInputOption = Limits.input_px / 1e6,
    max_output_mp: MaxOutputOption = Limits.output_px / 1e6,
    max_upload_mb: MaxUploadOption = Limits.upload_mb,
    max_seconds_per_file: MaxSecondsPerFileOption = Limits.seconds_per_file,
    max_seconds: MaxSecondsOption = Limits.seconds,
    max_queue: MaxQueueOption = Limits.queue,
    max_search_minutes: MaxSearchOption = Limits.search_minutes,
    device: DeviceOption = DEFAULT_DEVICE,
) -> None:
    """Serve a web page that upscales, compares and searches, for this machine or for others.

    The server runs until Ctrl-C. Programs can use the endpoints `/upscale` and `/models`; other web sites cannot.
    """
    if auth is not None and not all(auth.partition(":")):
        raise typer.BadParameter("--auth is a name and a password, separated by a colon")
    with refuse_bad_values():
        limits = Limits(
            upload_mb=max_upload_mb,
            input_px=to_pixels(max_input_mp),
            output_px=to_pixels(max_output_mp),
            seconds_per_file=max_seconds_per_file,
            seconds=max_seconds,
            queue=max_queue,
            search_minutes=max_search_minutes,
        )
    hosts = Hosts(host, tuple(allow_host or ()))
    for name in hosts.allowed:
        if not is_name(name):
            raise typer.BadParameter(f"--allow-host is a name such as photos.example or nas.local:8080, got {name!r}")
    if not hosts.is_loopback and auth is None:
        say("note: everybody who can reach this machine can use the page; --auth asks for a password")
    from trinas.device import pick_device

    from ..web.server import WebConfig, serve

    pick_device(device)
    name, _, password = (auth or "").partition(":")
    serve(WebConfig(hosts, port, (name, password) if auth else None, runs, device, limits))
