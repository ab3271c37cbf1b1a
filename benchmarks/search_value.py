"""Does the search earn its keep? Searched, random and hand-made networks under one budget and in equal time.

    python benchmarks/search_value.py run DATA RUNS --budgets 25k 100k 80ms --minutes 6 --seeds 1
    python benchmarks/search_value.py ablate DATA RUNS --budgets 25k --minutes 6 --seeds 1
    python benchmarks/search_value.py table DATA RUNS --minutes 6

DATA is laid out as docs/data.md says. Every entry has the same wall-clock minutes on one thread, search and training
together; two entries run side by side, so nothing else should run on a machine with two cores. A budget is of
parameters (25k) or of milliseconds per megapixel of output on one thread (80ms), at x4. An entry whose folder is
finished is not run again, so a stopped benchmark goes on where it stood.

Trainings take 95 % of the minutes, as the search does with what it has left: trial steps and validations come on top.

- `searched`: the search from noise, as everything that it is compared with, otherwise with its defaults.
- `random-1` to `-4`: drawn evenly from the same space until one uses 70 to 100 % of the budget, trained all the time.
- `chain`: 3x3 convolutions, all as wide as the space's trunk, as many as the budget holds, trained all the time.
- `best of random`: of the four the one that validates best after a quarter of the time; what the other three cost
  is not charged to it.

- `chain, small steps first` (named with `--entries small-steps-chain`): the chain, trained for the search's share of
  the time with its small batches and its rate, then on as the others are.
- `warm` (named with `--entries`): the search from the pretrained supernet, which has seen more photographs.

Ablations are the search with one thing changed, see `ABLATIONS`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from data_folders import list_test_sets
from torch import Tensor
from torch.nn import functional as F

from trinas.config import Budgets, SearchConfig, TrainConfig
from trinas.device import resolve_precision
from trinas.inference.tiled import TiledUpscaler
from trinas.networks.cost import compute_cost
from trinas.networks.latency import measure_ms_per_mp, measure_spec_ms_per_mp
from trinas.networks.network import Network
from trinas.networks.space import SPACES, ArchSpec, CellSpec, Choice, SearchSpace, SlotSpec
from trinas.search.budgets import EDGE_SLOTS, space_for
from trinas.search.finetune import L2_SHARE, SAFE_SHARE, TUNING_BATCH
from trinas.search.loop import search_network
from trinas.search.pace import SHARES, WEIGHT_RATE, choose_tuning_rate
from trinas.search.sparse import find_largest_radius, sparsestmax
from trinas.search.step import Learner, find_frozen_decisions
from trinas.search.supernet import Mixtures, Supernet
from trinas.timer import Timer
from trinas.training.data import TrainingImage, load_photographs
from trinas.training.loop import train_network
from trinas.training.metrics import evaluate_model
from trinas.training.run import read_validations
from trinas.zoo.folder import load_model

CPU = torch.device("cpu")
SCALE = 4
RANDOM_NETWORKS = 4
LEAST_USE, MOST_DRAWS = 0.7, 2000
SIDE_BY_SIDE = 2


class OrderedLearner(Learner):
    """Adds the paper's term that orders depths; it fades out by anneal 0.5."""

    ORDER_WEIGHT = 1e-5

    def adjust_gradients(self, gradients: tuple[Tensor, ...], anneal: float) -> tuple[Tensor, ...]:
        weight = self.ORDER_WEIGHT * max(0.0, 1 - 2 * anneal)
        pull = torch.autograd.grad(order_term(self.supernet), self.supernet.arch_path)[0]
        return gradients[0] + weight * pull, *gradients[1:]


def order_term(supernet: Supernet) -> Tensor:
    """Return the shallowest minus the deepest architecture parameter, summed over the paths.

    That is the telescoping sum of the differences along each path.
    """
    space, parameters = supernet.space, supernet.arch_path
    parents = {space.nodes[index].parent for index in space.candidates}
    total = torch.zeros((), device=parameters.device)
    for leaf in (index for index in space.candidates if index not in parents):
        on_path = [space.candidates.index(index) for index in space.path_to(leaf) if index in space.candidates]
        total = total + parameters[on_path[0]] - parameters[on_path[-1]]
    return total


class ProjectedLearner(Learner):
    """Another projection in place of sparsestmax, but at the largest radius, where every search has to choose.

    No distance holds two survivors apart, so they go on learning.
    """

    project: ClassVar[Callable[[Tensor], Tensor]]
    """Turns architecture parameters into mixtures; subclasses have it."""

    @classmethod
    def build_supernet(cls, space: SearchSpace) -> Supernet:
        def project(parameters: Tensor, radius: float) -> Tensor:
            is_largest = radius >= find_largest_radius(parameters.shape[-1]) - 1e-9
            return sparsestmax(parameters, radius) if is_largest else cls.project(parameters)

        return Supernet(space, project)

    def find_frozen(self, mixture: Tensor, gradient: Tensor, anneal: float) -> Tensor:
        return find_frozen_decisions(mixture, gradient, 0.0)


class SoftmaxLearner(ProjectedLearner):
    """Mixes by softmax."""

    @staticmethod
    def project(parameters: Tensor) -> Tensor:
        return parameters.softmax(-1)


class SparsemaxLearner(ProjectedLearner):
    """Mixes by sparsemax."""

    @staticmethod
    def project(parameters: Tensor) -> Tensor:
        return sparsestmax(parameters, 0.0)


class SampledWidthsLearner(Learner):
    """Weights learn with one width per slot, drawn from the mixture."""

    def learn_weights(self, batch: tuple[Tensor, Tensor], mixtures: Mixtures, rate: float) -> Tensor:
        shares = mixtures.widths
        drawn = torch.multinomial(shares.flatten(0, -2), 1).view(shares.shape[:-1])
        one_hot = F.one_hot(drawn, shares.shape[-1]).to(shares)
        return super().learn_weights(batch, replace(mixtures, widths=one_hot), rate)


class FixedLevelLearner(Learner):
    """One level is not searched: its architecture parameters are so far apart that nothing moves them."""

    parameters: str
    """Attribute of the supernet."""
    decisions: str
    """Attribute of a choice."""

    @classmethod
    def build_supernet(cls, space: SearchSpace) -> Supernet:
        supernet = super().build_supernet(space)
        level = getattr(supernet, cls.parameters)
        chosen = space.primitives.index("conv3x3") if cls.parameters == "arch_primitives" else level.shape[-1] - 1
        with torch.no_grad():
            level[..., chosen] = 1e3
        return supernet

    def allows(self, choice: Choice, change: Choice) -> bool:
        return getattr(choice, self.decisions) == getattr(change, self.decisions)


class FixedDepthLearner(FixedLevelLearner):
    """Keeps all cells."""

    parameters, decisions = "arch_path", "node"


class FixedPrimitivesLearner(FixedLevelLearner):
    """Takes a 3x3 convolution everywhere."""

    parameters, decisions = "arch_primitives", "primitives"


class FixedWidthsLearner(FixedLevelLearner):
    """Takes full widths."""

    parameters, decisions = "arch_widths", "widths"


LEARNERS: dict[str, type[Learner]] = {
    "ordered": OrderedLearner,
    "softmax": SoftmaxLearner,
    "sparsemax": SparsemaxLearner,
    "sampled-widths": SampledWidthsLearner,
    "fixed-depth": FixedDepthLearner,
    "fixed-primitives": FixedPrimitivesLearner,
    "fixed-widths": FixedWidthsLearner,
}
"""Entry -> how its search learns."""
ABLATIONS = ("all-primitives", "with-gates", *LEARNERS)
"""all-primitives: the space edge-all. with-gates: `gated` in addition. The others: `LEARNERS`."""


def main() -> None:
    """Run what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "ablate", "table", "entry"])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--budgets", nargs="+", default=["25k", "100k"])
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--entries", nargs="+", help="only these")
    parser.add_argument("--sizes", help="of the space of an entry: trunk width x cells")
    arguments = parser.parse_args()
    if arguments.what == "entry":
        run_entry(
            arguments.entries[0], arguments.budgets[0], arguments.seeds[0], arguments.minutes, arguments.sizes,
            arguments.data,
            folder_of(arguments.runs, arguments.budgets[0], arguments.entries[0], arguments.seeds[0]),
        )  # fmt: skip
        return
    if arguments.what != "table":
        every = ("searched", "chain", *(f"random-{number + 1}" for number in range(RANDOM_NETWORKS)))
        entries = arguments.entries or (ABLATIONS if arguments.what == "ablate" else every)
        run_all(entries, arguments)
    print_table(arguments.data, arguments.runs, arguments.minutes)


def run_all(entries: tuple[str, ...], arguments: argparse.Namespace) -> None:
    """Run each entry in a process of its own, two at a time; an entry that fails is reported and left out."""
    tasks = [(entry, budget, seed) for seed in arguments.seeds for budget in arguments.budgets for entry in entries]

    torch.set_num_threads(1)
    sizes: dict[str, str] = {}  # once for all entries, as where time has a budget they are measured
    for budget in arguments.budgets:
        space = space_for("edge", SCALE, parse_budget(budget), measure_time)
        sizes[budget] = f"{space.trunk_width}x{space.cells}"

    def run(task: tuple[str, str, int]) -> None:
        entry, budget, seed = task
        folder = folder_of(arguments.runs, budget, entry, seed)
        if (folder / "result.json").exists():
            return
        for part in (folder, first_folder(folder)):  # of an entry that was stopped
            shutil.rmtree(part, ignore_errors=True)
        command = [
            sys.executable, __file__, "entry", str(arguments.data), str(arguments.runs), "--entries", entry,
            "--budgets", budget, "--seeds", str(seed), "--minutes", str(arguments.minutes),
            "--sizes", sizes[budget],
        ]  # fmt: skip
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        said = (
            "done" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        )
        print(f"{budget} {entry} seed {seed}: {said}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(run, tasks))


def folder_of(runs: Path, budget: str, entry: str, seed: int) -> Path:
    """Return the run folder of an entry."""
    return runs / f"{budget}-{entry}-{seed}"


def first_folder(folder: Path) -> Path:
    """Return the folder of the small steps that `small-steps-chain` begins with."""
    return folder.with_name(f"{folder.name}-first")


def parse_budget(budget: str) -> Budgets:
    """Return the budget of parameters (25k) or of milliseconds per megapixel (80ms)."""
    return Budgets(ms_per_mp=float(budget[:-2])) if budget.endswith("ms") else Budgets(params=1e3 * float(budget[:-1]))


def run_entry(entry: str, budget: str, seed: int, minutes: float, sizes: str, data: Path, folder: Path) -> None:
    """Search or train one entry, and write the numbers of the table to result.json."""
    limits = parse_budget(budget)
    width, cells = map(int, sizes.split("x"))
    SPACES["edge-gated"] = replace(SPACES["edge"], primitives=("skip", "conv3x3", "gated"))
    name = {"all-primitives": "edge-all", "with-gates": "edge-gated"}.get(entry, "edge")
    space = SearchSpace(name, SCALE, width, cells, EDGE_SLOTS, cells - 1)
    images = load_photographs([data / "train" / "bsds400"])
    with Timer() as timer:
        if entry.endswith("chain") or entry.startswith("random"):
            is_chain = entry.endswith("chain")
            spec = build_chain(space, limits) if is_chain else draw_spec(space, limits, seed, int(entry[-1]))
            network = train_entry(entry, spec, images, minutes, seed, folder)
        else:
            search = SearchConfig(limits, minutes=minutes, seed=seed, warm_start=entry == "warm")
            found = search_network(space, images, search, folder, learner=LEARNERS.get(entry, Learner)).network
            assert found is not None
            network = found
    result = {
        "budget": budget,
        "entry": entry,
        "seed": seed,
        "minutes": minutes,
        "seconds": round(timer.seconds),
        "spec": network.spec.to_dict(),
        "curve": [[line.step, line.psnr] for line in read_validations(folder)],
    }
    (folder / "result.json").write_text(json.dumps(result))


def train_entry(
    entry: str, spec: ArchSpec, images: list[TrainingImage], minutes: float, seed: int, folder: Path
) -> Network:
    """Train a network that was not searched; `small-steps-chain` begins with the search's batches and rate."""
    start, left = None, minutes
    if entry == "small-steps-chain":
        share = sum(SHARES[:2])
        first = TrainConfig(
            minutes=share * minutes, batch_size=SearchConfig.batch_size, patch_px=SearchConfig.patch_px,
            learning_rate=WEIGHT_RATE / spec.trunk_width, clip_norm=SearchConfig.clip_norm, seed=seed,
        )  # fmt: skip
        before = first_folder(folder)
        train_network(spec, images, first, before)
        start, left = load_model(str(before)), (1 - share) * minutes
    config = TrainConfig(
        minutes=SAFE_SHARE * left,
        batch_size=TUNING_BATCH,
        l2_share=L2_SHARE,
        learning_rate=choose_tuning_rate(spec.trunk_width),
        seed=seed,
        validate_every=200,
    )
    return train_network(spec, images, config, folder, start=start).network


def measure_time(spec: ArchSpec) -> float:
    """Return the milliseconds per megapixel of output of a network, as images are upscaled."""
    return measure_spec_ms_per_mp(spec, CPU, resolve_precision("auto", CPU, spec.trunk_width))


def used_share(spec: ArchSpec, limits: Budgets) -> float:
    """Return the share of the budget that a network uses."""
    if limits.params is not None:
        return compute_cost(spec).params / limits.params
    assert limits.ms_per_mp is not None
    return measure_time(spec) / limits.ms_per_mp


def draw_spec(space: SearchSpace, limits: Budgets, seed: int, number: int) -> ArchSpec:
    """Draw every decision evenly until a network uses the budget."""
    random = np.random.default_rng((seed, number))
    cells = len(space.cell_nodes)
    for _ in range(MOST_DRAWS):
        choice = Choice(
            space.candidates[random.integers(len(space.candidates))],
            tuple(map(tuple, random.integers(len(space.primitives), size=(cells, space.slots)).tolist())),
            tuple(map(tuple, random.integers(len(space.widths), size=(cells, space.slots - 1)).tolist())),
        )
        spec = space.spec(choice)
        if LEAST_USE <= used_share(spec, limits) <= 1:
            return spec
    raise SystemExit(f"none of {MOST_DRAWS} random networks uses {LEAST_USE:.0%} of the budget and no more")


def build_chain(space: SearchSpace, limits: Budgets) -> ArchSpec:
    """Return the longest chain of 3x3 convolutions that the budget holds."""

    def build(length: int) -> ArchSpec:
        slots = (SlotSpec("conv3x3", space.trunk_width),) * length
        return ArchSpec("edge", SCALE, space.trunk_width, (CellSpec(slots),), long_skip=space.long_skip)

    length = 1
    while used_share(build(length + 1), limits) <= 1:
        length += 1
    return build(length)


def print_table(data: Path, runs: Path, minutes: float) -> None:
    """Print all finished entries by budget: means and, of several, standard deviations."""
    results = [json.loads(path.read_text()) for path in sorted(runs.glob("*/result.json"))]
    results = [result for result in results if result["minutes"] == minutes]
    for result in results:
        folder = folder_of(runs, result["budget"], result["entry"], result["seed"])
        result |= measure_once(folder, data)
        result["validation"] = max(psnr for _, psnr in result["curve"])
    print("| budget | entry | networks | parameters | ms/MP | validation | Set14 | BSD100 | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for budget in sorted({result["budget"] for result in results}):
        ours = [result for result in results if result["budget"] == budget]
        rows: dict[str, list[dict[str, Any]]] = {}
        for result in ours:
            rows.setdefault("random, mean" if result["entry"].startswith("random") else result["entry"], []).append(
                result
            )
        for seed in {result["seed"] for result in rows.get("random, mean", [])}:
            drawn = [result for result in rows["random, mean"] if result["seed"] == seed]
            rows.setdefault("best of random", []).append(max(drawn, key=psnr_at_a_quarter))
        for entry, members in rows.items():
            columns = [
                format_values([member[name] for member in members], digits)
                for name, digits in (
                    ("params", 0), ("ms_per_mp", 1), ("validation", 3), ("Set14", 3), ("BSD100", 3), ("seconds", 0)
                )
            ]  # fmt: skip
            print(f"| {budget} | {entry} | {len(members)} | {' | '.join(columns)} |")


def psnr_at_a_quarter(result: dict[str, Any]) -> float:
    """Return the validation PSNR after a quarter of the steps."""
    steps = result["curve"][-1][0]
    return min(result["curve"], key=lambda point: abs(point[0] - steps / 4))[1]


def measure_once(folder: Path, data: Path) -> dict[str, float]:
    """Measure test sets, size and time once; keep them beside the result."""
    path = folder / "measured.json"
    if not path.exists():
        model = load_model(str(folder))
        upscaler = TiledUpscaler(model, "cpu", "fp32")
        folders = list_test_sets(data, SCALE)
        metrics: dict[str, float] = {
            name: evaluate_model(upscaler.upscale_rgb8, folders[name], SCALE).psnr for name in ("Set14", "BSD100")
        }
        torch.set_num_threads(1)
        spec = model.config.spec
        metrics["ms_per_mp"] = measure_ms_per_mp(model.network, CPU, resolve_precision("auto", CPU, spec.trunk_width))
        metrics["params"] = compute_cost(spec).params
        path.write_text(json.dumps(metrics))
    return json.loads(path.read_text())


def format_values(values: list[float], digits: int) -> str:
    mean = f"{statistics.fmean(values):,.{digits}f}"
    return mean if len(values) == 1 or digits < 3 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
