"""What settings of the encoders cost: time and bytes of a result, for PNG and AVIF.

    python benchmarks/encoders.py PHOTOS

PHOTOS is a folder of images; the first eight are enlarged four times and encoded with each setting in turn, best of
three rounds. Times and bytes are per megapixel of the results.
"""

import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from trinas.images import read_write as images
from trinas.images.formats import image_files
from trinas.images.read_write import Image, read_image, write_image
from trinas.inference.cascade import CascadeUpscaler

PHOTOS, ROUNDS, SCALE = 8, 3, 4
SETTINGS = {
    "png": ("PNG_COMPRESSION", (1, 3, 4, 6, 9)),
    "avif": ("AVIF_SPEED", (6, 8, 10)),
}
"""Format -> the constant of trinas.images.read_write, and the values to try."""


def main() -> None:
    pictures = [read_image(path) for path in image_files(Path(sys.argv[1]))[:PHOTOS]]
    enlarge = CascadeUpscaler()
    results = [enlarge(picture, (SCALE * picture.size[0], SCALE * picture.size[1])) for picture in pictures]
    megapixels = sum(result.size[0] * result.size[1] for result in results) / 1e6
    print("| format | setting | s/MP | MB/MP |")
    print("| --- | --- | --- | --- |")
    for suffix, (constant, values) in SETTINGS.items():
        for value in values:
            with mock.patch.object(images, constant, value):
                seconds, size = encode(results, suffix)
            used = " (used)" if value == getattr(images, constant) else ""
            print(
                f"| {suffix} | {value}{used} | {seconds / megapixels:.3f} | {size / 1e6 / megapixels:.2f} |", flush=True
            )


def encode(results: list[Image], suffix: str) -> tuple[float, int]:
    """Seconds of the fastest round, and bytes."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.{suffix}") for number in range(len(results))]
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for path, result in zip(paths, results, strict=True):
                write_image(path, result)
            seconds.append(time.perf_counter() - start)
        return min(seconds), sum(path.stat().st_size for path in paths)


if __name__ == "__main__":
    main()
