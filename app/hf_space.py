"""Serve the page as a Hugging Face Space. The script needs this repository and requirements.txt, but no installation.

The Space's variable `TRINAS_SEARCH_MINUTES` allows searches of that length. Without it there are no searches.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

MAX_UPLOAD_MB, MAX_OUTPUT_PX, MAX_SECONDS = 50, 100_000_000, 600
"""Limits for each visitor, for a shared machine with two cores."""

HUB = "https://huggingface.co"
"""Shows Spaces in a frame."""


def main() -> None:
    """Serve the page at the address that Spaces expect, or at that of Gradio's own variables."""
    sys.path[0] = str(Path(__file__).parents[1])  # Python puts the script's folder here; the packages are one higher
    search_minutes = read_search_minutes(os.environ)
    show_zerogpu_a_function()  # before anything imports torch
    from app.web.hosts import Hosts
    from app.web.limits import Limits
    from app.web.server import WebConfig, serve

    limits = Limits(
        upload_mb=MAX_UPLOAD_MB, output_px=MAX_OUTPUT_PX, seconds=MAX_SECONDS, search_minutes=search_minutes
    )
    host = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    names = tuple(filter(None, os.environ.get("SPACE_HOST", "").split(",")))
    if names:
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")  # uvicorn: visitors' addresses are what Spaces say they are
    serve(WebConfig(Hosts(host, names), port, device="cpu", limits=limits, embedders=(HUB,) if names else ()))


def show_zerogpu_a_function() -> None:
    """Give ZeroGPU the GPU function that it requires. The networks run on the CPU, so visitors keep their quota."""
    try:
        import spaces
    except ImportError:  # another Space, or another machine
        return
    spaces.GPU(lambda: None)


def read_search_minutes(variables: Mapping[str, str]) -> float:
    """Return how long a search may take; 0 if `TRINAS_SEARCH_MINUTES` is not set.

    Args:
        variables: of the environment.
    Raises:
        SystemExit: the variable is not a number.
    """
    text = variables.get("TRINAS_SEARCH_MINUTES", "0")
    try:
        return float(text)
    except ValueError:
        sys.exit(f"TRINAS_SEARCH_MINUTES must be a number of minutes, got {text!r}")


if __name__ == "__main__":
    main()
