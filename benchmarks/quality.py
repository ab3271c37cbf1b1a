"""Measure every bundled model, bicubic and Lanczos: PSNR/SSIM on the test sets, and time, in one run.

    python benchmarks/quality.py DATA [--only quality] [--write]
    python benchmarks/quality.py --only times [--models NAME ...] [--write]     # takes no DATA
    python benchmarks/quality.py --render                                       # measures nothing

DATA is laid out as docs/data.md says. `--write` stores what was measured (quality in each model's config.json, the rest
in figures.json) and renders it: cards and their examples, the tables in README.md and docs/benchmarks.md, and the
drawing docs/models.svg. `--render` does so with what is stored.

Times are for a 320x180 input, everything in turn, and hold for this machine and this run only: compare ratios. Two
plain chains of convolutions are timed along, as in the run that the peers' times come from (peers.json). Nothing else
should run meanwhile. bf16 is left out where the hardware does not have it. With `--models`, for those that have become
other networks since, their times are stored as one more run beside those of the others.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from card_example import write_example
from data_folders import list_test_sets
from PIL import Image
from tables import FIGURES, PEERS, chain_name, load_figures, render
from torch import Tensor, nn
from torch.nn import functional as F

from trinas.device import autocast, has_native_bf16
from trinas.files import write_atomically
from trinas.inference.tiled import TiledUpscaler
from trinas.networks.cost import compute_cost
from trinas.timer import Timer
from trinas.training.metrics import FolderMetrics, Pixels, evaluate_model, upscale_bicubic
from trinas.zoo.bundled import find_model, list_bundled_models
from trinas.zoo.folder import load_config, load_model, save_config
from trinas.zoo.record import Metrics

INPUT_WIDTH, INPUT_HEIGHT = 320, 180
ROUNDS = 15
CHAIN_SCALE = 4


def main() -> None:
    """Measure, store and render what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--only", choices=["quality", "times"])
    parser.add_argument("--models", nargs="+", metavar="NAME", choices=list_bundled_models(), help="only these")
    parser.add_argument("--write", action="store_true", help="store what was measured, and render it")
    parser.add_argument("--render", action="store_true", help="render what is stored")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the times, whose median counts")
    arguments = parser.parse_args()
    names = arguments.models or list_bundled_models()
    if not arguments.render and arguments.only != "times":
        if arguments.data is None:
            parser.error("quality is measured on DATA")
        measure_quality(names, arguments.data, arguments.write)
    if not arguments.render and arguments.only != "quality":
        run = measure_times(names, arguments.rounds)
        if arguments.write:
            stored = load_figures()
            save_figures(stored | {"times": merge_run(stored["times"], run, names)})
    if arguments.render or arguments.write:
        for name in list_bundled_models():
            write_example(find_model(name))
            save_config(find_model(name), load_config(name))  # its card
        render()


def measure_quality(names: list[str], data: Path, write: bool) -> None:
    """Print PSNR and SSIM of baselines and models and, if `write` is set, store them one by one."""
    for name, scale, upscale in list_upscalers(names):
        metrics = measure_metrics(upscale, data, scale)
        cells = (f"{test_set} {found.psnr:.2f} / {found.ssim:.4f}" for test_set, found in metrics.items())
        print(f"{name} x{scale}: {', '.join(cells)}", flush=True)
        if write and name in names:
            store_metrics(name, metrics)
        elif write:
            quality = {test_set: [round(found.psnr, 3), round(found.ssim, 4)] for test_set, found in metrics.items()}
            stored = load_figures()
            stored["baselines"][f"{name} x{scale}"] = quality
            save_figures(stored)


def list_upscalers(names: list[str]) -> list[tuple[str, int, Callable[[Pixels], Pixels]]]:
    """Return (name, scale, function from low to high) of the baselines and all models, in fp32."""
    rows: list[tuple[str, int, Callable[[Pixels], Pixels]]] = []
    for scale in sorted({load_config(name).spec.scale for name in names}):
        rows.append(("bicubic", scale, lambda low, scale=scale: upscale_bicubic(low, scale)))
        rows.append(("Lanczos", scale, lambda low, scale=scale: upscale_lanczos(low, scale)))
    for name in names:
        model = load_model(name)
        rows.append((name, model.scale, TiledUpscaler(model, "cpu", "fp32").upscale_rgb8))
    return rows


def upscale_lanczos(low: Pixels, scale: int) -> Pixels:
    """Upscale (H, W, 3) by Pillow's Lanczos interpolation."""
    size = (low.shape[1] * scale, low.shape[0] * scale)
    return np.asarray(Image.fromarray(low).resize(size, Image.Resampling.LANCZOS))


def measure_metrics(upscale: Callable[[Pixels], Pixels], data: Path, scale: int) -> dict[str, FolderMetrics]:
    """Measure a function on the test sets, in fp32."""
    return {
        test_set: evaluate_model(upscale, folder, scale) for test_set, folder in list_test_sets(data, scale).items()
    }


def store_metrics(name: str, quality: dict[str, FolderMetrics]) -> None:
    """Write the metrics into the config.json of a bundled model."""
    metrics = {
        test_set: Metrics(psnr=round(measured.psnr, 3), ssim=round(measured.ssim, 4))
        for test_set, measured in quality.items()
    }
    save_config(find_model(name), dataclasses.replace(load_config(name), metrics=metrics))


def save_figures(figures: dict[str, Any]) -> None:
    """Write figures.json."""
    write_atomically(FIGURES, (json.dumps(figures, indent=2) + "\n").encode())


def measure_times(names: list[str], rounds: int) -> dict[str, Any]:
    """Measure and print milliseconds per megapixel of output: everything in turn, medians over rounds."""
    low = np.random.default_rng(0).integers(0, 256, (INPUT_HEIGHT, INPUT_WIDTH, 3)).astype(np.uint8)
    every = {**chain_tasks(low), **model_tasks(names, low)}
    if names == list_bundled_models():
        every |= baseline_tasks(names, low)
    tasks = {key: task for key, task in every.items() if key[2] != "bf16" or has_native_bf16(torch.device("cpu"))}
    seconds: dict[tuple[str, int, str], list[float]] = {key: [] for key in tasks}
    for _ in range(rounds):
        for key, task in tasks.items():
            task()  # untimed: caches are then as in the middle of a batch
            with Timer() as timer:
                task()
            seconds[key].append(timer.seconds)
    ms_per_mp: dict[str, dict[str, float]] = {}
    for (name, scale, kind), values in seconds.items():
        megapixels = low[..., 0].size * scale**2 / 1e6
        ms_per_mp.setdefault(name, {})[kind] = round(statistics.median(values) * 1000 / megapixels, 2)
    for name in names:
        ms_per_mp[name]["params"] = compute_cost(load_config(name).spec).params
    for name, times in ms_per_mp.items():
        print(f"{name}: {', '.join(f'{kind} {value:g}' for kind, value in times.items())}")
    hardware = torch.backends.cpu.get_cpu_capability()
    return {
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ms_per_mp": ms_per_mp,
    }


def merge_run(runs: list[dict[str, Any]], run: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    """Return the stored runs and a new one that replaces the times of `names`; runs without times left are dropped."""
    kept = []
    for old in runs:
        ms_per_mp = {name: times for name, times in old["ms_per_mp"].items() if name not in names}
        if any(name in list_bundled_models() for name in ms_per_mp):
            kept.append(old | {"ms_per_mp": ms_per_mp})
    return [*kept, run]


Tasks = dict[tuple[str, int, str], Callable[[], object]]
"""(name, scale, kind of time) -> the function that is timed."""


def chain_tasks(low: Pixels) -> Tasks:
    """Return tasks that run the plain chains as the peers were run: fp32, and bf16 by autocast in channels_last."""
    tasks: Tasks = {}
    batch = torch.from_numpy(low).permute(2, 0, 1)[None].float().div(255).contiguous()
    for shape in json.loads(PEERS.read_text(encoding="utf-8"))["chains"]:
        name = chain_name(shape["width"], shape["convs"])
        chain = PlainChain(shape["width"], shape["convs"]).eval()
        tasks[name, CHAIN_SCALE, "fp32"] = lambda chain=chain: run_network(chain, batch, "fp32")
        last = PlainChain(shape["width"], shape["convs"]).eval().to(memory_format=torch.channels_last)
        batch_last = batch.contiguous(memory_format=torch.channels_last)
        tasks[name, CHAIN_SCALE, "bf16"] = lambda chain=last, batch=batch_last: run_network(chain, batch, "bf16")
    return tasks


class PlainChain(nn.Module):
    """Head, 3x3 convolutions of one width and a tail, with torch's own PReLU between. The upscaled input is added."""

    def __init__(self, width: int, convs: int) -> None:
        super().__init__()
        body = [layer for _ in range(convs) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width))]
        self.chain = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), *body, nn.Conv2d(width, 3 * CHAIN_SCALE**2, 3, padding=1)
        )

    def forward(self, low: Tensor) -> Tensor:
        nearest = F.interpolate(low, scale_factor=CHAIN_SCALE, mode="nearest")
        return F.pixel_shuffle(self.chain(low), CHAIN_SCALE) + nearest


@torch.inference_mode()
def run_network(network: nn.Module, batch: Tensor, precision: str) -> Tensor:
    """Run a network alone, on one tile as large as the image."""
    with autocast(torch.device("cpu"), precision):
        output: Tensor = network(batch)
    return output


def baseline_tasks(names: list[str], low: Pixels) -> Tasks:
    """Return tasks that upscale the image by Pillow's bicubic and Lanczos interpolation."""
    tasks: Tasks = {}
    image = Image.fromarray(low)
    for scale in sorted({load_config(name).spec.scale for name in names}):
        size = (image.width * scale, image.height * scale)
        for name, method in (("bicubic", Image.Resampling.BICUBIC), ("Lanczos", Image.Resampling.LANCZOS)):
            tasks[f"{name} x{scale}", scale, "picture"] = lambda size=size, method=method: image.resize(size, method)
    return tasks


def model_tasks(names: list[str], low: Pixels) -> Tasks:
    """Return tasks that run each network alone in both precisions, and `picture`: a whole upscaling."""
    tasks: Tasks = {}
    batch = torch.from_numpy(low).permute(2, 0, 1)[None].float().div(255).contiguous(memory_format=torch.channels_last)
    for name in names:
        model = load_model(name)
        network = load_model(name).network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for precision in ("fp32", "bf16"):
            tasks[name, model.scale, precision] = partial(run_network, network, batch, precision)
        upscaler = TiledUpscaler(model, "cpu")
        tasks[name, model.scale, "picture"] = lambda upscaler=upscaler: upscaler.upscale_rgb8(low)
    return tasks


if __name__ == "__main__":
    main()
