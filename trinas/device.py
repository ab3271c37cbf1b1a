"""Where and in what precision networks run."""

import functools
import time

import torch
from torch import nn

from trinas.errors import TrinasError

BF16_MUST_BE_FASTER_BY = 1.2
"""Below this ratio bf16 is not worth its rounding, nor a choice that flips from run to run."""


def pick_device(wish: str) -> torch.device:
    """Turn auto, cpu, cuda, cuda:1 or mps into a device that is really there.

    Raises:
        TrinasError: the device does not exist here, or is not known.
    """
    if wish == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wish)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError):
        raise TrinasError(f"no device {wish!r} here; use --device cpu") from None
    return device


def resolve_precision(wish: str, device: torch.device) -> str:
    """Turn auto, fp32 or bf16 into fp32 or bf16."""
    return pick_precision(str(device)) if wish == "auto" else wish


@functools.cache
def pick_precision(device: str) -> str:
    """Decide between fp32 and bf16 with channels_last by timing both once on `device`, about 0.1 s.

    Without hardware support bf16 is far slower than fp32, with it up to twice as fast.
    """
    seconds = {precision: _seconds_per_pass(torch.device(device), precision) for precision in ("fp32", "bf16")}
    return "bf16" if seconds["fp32"] > BF16_MUST_BE_FASTER_BY * seconds["bf16"] else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a network's trunk runs in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def memory_format(precision: str) -> torch.memory_format:
    """The layout that suits `precision`: bf16 convolutions are only fast with channels last."""
    return torch.channels_last if precision == "bf16" else torch.contiguous_format


def synchronize(device: torch.device) -> None:
    """Wait for everything queued on `device`, so that a clock means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@torch.inference_mode()
def _seconds_per_pass(device: torch.device, precision: str) -> float:
    layout = memory_format(precision)
    convs = nn.Sequential(*(nn.Conv2d(32, 32, 3, padding=1) for _ in range(4))).to(device, memory_format=layout)  # type: ignore[call-overload]
    features = torch.zeros(1, 32, 128, 128, device=device).to(memory_format=layout)
    best = float("inf")
    for _ in range(6):  # the first passes prepare kernels; the fastest is what the hardware can do
        start = time.perf_counter()
        with autocast(device, precision):
            convs(features)
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best
