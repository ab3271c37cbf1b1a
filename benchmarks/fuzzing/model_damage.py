"""Damage to model folders: to config.json, and to the header and the numbers of model.safetensors."""

from collections.abc import Mapping
from random import Random

from trinas.zoo.record import CONFIG_FILE, WEIGHTS_FILE

from .bytes_damage import damage_bytes, pick_extreme
from .text_damage import damage_json

_SPECIAL_FLOATS = (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f", b"\1\0\0\0")
"""Not a number, both infinities, the largest and the smallest number, as 32 bits."""


def damage_model(random: Random, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Damage one of the two files, or leave it out."""
    damaged = dict(files)
    name = random.choice((CONFIG_FILE, CONFIG_FILE, WEIGHTS_FILE))
    if random.random() < 0.02:
        del damaged[name]
    elif name == CONFIG_FILE:
        damaged[name] = damage_json(random, files[name])
    else:
        damaged[name] = _damage_weights(random, files[name])
    return damaged


def _damage_weights(random: Random, content: bytes) -> bytes:
    """Damage the header of a safetensors file, its length, or the numbers behind it."""
    length = int.from_bytes(content[:8], "little")
    header, numbers = content[8 : 8 + length], content[8 + length :]
    change = random.randrange(5)
    if change == 0:
        return pick_extreme(random, 8).to_bytes(8, "little") + content[8:]
    if change == 1:
        return damage_bytes(random, content)
    if change == 2:
        position = 4 * random.randrange(len(numbers) // 4 + 1)
        numbers = numbers[:position] + random.choice(_SPECIAL_FLOATS) + numbers[position + 4 :]
    else:
        header = damage_json(random, header)
    return len(header).to_bytes(8, "little") + header + numbers
