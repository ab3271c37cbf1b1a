"""Architectures as plain data, and the search spaces that they are chosen from.

An `ArchSpec` holds everything that is needed to rebuild a network, except its weights. There are two families:

- `edge`: biases, PReLU, a pixel shuffle behind the tail. The nearest-upsampled input is added to the output. With a
  long skip, the head's features are added to the trunk's.
- `paper`: the networks of Wu et al. 2021 (arXiv:2101.06658). No biases, ReLU, and either a pixel shuffle behind the
  tail or upsampling steps between the cells.
"""

import json
from dataclasses import dataclass, fields
from functools import cached_property
from math import inf
from typing import Any

from trinas.errors import SpecError
from trinas.files import parse_json
from trinas.networks.primitives import PRIMITIVES, ConvShape, find_primitive
from trinas.text import shorten_text

ARCH_SCHEMA = 2
"""Version of the JSON form of an architecture. A newer one is refused. Version 1 had no `long_skip`."""

MAX_WIDTH, MAX_CELLS, MAX_SLOTS, MAX_PLAIN_CONVS = 1024, 64, 32, 64
"""The most channels, cells, slots of a cell, and plain convolutions. All are far above any network that was trained."""

MAX_CONVS, MAX_PARAMS = 2000, 50_000_000
"""The most convolutions and parameters of a network. A spec can come from a stranger; so many take 200 MB, and building
them takes about a second."""

SCALES = (2, 3, 4)
"""Output pixels per input pixel along each side."""

UPSAMPLING_STEPS: dict[int, tuple[int, ...]] = {2: (2,), 3: (3,), 4: (2, 2)}
"""Scale -> factors of the upsampling steps that together reach it."""


@dataclass(frozen=True)
class SlotSpec:
    """One slot of a cell."""

    primitive: str  # a name in PRIMITIVES
    width: int  # channels of its output


@dataclass(frozen=True)
class CellSpec:
    """A chain of slots. The last one has the trunk width."""

    slots: tuple[SlotSpec, ...]


@dataclass(frozen=True)
class ArchSpec:
    """An architecture: everything that is needed to rebuild a network, except its weights.

    Raises:
        SpecError: no network can be built from it.
    """

    family: str  # a key of PRIMITIVES
    scale: int  # output pixels per input pixel, along each side
    trunk_width: int  # channels between cells
    cells: tuple[CellSpec, ...]  # the cells on the chosen path, in order
    upsample_after: tuple[int, ...] = ()  # cells before each upsampling step; empty: a pixel shuffle behind the tail
    plain_convs: int = 0  # 3x3 convolutions at trunk width behind the last cell
    long_skip: bool = False  # whether the tail reads the sum of head and trunk instead of the trunk alone

    def __post_init__(self) -> None:
        complaints = _find_faults(self)
        if complaints:
            raise SpecError(f"not a valid architecture: {shorten_text('; '.join(complaints))}")

    def path(self) -> "list[CellSpec | int]":
        """Return what lies between head and plain convolutions, in order: cells, and factors of upsampling steps."""
        steps = list(zip(self.upsample_after, UPSAMPLING_STEPS[self.scale], strict=False))
        path: list[CellSpec | int] = []
        for position in range(len(self.cells) + 1):
            path += [factor for after, factor in steps if after == position]
            path += self.cells[position : position + 1]
        return path

    def convs(self) -> list[tuple[ConvShape, int]]:
        """Return all convolutions in order, each with the factor of all upsampling steps before it."""
        bias, width, factor = self.family == "edge", self.trunk_width, 1
        convs = [(ConvShape(3, width, 3, bias=bias), factor)]
        for stage in self.path():
            if isinstance(stage, int):
                factor *= stage
                convs.append((ConvShape(width, width, 3), factor))
                continue
            c_in = width
            for slot in stage.slots:
                primitive = find_primitive(self.family, slot.primitive)
                convs += [(conv, factor) for conv in primitive.convs(c_in, slot.width)]
                c_in = slot.width
        convs += [(ConvShape(width, width, 3), factor)] * self.plain_convs
        c_out = 3 if self.upsample_after else 3 * self.scale**2
        return [*convs, (ConvShape(width, c_out, 3, bias=bias), factor)]

    def to_json(self) -> str:
        """Return the spec as JSON, which `from_json` reads."""
        return json.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as data for JSON. A slot is a pair [primitive, width]."""
        return {
            "schema": ARCH_SCHEMA,
            "family": self.family,
            "scale": self.scale,
            "trunk_width": self.trunk_width,
            "cells": [[[slot.primitive, slot.width] for slot in cell.slots] for cell in self.cells],
            "upsample_after": list(self.upsample_after),
            "plain_convs": self.plain_convs,
            "long_skip": self.long_skip,
        }

    @staticmethod
    def from_json(text: str) -> "ArchSpec":
        """Read the output of `to_json`.

        Raises:
            SpecError: `text` is not an architecture, has unknown keys or a newer schema.
        """
        try:
            return ArchSpec.from_dict(parse_json(text.encode()))
        except ValueError as error:
            raise SpecError(f"not a valid architecture: {error}") from None

    @staticmethod
    def from_dict(data: object) -> "ArchSpec":
        """Read the output of `to_dict`, of this schema or the first.

        Raises:
            SpecError: `data` is not an architecture, has unknown keys or a newer schema.
        """
        if not isinstance(data, dict):
            raise SpecError("not a valid architecture: not a JSON object")
        if data.get("schema") == 1:
            data = {"long_skip": False} | data | {"schema": ARCH_SCHEMA}
        if data.get("schema") != ARCH_SCHEMA:
            raise SpecError(
                f"not a valid architecture: schema {_show(data.get('schema'))}, this version reads {ARCH_SCHEMA}; "
                "a newer trinas-upscale may be needed"
            )
        expected = {"schema", *(field.name for field in fields(ArchSpec))}
        if set(data) != expected:
            unknown, missing = sorted(map(str, set(data) - expected)), sorted(expected - set(data))
            raise SpecError(f"not a valid architecture: unknown keys {_show(unknown)}, missing keys {missing}")
        if not (isinstance(data["cells"], list) and isinstance(data["upsample_after"], list)):
            raise SpecError("not a valid architecture: cells and upsample_after must be lists")
        try:
            cells = tuple(
                CellSpec(tuple(SlotSpec(primitive, width) for primitive, width in cell)) for cell in data["cells"]
            )
            upsample_after = tuple(data["upsample_after"])
        except (TypeError, ValueError):
            raise SpecError("not a valid architecture: cells must be lists of [primitive, width]") from None
        plain = {key: value for key, value in data.items() if key != "schema"}
        return ArchSpec(**plain | {"cells": cells, "upsample_after": upsample_after})


def _find_faults(spec: ArchSpec) -> list[str]:
    """Return everything that is wrong with a spec; an empty list if it can be built."""
    if not isinstance(spec.family, str) or spec.family not in PRIMITIVES:
        return [f"family {_show(spec.family)} is none of {', '.join(PRIMITIVES)}"]
    complaints = []
    if not _is_count(spec.scale) or spec.scale not in SCALES:
        complaints.append(f"scale {_show(spec.scale)} is none of {SCALES}")
    if not _is_count(spec.trunk_width, 1, MAX_WIDTH):
        complaints.append(f"trunk_width {_show(spec.trunk_width)} is not a whole number from 1 to {MAX_WIDTH}")
    if not _is_count(spec.plain_convs, 0, MAX_PLAIN_CONVS):
        complaints.append(f"plain_convs {_show(spec.plain_convs)} is not a whole number from 0 to {MAX_PLAIN_CONVS}")
    if not isinstance(spec.long_skip, bool):
        complaints.append(f"long_skip {_show(spec.long_skip)} is neither true nor false")
    if len(spec.cells) > MAX_CELLS:
        complaints.append(f"{len(spec.cells):,} cells are more than {MAX_CELLS}")
    complaints = complaints or [fault for number in range(len(spec.cells)) for fault in _find_cell_faults(spec, number)]
    complaints = complaints or _find_path_faults(spec)
    return complaints or _find_size_faults(spec.convs())


def _find_size_faults(convs: list[tuple[ConvShape, int]]) -> list[str]:
    """Return what is wrong with a network as a whole. Multiply-adds are bounded by the parameters."""
    params = sum(conv.params for conv, _ in convs)
    sizes = {"convolutions": (len(convs), MAX_CONVS), "parameters": (params, MAX_PARAMS)}
    return [f"{size:,} {name} are more than {most:,}" for name, (size, most) in sizes.items() if size > most]


def _find_cell_faults(spec: ArchSpec, number: int) -> list[str]:
    """Return what is wrong with a cell, counted from 0."""
    slots, cell = spec.cells[number].slots, f"cell {number + 1}"
    names = tuple(PRIMITIVES[spec.family])  # a dict cannot look up a list, which a file may have in place of a name
    if not slots:
        return [f"{cell} has no slots"]
    if len(slots) > MAX_SLOTS:
        return [f"{cell}: {len(slots):,} slots are more than {MAX_SLOTS}"]
    complaints = []
    for slot in slots:
        if slot.primitive not in names:
            complaints.append(f"{cell}: {_show(slot.primitive)} is no primitive of {spec.family}")
        if not _is_count(slot.width, 1, MAX_WIDTH):
            complaints.append(f"{cell}: width {_show(slot.width)} is not a whole number from 1 to {MAX_WIDTH}")
    if not complaints and slots[-1].width != spec.trunk_width:
        complaints.append(f"{cell} must end at the trunk width, {spec.trunk_width}")
    return complaints


def _find_path_faults(spec: ArchSpec) -> list[str]:
    """Return what is wrong with the upsampling steps, plain convolutions and long skip of an otherwise valid spec."""
    steps = spec.upsample_after
    complaints = []
    if spec.family == "edge" and (steps or spec.plain_convs):
        complaints.append("edge networks have no upsampling steps and no plain convolutions")
    if spec.family == "paper" and spec.long_skip:
        complaints.append("paper networks have no long skip")
    if steps and len(steps) != len(UPSAMPLING_STEPS[spec.scale]):
        complaints.append(f"scale {spec.scale} takes {len(UPSAMPLING_STEPS[spec.scale])} upsampling steps")
    if not all(_is_count(count, 0, len(spec.cells)) for count in steps):
        complaints.append(f"upsample_after {_show(list(steps))} must count cells, from 0 to {len(spec.cells)}")
    elif list(steps) != sorted(steps):
        complaints.append(f"upsample_after {_show(list(steps))} must not decrease")
    return complaints


def _is_count(value: object, at_least: int = 0, at_most: float = inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= at_most


def _show(value: object) -> str:
    """Return a value of a file for a message."""
    return shorten_text(repr(value), 60)


@dataclass(frozen=True)
class PathNode:
    """A node in the tree of all paths: a cell or an upsampling step."""

    parent: int | None  # index of the node before it; None: the head is before it
    step: int | None  # factor of the upsampling step; None: this node is a cell
    factor: int  # of all upsampling up to and including this node, along each side
    cells: int  # number of cells up to and including this node
    is_candidate: bool  # whether a network may end here


@dataclass(frozen=True)
class SearchSpace:
    """All networks that a search can choose.

    - `edge`: networks of the edge family, with the primitives `skip` and `conv3x3`. The path is a chain of cells, and
      the search chooses how many of them are kept.
    - `edge-all`: the same with all primitives of the family.
    - `paper-b`: the same with all primitives of the paper family.
    - `paper-a`: the paper family with upsampling steps. The search also chooses where among the cells they are.

    Raises:
        SpecError: there is no such space, or it has no such scale or sizes.
    """

    name: str  # a key of SPACES
    scale: int  # output pixels per input pixel, along each side
    trunk_width: int  # channels between cells; no slot is wider
    cells: int  # on the longest path
    slots: int  # per cell
    searched_cells: int  # cells at the end of the chain that a path may leave out; slots are searched in all cells

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in SPACES:
            raise SpecError(f"no search space {_show(self.name)}; there are {', '.join(SPACES)}")
        if not _is_count(self.scale) or self.scale not in SCALES:
            known = ", ".join(map(str, SCALES))
            raise SpecError(f"the space {self.name} has no scale {_show(self.scale)}; it has {known}")
        for name, most in (("trunk_width", MAX_WIDTH), ("cells", MAX_CELLS), ("slots", MAX_SLOTS)):
            if not _is_count(value := getattr(self, name), 1, most):
                raise SpecError(f"{name} of a search space must be from 1 to {most}, got {_show(value)}")
        if not _is_count(self.searched_cells, 0, self.cells - 1):
            raise SpecError(f"searched_cells must be from 0 to {self.cells - 1}, got {_show(self.searched_cells)}")

    @property
    def family(self) -> str:
        """The family of its networks, a key of PRIMITIVES."""
        return SPACES[self.name].family

    @property
    def searches_upsampling(self) -> bool:
        """Whether the places of upsampling steps are searched. If not, a pixel shuffle follows the tail."""
        return SPACES[self.name].searches_upsampling

    @property
    def long_skip(self) -> bool:
        """Whether its networks have a long skip."""
        return self.family == "edge"

    @property
    def primitives(self) -> tuple[str, ...]:
        """The candidates for a slot's primitive."""
        return SPACES[self.name].primitives

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The candidates for a slot's width, ascending. The last is the trunk width."""
        return list_candidate_widths(self.family, self.trunk_width)

    @cached_property
    def nodes(self) -> tuple[PathNode, ...]:
        """The tree of all paths, depth first. It begins with the cells that are on every path."""
        steps = UPSAMPLING_STEPS[self.scale] if self.searches_upsampling else ()
        always = self.cells - self.searched_cells
        nodes: list[PathNode] = []
        for number in range(1, always + 1):
            ends = number == always and not steps
            nodes.append(PathNode(len(nodes) - 1 if nodes else None, None, 1, number, ends))

        def grow(parent: int, left: tuple[int, ...]) -> None:
            before = nodes[parent]
            if before.cells < self.cells:
                nodes.append(PathNode(parent, None, before.factor, before.cells + 1, not left))
                grow(len(nodes) - 1, left)
            if left:
                factor = before.factor * left[0]
                nodes.append(PathNode(parent, left[0], factor, before.cells, len(left) == 1))
                grow(len(nodes) - 1, left[1:])

        grow(len(nodes) - 1, steps)
        return tuple(nodes)

    @cached_property
    def candidates(self) -> tuple[int, ...]:
        """Indices of the nodes at which a network may end: the candidates for the path."""
        return tuple(index for index, node in enumerate(self.nodes) if node.is_candidate)

    @cached_property
    def cell_nodes(self) -> tuple[int, ...]:
        """Indices of the nodes that are cells. Each has its own slots."""
        return tuple(index for index, node in enumerate(self.nodes) if node.step is None)

    def row_of(self, node: int) -> int:
        """Return the row of a cell in the decisions of all cells.

        Args:
            node: index of the cell in `nodes`.
        """
        return self.cell_nodes.index(node)

    def path_to(self, node: int) -> tuple[int, ...]:
        """Return the indices of the nodes on the path from the head to `node`, with `node` itself."""
        path: list[int] = []
        index: int | None = node
        while index is not None:
            path.append(index)
            index = self.nodes[index].parent
        return tuple(reversed(path))

    @property
    def bare_spec(self) -> ArchSpec:
        """The network without cells. Every network of the space costs at least as much."""
        steps = UPSAMPLING_STEPS[self.scale] if self.searches_upsampling else ()
        return ArchSpec(self.family, self.scale, self.trunk_width, (), (0,) * len(steps), long_skip=self.long_skip)

    def spec(self, choice: "Choice") -> ArchSpec:
        """Return the architecture of a choice."""
        cells: list[CellSpec] = []
        steps: list[int] = []
        for index in self.path_to(choice.node):
            if self.nodes[index].step is not None:
                steps.append(len(cells))
                continue
            row = self.row_of(index)
            widths = [*(self.widths[width] for width in choice.widths[row]), self.trunk_width]
            names = [self.primitives[primitive] for primitive in choice.primitives[row]]
            cells.append(CellSpec(tuple(SlotSpec(*slot) for slot in zip(names, widths, strict=True))))
        return ArchSpec(self.family, self.scale, self.trunk_width, tuple(cells), tuple(steps), long_skip=self.long_skip)


@dataclass(frozen=True)
class Choice:
    """One candidate for every decision of a space, as indices. Rows follow `SearchSpace.cell_nodes`."""

    node: int  # in SearchSpace.nodes: the end of the path
    primitives: tuple[tuple[int, ...], ...]  # in SearchSpace.primitives, one a slot
    widths: tuple[tuple[int, ...], ...]  # in SearchSpace.widths, one a slot except the last of a cell


@dataclass(frozen=True)
class SpaceKind:
    """What all search spaces of the same name have in common."""

    family: str
    primitives: tuple[str, ...]  # candidates for a slot's primitive
    searches_upsampling: bool


SPACES = {
    # The other primitives made results worse (docs/LOG.md).
    "edge": SpaceKind("edge", ("skip", "conv3x3"), searches_upsampling=False),
    "edge-all": SpaceKind("edge", tuple(PRIMITIVES["edge"]), searches_upsampling=False),
    "paper-a": SpaceKind("paper", tuple(PRIMITIVES["paper"]), searches_upsampling=True),
    "paper-b": SpaceKind("paper", tuple(PRIMITIVES["paper"]), searches_upsampling=False),
}


def list_candidate_widths(family: str, trunk_width: int) -> tuple[int, ...]:
    """Return the widths that a slot may have, ascending. The trunk width is always among them.

    - Edge: all multiples of 8 from half the trunk width on, or multiples of 4 if the trunk width is below 32. Narrower
      slots were bottlenecks: a supernet lost nothing by them, but the derived network lost much.
    - Paper: 1/3, 1/2, 2/3 and 5/6 of the trunk width, rounded half up to a multiple of 8, and the trunk width.
    """
    if family == "edge":
        step = 4 if trunk_width < 32 else 8
        widths = {width for width in range(step, trunk_width, step) if 2 * width >= trunk_width} | {trunk_width}
    else:
        shares = ((1, 3), (1, 2), (2, 3), (5, 6))
        # Rounding half up in whole numbers: round(w / 8) is (w / 4 + 1) // 2.
        rounded = {8 * ((2 * trunk_width * top + 8 * bottom) // (16 * bottom)) for top, bottom in shares}
        widths = {*(min(max(width, 1), trunk_width) for width in rounded if width), trunk_width}
    return tuple(sorted(widths))


def _build_paper_spec(path: str, primitives: str, widths: str, plain_convs: int = 0) -> ArchSpec:
    """Return a network in the notation of the paper.

    Args:
        path: 0 for a cell, 1 for an upsampling step.
        primitives: a word for each cell, with the index of each slot's primitive.
        widths: a word for each cell, with the index of each slot's width. The last slot has the trunk width.
        plain_convs: 3x3 convolutions behind the last cell.
    """
    names, candidates = tuple(PRIMITIVES["paper"]), list_candidate_widths("paper", 64)
    cells = []
    for chosen, kept in zip(primitives.split(), widths.split(), strict=True):
        slots = zip(chosen, [*(candidates[int(index)] for index in kept), 64], strict=True)
        cells.append(CellSpec(tuple(SlotSpec(names[int(index)], width) for index, width in slots)))
    steps = tuple(path[:place].count("0") for place, mark in enumerate(path) if mark == "1")
    return ArchSpec("paper", 4, 64, tuple(cells), steps, plain_convs)


PAPER_NETWORKS = {
    "paper-a1": _build_paper_spec("000101", "01001 33312 00103 11011", "4000 1140 4421 0411"),
    "paper-a2": _build_paper_spec("0000011", "33333 01313 33323 33322 13332", "3042 4440 1122 2242 2000"),
    "paper-b1": _build_paper_spec("000", "30333 30131 20000", "1102 0300 4000"),
    "paper-b2": _build_paper_spec("00000", "00330 32311 10103 33113 31111", "1040 1232 4401 4300 1440", plain_convs=1),
    "paper-b3": _build_paper_spec("00", "00020 33110", "2033 4310", plain_convs=2),
}
"""The x4 networks of Wu et al. 2021. `train --arch` takes these names."""


def find_named_spec(name: str) -> ArchSpec:
    """Return one of `PAPER_NETWORKS`.

    Raises:
        SpecError: there is no such name.
    """
    if name not in PAPER_NETWORKS:
        raise SpecError(f"no architecture {name!r}; there are {', '.join(PAPER_NETWORKS)}")
    return PAPER_NETWORKS[name]
