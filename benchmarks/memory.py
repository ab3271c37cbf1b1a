"""Memory that enlarging takes beyond the decoded picture and its result, for pictures of growing size.

    python benchmarks/memory.py [MODEL]

Each picture is enlarged in a process of its own, whole in one tile and in tiles. Memory that is bounded by the
tile stays the same from row to row.
"""

import resource
import subprocess
import sys

SIDES_PX = (256, 512, 1024, 2048)
TILES_PX = {"tiles of 256": 256, "one tile": 10**6}

MIB = 2**20


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "trinas-xs-x4"
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
    from trinas.images.read_write import Image
    from trinas.inference.tiled import TiledUpscaler
    from trinas.zoo.folder import load_model

    upscaler = TiledUpscaler(load_model(name), "cpu", "fp32")
    upscaler(Image(torch.rand(3, 16, 16)))  # kernels and libraries are loaded once, whatever the picture
    before = peak_mib()
    picture = Image(torch.rand(3, side, side))
    result = upscaler(picture, UpscaleOptions(tile_px=tile_px))
    arrays = (picture.pixels.nbytes + result.pixels.nbytes) / MIB
    print(arrays, peak_mib() - before - arrays)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
