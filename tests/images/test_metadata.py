import io
import struct

import pytest
import torch
from PIL import ExifTags
from PIL import Image as PillowImage

from support.images import generated_photograph
from trinas.images.exif import Exif, Value, parse_exif
from trinas.images.exif_tags import LONG, SHORT, UNDEFINED
from trinas.images.image import Image
from trinas.images.metadata import Metadata, add_resolution, fit_metadata, read_exif_orientation
from trinas.images.read import read_image
from trinas.images.write import write_image


def exif_with_thumbnail():
    """As a camera writes it: thumbnail, GPS, a directory within a directory, a maker's own data."""
    thumbnail = io.BytesIO()
    PillowImage.fromarray(generated_photograph(16, 24)).save(thumbnail, "JPEG")
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112], exif[0x0100], exif[0x0101] = "Camera", 8, 36, 24
    exif[0x8769] = {0x9003: "2026:01:02", 0xA002: 36, 0xA003: 24, 0x927C: b"maker's own", 0xA005: {1: "R98"}}
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 1.5)}
    content = exif.tobytes()
    # Pillow does not write thumbnails: link one more directory behind the first.
    body = bytearray(content[6:])
    endian = "little" if body[:2] == b"II" else "big"
    count = int.from_bytes(body[8:10], endian)
    link = 10 + 12 * count
    body[link : link + 4] = len(body).to_bytes(4, endian)
    start = len(body) + 2 + 2 * 12 + 4

    def entry(tag, value):
        return b"".join(number.to_bytes(size, endian) for number, size in ((tag, 2), (4, 2), (1, 4), (value, 4)))

    body += (2).to_bytes(2, endian) + entry(0x0201, start) + entry(0x0202, len(thumbnail.getvalue())) + bytes(4)
    return b"Exif\0\0" + bytes(body) + thumbnail.getvalue()


SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
WORDS = "© Jürgen Müller".encode()
POINTERS = (0x8769, 0x8825, 0xA005)


def block(tags, order, start=8):
    """A directory written byte by byte: tag -> (kind, content), or what is in the directory that it refers to."""
    entries, behind = struct.pack(order + "H", len(tags)), b""
    end = start + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        position = struct.pack(order + "I", end + len(behind))
        if isinstance(value, dict):
            behind += block(value, order, end + len(behind))
            value = (4, position)
        kind, content = value
        if len(content) > 4:
            behind += content + bytes(len(content) % 2)
        field = position if len(content) > 4 else content.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, len(content) // SIZES[kind]) + field
    return entries + bytes(4) + behind


def camera_exif(order):
    """Of every kind of value, in every directory."""

    def numbers(kind, code, *values):
        return kind, struct.pack(order + code, *values)

    details = {
        0x829A: numbers(5, "2I", 1, 200),
        0x9003: (2, b"2026:01:02\0"),
        0x9101: (7, b"\1\2\3\0"),
        0x9204: numbers(10, "2i", -1, 3),
        0x9286: (7, b"UNICODE\0" + "hällo".encode("utf-16le")),
        0x927C: (7, bytes(range(60))),
        0xA005: {1: (2, b"R98\0"), 2: (7, b"0100")},
        0xA300: (7, b"\3"),
        0xA432: numbers(5, "8I", 24, 1, 70, 1, 0, 0, 0, 0),
    }
    tags = {
        0x010E: (2, b"Gr\xfc\xdfe\0"),  # in Latin-1
        0x0112: numbers(3, "H", 6),
        0x013B: (2, WORDS + b"\0"),
        0x8769: details,
        0x8825: {0: (1, b"\2\3\0\0"), 1: (2, b"N\0"), 2: numbers(5, "6I", 48, 1, 8, 1, 1502, 100)},
        0x9C9B: (1, "Tïtle".encode("utf-16le")),
    }
    return {"<": b"Exif\0\0II*\0", ">": b"Exif\0\0MM\0*"}[order] + struct.pack(order + "I", 8) + block(tags, order)


def entries_of(content):
    """Each tag, with the directory it is in: its kind and bytes."""
    content = content.removeprefix(b"Exif\0\0")
    order = "<" if content[:2] == b"II" else ">"

    def walk(start, name):
        for number in range(struct.unpack_from(order + "H", content, start)[0]):
            position = start + 2 + 12 * number
            tag, kind, count = struct.unpack_from(order + "HHI", content, position)
            size, where = count * SIZES[kind], position + 8
            if size > 4:
                (where,) = struct.unpack_from(order + "I", content, where)
            if tag in POINTERS:
                yield from walk(*struct.unpack_from(order + "I", content, where), tag)
            else:
                yield (name, tag), (kind, content[where : where + size])

    return dict(walk(*struct.unpack_from(order + "I", content, 4), 0))


def load(content):
    exif = PillowImage.Exif()
    exif.load(content)
    return exif


def fitted(metadata, width, height):
    return fit_metadata(metadata, width, height)[0]


def test_exif_is_fitted_to_the_upscaled_image():
    before = exif_with_thumbnail()
    assert load(before).get_ifd(ExifTags.IFD.IFD1), "there is a thumbnail to lose"
    assert read_exif_orientation(before) == 8
    after = load(fitted(Metadata(exif=before), 96, 144).exif)
    assert (after[0x010F], after[0x0112], after[0x0100], after[0x0101]) == ("Camera", 1, 96, 144)
    details = after.get_ifd(0x8769)
    assert (details[0x9003], details[0xA002], details[0xA003]) == ("2026:01:02", 96, 144)
    assert details[0x927C] == b"maker's own"
    assert after.get_ifd(0xA005) == {1: "R98"}
    assert after.get_ifd(0x8825) == {1: "N", 2: (48.0, 8.0, 1.5)}
    assert not after.get_ifd(ExifTags.IFD.IFD1)
    assert b"\xff\xd8\xff" not in fitted(Metadata(exif=before), 96, 144).exif


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_the_same_byte_for_byte(tmp_path, order, suffix):
    """Text in any encoding, and of which kind each value is; no tag is added."""
    before = camera_exif(order)
    path = tmp_path / f"out{suffix}"
    assert write_image(path, Image(torch.rand(3, 8, 8), metadata=Metadata(exif=before))) == []
    if suffix == ".tif":
        content = path.read_bytes()
    else:
        with PillowImage.open(path) as opened:
            content = opened.info["exif"]
    expected, found = entries_of(before), entries_of(content)
    orientations = [entries.pop((0, 0x0112), None) for entries in (expected, found)]
    assert orientations[1] in (None, (3, struct.pack(order + "H", 1)))
    if suffix == ".tif":  # its own tags are among them
        found = {place: value for place, value in found.items() if place[0] or place in expected}
    assert found == expected
    again = read_image(path).metadata.exif
    assert WORDS in again


def test_exif_of_which_part_is_damaged_keeps_the_rest(tmp_path):
    cut = camera_exif("<")[:-40]
    notes = write_image(tmp_path / "out.jpg", Image(torch.rand(3, 8, 8), metadata=Metadata(exif=cut)))
    assert notes == ["part of its EXIF was damaged and is left out"]
    kept = entries_of(read_image(tmp_path / "out.jpg").metadata.exif)
    assert kept[0, 0x013B] == (2, WORDS + b"\0")
    assert kept.items() < (entries_of(camera_exif("<")) | {(0, 0x0112): (3, b"\1\0")}).items()


def test_exif_that_refers_to_itself_time_and_again_fills_neither_memory_nor_time():
    tags = dict.fromkeys(range(2000, 2002), (2, b"x" * 60000))
    content = bytearray(b"II*\0\x08\0\0\0" + block(tags, "<"))
    many = b"".join(struct.pack("<HHII", number, 2, 60_000, 100) for number in range(4000))
    hostile = b"II*\0\x08\0\0\0" + struct.pack("<H", 4000) + many + bytes(20_000)
    assert len(fitted(Metadata(exif=bytes(content)), 8, 8).exif) > 120_000
    assert len(fitted(Metadata(exif=hostile), 8, 8).exif) < 3 * len(hostile)
    nested = b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in (0x8769, 0xA005) * 2000)
    endless = b"II*\0\x08\0\0\0" + struct.pack("<H", 4000) + nested
    assert len(fitted(Metadata(exif=endless), 8, 8).exif or b"") < 3 * len(endless)


@pytest.mark.parametrize(("orientation", "expected"), [(3, (300, 150)), (8, (150, 300))])
def test_a_resolution_in_exif_turns_too(orientation, expected):
    exif = PillowImage.Exif()
    exif[0x0112], exif[0x011A], exif[0x011B] = orientation, 300, 150
    after = load(fitted(Metadata(exif.tobytes()), 8, 8).exif)
    assert (after[0x011A], after[0x011B]) == expected


def test_tags_that_were_not_there_are_not_made_up():
    exif = PillowImage.Exif()
    exif[0x010F] = "Camera"
    assert dict(load(fitted(Metadata(exif=exif.tobytes()), 96, 144).exif)) == {0x010F: "Camera"}


def test_xmp_is_fitted_too():
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    turned = exif.tobytes()
    attributes = b'<rdf:Description tiff:Orientation="6" exif:PixelXDimension = \'36\' dc:title="Orientation 6"/>'
    expected = b'<rdf:Description tiff:Orientation="1" exif:PixelXDimension = \'96\' dc:title="Orientation 6"/>'
    assert fitted(Metadata(turned, attributes), 96, 144).xmp == expected
    not_turned = fitted(Metadata(xmp=attributes), 96, 144).xmp
    assert b'tiff:Orientation="6"' in not_turned, "images are turned by EXIF alone"
    elements = b"<tiff:Orientation>6</tiff:Orientation><tiff:ImageLength>24</tiff:ImageLength>"
    elements += b"<xmp:Thumbnails>x\ny</xmp:Thumbnails>"
    expected = b"<tiff:Orientation>1</tiff:Orientation><tiff:ImageLength>144</tiff:ImageLength>"
    assert fitted(Metadata(turned, elements), 96, 144).xmp == expected


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0not a TIFF header"])
def test_damaged_exif_is_dropped(exif):
    assert read_exif_orientation(exif) == 1
    assert fitted(Metadata(exif=exif), 8, 8).exif is None


@pytest.mark.parametrize("orientation", [0, 9, 70])
def test_senseless_orientations_are_upright(orientation):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    assert read_exif_orientation(exif.tobytes()) == 1


def test_resolution_is_found_in_exif_where_the_file_itself_has_no_place_for_it(tmp_path):
    written = add_resolution(Metadata(dpi=(300, 150)))
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "a.webp", exif=written)
    assert read_image(tmp_path / "a.webp").metadata.dpi == (300, 150)
    exif = PillowImage.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 100, 100, 3  # per centimetre
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "b.webp", exif=exif)
    assert read_image(tmp_path / "b.webp").metadata.dpi == (254, 254)


def test_a_senseless_resolution_is_dropped(tmp_path):
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "a.jpg", dpi=(0, 0))
    assert read_image(tmp_path / "a.jpg").metadata.dpi is None


def test_exif_of_very_many_tags_is_rewritten_at_once():
    """Adding to the bytes that there are copies all of them each time: minutes for these."""
    order, value = "<", bytes(range(200)) * 20
    tags = {tag: Value(UNDEFINED, value) for tag in range(50_000, 54_000)}
    tags |= {tag: Value(SHORT, b"\3\0") for tag in (0x0100, 0x0101, 0x0112)}
    exif = Exif(order, tags).to_bytes()
    assert len(exif) > 16_000_000
    after, notes = fit_metadata(Metadata(exif=exif), 8, 8)
    assert notes == []
    found = parse_exif(after.exif)
    rewritten = {
        0x0100: found.make_integers(LONG, 8),
        0x0101: found.make_integers(LONG, 8),
        0x0112: found.make_integers(SHORT, 1),
    }
    assert found.tags == tags | rewritten
