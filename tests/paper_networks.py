"""The networks that Wu et al. 2021 derived, written as specs, with the parameter counts they are known to have."""

from trinas.space import PRIMITIVES, ArchSpec, CellSpec, SlotSpec

WIDTHS = (24, 32, 40, 56, 64)
"""1/3, 1/2, 2/3, 5/6 and all of 64 channels, rounded half up to multiples of 8."""


def paper_spec(path: str, primitives: str, widths: str, plain_convs: int = 0, scale: int = 4) -> ArchSpec:
    """`path`: 0 is a cell, 1 an upsampling step; `primitives` and `widths`: indices, cells separated by spaces."""
    cells = tuple(
        CellSpec(
            tuple(
                SlotSpec(PRIMITIVES["paper"][int(primitive)], width)
                for primitive, width in zip(names, [*(WIDTHS[int(index)] for index in choice), 64], strict=True)
            )
        )
        for names, choice in zip(primitives.split(), widths.split(), strict=True)
    )
    steps = tuple(path[:place].count("0") for place, mark in enumerate(path) if mark == "1")
    return ArchSpec("paper", scale, 64, cells, steps, plain_convs)


PAPER_NETWORKS = {
    "paper-a1": (paper_spec("000101", "01001 33312 00103 11011", "4000 1140 4421 0411"), 335_232),
    "paper-a2": (
        paper_spec("0000011", "33333 01313 33323 33322 13332", "3042 4440 1122 2242 2000"),
        665_792,
    ),
    "paper-b1": (paper_spec("000", "30333 30131 20000", "1102 0300 4000"), 234_080),
    "paper-b2": (
        paper_spec("00000", "00330 32311 10103 33113 31111", "1040 1232 4401 4300 1440", plain_convs=1),
        508_896,
    ),
    "paper-b3": (paper_spec("00", "00020 33110", "2033 4310", plain_convs=2), 264_256),
}
