"""Deeper networks that compute the same."""

from dataclasses import replace

import pytest
import torch

from support.networks import busy_network
from trinas.errors import SpecError
from trinas.networks.grow import INSERTABLE, grow
from trinas.networks.space import ArchSpec, CellSpec, SlotSpec

WIDE, NARROW = SlotSpec("conv3x3", 8), SlotSpec("residual", 4)
SPEC = ArchSpec("edge", 2, 8, (CellSpec((WIDE, NARROW, WIDE)), CellSpec((WIDE,))), long_skip=True)


def with_slots(*slots: SlotSpec, **changes: object) -> ArchSpec:
    return replace(SPEC, cells=(CellSpec(slots),), **changes)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("primitive", INSERTABLE)
def test_a_grown_network_computes_the_same_and_its_new_slot_learns(primitive, place):
    slots = [WIDE, NARROW, WIDE, WIDE]
    slots.insert(place, SlotSpec(primitive, 4 if place == 2 else 8))
    network, low = busy_network(SPEC), torch.rand(2, 3, 7, 9)
    grown = grow(network, with_slots(*slots))
    torch.testing.assert_close(grown(low), network(low))
    (new,) = (
        module
        for module in grown.trunk[0]
        if not any(
            type(module) is type(old) and torch.equal(next(module.parameters()), next(old.parameters()))
            for cell in network.trunk
            for old in cell
        )
    )
    grown(low).square().mean().backward()
    assert any(parameter.grad.any() for parameter in new.parameters())


@pytest.mark.parametrize(
    "spec",
    [
        with_slots(WIDE, NARROW, WIDE),
        with_slots(NARROW, WIDE, WIDE, WIDE),
        with_slots(WIDE, NARROW, SlotSpec("residual", 4), WIDE, WIDE),
        with_slots(WIDE, NARROW, WIDE, WIDE, SlotSpec("conv3x3", 4), WIDE),
        with_slots(WIDE, NARROW, WIDE, WIDE, scale=3),
        with_slots(WIDE, NARROW, WIDE, WIDE, long_skip=False),
    ],
)
def test_what_would_change_the_output_is_refused(spec):
    with pytest.raises(SpecError):
        grow(busy_network(SPEC), spec)
