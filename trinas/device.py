"""Choose the device and the precision that networks run in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trinas.errors import MemoryShortageError, TrinasError

BF16_MIN_WIDTH = 32
"""From this trunk width on, bf16 is faster on hardware that has it. At 16 it gains nothing (docs/LOG.md)."""


def pick_device(name: str) -> torch.device:
    """Return the device of this machine that a name means.

    Args:
        name: auto, cpu, cuda, cuda:1 or mps. auto takes the first GPU, or the CPU if there is none.
    Raises:
        TrinasError: this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError):
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise TrinasError(f"no device {name!r} here; use --device cpu")
    return device


def pick_precision(device: torch.device, trunk_width: int) -> str:
    """Return the faster precision for a network, fp32 or bf16.

    It is chosen by a rule and not by timing, so that the same command gives the same bytes on every run.
    """
    return "bf16" if trunk_width >= BF16_MIN_WIDTH and has_native_bf16(device) else "fp32"


def resolve_precision(precision: str, device: torch.device, trunk_width: int) -> str:
    """Return the precision of upscaling: fp32 or bf16 for auto, otherwise `precision` itself."""
    return pick_precision(device, trunk_width) if precision == "auto" else precision


def resolve_training_precision(precision: str, device: torch.device) -> str:
    """Return the precision of training: fp32 or bf16 for auto, otherwise `precision` itself.

    auto takes bf16 if the hardware has it. Unlike upscaling, training is faster with it at any width. Weights stay in
    fp32.
    """
    if precision != "auto":
        return precision
    return "bf16" if has_native_bf16(device) else "fp32"


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bf16 natively. Emulated bf16 is far slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network's trunk runs in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def synchronize(device: torch.device) -> None:
    """Wait for all work that is queued on `device`, so that times can be measured."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@dataclass(frozen=True)
class DeviceInfo:
    """A device that networks can run on."""

    name: str
    """As --device takes it."""
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
    return [*found, DeviceInfo("cpu", f"{threads} thread{'' if threads == 1 else 's'}, {capability}", chosen == "cpu")]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run the block with `count` threads in torch, then restore the previous number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_memory_error(error: Exception) -> bool:
    """Return whether torch or NumPy could not get memory, on a CPU or a GPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def translate_memory_errors(
    error_type: type[TrinasError] = MemoryShortageError,
    words: str = "for this image; a smaller --tile or -s takes less",
) -> Iterator[None]:
    """Turn the errors of torch and NumPy about too little memory, on CPUs and GPUs, into one clear line.

    Args:
        error_type: the class of the error that is raised instead.
        words: what the memory is too small for, and what the user can do.
    Raises:
        TrinasError: of `error_type`, if the block ran out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_memory_error(error):
            raise error_type(f"memory is too small {words}") from None
        raise
