import io
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from PIL import ImageCms, ImageFilter, PngImagePlugin

from support.icc_profiles import gray_profile, rgb_profile
from support.images import encode_png16, generated_photograph, insert_chunks, levels_of, png_chunk
from trinas.config import SaveConfig
from trinas.errors import ImageError
from trinas.images.colour import convert_to_srgb, make_srgb_profile
from trinas.images.image import Image, to_levels
from trinas.images.metadata import Metadata
from trinas.images.read import read_image
from trinas.images.write import write_image
from trinas.images.xmp import MAX_XMP_BYTES

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_8_bit_png_survives_exactly(tmp_path, mode):
    drawn = PillowImage.fromarray(generated_photograph(20, 30)).convert(mode)
    if mode.endswith("A"):
        drawn.putalpha(PillowImage.fromarray(generated_photograph(20, 30, seed=1)[:, :, 0]))
    drawn.save(tmp_path / "in.png", icc_profile=PROFILE)
    image = read_image(tmp_path / "in.png")
    assert (image.pixels.shape[0], image.depth, image.icc_profile) == (len(mode), 8, PROFILE)
    write_image(tmp_path / "out.png", image)
    with PillowImage.open(tmp_path / "out.png") as written:
        assert written.mode == mode
        assert written.info["icc_profile"] == PROFILE
        np.testing.assert_array_equal(np.asarray(written), np.asarray(drawn))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_survives_exactly(tmp_path, channels):
    levels = np.random.default_rng(0).integers(0, 65536, (9, 7, channels)).astype(np.uint16)
    levels[0, 0] = 3  # a value that 8 bits cannot hold
    (tmp_path / "in.png").write_bytes(encode_png16(levels))
    image = read_image(tmp_path / "in.png")
    assert (image.pixels.shape, image.depth) == ((channels, 9, 7), 16)
    np.testing.assert_array_equal(levels_of(image), levels)
    write_image(tmp_path / "out.png", Image(image.pixels, 16, PROFILE))
    again = read_image(tmp_path / "out.png")
    np.testing.assert_array_equal(levels_of(again), levels)
    assert again.icc_profile == PROFILE


@pytest.mark.parametrize(("suffix", "decibels"), [(".jpg", 30), (".webp", 30)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossy_formats_come_back_close(tmp_path, suffix, decibels, mode):
    path = tmp_path / f"image{suffix}"
    levels = np.asarray(
        PillowImage.fromarray(generated_photograph(64, 64)).filter(ImageFilter.GaussianBlur(1)).convert(mode)
    )
    pixels = torch.from_numpy(np.atleast_3d(levels).copy()).permute(2, 0, 1).float() / 255
    write_image(path, Image(pixels, 8, PROFILE))
    image = read_image(path)
    expected_channels = 1 if (mode, suffix) == ("L", ".jpg") else 3  # WebP knows no gray
    assert (image.pixels.shape[0], image.icc_profile) == (expected_channels, PROFILE)
    error = (image.pixels - pixels).square().mean()
    assert -10 * torch.log10(error) > decibels


def test_a_profile_of_megabytes_survives(tmp_path):
    profile = rgb_profile() + bytes(3 << 20)
    profile = struct.pack(">I", len(profile)) + profile[4:]
    image = Image(torch.rand(3, 4, 4), 8, profile)
    for suffix in (".png", ".tif"):
        write_image(tmp_path / f"out{suffix}", image)
        assert read_image(tmp_path / f"out{suffix}").icc_profile == profile
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * (2 << 20), zip=True)
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "text.png", pnginfo=text)
    assert read_image(tmp_path / "text.png").size == (8, 8)


def test_a_gray_profile_never_gets_into_a_colour_file(tmp_path):
    """Where gray becomes colour, its values are converted, so that it looks the same."""
    levels = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    image = Image(torch.from_numpy(levels)[None] / 255, 8, gray_profile())
    for name, keeps in (("out.png", True), ("out.webp", False)):
        notes = write_image(tmp_path / name, image, SaveConfig(lossless=True))
        with PillowImage.open(tmp_path / name) as written:
            assert (written.info.get("icc_profile") == gray_profile()) == keeps
            shown = np.asarray(convert_to_srgb(written, written.info["icc_profile"]))
        expected = np.asarray(convert_to_srgb(PillowImage.fromarray(levels), gray_profile()))
        assert np.abs(shown.astype(int) - expected).max() <= 1
        assert bool(notes) != keeps
    write_image(tmp_path / "deep.png", Image(torch.rand(2, 8, 8), 16, gray_profile()))
    with PillowImage.open(tmp_path / "deep.png") as written:
        assert written.info["icc_profile"] == gray_profile()


def test_a_file_without_room_for_a_profile_gets_srgb(tmp_path):
    pixels = torch.tensor([0.8, 0.4, 0.2]).view(3, 1, 1).expand(-1, 4, 4)
    notes = write_image(tmp_path / "out.bmp", Image(pixels, 8, rgb_profile()))
    assert notes == ["BMP cannot hold its colour profile: colours were converted to sRGB"]
    drawn = PillowImage.fromarray(to_levels(pixels, 8))
    np.testing.assert_array_equal(levels_of(read_image(tmp_path / "out.bmp")), convert_to_srgb(drawn, rgb_profile()))
    gray = Image(torch.full((1, 4, 4), 0.5), 8, rgb_profile())
    write_image(tmp_path / "gray.bmp", gray)
    assert read_image(tmp_path / "gray.bmp").pixels.shape == (1, 4, 4)


def test_a_damaged_profile_is_said(tmp_path):
    notes = write_image(tmp_path / "out.bmp", Image(torch.rand(3, 4, 4), 8, rgb_profile()[:150]))
    assert notes == ["its colour profile is damaged and is left out"]


def test_quality_and_losslessness(tmp_path):
    image = Image(torch.from_numpy(generated_photograph(64, 64)).permute(2, 0, 1) / 255)
    for suffix in (".jpg", ".webp", ".avif"):
        sizes = []
        for quality in (30, 90):
            write_image(tmp_path / f"{quality}{suffix}", image, SaveConfig(quality=quality))
            sizes.append((tmp_path / f"{quality}{suffix}").stat().st_size)
        assert sizes[0] < 0.7 * sizes[1]
    write_image(tmp_path / "first.webp", image, SaveConfig(lossless=True))
    exact = read_image(tmp_path / "first.webp")
    torch.testing.assert_close(exact.pixels, image.pixels)
    write_image(tmp_path / "second.webp", exact)
    torch.testing.assert_close(read_image(tmp_path / "second.webp").pixels, image.pixels)
    write_image(tmp_path / "third.webp", exact, SaveConfig(quality=90))
    assert not read_image(tmp_path / "third.webp").is_lossless_webp


def test_16_bits_in_a_file_of_8_are_said(tmp_path):
    notes = write_image(tmp_path / "out.jpg", Image(torch.rand(3, 4, 4), 16))
    assert notes == ["JPEG holds 8 bits per channel, not 16"]


def test_metadata_too_long_for_jpeg_is_said_and_left_out(tmp_path):
    exif = PillowImage.Exif()
    exif[0x010E] = "x" * 70_000
    image = Image(torch.rand(3, 4, 4), metadata=Metadata(exif.tobytes(), b"x" * 70_000))
    assert write_image(tmp_path / "out.jpg", image) == ["JPEG cannot hold this EXIF and XMP"]
    assert write_image(tmp_path / "out.png", image) == []
    assert len(read_image(tmp_path / "out.png").metadata.xmp) == 70_000


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_metadata_is_stripped_on_request_but_never_the_profile(tmp_path, suffix):
    exif = PillowImage.Exif()
    exif[0x010F] = "Camera"
    image = Image(torch.rand(3, 8, 8), 8, rgb_profile(), Metadata(exif.tobytes(), b"<x/>", (300, 300)))
    for strip in (False, True):
        write_image(tmp_path / f"{strip}{suffix}", image, SaveConfig(strip_metadata=strip))
        again = read_image(tmp_path / f"{strip}{suffix}")
        assert again.icc_profile == rgb_profile()
        assert (again.metadata.dpi is None) == strip
        assert again.metadata.list_names() == ([] if strip else ["EXIF", "XMP"])


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ImageError, match="JPEG cannot hold transparency"):
        write_image(tmp_path / "out.jpg", Image(torch.zeros(4, 2, 2)))
    with pytest.raises(ImageError, match="16383 pixels a side"):
        write_image(tmp_path / "out.webp", Image(torch.zeros(3, 1, 16_384)))
    with pytest.raises(ImageError, match="cannot write this format"):
        write_image(tmp_path / "out.gif", Image(torch.zeros(3, 2, 2)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(ImageError, match=r"out\.png: cannot be written"):
        write_image(tmp_path / "nowhere" / "out.png", Image(torch.zeros(3, 2, 2)))


def test_paths_may_be_text(tmp_path):
    write_image(str(tmp_path / "out.png"), Image(torch.ones(1, 2, 2)))
    assert read_image(str(tmp_path / "out.png")).pixels.tolist() == [[[1, 1], [1, 1]]]


def png_with_compressed_xmp(xmp):
    buffer = io.BytesIO()
    PillowImage.new("RGB", (4, 4)).save(buffer, "PNG")
    text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp, 9))
    return insert_chunks(buffer.getvalue(), text)


@pytest.mark.parametrize(
    ("xmp", "note"),
    [
        (b"<xmp:Thumbnails>" * 200_000, "its XMP is damaged .* and is left out"),
        (b" " * (40 << 20), "its XMP is larger than 4 MB and is left out"),
    ],
)
def test_hostile_xmp_is_left_out_at_once(tmp_path, xmp, note):
    """A pattern that looks for the end of each thumbnail takes hours for the first."""
    (tmp_path / "in.png").write_bytes(png_with_compressed_xmp(xmp))
    assert (tmp_path / "in.png").stat().st_size < 50_000
    image = read_image(tmp_path / "in.png")
    assert len(image.metadata.xmp) <= MAX_XMP_BYTES + 1
    (found,) = write_image(tmp_path / "out.png", image)
    assert re.fullmatch(note, found)
    assert read_image(tmp_path / "out.png").metadata.xmp is None


def test_compressed_xmp_is_kept(tmp_path):
    (tmp_path / "in.png").write_bytes(png_with_compressed_xmp(b"<x/>"))
    assert read_image(tmp_path / "in.png").metadata.xmp == b"<x/>"


def test_the_same_profile_is_written_at_any_time():
    """LittleCMS puts the time into it."""
    assert make_srgb_profile()[24:36] == bytes(12)
