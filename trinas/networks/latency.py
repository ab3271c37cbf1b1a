"""How long networks and their parts take on a device, measured."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from trinas.device import autocast, synchronize
from trinas.errors import RunError
from trinas.files import write_atomically
from trinas.networks.network import Network
from trinas.networks.primitives import build_primitive
from trinas.networks.space import ArchSpec, SearchSpace

SIDE_PX = 128
"""Side of the square input that is measured on."""

REPEATS = 7
"""Runs of which the fastest counts: whatever else the machine does only ever adds."""


LAYERS_VERSION = 2
"""Raised when layers become faster or slower, so that what was measured before is measured anew."""


def slot_table(space: SearchSpace, device: torch.device, precision: str) -> Tensor:
    """Time of each primitive at each pair of widths, from the cache where it has been measured before.

    Returns:
        (K, W, W) float64, milliseconds per megapixel of the features it works on: primitive, width in, width out.
    Raises:
        RunError: the cache cannot be written.
    """
    key = {
        "family": space.family,
        "primitives": space.primitives,
        "widths": space.widths,
        "device": str(device),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "side_px": SIDE_PX,
        "torch": torch.__version__,
        "layers": LAYERS_VERSION,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_dir() / f"latency-{digest}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] == json.loads(json.dumps(key)):
            return torch.tensor(stored["ms_per_mp"], dtype=torch.float64)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not measured yet, or not readable: measured anew
    table = _measured_table(space, device, precision)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"key": key, "ms_per_mp": table.tolist()}).encode())
    except OSError as error:
        raise RunError(f"{path}: measured times cannot be kept ({error.strerror}); set XDG_CACHE_HOME") from None
    return table


def network_ms_per_mp(network: Network, device: torch.device, precision: str) -> float:
    """Time of a whole network, milliseconds per megapixel of output."""
    placed = _placed(network, device)
    low = torch.rand(1, 3, SIDE_PX, SIDE_PX, device=device)
    return _fastest_ms(lambda: placed(low), device, precision) * 1e6 / (SIDE_PX * network.spec.scale) ** 2


def spec_ms_per_mp(spec: ArchSpec, device: torch.device, precision: str) -> float:
    """The same for fresh weights: time does not depend on them."""
    return network_ms_per_mp(Network(spec), device, precision)


def cache_dir() -> Path:
    """Where measurements are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trinas-upscale"


def _measured_table(space: SearchSpace, device: torch.device, precision: str) -> Tensor:
    def milliseconds(name: str, w_in: int, w_out: int) -> float:
        module = _placed(build_primitive(space.family, name, w_in, w_out), device)
        features = torch.rand(1, w_in, SIDE_PX, SIDE_PX, device=device).to(memory_format=torch.channels_last)
        return _fastest_ms(lambda: module(features), device, precision)

    widths = space.widths
    times = [[[milliseconds(name, w_in, w_out) for w_out in widths] for w_in in widths] for name in space.primitives]
    return torch.tensor(times, dtype=torch.float64) * 1e6 / SIDE_PX**2


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    return module.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


@torch.inference_mode()
def _fastest_ms(run: Callable[[], object], device: torch.device, precision: str) -> float:
    times = []
    with autocast(device, precision):
        for _ in range(REPEATS + 1):
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            times.append(time.perf_counter() - start)
    return min(times[1:]) * 1e3


def _cpu_name() -> str:
    """The processor's model, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else torch.backends.cpu.get_cpu_capability()
