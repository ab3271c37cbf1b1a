"""Networks and mixtures as bars, laid out for a template."""

from dataclasses import dataclass

from trinas.networks.space import ArchSpec, SearchSpace
from trinas.search.record import MixtureShares

_BAR, _GAP, _CELL_GAP, _TALLEST = 40, 6, 22, 120  # of a network, in the units of its drawing
_SMALL_BAR, _SMALL_GAP, _SMALL_TALLEST = 18, 3, 64  # of a mixture


@dataclass(frozen=True)
class Bar:
    """One step of a network. Its height shows its channels."""

    kind: str
    """Decides the colour: the name of a primitive, frame or image."""
    label: str
    width: int
    """Channels."""
    x: int
    height: float


@dataclass(frozen=True)
class Group:
    """The bars of one cell."""

    label: str
    x: int
    width: int


@dataclass(frozen=True)
class NetworkDiagram:
    """A network from left to right."""

    bars: list[Bar]
    groups: list[Group]
    width: int
    bar: int
    """Width of a bar."""
    base: float
    """Distance of the bars' lower ends from the top."""


@dataclass(frozen=True)
class Part:
    """A primitive's share of a slot."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True)
class MixedBar:
    """A slot of a mixture."""

    x: int
    alive: float
    """Survival of its cell."""
    parts: list[Part]


@dataclass(frozen=True)
class MixtureDiagram:
    """A supernet at one step of a search."""

    step: int
    bars: list[MixedBar]
    width: int
    height: int
    bar: int
    """Width of a bar."""


def draw_network(spec: ArchSpec) -> NetworkDiagram:
    """Lay out a network as bars from left to right. Heights are channels, colours are primitives."""
    bars: list[Bar] = []
    groups: list[Group] = []
    left = _CELL_GAP

    def add(kind: str, label: str, width: int) -> None:
        nonlocal left
        bars.append(Bar(kind, label, width, left, max(6.0, _TALLEST * width / widest)))
        left += _BAR + _GAP

    tail = 3 if spec.upsample_after else 3 * spec.scale**2
    widest = max(spec.trunk_width, tail, *(slot.width for cell in spec.cells for slot in cell.slots))
    add("image", "input", 3)
    add("frame", "head", spec.trunk_width)
    for stage in spec.path():
        left += _CELL_GAP
        start = left
        if isinstance(stage, int):
            add("frame", f"x{stage}", spec.trunk_width)
            continue
        for slot in stage.slots:
            add(slot.primitive, slot.primitive, slot.width)
        groups.append(Group(f"cell {len(groups) + 1}", start, left - _GAP - start))
    left += _CELL_GAP
    for _ in range(spec.plain_convs):
        add("frame", "conv3x3", spec.trunk_width)
    add("frame", "tail", tail)
    add("image", "output", 3)
    return NetworkDiagram(bars, groups, left + _CELL_GAP, _BAR, max(bar.height for bar in bars) + 24)


def draw_mixture(space: SearchSpace, step: int, mixtures: MixtureShares) -> MixtureDiagram:
    """Lay out a supernet as bars.

    Heights are expected channels, colours are the shares of primitives, and faint cells have a low survival.

    Args:
        space: of the search.
        step: of the search.
        mixtures: at this step.
    """
    bars: list[MixedBar] = []
    left = 0
    only_full = [0.0] * (len(space.widths) - 1) + [1.0]
    for row, index in enumerate(space.cell_nodes):
        alive = min(1.0, _survival(space, mixtures.path, index))
        for slot, shares in enumerate(mixtures.primitives[row]):
            widths = mixtures.widths[row][slot] if slot < space.slots - 1 else only_full
            expected = sum(share * width for share, width in zip(widths, space.widths, strict=True))
            height = _SMALL_TALLEST * expected / space.trunk_width
            bars.append(MixedBar(left, alive, _stack(space.primitives, shares, height)))
            left += _SMALL_BAR + _SMALL_GAP
        left += 3 * _SMALL_GAP
    return MixtureDiagram(step, bars, left, _SMALL_TALLEST, _SMALL_BAR)


def _survival(space: SearchSpace, path: list[float], node: int) -> float:
    shares = zip(space.candidates, path, strict=True)
    return sum(share for candidate, share in shares if node in space.path_to(candidate))


def _stack(kinds: tuple[str, ...], shares: list[float], height: float) -> list[Part]:
    """Stack the shares of primitives from the bottom of a bar upwards."""
    bottom, parts = float(_SMALL_TALLEST), []
    # New primitives are appended to a family, so those of an older search are the first ones.
    for kind, share in zip(kinds, shares, strict=False):
        bottom -= height * share
        parts.append(Part(kind, bottom, height * share))
    return parts
