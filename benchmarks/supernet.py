"""Time and memory of a step of the search, for a space and values of anneal.

    python benchmarks/supernet.py SPACE SCALE TRUNK_WIDTH CELLS SLOTS [BATCH_SIZE]

Architecture parameters are drawn at random, so that anneal alone says how many candidates are left. A step is one of
the weights and one of the architecture parameters, on patches of 32. Each anneal is measured in a process of its own,
as the fastest of a few steps.
"""

import argparse
import subprocess
import sys

from process_memory import measure_peak_mib

ANNEALS = (0.0, 0.3, 0.6, 0.8, 1.0)
STEPS = 3


def main() -> None:
    """Print a row for each value of anneal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", metavar="SPACE")
    for name in ("SCALE", "TRUNK_WIDTH", "CELLS", "SLOTS"):
        parser.add_argument(name, type=int)
    parser.add_argument("batch_size", type=int, nargs="?", default=1, metavar="BATCH_SIZE")
    parser.parse_args()
    print("| anneal | seconds per step | peak memory, MiB |")
    print("| --- | --- | --- |")
    for anneal in ANNEALS:
        command = [sys.executable, __file__, "measure", str(anneal), *sys.argv[1:]]
        seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        print(f"| {anneal:g} | {float(seconds):.2f} | {float(peak):.0f} |", flush=True)


def measure(
    anneal: float, name: str, scale: int, trunk_width: int, cells: int, slots: int, batch_size: int = 1
) -> None:
    """Print the seconds of the fastest step, and the peak memory in MiB."""
    import torch

    from trinas.config import Budgets, SearchConfig
    from trinas.device import resolve_training_precision
    from trinas.networks.space import SearchSpace
    from trinas.search.budgets import CostModel
    from trinas.search.step import Learner
    from trinas.search.supernet import Supernet
    from trinas.timer import time_fastest

    torch.manual_seed(0)
    space = SearchSpace(name, scale, trunk_width, cells, slots, cells - 1)
    supernet = Supernet(space).to(memory_format=torch.channels_last)
    for level in supernet.arch_parameters():
        torch.nn.init.normal_(level, std=0.05)
    config = SearchConfig(Budgets(params=1e9), steps=1)
    precision = resolve_training_precision("auto", torch.device("cpu"))
    learner = Learner(supernet, config, CostModel(space), precision)
    side = config.patch_px
    low, high = torch.rand(batch_size, 3, side, side), torch.rand(batch_size, 3, scale * side, scale * side)
    seconds = time_fastest(lambda: learner.search((low, high), (low, high), anneal, 2e-3, 1e-9), STEPS)
    print(seconds, measure_peak_mib())


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(float(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
    else:
        main()
