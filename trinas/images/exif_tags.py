"""The tags of EXIF, with the types and counts that its specification (CIPA DC-008) gives them.

Other programs expect them. For example, Pillow cannot open a JPEG whose resolution is no fraction.
"""

from PIL.ExifTags import IFD

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SIGNED_RATIONAL = 1, 2, 3, 4, 5, 7, 10
"""Types of values, numbered as in TIFF."""

_BYTES = (BYTE, ASCII, UNDEFINED)
"""Texts and bytes are taken for each other, as programs do."""
_INTEGERS = (SHORT, LONG)
_RATIOS = (RATIONAL, SIGNED_RATIONAL)
_ANY = 0

_Rule = tuple[tuple[int, ...], int, tuple[int, ...]]
"""Types, count (0 for any), and the tags that must have them."""

_IMAGE: tuple[_Rule, ...] = (
    (_BYTES, _ANY, (270, 271, 272, 305, 306, 315, 316, 33432, *range(40091, 40096))),
    (_INTEGERS, 1, (256, 257, 259, 262, 274, 277, 284, 296, 531, 18246, 18249)),
    (_INTEGERS, 2, (530,)),
    (_INTEGERS, _ANY, (258, 301)),
    (_RATIOS, 1, (282, 283)),
    (_RATIOS, 2, (318,)),
    (_RATIOS, 3, (529,)),
    (_RATIOS, 6, (319, 532)),
)
_DETAILS: tuple[_Rule, ...] = (
    (_BYTES, _ANY, (34852, 34856, 36864, 36867, 36868, 36880, 36881, 36882, 37121, 37500, 37510, 37520, 37521, 37522)),
    (_BYTES, _ANY, (40960, 40964, 41484, 41728, 41729, 41730, 41995, 42016, 42032, 42033, 42035, 42036, 42037, 42082)),
    (_INTEGERS, 1, (34850, *range(34864, 34870), 37383, 37384, 37385, 40961, 40962, 40963, 41488, 41495)),
    (_INTEGERS, 1, (41985, 41986, 41987, *range(41989, 41995), 41996, 42080)),
    (_INTEGERS, 2, (41492, 42081)),
    (_INTEGERS, _ANY, (34855, 37396)),
    (_RATIOS, 1, (33434, 33437, 37122, *range(37377, 37383), 37386, *range(37888, 37894), 41483, 41486, 41487)),
    (_RATIOS, 1, (41493, 41988, 42240)),
    (_RATIOS, 4, (42034,)),
)
_PLACE: tuple[_Rule, ...] = (
    (_BYTES, 4, (0,)),
    (_BYTES, 1, (5,)),
    (_BYTES, _ANY, (1, 3, 8, 9, 10, 12, 14, 16, 18, 19, 21, 23, 25, 27, 28, 29)),
    (_INTEGERS, 1, (30,)),
    (_RATIOS, 1, (6, 11, 13, 15, 17, 24, 26, 31)),
    (_RATIOS, 3, (2, 4, 7, 20, 22)),
)
_INTEROPERABILITY: tuple[_Rule, ...] = ((_BYTES, _ANY, (1, 2, 4096)), (_INTEGERS, 1, (4097, 4098)))

_RULES: dict[tuple[int | None, int], tuple[tuple[int, ...], int]] = {
    (directory, tag): (kinds, count)
    for directory, rules in (
        (None, _IMAGE),
        (IFD.Exif, _DETAILS),
        (IFD.GPSInfo, _PLACE),
        (IFD.Interop, _INTEROPERABILITY),
    )
    for kinds, count, tags in rules
    for tag in tags
}


def is_as_specified(directory: int | None, tag: int, kind: int, count: int) -> bool:
    """Return whether a value has the type and count that its tag must have. Unknown tags may have any.

    Args:
        directory: the tag that holds the directory of the value; None for the first one.
        tag: of the value.
        kind: its type.
        count: how many numbers it has.
    """
    kinds, needed = _RULES.get((directory, tag), ((kind,), _ANY))
    return kind in kinds and needed in (_ANY, count)
