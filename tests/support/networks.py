"""Small networks and supernets with random weights everywhere, as if they had been trained."""

import torch
from hypothesis import strategies as st

from trinas.networks.network import Network
from trinas.networks.primitives import PRIMITIVES
from trinas.networks.space import SCALES, UPSAMPLING_STEPS, ArchSpec, CellSpec, SearchSpace, SlotSpec
from trinas.search.supernet import Supernet


def busy_network(spec: ArchSpec, dtype: torch.dtype = torch.float32) -> Network:
    """Return a network with random weights everywhere, the tail included, as if it had been trained."""
    network = Network(spec).to(dtype)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
    return network.eval()


def faithful_network(spec: ArchSpec) -> Network:
    """Return a busy edge network that adds so little to its image skip that its results pass all checks."""
    network = busy_network(spec)
    for parameter in network.tail.parameters():
        parameter.data *= 0.02
    return network


def busy_supernet(name, scale, *, dtype=torch.float64, seed=0, trunk_width=24, cells=3, slots=3):
    """Return a supernet with random weights and architecture parameters, as if it had been trained."""
    torch.manual_seed(seed)
    supernet = Supernet(SearchSpace(name, scale, trunk_width, cells, slots, cells - 1)).to(dtype)
    for parameter in supernet.weight_parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
    for level in supernet.arch_parameters():
        torch.nn.init.normal_(level)
    return supernet.eval()


def same_weights(first, second):
    """Return whether two modules have the same parameters and buffers, to the bit."""
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(name == other and torch.equal(tensor, twin) for (name, tensor), (other, twin) in pairs)


@st.composite
def specs(draw):
    """Draw the architecture of any network of either family."""
    family = draw(st.sampled_from(sorted(PRIMITIVES)))
    scale, trunk_width = draw(st.sampled_from(SCALES)), draw(st.integers(1, 64))
    slot = st.builds(SlotSpec, st.sampled_from(list(PRIMITIVES[family])), st.integers(1, 64))
    last = st.builds(SlotSpec, st.sampled_from(list(PRIMITIVES[family])), st.just(trunk_width))
    cell = st.builds(lambda slots, end: CellSpec((*slots, end)), st.lists(slot, max_size=3), last)
    cells = tuple(draw(st.lists(cell, max_size=4)))
    if family == "edge":
        return ArchSpec(family, scale, trunk_width, cells, long_skip=draw(st.booleans()))
    steps = [draw(st.integers(0, len(cells))) for _ in UPSAMPLING_STEPS[scale]] if draw(st.booleans()) else []
    return ArchSpec(family, scale, trunk_width, cells, tuple(sorted(steps)), draw(st.integers(0, 2)))
