"""Values that nobody expects in a JSON file, and files with one of them."""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from unicodedata import category

import torch


def _nest(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


MAX_MESSAGE = 700
"""Characters of an error, with the path of a test's folder."""


def is_one_line(message: str) -> bool:
    """Return whether an error is one line of sane length that any terminal can show."""
    return len(message) <= MAX_MESSAGE and not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in message)


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 10**30, -(10**30), 0.5, -0.0, 1e308, 5e-324,
    float("nan"), float("inf"), -float("inf"),
    "", "x", "0", "\ud800", "\udcff", "a\nb", "\x1b]0;x\x07", "\0", "\u202e", "\u2028", "<img src=x onerror=alert(1)>",
    "](javascript:x)|`*", "../../etc", "é" * 200, "n" * 5000, "---\nx: [", "NaN",
    [], {}, [[]], [None], ["x"], {"x": 1}, {"\ud800": 1}, {"n" * 5000: 0}, [0] * 3000, _nest(60), _nest(600),
)  # fmt: skip
"""JSON values of every type, as Python's own reader takes and gives them."""


T = TypeVar("T")


def accept_or_refuse(read: Callable[[], T], *errors: type[Exception]) -> T | None:
    """Return what `read` returns, or None if it refuses in one line. Any other error is the test's failure."""
    try:
        return read()
    except errors as error:
        message = str(error)
    assert is_one_line(message), message[:2000]
    return None


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each value inside a JSON value; of a list, only to its first and last one."""
    if isinstance(value, dict):
        inside: list[Any] = list(value)
    else:
        inside = sorted({0, len(value) - 1}) if isinstance(value, list) and value else []
    for key in inside:
        yield (*place, key)
        yield from places(value[key], (*place, key))


def mutations(value: Any, every: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield copies of a JSON object, each with one value replaced, left out or called otherwise, and what was done.

    Args:
        value: the object.
        every: replace each value by only so much of `VALUES`, others at each place.
    """
    for number, place in enumerate(places(value)):
        for new in VALUES[number % every :: every]:
            yield f"{place}: {str(new)[:40]!a}", _change(value, place, lambda inside, key, new=new: inside | {key: new})
        yield f"{place}: left out", _change(value, place, lambda inside, key: _without(inside, key))
        if isinstance(place[-1], str):
            renamed = _change(value, place, lambda inside, key: {**_without(inside, key), key + "x": inside[key]})
            yield f"{place}: renamed", renamed


def _without(inside: dict[Any, Any], key: Any) -> dict[Any, Any]:
    return {other: value for other, value in inside.items() if other != key}


def _change(value: Any, place: tuple[Any, ...], change: Any) -> Any:
    """Return a copy whose innermost list or object at `place` was changed. A list is taken as an object by number."""
    changed = copy.deepcopy(value)
    outer, inside = None, changed
    for key in place[:-1]:
        outer, inside = inside, inside[key]
    if isinstance(inside, dict):
        new: Any = change(inside, place[-1])
    else:
        new = list(change(dict(enumerate(inside)), place[-1]).values())
    if outer is None:
        return new
    outer[place[-2]] = new
    return changed


FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "random bytes": lambda content: bytes(range(256)) * 8,
    "not UTF-8": lambda content: b"\xff\xfe" + content,
    "a line that is not UTF-8": lambda content: content + b'{"\xff": 1}\n',
    "other JSON": lambda content: b'{"step": "x"}\n',
    "a list": lambda content: b"[[]]\n",
    "nested deeply": lambda content: b"[" * 100_000 + b"\n",
    "no numbers": lambda content: re.sub(rb"\d+(\.\d+)?", b"NaN", content),
    "huge numbers": lambda content: re.sub(rb": \d+(\.\d+)?", b": 1e300", content),
    "negative numbers": lambda content: re.sub(rb": (\d)", rb": -\1", content),
    "twice": lambda content: content * 2,
}
"""What can become of a file of a run folder."""

STATE_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 3, 0.5, float("nan"), float("inf"), "", "x", "\udcff", b"x", [], [1], [[1, 2, 3]], {}, {"x": 1},
    {1: {}}, torch.zeros(2), torch.full((), torch.nan),
)  # fmt: skip
"""What can be in a state in place of what it should hold. There are no large numbers, which mean a lot of work."""


def state_mutations(state: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield copies of a state, each with a value replaced or left out, also in the dictionaries inside it."""
    yield "one key more", state | {"x": 1}
    for place, (key, value) in enumerate(state.items()):
        yield f"{key}: left out", _without(state, key)
        for new in STATE_VALUES[place % 2 :: 2]:  # not all, which would take long
            yield f"{key}: {new!r}", state | {key: new}
        inside = value if isinstance(value, dict) else {}
        for number, other in enumerate(inside):
            yield f"{key}.{other}: left out", state | {key: _without(inside, other)}
            for new in STATE_VALUES[number % 4 :: 4]:
                yield f"{key}.{other}: {new!r}", state | {key: inside | {other: new}}
