"""Deeper networks that compute the same."""

import itertools
from dataclasses import replace

import pytest
import torch

from support.networks import busy_network, same_weights
from trinas.errors import SpecError
from trinas.networks.grow import grow
from trinas.networks.space import ArchSpec, CellSpec, SlotSpec

WIDE, NARROW = SlotSpec("conv3x3", 8), SlotSpec("residual", 4)
SPEC = ArchSpec("edge", 2, 8, (CellSpec((WIDE, NARROW, WIDE)), CellSpec((WIDE,))), long_skip=True)


def with_slots(*slots: SlotSpec, **changes: object) -> ArchSpec:
    return replace(SPEC, cells=(CellSpec(slots),), **changes)


@pytest.mark.parametrize(
    ("primitive", "place", "new_place"),
    [("block4", place, place) for place in range(5)]
    # Of slots that are alike the last is new.
    + [("conv3x3", place, new_place) for place, new_place in enumerate((1, 1, 2, 4, 4))],
)
def test_a_grown_network_computes_the_same_and_its_new_slot_learns(primitive, place, new_place):
    slots = [WIDE, NARROW, WIDE, WIDE]
    slots.insert(place, SlotSpec(primitive, 4 if place == 2 else 8))
    network, low = busy_network(SPEC), torch.rand(2, 3, 7, 9)
    grown = grow(network, with_slots(*slots))
    torch.testing.assert_close(grown(low), network(low))
    grown(low).square().mean().backward()
    kept = list(grown.trunk[0])
    new = kept.pop(new_place)
    assert any(parameter.grad.any() for parameter in new.parameters())
    assert all(same_weights(*pair) for pair in zip(kept, itertools.chain(*network.trunk), strict=True))


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
