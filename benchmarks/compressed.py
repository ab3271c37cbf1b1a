"""Measure models on compressed input: the test sets' small images, saved as JPEG first.

    python benchmarks/compressed.py DATA [--qualities 80 90] [--crops FOLDER]

DATA is laid out as docs/data.md says. `--crops` also writes crops of some results side by side, to look at.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from data_folders import list_test_sets
from PIL import Image

from trinas.images.read import read_rgb8
from trinas.inference.tiled import TiledUpscaler
from trinas.training.degrade import compress_jpeg, crop_to_multiple, downscale
from trinas.training.metrics import Pixels, evaluate_model, upscale_bicubic
from trinas.zoo.folder import load_model

SCALES, QUALITIES = (2, 4), (30, 50, 70, 80, 90, 0)
CROPS = {"Set5/HR/butterfly.png": (60, 40), "Set5/HR/woman.png": (40, 20), "Set14/HR_x4/img_014.png": (180, 120)}
"""Image -> left and top of the square that is shown, in pixels of the original."""

CROP_PX, SHOWN_QUALITY = 160, 50


def main() -> None:
    """Print a row for each scale, quality and network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--qualities", type=int, nargs="*", default=QUALITIES, help="of JPEG; 0: not compressed")
    parser.add_argument("--crops", type=Path)
    arguments = parser.parse_args()
    print("| scale | JPEG quality | network | Set5 | Set14 | BSD100 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for scale in SCALES:
        for quality in arguments.qualities:
            for name, upscale in list_upscalers(scale).items():
                cells = " | ".join(measure(upscale, arguments.data, scale, quality))
                print(f"| x{scale} | {quality or 'not compressed'} | {name} | {cells} |", flush=True)
    if arguments.crops:
        arguments.crops.mkdir(parents=True, exist_ok=True)
        for scale in SCALES:
            write_crops(arguments.data / "benchmarks", scale, arguments.crops / f"compressed-x{scale}.png")


def list_upscalers(scale: int) -> dict[str, Callable[[Pixels], Pixels]]:
    """Return bicubic and the networks that are compared, as functions from low to high."""
    names = [f"trinas-{tier}-x{scale}" for tier in ("xs", "s", "s-photo")]
    networks = {name: TiledUpscaler(load_model(name), "cpu", "fp32").upscale_rgb8 for name in names}
    return {"bicubic": lambda low: upscale_bicubic(low, scale), **networks}


def measure(upscale: Callable[[Pixels], Pixels], data: Path, scale: int, quality: int) -> list[str]:
    """Return PSNR and SSIM on Y for each test set, as they are printed."""

    def from_jpeg(low: Pixels) -> Pixels:
        return upscale(compress_jpeg(low, quality) if quality else low)

    found = [evaluate_model(from_jpeg, folder, scale) for folder in list_test_sets(data, scale).values()]
    return [f"{metrics.psnr:.2f} / {metrics.ssim:.4f}" for metrics in found]


def write_crops(benchmarks: Path, scale: int, path: Path) -> None:
    """Write a row per image: bicubic, each network, the original."""
    rows = []
    for name, (left, top) in CROPS.items():
        high = crop_to_multiple(read_rgb8(benchmarks / name), scale)
        low = compress_jpeg(downscale(high, scale), SHOWN_QUALITY)
        results = [*(upscale(low) for upscale in list_upscalers(scale).values()), high]
        rows.append(np.concatenate([result[top : top + CROP_PX, left : left + CROP_PX] for result in results], axis=1))
    shown = Image.fromarray(np.concatenate(rows, axis=0))
    shown.resize((shown.width * 2, shown.height * 2), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
