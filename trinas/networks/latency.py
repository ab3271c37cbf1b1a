"""Measure the time that networks and single primitives take on a device."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from trinas.device import autocast, synchronize
from trinas.errors import RunError
from trinas.files import translate_os_errors, write_atomically
from trinas.networks.network import Network
from trinas.networks.primitives import build_primitive
from trinas.networks.space import ArchSpec, SearchSpace
from trinas.timer import time_fastest

SIDE_PX = 128
"""Side of the square input that is used for measuring."""

REPEATS = 7
"""Number of timed runs. The fastest one counts, because other work on the machine can only add time."""

LATENCY_SCHEMA = 2
"""Increased when primitives become faster or slower, so that stored times are measured again."""


class LatencyKey(BaseModel):
    """Everything on which the times of primitives depend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    primitives: tuple[str, ...]
    widths: tuple[int, ...]
    device: str
    hardware: str  # the name of the processor or GPU
    threads: int
    precision: str
    side_px: int
    torch: str  # its version
    layers: int  # LATENCY_SCHEMA

    def path(self) -> Path:
        """Return the file of the times for this key."""
        digest = hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
        return find_cache_dir() / f"latency-{digest[:16]}.json"


class StoredTimes(BaseModel):
    """A file of measured times."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: LatencyKey
    ms_per_mp: list[list[list[float]]]


def measure_slot_times(space: SearchSpace, device: torch.device, precision: str) -> Tensor:
    """Measure each primitive at each pair of widths, or read the times if they are stored already.

    Args:
        space: its primitives and widths are measured.
        device: where they run.
        precision: fp32 or bf16.
    Returns:
        (K, W, W) float64: primitive, width in, width out. Milliseconds per megapixel of the features.
    Raises:
        RunError: the times cannot be stored.
    """
    key = LatencyKey(
        family=space.family,
        primitives=space.primitives,
        widths=space.widths,
        device=str(device),
        hardware=torch.cuda.get_device_name(device) if device.type == "cuda" else _read_cpu_name(),
        threads=torch.get_num_threads(),
        precision=precision,
        side_px=SIDE_PX,
        torch=str(torch.__version__),
        layers=LATENCY_SCHEMA,
    )
    stored = _read_times(key)
    if stored is not None:
        return stored
    times = _measure_primitives(space, device, precision)
    content = StoredTimes(key=key, ms_per_mp=times.tolist()).model_dump(mode="json")
    path = key.path()
    with translate_os_errors(RunError, path, "written", "set XDG_CACHE_HOME to a folder for measured times"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content).encode())
    return times


def measure_ms_per_mp(network: Network, device: torch.device, precision: str) -> float:
    """Measure a network and return its milliseconds per megapixel of output.

    Args:
        network: is moved to the device.
        device: where it runs.
        precision: fp32 or bf16.
    """
    placed = _place(network, device)
    low = torch.rand(1, 3, SIDE_PX, SIDE_PX, device=device)
    return _measure_ms(lambda: placed(low), device, precision) * 1e6 / (SIDE_PX * network.spec.scale) ** 2


def measure_spec_ms_per_mp(spec: ArchSpec, device: torch.device, precision: str) -> float:
    """Measure the network of an architecture, as `measure_ms_per_mp`. It has fresh weights, which do not matter."""
    return measure_ms_per_mp(Network(spec), device, precision)


def find_cache_dir() -> Path:
    """Return the folder of stored times."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trinas-upscale"


def _read_times(key: LatencyKey) -> Tensor | None:
    """Return the stored times for `key`; None if there are none, or if the file is damaged."""
    try:
        stored = StoredTimes.model_validate_json(key.path().read_bytes())
        times = torch.tensor(stored.ms_per_mp, dtype=torch.float64)
    except (OSError, ValueError):
        return None
    return times if stored.key == key else None


def _measure_primitives(space: SearchSpace, device: torch.device, precision: str) -> Tensor:
    def measure(name: str, w_in: int, w_out: int) -> float:
        module = _place(build_primitive(space.family, name, w_in, w_out), device)
        features = torch.rand(1, w_in, SIDE_PX, SIDE_PX, device=device).to(memory_format=torch.channels_last)
        return _measure_ms(lambda: module(features), device, precision)

    widths = space.widths
    times = [[[measure(name, w_in, w_out) for w_out in widths] for w_in in widths] for name in space.primitives]
    return torch.tensor(times, dtype=torch.float64) * 1e6 / SIDE_PX**2


def _place(module: nn.Module, device: torch.device) -> nn.Module:
    return module.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


@torch.inference_mode()
def _measure_ms(function: Callable[[], object], device: torch.device, precision: str) -> float:
    def run() -> None:
        function()
        synchronize(device)

    with autocast(device, precision):
        run()  # the first run also allocates memory and chooses kernels
        return time_fastest(run, REPEATS) * 1e3


def _read_cpu_name() -> str:
    """Return the model name of the processor, or its instruction set if the system gives no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else torch.backends.cpu.get_cpu_capability()
