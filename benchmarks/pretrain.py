"""Pretrain the supernet that searches of the edge space start from.

    python benchmarks/pretrain.py DATA RUN --scale 4 --minutes 40 [--from OTHER_RUN]
    python benchmarks/pretrain.py DATA RUN                       # goes on with a run that was stopped, as it began
    python benchmarks/pretrain.py DATA RUN --bundle              # puts it into models/, if it validates better

DATA is laid out as docs/data.md says. What is trained is the supernet's largest network, a chain of 3x3 convolutions,
nested: no channel reads a later block of channels, so that a prefix computes the same features alone as within the
whole, and one forward pass serves prefixes of all widths and depths, each through its share of the tail. Prefixes that
read what they would later lack did not learn (docs/LOG.md). `--from` begins with the head and trunk of a run at another
scale. The state is saved at every validation; the rate follows the clock, so going on is not exact.
"""

import argparse
import copy
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bundle import DATA_SETS, LICENCE, load_images
from torch import Tensor, nn
from torch.nn import functional as F
from train_zoo import PHOTOGRAPHS
from validation import split_by_photograph

from trinas.device import autocast, resolve_training_precision
from trinas.files import write_atomically
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec, SearchSpace
from trinas.search.budgets import find_largest_choice
from trinas.search.supernet import Supernet, take_first_channels
from trinas.search.warmstart import Pretrained, list_supernet_weights, load_supernet, save_supernet
from trinas.training.data import Pair, Patches, fingerprint, make_pairs
from trinas.training.metrics import measure_validation_psnr
from trinas.training.muon import Muon
from trinas.training.state import load_state, save_state
from trinas.zoo.bundled import find_bundle_dir

TRUNK_WIDTH, CELLS, SLOTS = 48, 4, 3
BLOCK = 8
"""Channels that may read each other."""

WIDTHS, DEPTHS = (8, 12, 16, 24, 32, 40, 48), (2, 3, 4)
"""12 ends within a block, and is nearly nested only."""

PREFIXES = 2
"""Of these widths and depths, at random, for each step beside the whole."""

BATCH_SIZE, PATCH_PX = 8, 48
RATE, WARM_UP_STEPS, CLIP_NORM = 1.5e-3, 200, 1.0
MEAN_DECAY = 0.999
VALIDATE_EVERY = 500
VALIDATED = ((16, 3), (24, 3), (24, 4), (32, 4), (48, 4))
"""Prefixes that are validated: channels and cells."""


@dataclass
class PretrainingRun:
    """Where a pretraining stands, beside its weights."""

    scale: int
    minutes: float
    started_from: str
    step: int = 0
    seconds: float = 0.0


def main() -> None:
    """Pretrain a supernet, or bundle one."""
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
    """Begin a run or go on with it, until its minutes are over."""
    state_file = arguments.run / "pretraining.pt"
    state = load_state(state_file) if state_file.exists() else None
    run = (
        PretrainingRun(**state["run"]) if state else PretrainingRun(arguments.scale, arguments.minutes, arguments.start)
    )
    images = load_images(arguments.data, PHOTOGRAPHS)
    learning, held_out = split_by_photograph(images)
    device = torch.device("cpu")
    precision = resolve_training_precision("auto", device)
    patches = Patches(learning, run.scale, PATCH_PX, device)
    validation = make_pairs(held_out, run.scale)

    torch.manual_seed(0)
    network = Network(build_chain(run.scale, TRUNK_WIDTH, CELLS)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if run.started_from and not state:
        take_over(network, load_supernet(Path(run.started_from)))
    nest(network)
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimizer = Muon(network.parameters())
    if state:
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])

    began = time.perf_counter() - run.seconds
    while (share := (time.perf_counter() - began) / (60 * run.minutes)) < 1:
        # 1. One step of the whole and of some prefixes.
        random = np.random.default_rng((0, run.step, 2))
        exits = [(TRUNK_WIDTH, CELLS)] + [(random.choice(WIDTHS), random.choice(DEPTHS)) for _ in range(PREFIXES)]
        low, high = patches.batch(0, run.step, BATCH_SIZE)
        low = low.contiguous(memory_format=torch.channels_last)
        target = F.pixel_unshuffle(high, run.scale)
        with autocast(device, precision):
            outputs = run_prefixes(network, low, exits)
        loss = torch.stack([(output - target).abs().mean() for output in outputs]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        rising = min(1.0, (run.step + 1) / WARM_UP_STEPS)
        optimizer.param_groups[0]["lr"].fill_(RATE * rising * 0.5 * (1 + math.cos(math.pi * share)))
        optimizer.step()
        nest(network)
        with torch.no_grad():
            for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
                mean.lerp_(weight, 1 - min(MEAN_DECAY, (1 + run.step) / (10 + run.step)))
        run.step += 1

        # 2. Validate the running mean, save the state.
        if run.step % VALIDATE_EVERY == 0:
            run.seconds = time.perf_counter() - began
            save(arguments.run, run, network, averaged, optimizer, validation, fingerprint(learning, held_out))
    run.seconds = time.perf_counter() - began
    save(arguments.run, run, network, averaged, optimizer, validation, fingerprint(learning, held_out))


def build_chain(scale: int, width: int, cells: int) -> ArchSpec:
    """Return the largest network of a space of the supernet's kind."""
    space = SearchSpace("edge", scale, width, cells, SLOTS, cells - 1)
    return space.spec(find_largest_choice(space))


def run_prefixes(network: Network, low: Tensor, exits: list[tuple[int, int]]) -> list[Tensor]:
    """Return the outputs of prefixes of so many channels and cells for (N, 3, H, W), before the pixel shuffle."""
    head = features = network.head(low)
    depths = []
    for cell in network.trunk:
        features = cell(features)
        depths.append(head + features)
    weight, bias = network.tail.weight, network.tail.bias
    image = low.repeat_interleave(network.scale**2, 1)
    return [
        image + F.conv2d(depths[cells - 1][:, :width], weight[:, :width], bias, padding=1).float()
        for width, cells in exits
    ]


@torch.no_grad()
def nest(network: Network) -> None:
    """Let no channel of the trunk read a later block."""
    block = torch.arange(TRUNK_WIDTH) // BLOCK
    for name, weight in network.named_parameters():
        if name.startswith("trunk") and weight.ndim == 4:
            weight.mul_((block[:, None] >= block)[:, :, None, None])


@torch.no_grad()
def take_over(network: Network, pretrained: Pretrained) -> None:
    """Begin with another supernet's head and trunk, which serve any scale."""
    parameters = dict(network.named_parameters())
    for name, tensor in pretrained.weights.items():
        if not name.startswith("tail"):
            parameters[place_in_chain(name)].copy_(tensor)


def place_in_chain(name: str) -> str:
    """Return the chain's name of a supernet's trunk.nodes.<cell>.slots.<slot>.<primitive>.conv.weight and so on."""
    part, *rest = name.split(".")
    return name if part != "trunk" else ".".join([part, rest[1], rest[3], *rest[5:]])


def cut_prefix(network: Network, width: int, cells: int) -> Network:
    """Return the network of the first channels and cells."""
    small = Network(build_chain(network.scale, width, cells))
    shapes = {name: tensor.shape for name, tensor in small.state_dict().items()}
    small.load_state_dict(take_first_channels(network.state_dict(), shapes))
    return small


def save(
    folder: Path,
    run: PretrainingRun,
    network: Network,
    averaged: Network,
    optimizer: Muon,
    validation: list[Pair],
    data: str,
) -> None:
    """Validate some prefixes, print their PSNR and save the run's state and supernet."""
    psnrs = [round(measure_validation_psnr(cut_prefix(averaged, *size), validation), 3) for size in VALIDATED]
    words = ", ".join(f"{w}x{c} {psnr:.3f}" for (w, c), psnr in zip(VALIDATED, psnrs, strict=True))
    print(f"step {run.step}, {run.seconds:.0f} s: {words}", flush=True)
    training: dict[str, Any] = {
        "data": [DATA_SETS[folder] for folder in PHOTOGRAPHS],
        "data_sha256": data,
        "licence": LICENCE,
        "steps": run.step,
        "seconds": round(run.seconds),
        "batch_size": BATCH_SIZE,
        "patch_px": PATCH_PX,
        "rate": RATE,
        "started_from": Path(run.started_from).name or "noise",
        "validation_psnr": {f"{w}x{c}": psnr for (w, c), psnr in zip(VALIDATED, psnrs, strict=True)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_state(
        folder / "pretraining.pt",
        {
            "run": asdict(run),
            "network": network.state_dict(),
            "averaged": averaged.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
    )
    space = SearchSpace("edge", run.scale, TRUNK_WIDTH, CELLS, SLOTS, CELLS - 1)
    trained = averaged.state_dict()
    weights = {name: trained[place_in_chain(name)] for name in list_supernet_weights(Supernet(space))}
    save_supernet(folder, space, weights, training)


def bundle(run: Path) -> None:
    """Put a supernet into models/ if its prefixes validate better, on average, than those of the one there."""
    new = load_supernet(run)
    target = find_bundle_dir() / f"trinas-supernet-x{new.space.scale}"
    old = load_supernet(target).training["validation_psnr"] if target.exists() else {}
    gains = [psnr - old[name] for name, psnr in new.training["validation_psnr"].items() if name in old]
    if gains and sum(gains) <= 0:
        sys.exit(f"{run}: {new.training['validation_psnr']} does not beat the bundled {old}")
    save_supernet(target, new.space, new.weights, new.training)
    write_atomically(target / "README.md", write_card(target.name, new).encode())
    print(f"{target}: {new.training['validation_psnr']}")


def write_card(name: str, pretrained: Pretrained) -> str:
    """Return the README.md of the folder."""
    space, training = pretrained.space, pretrained.training
    sizes = [f"| {size.replace('x', ' | ')} | {psnr:.2f} |" for size, psnr in training["validation_psnr"].items()]
    lines = [
        f"# {name}",
        "",
        f"No model: the supernet that `trinas-upscale search -s {space.scale}` starts from, in float16: "
        f"{space.trunk_width} channels, {space.cells} cells of {space.slots} slots. Its first channels and cells are a "
        "supernet of a smaller space. docs/search.md says how it is used, `benchmarks/pretrain.py` makes it.",
        "",
        "Validation by itself of prefixes that are chains of 3x3 convolutions, before any search:",
        "",
        "| channels | cells | PSNR on Y, dB |",
        "| --- | --- | --- |",
        *sizes,
        "",
        "Learnt from:",
        "",
        *(f"- {folder}" for folder in training["data"]),
        "",
        f"{training['steps']:,} steps of {training['batch_size']} patches of {training['patch_px']} pixels, "
        f"{training['seconds'] / 60:.0f} minutes, started from {training['started_from']}. "
        f"Weights: {training['licence']}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
