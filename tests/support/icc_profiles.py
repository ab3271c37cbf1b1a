"""Small colour profiles, made here byte by byte, so that tests need no files of others."""

import struct

D50 = (0.9642, 1.0, 0.8249)


def rgb_profile() -> bytes:
    """Return a profile of linear light and primaries wider than sRGB's: images look different when it is ignored."""
    primaries = {
        b"rXYZ": (0.6097, 0.3111, 0.0195),
        b"gXYZ": (0.2053, 0.6257, 0.0609),
        b"bXYZ": (0.1492, 0.0632, 0.7446),
    }
    tags = {name: _xyz(values) for name, values in primaries.items()}
    tags |= {name: _gamma(1.0) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def gray_profile() -> bytes:
    """Return a profile of gray with gamma 1.8."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(1.8)})


def cmyk_profile() -> bytes:
    """Return a profile of muted inks, given by the colours of their sixteen full overlaps."""
    corners = []
    for number in range(16):
        cyan, magenta, yellow, black = ((number >> bit) & 1 for bit in (3, 2, 1, 0))
        light = (0.95 - 0.35 * cyan - 0.4 * magenta - 0.1 * yellow) * (1 - 0.85 * black)
        tint = 1 - black
        a, b = tint * (60 * magenta - 30 * cyan), tint * (70 * yellow - 35 * cyan - 10 * magenta)
        corners += [round(max(light, 0.05) * 255), round(128 + a), round(128 + b)]
    identity = bytes(range(256))
    matrix = b"".join(_fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + bytes(corners) + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"made for tests\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": description, b"wtpt": _xyz(D50), b"cprt": b"text" + bytes(4) + b"public domain\0", **tags}
    directory, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        directory += tag + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    header = struct.pack(">II", size, 0) + b"\x02\x10\0\0" + kind + space + connection
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += b"".join(map(_fixed, D50))
    return header.ljust(128, b"\0") + directory + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))


def _gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)
