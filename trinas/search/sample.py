"""Sample images of a search: the same place of a held-out image in three ways."""

import io
from pathlib import Path

import torch
from PIL import Image as PillowImage

from trinas.errors import RunError
from trinas.files import translate_os_errors, write_atomically
from trinas.images.image import to_levels
from trinas.inference.compare import find_detailed_places, upscale_place
from trinas.networks.network import Network
from trinas.search.record import SAMPLE_FILES
from trinas.training.metrics import Pixels, upscale_bicubic

SIDE_PX = 320
"""Side of a sample, in output pixels."""


def write_samples(run_dir: Path, network: Network, low: Pixels, high: Pixels) -> None:
    """Write the most detailed place of an image three times: upscaled by bicubic, by the network, and the original.

    Args:
        run_dir: holds `SAMPLE_FILES` afterwards.
        network: on the CPU.
        low, high: uint8 (H, W, 3), `high` larger by the network's scale.
    Raises:
        RunError: a file cannot be written.
    """
    for caption, pixels in cut_samples(network, low, high).items():
        buffer = io.BytesIO()
        PillowImage.fromarray(pixels).save(buffer, "PNG")
        with translate_os_errors(RunError, run_dir, "written", "resume once it can"):
            write_atomically(run_dir / SAMPLE_FILES[caption], buffer.getvalue())


def cut_samples(network: Network, low: Pixels, high: Pixels) -> dict[str, Pixels]:
    """Return the samples by caption, uint8 (SIDE_PX, SIDE_PX, 3) or smaller.

    Args:
        network, low, high: as for `write_samples`.
    """
    scale = network.spec.scale
    side = SIDE_PX // scale
    colour = torch.from_numpy(low).permute(2, 0, 1).float() / 255
    y, x = find_detailed_places(colour, side)[0]

    @torch.inference_mode()
    def upscale(part: torch.Tensor) -> torch.Tensor:
        return network(part[None])[0].clamp(0, 1)

    place = tuple(slice(scale * start, scale * (start + side)) for start in (y, x))
    return {
        "bicubic": upscale_bicubic(low, scale)[place],
        "this network": to_levels(upscale_place(upscale, colour, (y, x), side, network.spec), 8),
        "the original": high[place],
    }
