"""Damage to XMP and JSON that leaves it text."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from .bytes_damage import damage_bytes

_LONG = 20_000
_HOSTILE_XMP: tuple[bytes, ...] = (
    b" " * _LONG, b"\t\n" * 300, b"<a>" * 500, b'tiff:Orientation="' * 500, b"tiff:Orientation='6' ", b"<!-- ", b"-->",
    b"<![CDATA[", b"]]>", b'<!DOCTYPE x [<!ENTITY a "aaaa">]>', b"&a;", b"&#0;", b"&#xD800;", b"<?xml version='1.0'?>",
    b"<xmp:Thumbnails>", b"</xmp:Thumbnails>", b"<tiff:ImageWidth>99</tiff:ImageWidth>", b"\xff\xfe", b"\xed\xa0\x80",
    b"\0", b'="', b" = " * 2000, b"xmpNote:HasExtendedXMP='x' ", b"<x:xmpmeta " + b"a='' " * 1000, b"=\"'\"" * 1000,
)  # fmt: skip


def damage_xmp(random: Random, packet: bytes) -> bytes:
    """Insert something that parsers stumble over, or damage the bytes."""
    if random.random() < 0.3:
        return damage_bytes(random, packet)
    marks = [position for position in range(len(packet)) if packet[position : position + 1] in b"<> =\"'"] or [0]
    for _ in range(random.randint(1, 3)):
        position = random.choice(marks)
        packet = packet[:position] + random.choice(_HOSTILE_XMP) + packet[position:]
    return packet


_HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 5, 64, 65, 2**31, 2**63, 2**64, 10**30, 10**400, -(10**30), 0.5, 1e308, -1e-308,
    float("nan"), float("inf"), "", " ", "x" * 100_000, "\ud800", "\0", "two\nlines", "\x1b[31mred", "<b>&amp;</b>",
    "| a | b |", "../../etc/passwd", "\u202eevil", "[](javascript:1)", "conv3x3", "edge", "paper", "Apache-2.0", [], {},
    [[]], [None], ["x"] * 3000, {"": None}, {"a": {"a": {"a": []}}}, [0] * 4, [8, 8], [10**30],
)  # fmt: skip
_DEEP = 5000


def damage_json(random: Random, content: bytes) -> bytes:
    """Change the values and the keys of a JSON text, or damage its bytes."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return damage_bytes(random, content)
    if random.random() < 0.15:
        return damage_bytes(random, content)
    if random.random() < 0.05:
        return content.replace(b":", b":" + b'[{"a":' * _DEEP, 1)
    for _ in range(random.randint(1, 2)):
        if place := _pick_place(random, tree):
            random.choice(_JSON_CHANGES)(random, *place)
    return json.dumps(tree, separators=(",", ":") if random.random() < 0.5 else None).encode()


def _pick_place(random: Random, tree: Any) -> tuple[Any, Any] | None:
    """Return an object or a list in a tree, with one of its keys or numbers; None if the tree holds nothing.

    Each branch is as likely as the others, however large it is.
    """
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    if not keys:
        return None
    key = random.choice(keys)
    inside = _pick_place(random, tree[key]) if random.random() < 0.8 else None
    return inside or (tree, key)


def _set_value(random: Random, parent: Any, key: Any) -> None:
    parent[key] = random.choice(_HOSTILE_VALUES)


def _nudge_value(random: Random, parent: Any, key: Any) -> None:
    """Change a number a little, or repeat a list or a text many times."""
    value = parent[key]
    if isinstance(value, bool | int | float):
        parent[key] = value * random.choice((-1, 1, 1, 2, 1000)) + random.choice((0, 1, -1))
    elif isinstance(value, list | str):
        parent[key] = value * random.choice((0, 2, 100))
    else:
        _set_value(random, parent, key)


def _delete_key(random: Random, parent: Any, key: Any) -> None:
    del parent[key]


def _rename_key(random: Random, parent: Any, key: Any) -> None:
    if isinstance(parent, dict):
        parent[random.choice((key + "s", "", "__class__", "\ud800", "x" * 10_000, "two\nlines"))] = parent.pop(key)
    else:
        parent.insert(key, random.choice(_HOSTILE_VALUES))


_JSON_CHANGES: tuple[Callable[[Random, Any, Any], None], ...] = (
    _set_value,
    _set_value,
    _nudge_value,
    _nudge_value,
    _delete_key,
    _rename_key,
)
