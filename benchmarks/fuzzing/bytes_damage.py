"""Damage that knows nothing of a file's format: bits, bytes and spans."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

Damage = Callable[[Random, bytes], bytes]
"""Return a damaged copy of some bytes."""

_REPEATS = 64


def pick_extreme(random: Random, size: int) -> int:
    """Return an unsigned integer of so many bytes, of the kind that programs fail at."""
    top = 256**size
    choices = (0, 1, 2, 3, 7, 8, 16, 255, 256, top // 2 - 1, top // 2, top // 2 + 1, top - 2, top - 1)
    if random.random() < 0.7:
        return random.choice(choices) % top
    return random.randrange(top) >> random.randrange(8 * size)


def pick_span(random: Random, content: bytes) -> tuple[int, int]:
    """Return the start and the end of a span of bytes, mostly a short one."""
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + (1 << random.randrange(12)))


def overwrite(content: bytes, position: int, new: bytes) -> bytes:
    """Return the bytes with others at a position. The length stays, unless `new` reaches beyond the end."""
    return content[:position] + new + content[position + len(new) :]


def flip_bits(random: Random, content: bytes) -> bytes:
    """Flip a few bits."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def set_word(random: Random, content: bytes) -> bytes:
    """Set an integer of 1, 2, 4 or 8 bytes to an extreme value."""
    size = random.choice((1, 2, 4, 8))
    order: Literal["little", "big"] = random.choice(("little", "big"))
    position = random.randrange(max(1, len(content) - size + 1))
    return overwrite(content, position, pick_extreme(random, size).to_bytes(size, order))


def set_early_word(random: Random, content: bytes) -> bytes:
    """Set an integer near the beginning, where formats have their headers."""
    start = min(len(content), 128)
    return set_word(random, content[:start]) + content[start:]


def cut(random: Random, content: bytes) -> bytes:
    """Leave out the end: a few bytes or many."""
    if random.random() < 0.3:
        return content[: max(0, len(content) - random.randint(1, 16))]
    return content[: random.randrange(len(content) + 1)]


def delete_span(random: Random, content: bytes) -> bytes:
    """Leave out a span."""
    start, end = pick_span(random, content)
    return content[:start] + content[end:]


def repeat_span(random: Random, content: bytes) -> bytes:
    """Repeat a span, once or many times."""
    start, end = pick_span(random, content)
    return content[:end] + content[start:end] * random.choice((1, 2, _REPEATS)) + content[end:]


def fill_span(random: Random, content: bytes) -> bytes:
    """Fill a span with one value, or with noise."""
    start, end = pick_span(random, content)
    filling = random.choice((b"\0", b"\xff", b"\x80", b" ", None))
    return overwrite(content, start, random.randbytes(end - start) if filling is None else filling * (end - start))


def insert_noise(random: Random, content: bytes) -> bytes:
    """Insert noise."""
    position = random.randrange(len(content) + 1)
    return content[:position] + random.randbytes(1 << random.randrange(10)) + content[position:]


def append_noise(random: Random, content: bytes) -> bytes:
    """Append noise, or the file itself."""
    return content + (content if random.random() < 0.5 else random.randbytes(1 << random.randrange(12)))


def splice(random: Random, content: bytes, other: bytes) -> bytes:
    """Join the beginning of one file and the end of another, or put a span of the other into the first."""
    if random.random() < 0.5:
        return content[: random.randrange(len(content) + 1)] + other[random.randrange(len(other) + 1) :]
    start, end = pick_span(random, other)
    return overwrite(content, random.randrange(len(content) + 1), other[start:end])


BYTES_DAMAGE: Sequence[Damage] = (
    flip_bits,
    flip_bits,
    set_word,
    set_word,
    set_early_word,
    set_early_word,
    cut,
    delete_span,
    repeat_span,
    fill_span,
    insert_noise,
    append_noise,
)
"""Functions that appear twice are chosen twice as often."""


def damage_bytes(random: Random, content: bytes) -> bytes:
    """Damage some bytes in one of these ways."""
    return random.choice(BYTES_DAMAGE)(random, content)
