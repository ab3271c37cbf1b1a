import io

import pytest
from conftest import generated_photograph
from PIL import ExifTags
from PIL import Image as PillowImage

from trinas.metadata import Metadata, exif_orientation, fitted, read_metadata, with_resolution


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


def load(content):
    exif = PillowImage.Exif()
    exif.load(content)
    return exif


def test_exif_is_fitted_to_the_enlarged_picture():
    before = exif_with_thumbnail()
    assert load(before).get_ifd(ExifTags.IFD.IFD1), "there is a thumbnail to lose"
    assert exif_orientation(before) == 8
    after = load(fitted(Metadata(exif=before), 96, 144).exif)
    assert (after[0x010F], after[0x0112], after[0x0100], after[0x0101]) == ("Camera", 1, 96, 144)
    details = after.get_ifd(0x8769)
    assert (details[0x9003], details[0xA002], details[0xA003]) == ("2026:01:02", 96, 144)
    assert details[0x927C] == b"maker's own"
    assert after.get_ifd(0xA005) == {1: "R98"}
    assert after.get_ifd(0x8825) == {1: "N", 2: (48.0, 8.0, 1.5)}
    assert not after.get_ifd(ExifTags.IFD.IFD1)
    assert b"\xff\xd8\xff" not in fitted(Metadata(exif=before), 96, 144).exif


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
    assert b'tiff:Orientation="6"' in not_turned, "pictures are turned by EXIF alone"
    elements = b"<tiff:Orientation>6</tiff:Orientation><tiff:ImageLength>24</tiff:ImageLength>"
    elements += b"<xmp:Thumbnails>x\ny</xmp:Thumbnails>"
    expected = b"<tiff:Orientation>1</tiff:Orientation><tiff:ImageLength>144</tiff:ImageLength>"
    assert fitted(Metadata(turned, elements), 96, 144).xmp == expected


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0not a TIFF header"])
def test_damaged_exif_is_dropped(exif):
    assert exif_orientation(exif) == 1
    assert fitted(Metadata(exif=exif), 8, 8).exif is None


@pytest.mark.parametrize("orientation", [0, 9, 70])
def test_senseless_orientations_are_upright(orientation):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    assert exif_orientation(exif.tobytes()) == 1


def test_resolution_is_found_in_exif_where_the_file_itself_has_no_place_for_it(tmp_path):
    written = with_resolution(Metadata(dpi=(300, 150)))
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "a.webp", exif=written)
    with PillowImage.open(tmp_path / "a.webp") as opened:
        assert read_metadata(opened).dpi == (300, 150)
    exif = PillowImage.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 100, 100, 3  # per centimetre
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "b.webp", exif=exif)
    with PillowImage.open(tmp_path / "b.webp") as opened:
        assert read_metadata(opened).dpi == (254, 254)


def test_a_senseless_resolution_is_dropped(tmp_path):
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "a.jpg", dpi=(0, 0))
    with PillowImage.open(tmp_path / "a.jpg") as opened:
        assert read_metadata(opened).dpi is None
