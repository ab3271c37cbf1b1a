"""What settings of the encoders cost: time and bytes of a result, for PNG and AVIF.

    python benchmarks/encoders.py PHOTOS

PHOTOS is a folder of images. The first eight are upscaled four times and encoded with each setting; the fastest of
three rounds counts. Times and bytes are per megapixel of the results.
"""

import sys
import tempfile
from pathlib import Path
from unittest import mock

from trinas.images import write
from trinas.images.formats import list_image_files
from trinas.images.image import Image
from trinas.images.read import read_image
from trinas.images.write import write_image
from trinas.inference.cascade import CascadeUpscaler
from trinas.timer import time_fastest

PHOTOS, ROUNDS, SCALE = 8, 3, 4
SETTINGS = {
    "png": ("PNG_COMPRESSION", (1, 3, 4, 6, 9)),
    "avif": ("AVIF_SPEED", (6, 8, 10)),
}
"""Format -> the constant of trinas.images.write, and the values to try."""


def main() -> None:
    images = [read_image(path) for path in list_image_files(Path(sys.argv[1]))[:PHOTOS]]
    upscale = CascadeUpscaler()
    results = [upscale(image, (SCALE * image.size[0], SCALE * image.size[1])) for image in images]
    megapixels = sum(result.size[0] * result.size[1] for result in results) / 1e6
    print("| format | setting | s/MP | MB/MP |")
    print("| --- | --- | --- | --- |")
    for suffix, (constant, values) in SETTINGS.items():
        for value in values:
            with mock.patch.object(write, constant, value):
                seconds, size = encode(results, suffix)
            used = " (used)" if value == getattr(write, constant) else ""
            print(
                f"| {suffix} | {value}{used} | {seconds / megapixels:.3f} | {size / 1e6 / megapixels:.2f} |", flush=True
            )


def encode(results: list[Image], suffix: str) -> tuple[float, int]:
    """Return the seconds of the fastest round, and the bytes of all files."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.{suffix}") for number in range(len(results))]

        def write_all() -> None:
            for path, result in zip(paths, results, strict=True):
                write_image(path, result)

        return time_fastest(write_all, ROUNDS), sum(path.stat().st_size for path in paths)


if __name__ == "__main__":
    main()
