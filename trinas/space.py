"""What an architecture is: plain data, no torch.

An `ArchSpec` says everything needed to rebuild a network except its weights. It can say every network of
the two families this project knows:

- `edge`: pixel-shuffle tail, biases, PReLU, the nearest-upsampled input added to the output;
- `paper`: the networks of Wu et al. 2021 (arXiv:2101.06658), bias-free, ReLU, with either a pixel-shuffle
  tail or upsampling steps between the cells.
"""

import json
from dataclasses import dataclass
from typing import Any

from trinas.errors import SpecError

SCHEMA = 1
"""Version of the JSON form; a newer one is refused rather than guessed at."""

SCALES = (2, 3, 4)

PRIMITIVES: dict[str, tuple[str, ...]] = {
    "edge": ("skip", "conv3x3", "residual", "gated", "mixer5", "mixer7"),
    "paper": ("skip", "conv3x3", "residual", "dws"),
}
"""The primitives of each family, in the order of the paper's indices."""

UPSAMPLING_STEPS: dict[int, tuple[int, ...]] = {2: (2,), 3: (3,), 4: (2, 2)}
"""Factors of the nearest-neighbour upsampling steps that together make a scale."""


@dataclass(frozen=True)
class SlotSpec:
    """One slot of a cell: a primitive and how many channels it hands on."""

    primitive: str
    width: int


@dataclass(frozen=True)
class CellSpec:
    """A chain of slots; the last one's width is the network's trunk width."""

    slots: tuple[SlotSpec, ...]


@dataclass(frozen=True)
class ArchSpec:
    """One discrete architecture: all that is needed to rebuild a network, except its weights.

    Raises:
        SpecError: the description is not a network that can be built.
    """

    family: str  # a key of PRIMITIVES
    scale: int  # output pixels per input pixel, along each side
    trunk_width: int  # channels between cells
    cells: tuple[CellSpec, ...]  # the cells on the chosen path, in order
    upsample_after: tuple[int, ...] = ()  # cells before each upsampling step; empty: pixel-shuffle tail
    plain_convs: int = 0  # 3x3 convolutions at trunk width that follow the last cell

    def __post_init__(self) -> None:
        complaints = _complaints(self)
        if complaints:
            raise SpecError(f"not a valid architecture: {'; '.join(complaints)}")

    def path(self) -> "list[CellSpec | int]":
        """What lies between head and plain convolutions, in order: cells, and factors of upsampling steps."""
        steps = list(zip(self.upsample_after, UPSAMPLING_STEPS[self.scale], strict=False))
        path: list[CellSpec | int] = []
        for position in range(len(self.cells) + 1):
            path += [factor for after, factor in steps if after == position]
            path += self.cells[position : position + 1]
        return path

    def to_json(self) -> str:
        """The spec as JSON; `from_json` gives it back exactly."""
        return json.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON-able data; a slot is a pair [primitive, width]."""
        return {
            "schema": SCHEMA,
            "family": self.family,
            "scale": self.scale,
            "trunk_width": self.trunk_width,
            "cells": [[[slot.primitive, slot.width] for slot in cell.slots] for cell in self.cells],
            "upsample_after": list(self.upsample_after),
            "plain_convs": self.plain_convs,
        }

    @staticmethod
    def from_json(text: str) -> "ArchSpec":
        """Read what `to_json` wrote.

        Raises:
            SpecError: `text` is anything else, unknown keys and newer schemas included.
        """
        try:
            return ArchSpec.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise SpecError(f"not a valid architecture: not JSON ({error})") from None

    @staticmethod
    def from_dict(data: object) -> "ArchSpec":
        """Read what `to_dict` made.

        Raises:
            SpecError: `data` is anything else, unknown keys and newer schemas included.
        """
        if not isinstance(data, dict):
            raise SpecError("not a valid architecture: not a JSON object")
        if data.get("schema") != SCHEMA:
            found = data.get("schema")
            raise SpecError(
                f"not a valid architecture: schema {found!r}, this version reads {SCHEMA}; "
                "a newer trinas-upscale may be needed"
            )
        expected = {"schema", "family", "scale", "trunk_width", "cells", "upsample_after", "plain_convs"}
        if set(data) != expected:
            unknown, missing = sorted(set(data) - expected), sorted(expected - set(data))
            raise SpecError(f"not a valid architecture: unknown keys {unknown}, missing keys {missing}")
        if not (isinstance(data["cells"], list) and isinstance(data["upsample_after"], list)):
            raise SpecError("not a valid architecture: cells and upsample_after must be lists")
        try:
            cells = tuple(
                CellSpec(tuple(SlotSpec(primitive, width) for primitive, width in cell)) for cell in data["cells"]
            )
            upsample_after = tuple(data["upsample_after"])
        except (TypeError, ValueError):
            raise SpecError("not a valid architecture: cells must be lists of [primitive, width]") from None
        return ArchSpec(data["family"], data["scale"], data["trunk_width"], cells, upsample_after, data["plain_convs"])


def _complaints(spec: ArchSpec) -> list[str]:
    """What is wrong with a spec; nothing when it can be built."""
    if not isinstance(spec.family, str) or spec.family not in PRIMITIVES:
        return [f"family {spec.family!r} is none of {', '.join(PRIMITIVES)}"]
    complaints = []
    if not _is_count(spec.scale) or spec.scale not in SCALES:
        complaints.append(f"scale {spec.scale!r} is none of {SCALES}")
    if not _is_count(spec.trunk_width, at_least=1):
        complaints.append(f"trunk_width {spec.trunk_width!r} is not a positive whole number")
    if not _is_count(spec.plain_convs):
        complaints.append(f"plain_convs {spec.plain_convs!r} is not a whole number from 0 on")
    for number, cell in enumerate(spec.cells, start=1):
        if not cell.slots:
            complaints.append(f"cell {number} has no slots")
        elif cell.slots[-1].width != spec.trunk_width:
            complaints.append(f"cell {number} must end at the trunk width, {spec.trunk_width}")
        for slot in cell.slots:
            if slot.primitive not in PRIMITIVES[spec.family]:
                complaints.append(f"cell {number}: {slot.primitive!r} is no primitive of {spec.family}")
            if not _is_count(slot.width, at_least=1):
                complaints.append(f"cell {number}: width {slot.width!r} is not a positive whole number")
    return complaints or _path_complaints(spec)


def _path_complaints(spec: ArchSpec) -> list[str]:
    steps = spec.upsample_after
    complaints = []
    if spec.family == "edge" and (steps or spec.plain_convs):
        complaints.append("edge networks have no upsampling steps and no plain convolutions")
    if steps and len(steps) != len(UPSAMPLING_STEPS[spec.scale]):
        complaints.append(f"scale {spec.scale} takes {len(UPSAMPLING_STEPS[spec.scale])} upsampling steps")
    if not all(_is_count(count) and count <= len(spec.cells) for count in steps):
        complaints.append(f"upsample_after {list(steps)} must count cells, from 0 to {len(spec.cells)}")
    elif list(steps) != sorted(steps):
        complaints.append(f"upsample_after {list(steps)} must not decrease")
    return complaints


def _is_count(value: object, at_least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least
