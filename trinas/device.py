"""Choose the device and the precision that networks run in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trinas.errors import MemoryShortageError, TrinasError

BF16_MIN_WIDTH = 32
"""Trunk width from which bf16 is faster where the hardware has it. At 16 it gains nothing (docs/LOG.md)."""


def pick_device(wish: str) -> torch.device:
    """Turn auto, cpu, cuda, cuda:1 or mps into a device that this machine has.

    Raises:
        TrinasError: this machine has no such device.
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


def pick_precision(device: torch.device, trunk_width: int) -> str:
    """Return the faster of fp32 and bf16 for a network.

    By rule and not by timing, so that the same command gives the same bytes on every run.
    """
    return "bf16" if trunk_width >= BF16_MIN_WIDTH and has_native_bf16(device) else "fp32"


def resolve_precision(wish: str, device: torch.device, trunk_width: int) -> str:
    """Turn auto, fp32 or bf16 into fp32 or bf16, for upscaling."""
    return pick_precision(device, trunk_width) if wish == "auto" else wish


def resolve_training_precision(wish: str, device: torch.device) -> str:
    """Turn auto, fp32 or bf16 into fp32 or bf16, for training: auto takes bf16 wherever it is native.

    Training gains by bf16 at any width, unlike upscaling. Weights stay in fp32.
    """
    if wish != "auto":
        return wish
    return "bf16" if has_native_bf16(device) else "fp32"


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bf16 natively; emulated, bf16 is far slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network's trunk runs in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def synchronize(device: torch.device) -> None:
    """Wait for all work queued on `device`, so that times can be measured."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@dataclass(frozen=True)
class DeviceInfo:
    """A device that networks can run on."""

    name: str
    """What --device takes."""
    hardware: str
    is_default: bool
    """Whether auto chooses it."""


def list_devices() -> list[DeviceInfo]:
    """Return every device of this machine, the CPU last."""
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


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run the block with `count` threads in torch, then restore the previous number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def translate_memory_errors(
    error_type: type[TrinasError] = MemoryShortageError,
    words: str = "for this image; a smaller --tile or -s takes less",
) -> Iterator[None]:
    """Turn the errors of torch and NumPy about too little memory, on CPUs and GPUs, into one clear line.

    Args:
        error_type: what is raised instead.
        words: what memory is too small for, and what the user can do.
    Raises:
        TrinasError: of `error_type`, where the block ran out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error):
            raise error_type(f"memory is too small {words}") from None
        raise
