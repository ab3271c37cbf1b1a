"""What settings of the encoders cost: time and bytes of a result, for PNG and AVIF.

    python benchmarks/encoders.py IMAGES

IMAGES is a folder. Its first eight images are upscaled four times and encoded with each setting; the fastest of three
rounds counts. Times and bytes are per megapixel of the results.
"""

import argparse
from pathlib import Path

from trinas.config import SaveConfig
from trinas.images.formats import list_image_files
from trinas.images.image import Image
from trinas.images.read import read_image
from trinas.images.write import Effort, encode_image
from trinas.inference.cascade import CascadeUpscaler
from trinas.timer import time_fastest

IMAGES, ROUNDS, SCALE = 8, 3, 4
EFFORTS = {
    "png": {value: Effort(png_compression=value) for value in (1, 3, 4, 6, 9)},
    "avif": {value: Effort(avif_speed=value) for value in (6, 8, 10)},
}
"""Format -> the values of its setting that are tried."""


def main() -> None:
    """Print a row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    images = [read_image(path) for path in list_image_files(parser.parse_args().images)[:IMAGES]]
    upscale = CascadeUpscaler()
    results = [upscale(image, (SCALE * image.size[0], SCALE * image.size[1])) for image in images]
    megapixels = sum(result.size[0] * result.size[1] for result in results) / 1e6
    print("| format | setting | s/MP | MB/MP |")
    print("| --- | --- | --- | --- |")
    for suffix, efforts in EFFORTS.items():
        for value, effort in efforts.items():
            seconds, size = measure_encoding(results, suffix, effort)
            used = " (used)" if effort == Effort() else ""
            cells = f"{suffix} | {value}{used} | {seconds / megapixels:.3f} | {size / 1e6 / megapixels:.2f}"
            print(f"| {cells} |", flush=True)


def measure_encoding(results: list[Image], suffix: str, effort: Effort) -> tuple[float, int]:
    """Return the seconds of the fastest round, and the bytes of all files."""
    path = Path(f"result.{suffix}")

    def encode() -> list[bytes]:
        return [encode_image(path, result, SaveConfig(), effort)[0] for result in results]

    return time_fastest(encode, ROUNDS), sum(map(len, encode()))


if __name__ == "__main__":
    main()
