"""Where and in what precision networks run."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trinas.errors import TrinasError

BF16_MUST_BE_FASTER_BY = 1.2
"""Below this ratio bf16 is not worth its rounding, nor a choice that flips from run to run."""

TRIALS = 4
"""Passes in each precision before deciding."""


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
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise TrinasError(f"no device {wish!r} here; use --device cpu")
    return device


def pick_precision(device: torch.device, run: Callable[[str], Tensor], tolerance: float = float("inf")) -> str:
    """Decide between fp32 and bf16 by trying both: bf16 where it is faster and accurate enough.

    Without hardware support bf16 is far slower than fp32; with it, it is up to twice as fast on wide networks
    and no faster on the smallest.

    Args:
        device: where `run` computes.
        run: does the work in question once, in "fp32" or "bf16", and returns what came out.
        tolerance: largest difference of what came out that bf16 is allowed.
    """
    seconds = {}
    outputs = {}
    for precision in ("fp32", "bf16"):
        seconds[precision] = float("inf")
        for _ in range(TRIALS):  # the first prepares kernels; the fastest is what the hardware can do
            start = time.perf_counter()
            outputs[precision] = run(precision)
            synchronize(device)
            seconds[precision] = min(seconds[precision], time.perf_counter() - start)
    is_faster = seconds["fp32"] > BF16_MUST_BE_FASTER_BY * seconds["bf16"]
    difference = float((outputs["fp32"] - outputs["bf16"]).abs().max())
    return "bf16" if is_faster and difference <= tolerance else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a network's trunk runs in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def synchronize(device: torch.device) -> None:
    """Wait for everything queued on `device`, so that a clock means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@dataclass(frozen=True)
class DeviceInfo:
    """A place where networks can run."""

    name: str
    """What --device takes."""
    hardware: str
    is_default: bool
    """Whether auto chooses it."""


def list_devices() -> list[DeviceInfo]:
    """Every device that is really there, the CPU last."""
    chosen = pick_device("auto").type
    found = [
        DeviceInfo(f"cuda:{index}", torch.cuda.get_device_name(index), chosen == "cuda" and index == 0)
        for index in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        found.append(DeviceInfo("mps", "Apple GPU", chosen == "mps"))
    threads = torch.get_num_threads()
    capability = torch.backends.cpu.get_cpu_capability()
    return [*found, DeviceInfo("cpu", f"{threads} threads, {capability}", chosen == "cpu")]
