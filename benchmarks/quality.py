"""Measure every bundled model, bicubic and Lanczos: PSNR/SSIM on the test sets, and time, in one run.

    python benchmarks/quality.py DATA [--write]

DATA is laid out as docs/data.md says. `--write` stores the figures in each model's config.json and card and
renews the table in README.md. Times are for a 1280x720 result, everything in turn, and hold for this machine
and this run only: compare the ratios.
"""

import argparse
import dataclasses
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trinas.config import UpscaleConfig
from trinas.cost import spec_cost
from trinas.evaluate import Figures, Pixels, evaluate_model, upscale_bicubic
from trinas.store import bundled_models, find_model, load_config, load_model, save_config
from trinas.upscale import Upscaler

README = Path(__file__).parent.parent / "README.md"
TABLE = re.compile(r"(<!-- models: .*? -->\n).*?(<!-- end of models -->)", re.DOTALL)
OUTPUT_WIDTH, OUTPUT_HEIGHT = 1280, 720
ROUNDS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true", help="store the figures in models/ and README.md")
    arguments = parser.parse_args()
    names = bundled_models()
    scales = sorted({load_config(name).spec.scale for name in names})
    quality = {
        (name, scale): figures_of(enlarger, arguments.data, scale) for name, scale, enlarger in enlargers(names, scales)
    }
    times = measure_times(names, scales)
    if arguments.write:
        for name in names:
            store_figures(name, quality[name, load_config(name).spec.scale])
        README.write_text(TABLE.sub(lambda match: match[1] + model_table(names) + match[2], README.read_text()))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print_table(quality, times)


def enlargers(names: list[str], scales: list[int]) -> list[tuple[str, int, Callable[[Pixels], Pixels]]]:
    """(name, scale, function from low to high) of the baselines and all models, in fp32."""
    rows: list[tuple[str, int, Callable[[Pixels], Pixels]]] = []
    for scale in scales:
        rows.append(("bicubic", scale, lambda low, scale=scale: upscale_bicubic(low, scale)))
        rows.append(("Lanczos", scale, lambda low, scale=scale: upscale_lanczos(low, scale)))
    for name in names:
        model = load_model(name)
        rows.append((name, model.scale, Upscaler(model, UpscaleConfig(device="cpu", precision="fp32")).rgb8))
    return rows


def upscale_lanczos(low: Pixels, scale: int) -> Pixels:
    size = (low.shape[1] * scale, low.shape[0] * scale)
    return np.asarray(Image.fromarray(low).resize(size, Image.Resampling.LANCZOS))


def figures_of(enlarger: Callable[[Pixels], Pixels], data: Path, scale: int) -> dict[str, Figures]:
    folders = {"Set5": "Set5/HR", "Set14": f"Set14/HR_x{scale}", "BSD100": "BSD100"}
    return {
        test_set: evaluate_model(enlarger, data / "benchmarks" / folder, scale) for test_set, folder in folders.items()
    }


def measure_times(names: list[str], scales: list[int]) -> dict[tuple[str, int, str], float]:
    """Milliseconds per output megapixel: (name, scale, kind) -> median over rounds, everything in turn."""
    tasks: dict[tuple[str, int, str], Callable[[], object]] = {}
    for scale in scales:
        picture = Image.fromarray(np.zeros((OUTPUT_HEIGHT // scale, OUTPUT_WIDTH // scale, 3), np.uint8))
        size = (picture.width * scale, picture.height * scale)
        for name, method in (("bicubic", Image.Resampling.BICUBIC), ("Lanczos", Image.Resampling.LANCZOS)):
            tasks[name, scale, "picture"] = lambda p=picture, s=size, m=method: p.resize(s, m)
    for name in names:
        scale = load_config(name).spec.scale
        low = np.random.default_rng(0).integers(0, 256, (OUTPUT_HEIGHT // scale, OUTPUT_WIDTH // scale, 3))
        low = low.astype(np.uint8)
        for precision in ("fp32", "bf16"):
            upscaler = Upscaler(load_model(name), UpscaleConfig(device="cpu", precision=precision))
            batch = torch.from_numpy(low).permute(2, 0, 1).float().div(255)
            tasks[name, scale, precision] = lambda u=upscaler, b=batch: network_pass(u, b)
        upscaler = Upscaler(load_model(name), UpscaleConfig(device="cpu"))
        tasks[name, scale, "picture"] = lambda u=upscaler, pixels=low: u.rgb8(pixels)
    seconds: dict[tuple[str, int, str], list[float]] = {key: [] for key in tasks}
    for _ in range(ROUNDS):
        for key, task in tasks.items():
            task()  # kernels and caches as they are in the middle of a batch
            start = time.perf_counter()
            task()
            seconds[key].append(time.perf_counter() - start)
    megapixels = OUTPUT_WIDTH * OUTPUT_HEIGHT / 1e6
    return {key: statistics.median(values) * 1000 / megapixels for key, values in seconds.items()}


@torch.inference_mode()
def network_pass(upscaler: Upscaler, batch: torch.Tensor) -> torch.Tensor:
    """The network alone, on one tile as large as the picture."""
    return upscaler._network_on(batch, upscaler.precision)


def store_figures(name: str, quality: dict[str, Figures]) -> None:
    figures = {
        test_set: {"psnr": round(measured.psnr, 3), "ssim": round(measured.ssim, 4)}
        for test_set, measured in quality.items()
    }
    save_config(find_model(name), dataclasses.replace(load_config(name), figures=figures))


def model_table(names: list[str]) -> str:
    """The README's table, from the stored figures alone."""
    lines = [
        "| model | scale | parameters | multiply-adds (1280x720) | Set5 | Set14 | BSD100 | licence |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        config = load_config(name)
        cost = spec_cost(config.spec)
        figures = " | ".join(f"{values['psnr']:.2f} / {values['ssim']:.4f}" for values in config.figures.values())
        lines.append(
            f"| {name} | x{config.spec.scale} | {cost.params:,} | {cost.macs / 1e9:.2f} G "
            f"| {figures} | {config.licence} |"
        )
    return "\n".join(lines) + "\n"


def print_table(quality: dict[tuple[str, int], dict[str, Figures]], times: dict[tuple[str, int, str], float]) -> None:
    print("| model | scale | Set5 | Set14 | BSD100 | network fp32, ms/MP | network bf16, ms/MP | picture, ms/MP |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (name, scale), sets in quality.items():
        figures = " | ".join(f"{figures.psnr:.2f} / {figures.ssim:.4f}" for figures in sets.values())
        columns = (
            f"{times[name, scale, kind]:.1f}" if (name, scale, kind) in times else "-"
            for kind in ("fp32", "bf16", "picture")
        )
        print(f"| {name} | x{scale} | {figures} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
