"""Where and in what precision networks run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trinas.errors import TrinasError, UpscaleError

BF16_MIN_WIDTH = 32
"""Channels from which on bf16 is faster, where the hardware has it: at 16 it gains nothing (docs/LOG.md)."""


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


def pick_precision(device: torch.device, trunk_width: int) -> str:
    """The faster of fp32 and bf16 for a network, by what is known of both.

    By rule and not by timing, so that the same command gives the same bytes on every run.
    """
    return "bf16" if trunk_width >= BF16_MIN_WIDTH and has_native_bf16(device) else "fp32"


def chosen_precision(wish: str, device: torch.device, trunk_width: int) -> str:
    """Turn auto, fp32 or bf16 into one of the latter two."""
    return pick_precision(device, trunk_width) if wish == "auto" else wish


def training_precision(wish: str, device: torch.device) -> str:
    """Turn auto, fp32 or bf16 into one of the latter two, for training: auto takes bf16 wherever it is native.

    A network that learns gains by it at any width, unlike one that enlarges, and its weights stay in fp32.
    """
    if wish != "auto":
        return wish
    return "bf16" if has_native_bf16(device) else "fp32"


def has_native_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 numbers itself; emulated, they are far slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


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


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run a block with this many threads of torch on the CPU; afterwards the process has as many as before.

    Results depend on the number of threads in their last bits, so a run that is resumed needs its own number.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory_shortage_named(
    kind: type[TrinasError] = UpscaleError, words: str = "for this picture; a smaller --tile or -s takes less"
) -> Iterator[None]:
    """Torch's error for too little memory, on the CPU and on GPUs, as one of ours."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            raise kind(f"memory is too small {words}") from None
        raise
