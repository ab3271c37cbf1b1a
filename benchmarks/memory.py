"""Memory that upscaling takes beyond the decoded image and its result, for images of growing size.

    python benchmarks/memory.py [MODEL]

Each image is upscaled in a process of its own, whole in one tile and in tiles. Memory that is bounded by the tile
stays the same from row to row.
"""

import argparse
import subprocess
import sys

from process_memory import MIB, measure_peak_mib

SIDES_PX = (256, 512, 1024, 2048)
TILES_PX = {"tiles of 256": 256, "one tile": 10**6}


def main() -> None:
    """Print a row for each size, measured in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="trinas-xs-x4", metavar="MODEL")
    model = parser.parse_args().model
    print("| input | decoded input and result, MiB | " + " | ".join(f"{name}, MiB beyond" for name in TILES_PX) + " |")
    print("| --- | --- |" + " --- |" * len(TILES_PX))
    for side in SIDES_PX:
        beyond = []
        for tile_px in TILES_PX.values():
            command = [sys.executable, __file__, "measure", model, str(side), str(tile_px)]
            arrays, extra = map(
                float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            )
            beyond.append(f"{extra:.0f}")
        print(f"| {side}x{side} | {arrays:.0f} | {' | '.join(beyond)} |", flush=True)


def measure(name: str, side: int, tile_px: int) -> None:
    """Print, in MiB, the size of both arrays, and by how much the peak exceeded them and the loaded program."""
    import torch

    from trinas.config import UpscaleOptions
    from trinas.images.image import Image
    from trinas.inference.tiled import TiledUpscaler
    from trinas.zoo.folder import load_model

    upscaler = TiledUpscaler(load_model(name), "cpu", "fp32")
    upscaler(Image(torch.rand(3, 16, 16)))  # kernels and libraries are loaded once, whatever the image
    before = measure_peak_mib()
    image = Image(torch.rand(3, side, side))
    result = upscaler(image, UpscaleOptions(tile_px=tile_px))
    arrays = (image.pixels.nbytes + result.pixels.nbytes) / MIB
    print(arrays, measure_peak_mib() - before - arrays)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
