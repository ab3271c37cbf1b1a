"""Make a trained network deeper without changing its output, so that it can be trained on from there."""

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from trinas.errors import SpecError
from trinas.networks.network import Network
from trinas.networks.primitives import CanBeIdentity
from trinas.networks.space import ArchSpec, SlotSpec


def grow(network: Network, spec: ArchSpec) -> Network:
    """Return a deeper network that has the weights of `network` and computes the same.

    Args:
        network: of the edge family, without open branches. It stays as it is.
        spec: the architecture of `network` with more slots among its own, each as wide as its input and of a
            primitive that `CanBeIdentity`. How the slots are divided into cells does not matter. Of slots in a row that
            are alike, the last are new.
    Raises:
        SpecError: `spec` is not such an architecture.
    """
    if spec.family != "edge" or network.spec != replace(spec, cells=network.spec.cells):
        raise SpecError("a network grows by slots alone, and only in the edge family")
    grown = Network(spec)
    grown.head.load_state_dict(network.head.state_dict())
    grown.tail.load_state_dict(network.tail.state_dict())
    old = zip(_list_slots(network.spec), _list_modules(network), strict=True)
    slot, module = next(old, (None, None))
    width = spec.trunk_width
    for wanted, new in zip(_list_slots(spec), _list_modules(grown), strict=True):
        if wanted == slot and module is not None:
            new.load_state_dict(module.state_dict())
            slot, module = next(old, (None, None))
        elif isinstance(new, CanBeIdentity) and wanted.width == width:
            new.make_identity()
        else:
            raise SpecError(f"a slot {wanted.primitive} {wanted.width} behind {width} channels is not the identity")
        width = wanted.width
    if module is not None:
        raise SpecError("the architecture to grow to does not have all slots of the network, in their order")
    return grown.eval()


def _list_slots(spec: ArchSpec) -> list[SlotSpec]:
    return [slot for cell in spec.cells for slot in cell.slots]


def _list_modules(network: Network) -> Iterator[nn.Module]:
    """Yield the module of each slot."""
    for cell in network.trunk:
        yield from cell.children()
