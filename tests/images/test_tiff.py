"""TIFF files of the kinds that scanners and editors write, made by tifffile and Pillow."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from support.icc_profiles import rgb_profile
from support.images import generated_photograph
from trinas.images.metadata import Metadata
from trinas.images.read import read_image
from trinas.images.stored import DecodeError
from trinas.images.tiff import TiffFile, encode_tiff
from trinas.images.write import write_image


def content_of(levels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, levels, metadata=None, **options)
    return buffer.getvalue()


def decode_tiff(content):
    return TiffFile(io.BytesIO(content)).decode()


def made_levels(channels, dtype):
    levels = np.dstack([generated_photograph(20, 30), generated_photograph(20, 30, 1)[:, :, 0]])[:, :, :channels]
    return levels if dtype == np.uint8 else levels.astype(np.uint16) * 200 + 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("compression", [None, "lzw", "adobe_deflate", "packbits", "zstd"])
@pytest.mark.parametrize("layout", ["contig", "separate", "tiles", "big-endian"])
def test_every_way_of_storing_pixels_is_read(dtype, channels, compression, layout):
    levels = made_levels(channels, dtype)
    stored = np.moveaxis(levels, 2, 0) if layout == "separate" and channels > 1 else levels.squeeze()
    content = content_of(
        stored,
        photometric="minisblack" if channels < 3 else "rgb",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        planarconfig=None if channels == 1 else "separate" if layout == "separate" else "contig",
        compression=compression,
        tile=(16, 16) if layout == "tiles" else None,
        byteorder=">" if layout == "big-endian" else "<",
    )
    decoded = decode_tiff(content).levels
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, levels)
    header = TiffFile(io.BytesIO(content)).header
    assert (header.width, header.height) == (30, 20)
    assert (header.has_alpha, header.is_gray) == (channels in (2, 4), channels < 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_is_read_by_others(dtype, channels):
    levels = made_levels(channels, dtype)
    content = encode_tiff(levels, rgb_profile(), Metadata(dpi=(300, 200)))
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page = tiff.pages[0]
        np.testing.assert_array_equal(np.atleast_3d(page.asarray()), levels)
        assert page.iccprofile == rgb_profile()
        assert page.get_resolution("INCH") == (300, 200)
    if dtype == np.uint8:
        with PillowImage.open(io.BytesIO(content)) as opened:
            np.testing.assert_array_equal(np.atleast_3d(np.asarray(opened)), levels)
            assert opened.info["icc_profile"] == rgb_profile()
    assert decode_tiff(content).icc_profile == rgb_profile()


def test_large_images_have_many_strips():
    levels = np.random.default_rng(0).integers(0, 65536, (700, 500, 3), dtype=np.uint16)
    content = encode_tiff(levels, None, Metadata())
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        assert len(tiff.pages[0].dataoffsets) > 1
        np.testing.assert_array_equal(tiff.pages[0].asarray(), levels)


def test_premultiplied_colour_is_divided_by_its_alpha():
    colour, alpha = np.full((4, 4, 3), 200, np.uint8), np.full((4, 4, 1), 128, np.uint8)
    alpha[0] = 0
    multiplied = (colour * (alpha / 255)).round().astype(np.uint8)
    content = content_of(np.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    decoded = decode_tiff(content).levels
    np.testing.assert_array_equal(decoded[..., 3:], alpha)
    assert np.abs(decoded[1:, :, :3].astype(int) - 200).max() <= 1


def test_channels_that_are_no_alpha_are_left_out():
    content = content_of(made_levels(4, np.uint8), photometric="rgb", extrasamples=["unspecified"])
    decoded = decode_tiff(content)
    assert decoded.levels.shape == (20, 30, 3)
    assert decoded.notes == ("its extra channels are no transparency and are left out",)


def test_tags_of_the_wrong_kind_do_not_spoil_a_sound_made_levels():
    tags = [
        (700, "I", 1, 3_000_000_000, True),
        (34675, "s", 0, "no profile", True),
        (282, "2I", 1, (2**32 - 1, 1), True),
    ]
    decoded = decode_tiff(content_of(made_levels(3, np.uint8), photometric="rgb", extratags=tags))
    assert decoded.metadata.xmp is None
    assert decoded.metadata.dpi is None
    text = [(700, "s", 0, "<x/>", True)]
    assert decode_tiff(content_of(made_levels(3, np.uint8), photometric="rgb", extratags=text)).metadata.xmp == b"<x/>"


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_what_a_file_says_of_its_image_is_kept(tmp_path, bigtiff, byteorder):
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    author = "Jürgen Müller".encode()
    tags = [(271, "s", 0, "Camera", True), (274, "H", 1, 6, True), (315, "s", 0, author, True)]
    tags.append((700, "B", len(xmp), xmp, True))
    content = content_of(
        made_levels(3, np.uint8),
        photometric="rgb",
        bigtiff=bigtiff,
        byteorder=byteorder,
        description="words",
        extratags=tags,
    )
    (tmp_path / "in.tif").write_bytes(content)
    write_image(tmp_path / "out.tif", read_image(tmp_path / "in.tif"))
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        tags = tiff.pages[0].tags
        assert [tags.valueof(tag) for tag in (270, 271, 274)] == ["words", "Camera", 1]
        assert tags.valueof(700) == b'<rdf:Description tiff:Orientation="1"/>'
        np.testing.assert_array_equal(tiff.pages[0].asarray(), np.rot90(made_levels(3, np.uint8), -1))
    assert author in (tmp_path / "out.tif").read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_may_be_zero(dtype):
    levels = made_levels(1, dtype)[:, :, 0]
    content = content_of(levels, photometric="miniswhite")
    np.testing.assert_array_equal(decode_tiff(content).levels[:, :, 0], np.iinfo(dtype).max - levels)


@pytest.mark.parametrize("compression", ["raw", "group4", "tiff_lzw"])
def test_one_bit_is_black_and_white(compression):
    drawing = PillowImage.fromarray(generated_photograph(20, 30)).convert("1")
    buffer = io.BytesIO()
    drawing.save(buffer, "TIFF", compression=compression)
    np.testing.assert_array_equal(decode_tiff(buffer.getvalue()).levels[:, :, 0], np.asarray(drawing) * np.uint8(255))


@pytest.mark.parametrize("colours", [16, 200])
def test_palettes_become_colour(colours):
    drawing = PillowImage.fromarray(generated_photograph(20, 30)).quantize(colours)
    buffer = io.BytesIO()
    drawing.save(buffer, "TIFF")
    np.testing.assert_array_equal(decode_tiff(buffer.getvalue()).levels, drawing.convert("RGB"))


def test_a_palette_of_8_bits_is_taken_as_it_is():
    indices = made_levels(1, np.uint8)[:, :, 0]
    palette = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    content = content_of(indices, photometric="palette", colormap=palette)
    np.testing.assert_array_equal(decode_tiff(content).levels, palette.T[indices])


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_palettes_keep_their_alpha(compression):
    drawing = PillowImage.fromarray(generated_photograph(20, 30)).quantize(16).convert("PA")
    drawing.putalpha(PillowImage.fromarray(generated_photograph(20, 30, 1)[:, :, 0]))
    buffer = io.BytesIO()
    drawing.save(buffer, "TIFF", compression=compression)
    decoded = decode_tiff(buffer.getvalue())
    np.testing.assert_array_equal(decoded.levels, drawing.convert("RGBA"))
    assert decoded.notes == ()
    assert TiffFile(io.BytesIO(buffer.getvalue())).header.has_alpha


def test_jpeg_in_tiff_is_read():
    photo = PillowImage.fromarray(generated_photograph(32, 32)).resize((64, 64))
    buffer = io.BytesIO()
    photo.save(buffer, "TIFF", compression="jpeg", quality=95)
    difference = decode_tiff(buffer.getvalue()).levels.astype(int) - np.asarray(photo)
    assert np.abs(difference).mean() < 4


def test_a_smaller_version_beside_the_image_does_not_count():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(made_levels(3, np.uint8), photometric="rgb", metadata=None)
        writer.write(made_levels(3, np.uint8)[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(decode_tiff(buffer.getvalue()).levels, made_levels(3, np.uint8))


def several_pages():
    return content_of(np.stack([made_levels(3, np.uint8)] * 3), photometric="rgb")


def three_inks():
    """tifffile does not write such a file; so the tag that says what colours mean is changed afterwards."""
    content = content_of(made_levels(3, np.uint8), photometric="rgb", byteorder="<")
    return content.replace(struct.pack("<HHII", 262, 3, 1, 2), struct.pack("<HHII", 262, 3, 1, 5))


def lab():
    buffer = io.BytesIO()
    PillowImage.new("LAB", (8, 8)).save(buffer, "TIFF")
    return buffer.getvalue()


def raw(extratags=(), **options):
    """A small image to look at, and the sensor's values behind it."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(
            made_levels(3, np.uint8), photometric="rgb", subifds=1, metadata=None, extratags=extratags, **options
        )
        writer.write(made_levels(1, np.uint16)[:, :, 0], photometric="cfa", metadata=None)
    return buffer.getvalue()


def test_a_damaged_image_behind_the_image_does_not_count():
    content = bytearray(raw())
    start = content.index(struct.pack("<HHI", 330, 13, 1)) + 8
    content[start : start + 4] = struct.pack("<I", len(content) + 1000)
    np.testing.assert_array_equal(decode_tiff(bytes(content)).levels, made_levels(3, np.uint8))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (several_pages(), "holds 3 images; split it"),
        (three_inks(), "3 channels are not supported"),
        (raw(), "raw files are not supported; export it as TIFF first"),
        (raw([(50706, "B", 4, (1, 4, 0, 0), True)], subfiletype=1), "raw files are not supported"),
        (lab(), "CIELAB images are not supported"),
        (content_of(np.zeros((8, 8), np.float32), photometric="minisblack"), "float32 values are not supported"),
        (content_of(made_levels(3, np.uint8), photometric="rgb", compression="lzw")[:-200], "damaged"),
        (content_of(made_levels(3, np.uint8), photometric="rgb")[:9], "damaged"),
        (b"II*\0\0\0\0\0", "damaged"),
    ],
)
def test_what_cannot_be_read_is_said(content, complaint):
    with pytest.raises(DecodeError, match=complaint):
        decode_tiff(content)
