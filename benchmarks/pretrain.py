"""Pretrain the supernet that searches of the edge space start from.

    python benchmarks/pretrain.py DATA RUN --scale 4 --minutes 40 [--from trinas-m-x4]
    python benchmarks/pretrain.py DATA RUN                       # goes on with a run that was stopped
    python benchmarks/pretrain.py DATA RUN --bundle              # puts it into models/, if it validates better

DATA is laid out as docs/data.md says. Each step trains a prefix of the supernet: so many of its first channels and
cells, in each slot a primitive, widths at their largest or at random. `--from` starts with a chain of 3x3 convolutions,
its most important channels first. The state is saved at every validation.
"""

import argparse
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from trinas.budgets import largest_choice
from trinas.checkpoint import load_state, save_state
from trinas.data import Pair, Patches, fingerprint, image_pairs, load_photographs, split
from trinas.device import autocast, training_precision
from trinas.errors import ModelError
from trinas.muon import Muon
from trinas.network import Network
from trinas.space import SearchSpace
from trinas.store import bundle_dir, load_model
from trinas.supernet import Mixtures, Supernet, first_channels
from trinas.train import validation_psnr
from trinas.warmstart import load_supernet, save_supernet, supernet_weights

FOLDERS = {
    "bsds400": "BSDS500 train and test, 400 photographs (research use)",
    "div2k_small": "DIV2K test at a quarter of its size, 100 photographs (research use)",
    "photos_cc0": "214 crops of 32 photographs (CC0 and public domain)",
}
TRUNK_WIDTH, CELLS, SLOTS = 48, 4, 3
WIDTHS, DEPTHS = (12, 16, 24, 32, 40, 48), (2, 3, 4)
"""Channels and cells of the prefixes, each as likely as any other: those of small spaces, which searches begin with."""

CONV_SHARE, FULL_SHARE = 0.85, 0.6
"""How often a slot holds a convolution, and how often all widths of a step are at their largest: a search nearly
always ends with such networks."""

BATCH_SIZE, PATCH_PX = 8, 48
RATE, WARM_UP_STEPS, CLIP_NORM = 1.3e-3, 200, 1.0
"""The peak rate suits the full width: narrower prefixes step through the same matrices, and would bear more alone."""

MEAN_DECAY = 0.999
VALIDATE_EVERY = 500
VALIDATED = ((16, 3), (24, 3), (32, 4), (48, 4))
"""Prefixes that are validated, as chains of convolutions."""


@dataclass
class Run:
    scale: int
    minutes: float
    started_from: str
    step: int = 0
    seconds: float = 0.0
    psnr: list[float] = field(default_factory=list)  # of VALIDATED, last


class Prefix(nn.Module):
    """A smaller space's supernet, as it is run with a larger one's weights."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.net = Supernet(space)
        self.shapes = {name: tensor.shape for name, tensor in supernet_weights(self.net).items()}

    def forward(self, low: Tensor, mixtures: Mixtures) -> Tensor:
        return self.net.unshuffled(low, mixtures)

    def run(self, weights: dict[str, Tensor], low: Tensor, mixtures: Mixtures) -> Tensor:
        taken = first_channels(weights, self.shapes)
        return functional_call(self, {f"net.{name}": tensor for name, tensor in taken.items()}, (low, mixtures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--from", dest="start", default="")
    parser.add_argument("--bundle", action="store_true")
    arguments = parser.parse_args()
    if arguments.bundle:
        bundle(arguments.run)
    else:
        pretrain(arguments)


def pretrain(arguments: argparse.Namespace) -> None:
    state_file = arguments.run / "pretraining.pt"
    state = load_state(state_file) if state_file.exists() else None
    run = Run(**state["run"]) if state else Run(arguments.scale, arguments.minutes, arguments.start)
    space = SearchSpace("edge", run.scale, TRUNK_WIDTH, CELLS, SLOTS, CELLS - 1)
    photographs = load_photographs([arguments.data / "train" / folder for folder in FOLDERS])
    learning, held_out = split(photographs)
    device = torch.device("cpu")
    precision = training_precision("auto", device)
    patches = Patches(learning, run.scale, PATCH_PX, device)
    validation = image_pairs(held_out, run.scale)

    torch.manual_seed(0)
    supernet = Supernet(space)
    if run.started_from and not state:
        take_over(supernet, load_model(run.started_from).network)
    weights = supernet_weights(supernet)
    averaged = {name: tensor.detach().clone() for name, tensor in weights.items()}
    optimizer = Muon(supernet.weight_parameters())
    if state:
        supernet.load_state_dict(state["supernet"])
        averaged = state["averaged"]
        optimizer.load_state_dict(state["optimizer"])
    prefixes = {(width, cells): Prefix(prefix_space(space, width, cells)) for width in WIDTHS for cells in DEPTHS}
    for prefix in prefixes.values():
        prefix.requires_grad_(False)

    began = time.perf_counter() - run.seconds
    while (share := (time.perf_counter() - began) / (60 * run.minutes)) < 1:
        # 1. One step of a prefix at random.
        random = np.random.default_rng((0, run.step, 2))
        width, cells = random.choice(WIDTHS), random.choice(DEPTHS)
        prefix = prefixes[width, cells]
        low, high = patches.batch(0, run.step, BATCH_SIZE)
        low = low.contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            output = prefix.run(weights, low, mixtures_of_step(prefix.net, random))
        loss = (output - F.pixel_unshuffle(high, run.scale)).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(supernet.weight_parameters(), CLIP_NORM)
        rising = min(1.0, (run.step + 1) / WARM_UP_STEPS)
        optimizer.param_groups[0]["lr"].fill_(RATE * rising * 0.5 * (1 + math.cos(math.pi * share)))
        optimizer.step()
        with torch.no_grad():
            for name, mean in averaged.items():
                mean.lerp_(weights[name], 1 - min(MEAN_DECAY, (1 + run.step) / (10 + run.step)))
        run.step += 1

        # 2. Validate the running mean, save the state.
        if run.step % VALIDATE_EVERY == 0:
            run.seconds = time.perf_counter() - began
            save(arguments.run, run, supernet, averaged, optimizer, validation, fingerprint(photographs))
    run.seconds = time.perf_counter() - began
    save(arguments.run, run, supernet, averaged, optimizer, validation, fingerprint(photographs))


def prefix_space(space: SearchSpace, width: int, cells: int) -> SearchSpace:
    return SearchSpace(space.name, space.scale, width, cells, space.slots, cells - 1)


def mixtures_of_step(supernet: Supernet, random: np.random.Generator) -> Mixtures:
    """One network of a space, at its full depth."""
    space = supernet.space
    choice = largest_choice(space)
    mixtures = supernet.mixtures_of(choice)
    skip, conv = space.primitives.index("skip"), space.primitives.index("conv3x3")
    chosen = np.where(random.random(mixtures.primitives.shape[:-1]) < CONV_SHARE, conv, skip)
    primitives = F.one_hot(torch.from_numpy(chosen), len(space.primitives)).float()
    if random.random() < FULL_SHARE:
        return Mixtures(mixtures.path, primitives, mixtures.widths)
    widths = random.integers(len(space.widths), size=mixtures.widths.shape[:-1])
    return Mixtures(mixtures.path, primitives, F.one_hot(torch.from_numpy(widths), len(space.widths)).float())


@torch.no_grad()
def take_over(supernet: Supernet, network: Network) -> None:
    """Give a supernet's convolutions the weights of a chain, in all layers the same order of channels.

    One order for all, as convolutions start near the identity and the long skip adds head and trunk; the channels that
    the tail and the trunk read most come first.
    """
    weights = network.state_dict()
    importance = sum(
        tensor.square().sum((0, 2, 3)) for name, tensor in weights.items() if tensor.ndim == 4 and "head" not in name
    )
    order = torch.as_tensor(importance).argsort(descending=True)
    conv = supernet.space.primitives.index("conv3x3")
    ours = supernet_weights(supernet)
    places: list[str] = []  # of the slots of the chain, whatever cells it has
    for name, tensor in weights.items():
        part, *rest = name.split(".")
        if part != "tail":
            tensor = tensor[order]
        if tensor.ndim == 4 and part != "head":
            tensor = tensor[:, order]
        if part == "trunk":
            place = ".".join(rest[:2])
            places += [] if place in places else [place]
            cell, slot = divmod(places.index(place), supernet.space.slots)
            name = ".".join(["trunk", "nodes", str(cell), "slots", str(slot), str(conv), *rest[2:]])
        ours[name].copy_(tensor)


def save(
    folder: Path,
    run: Run,
    supernet: Supernet,
    averaged: dict[str, Tensor],
    optimizer: Muon,
    validation: list[Pair],
    data: str,
) -> None:
    run.psnr = []
    for width, cells in VALIDATED:
        small = Supernet(prefix_space(supernet.space, width, cells))
        shapes = {name: tensor.shape for name, tensor in supernet_weights(small).items()}
        small.load_state_dict(first_channels(averaged, shapes), strict=False)
        chain = small.mixtures_of(largest_choice(small.space))
        run.psnr.append(round(validation_psnr(small, validation, chain), 3))
    shown = ", ".join(f"{w}x{c} {psnr:.3f}" for (w, c), psnr in zip(VALIDATED, run.psnr, strict=True))
    print(f"step {run.step}, {run.seconds:.0f} s: {shown}", flush=True)
    training: dict[str, Any] = {
        "data": list(FOLDERS.values()),
        "data_sha256": data,
        "licence": "Apache-2.0",
        "steps": run.step,
        "seconds": round(run.seconds),
        "batch_size": BATCH_SIZE,
        "patch_px": PATCH_PX,
        "rate": RATE,
        "started_from": run.started_from or "noise",
        "validation_psnr": {f"{w}x{c}": psnr for (w, c), psnr in zip(VALIDATED, run.psnr, strict=True)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_state(
        folder / "pretraining.pt",
        {
            "run": asdict(run),
            "supernet": supernet.state_dict(),
            "averaged": averaged,
            "optimizer": optimizer.state_dict(),
        },
    )
    save_supernet(folder, supernet.space, averaged, training)


def bundle(run: Path) -> None:
    """Put a supernet into models/ if its prefixes validate better, on average, than those of the one there."""
    new = load_supernet(run)
    target = bundle_dir() / f"trinas-supernet-x{new.space.scale}"
    try:
        old = load_supernet(target).training["validation_psnr"]
    except ModelError:
        old = {}
    gains = [psnr - old[name] for name, psnr in new.training["validation_psnr"].items() if name in old]
    if gains and sum(gains) <= 0:
        sys.exit(f"{run}: {new.training['validation_psnr']} does not beat the bundled {old}")
    save_supernet(target, new.space, new.weights, new.training)
    print(f"{target}: {new.training['validation_psnr']}")


if __name__ == "__main__":
    main()
