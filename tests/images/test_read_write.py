import io
import struct
import subprocess
import sys
import zlib

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from PIL import ImageCms, ImageFilter, ImageOps, PngImagePlugin

from support.icc_profiles import gray_profile, rgb_profile
from support.images import generated_photograph
from trinas.config import SaveConfig, SizeConfig
from trinas.errors import ImageError
from trinas.images.colour import srgb_profile, to_srgb
from trinas.images.metadata import Metadata
from trinas.images.read_write import (
    Image,
    flattened,
    read_header,
    read_image,
    read_rgb8,
    to_levels,
    write_image,
)
from trinas.inference.batch import run_jobs
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.plan import plan_jobs

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def deep_png(levels):
    return bytes(imagecodecs.png_encode(levels[:, :, 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels))


def levels_of(image):
    return to_levels(image.pixels, image.depth)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_8_bit_png_survives_exactly(tmp_path, mode):
    picture = PillowImage.fromarray(generated_photograph(20, 30)).convert(mode)
    if mode.endswith("A"):
        picture.putalpha(PillowImage.fromarray(generated_photograph(20, 30, seed=1)[:, :, 0]))
    picture.save(tmp_path / "in.png", icc_profile=PROFILE)
    image = read_image(tmp_path / "in.png")
    assert (image.pixels.shape[0], image.depth, image.icc_profile) == (len(mode), 8, PROFILE)
    write_image(tmp_path / "out.png", image)
    with PillowImage.open(tmp_path / "out.png") as written:
        assert written.mode == mode
        assert written.info["icc_profile"] == PROFILE
        np.testing.assert_array_equal(np.asarray(written), np.asarray(picture))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_survives_exactly(tmp_path, channels):
    levels = np.random.default_rng(0).integers(0, 65536, (9, 7, channels)).astype(np.uint16)
    levels[0, 0] = 3  # a value that 8 bits cannot hold
    (tmp_path / "in.png").write_bytes(deep_png(levels))
    image = read_image(tmp_path / "in.png")
    assert (image.pixels.shape, image.depth) == ((channels, 9, 7), 16)
    np.testing.assert_array_equal(levels_of(image), levels)
    write_image(tmp_path / "out.png", Image(image.pixels, 16, PROFILE))
    again = read_image(tmp_path / "out.png")
    np.testing.assert_array_equal(levels_of(again), levels)
    assert again.icc_profile == PROFILE


def test_16_bit_gray_with_alpha_is_read_as_such(tmp_path):
    levels = np.random.default_rng(0).integers(0, 65536, (3, 4, 2)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 4, 3, 16, 4, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "in.png").write_bytes(content)
    np.testing.assert_array_equal(levels_of(read_image(tmp_path / "in.png")), levels)


def test_palettes_become_colour(tmp_path):
    picture = PillowImage.fromarray(generated_photograph(20, 30)).quantize(32)
    picture.save(tmp_path / "opaque.png")
    picture.save(tmp_path / "transparent.png", transparency=picture.getpixel((0, 0)))
    np.testing.assert_array_equal(levels_of(read_image(tmp_path / "opaque.png")), np.asarray(picture.convert("RGB")))
    transparent = read_image(tmp_path / "transparent.png")
    assert transparent.pixels.shape[0] == 4
    assert transparent.pixels[3, 0, 0] == 0


@pytest.mark.parametrize(("suffix", "decibels"), [(".jpg", 30), (".webp", 30)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossy_formats_come_back_close(tmp_path, suffix, decibels, mode):
    path = tmp_path / f"picture{suffix}"
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [8, 16])
def test_pictures_are_set_upright_as_pillow_does_it(tmp_path, orientation, depth):
    levels = generated_photograph(20, 30)
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    PillowImage.fromarray(levels).save(path, exif=exif)
    with PillowImage.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    if depth == 16:  # the same header around 16-bit pixels
        deep = deep_png(levels.astype(np.uint16) * 257)
        body = b"eXIf" + exif.tobytes()[6:]
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        path.write_bytes(deep[:33] + chunk + deep[33:])
    image = read_image(path)
    assert image.depth == depth
    np.testing.assert_array_equal(to_levels(image.pixels, 8), expected)
    header = read_header(path)
    assert (header.width, header.height) == expected.shape[1::-1]


@pytest.mark.parametrize(
    ("suffix", "said_in"),
    [(".jpg", "file"), (".png", "file"), (".tif", "file"), (".jpg", "EXIF"), (".webp", "EXIF"), (".avif", "EXIF")],
)
def test_a_resolution_turns_with_its_picture(tmp_path, suffix, said_in):
    for orientation, expected in ((3, (300, 150)), (6, (150, 300))):
        exif = PillowImage.Exif()
        exif[0x0112] = orientation
        if said_in == "EXIF":
            exif[0x011A], exif[0x011B], exif[0x0128] = 300, 150, 2
        path = tmp_path / f"in{suffix}"
        options = {"dpi": (300, 150)} if said_in == "file" else {}
        PillowImage.fromarray(generated_photograph(8, 12)).save(path, exif=exif.tobytes(), **options)
        image = read_image(path)
        assert image.metadata.dpi == pytest.approx(expected, abs=0.1)
        for written in (tmp_path / "out.jpg", tmp_path / "out.tif", tmp_path / "out.webp"):
            write_image(written, image)
            assert read_image(written).metadata.dpi == pytest.approx(expected, abs=1), "JPEG has whole numbers"


def test_a_jpeg_that_says_no_resolution_gets_none(tmp_path):
    exif = PillowImage.Exif()
    exif[0x010F] = "Camera"
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "in.jpg", exif=exif.tobytes())
    assert read_image(tmp_path / "in.jpg").metadata.dpi is None


def test_damaged_exif_does_not_spoil_a_sound_picture(tmp_path):
    for name in ("photo.png", "photo.jpg", "photo.webp"):
        PillowImage.fromarray(generated_photograph(20, 30)).save(tmp_path / name, exif=b"Exif\0\0not a TIFF header")
        assert read_image(tmp_path / name).pixels.shape == (3, 20, 30)


def test_pillow_s_own_warnings_are_not_shown(tmp_path):
    """In a program of its own, since pytest has filters of its own."""
    exif = PillowImage.Exif()
    exif[0x0112], exif[0x010E] = 1, "words" * 20
    path = tmp_path / "cut.jpg"
    PillowImage.fromarray(generated_photograph(8, 8)).save(path, exif=exif.tobytes()[:-60])
    program = (
        "import sys, trinas; image = trinas.read_image(sys.argv[1]); print(*trinas.write_image(sys.argv[2], image))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path, tmp_path / "out.webp"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout == "part of its EXIF was damaged and is left out\n"


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


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_transparent_gray_of_few_bits_becomes_alpha(tmp_path, bits):
    levels = np.arange(8, dtype=np.uint8) % min(8, 2**bits)
    row = b"\0" + np.packbits(np.unpackbits(levels[:, None], axis=1)[:, -bits:]).tobytes()
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 8, 2, bits, 0, 0, 0, 0), b"tRNS": struct.pack(">H", 1)}
    chunks |= {b"IDAT": zlib.compress(2 * row), b"IEND": b""}
    content = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    pixels = levels_of(read_image(tmp_path / "in.png"))
    np.testing.assert_array_equal(pixels[0, :, 0], levels * (255 // (2**bits - 1)))
    np.testing.assert_array_equal(pixels[0, :, 1] == 0, levels == 1)


def test_transparent_gray_of_16_bits_becomes_alpha(tmp_path):
    levels = np.full((4, 5), 500, np.uint16)
    levels[0, 0] = 7
    content = deep_png(levels)
    body = b"tRNS" + struct.pack(">H", 7)
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "in.png").write_bytes(content[:33] + chunk + content[33:])
    pixels = levels_of(read_image(tmp_path / "in.png"))
    np.testing.assert_array_equal(pixels[:, :, 0], levels)
    np.testing.assert_array_equal(pixels[:, :, 1] == 0, levels == 7)


def test_a_gray_profile_never_gets_into_a_colour_file(tmp_path):
    """Where gray becomes colour, its values are converted, so that it looks the same."""
    levels = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    image = Image(torch.from_numpy(levels)[None] / 255, 8, gray_profile())
    for name, keeps in (("out.png", True), ("out.webp", False)):
        notes = write_image(tmp_path / name, image, SaveConfig(lossless=True))
        with PillowImage.open(tmp_path / name) as written:
            assert (written.info.get("icc_profile") == gray_profile()) == keeps
            shown = np.asarray(to_srgb(written, written.info["icc_profile"]))
        expected = np.asarray(to_srgb(PillowImage.fromarray(levels), gray_profile()))
        assert np.abs(shown.astype(int) - expected).max() <= 1
        assert bool(notes) != keeps
    write_image(tmp_path / "deep.png", Image(torch.rand(2, 8, 8), 16, gray_profile()))
    with PillowImage.open(tmp_path / "deep.png") as written:
        assert written.info["icc_profile"] == gray_profile()


def test_a_file_without_room_for_a_profile_gets_srgb(tmp_path):
    pixels = torch.tensor([0.8, 0.4, 0.2]).view(3, 1, 1).expand(-1, 4, 4)
    notes = write_image(tmp_path / "out.bmp", Image(pixels, 8, rgb_profile()))
    assert notes == ["BMP cannot hold its colour profile: colours were converted to sRGB"]
    picture = PillowImage.fromarray(to_levels(pixels, 8))
    np.testing.assert_array_equal(levels_of(read_image(tmp_path / "out.bmp")), to_srgb(picture, rgb_profile()))
    gray = Image(torch.full((1, 4, 4), 0.5), 8, rgb_profile())
    write_image(tmp_path / "gray.bmp", gray)
    assert read_image(tmp_path / "gray.bmp").pixels.shape == (1, 4, 4)


def test_a_damaged_profile_is_said(tmp_path):
    notes = write_image(tmp_path / "out.bmp", Image(torch.rand(3, 4, 4), 8, rgb_profile()[:150]))
    assert notes == ["its colour profile is damaged and is left out"]


@pytest.mark.parametrize("profile", [None, b"no profile at all", rgb_profile()])
def test_cmyk_without_a_profile_of_its_own_is_still_read(tmp_path, profile):
    inks = PillowImage.new("CMYK", (4, 4), (0, 200, 100, 20))
    inks.save(tmp_path / "in.tif", icc_profile=profile)
    image = read_image(tmp_path / "in.tif")
    np.testing.assert_array_equal(levels_of(image), inks.convert("RGB"))
    assert image.icc_profile == srgb_profile()
    assert image.notes == ("CMYK was converted to sRGB without a profile, so that colours may differ from print",)


def test_transparent_pictures_are_laid_on_a_colour():
    alpha = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 3)
    image = Image(torch.cat([torch.ones(3, 1, 3), alpha]))
    assert flattened(image, "#ff0000").pixels[:, 0].T.tolist() == [[1, 0, 0], [1, 0.5, 0.5], [1, 1, 1]]
    wide = flattened(Image(torch.cat([torch.ones(3, 1, 3), alpha]), icc_profile=rgb_profile()), "#ff8000")
    seen = np.asarray(to_srgb(PillowImage.fromarray(to_levels(wide.pixels, 8)), rgb_profile()))
    assert np.abs(seen[0, 0].astype(int) - [255, 128, 0]).max() <= 8, "8-bit values of a linear profile are coarse"
    gray = Image(torch.cat([torch.ones(1, 1, 3), alpha]))
    coloured = flattened(Image(gray.pixels, icc_profile=gray_profile()), "red")
    assert (coloured.pixels.shape, coloured.icc_profile) == ((3, 1, 3), srgb_profile())
    assert flattened(gray, "black").pixels.tolist() == [[[0, 0.5, 1]]]
    assert flattened(gray, "red").pixels.shape == (3, 1, 3)
    assert flattened(Image(torch.ones(3, 2, 2)), "red").pixels.min() == 1
    with pytest.raises(ImageError, match="'reddish' is no colour"):
        flattened(image, "reddish")


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


def png_with_cicp(primaries, transfer, profile=None):
    buffer = io.BytesIO()
    PillowImage.fromarray(generated_photograph(8, 8)).save(buffer, "PNG", icc_profile=profile)
    body = b"cICP" + bytes([primaries, transfer, 0, 1])
    return (
        buffer.getvalue()[:33]
        + struct.pack(">I", 4)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + buffer.getvalue()[33:]
    )


def avif_with_codes(primaries, transfer):
    return imagecodecs.avif_encode(generated_photograph(8, 8), primaries=primaries, transfer=transfer, matrix=6)


@pytest.mark.parametrize("encode", [png_with_cicp, avif_with_codes])
def test_colours_told_by_a_code_are_said_to_be_taken_for_srgb(tmp_path, encode):
    path = tmp_path / "in"
    path.write_bytes(encode(1, 13))
    assert read_image(path).notes == ()
    path.write_bytes(encode(12, 13))
    assert read_image(path).notes == ("its colours are told by a code (12/13) and no profile, and are taken for sRGB",)
    path.write_bytes(encode(1, 16))
    assert len(read_image(path).notes) == 1
    path.write_bytes(png_with_cicp(12, 13, rgb_profile()))
    assert read_image(path).notes == (), "the profile is kept"


@pytest.mark.parametrize(
    "pointer",
    [b' xmpNote:HasExtendedXMP="ABCDEF"', b"><xmpNote:HasExtendedXMP>ABCDEF</xmpNote:HasExtendedXMP"],
)
def test_xmp_beyond_a_jpeg_s_first_packet_is_said_to_be_left_out(tmp_path, pointer):
    xmp = b'<rdf:Description dc:title="words"' + pointer + b"></rdf:Description>"
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "in.jpg", xmp=xmp)
    content = (tmp_path / "in.jpg").read_bytes()
    more = b"http://ns.adobe.com/xmp/extension/\0" + b"ABCDEF".ljust(32) + struct.pack(">II", 9, 0) + b"<x>more</"
    (tmp_path / "in.jpg").write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(more) + 2) + more + content[2:])
    image = read_image(tmp_path / "in.jpg")
    assert image.notes == ("its XMP beyond 64 KB is left out",)
    write_image(tmp_path / "out.jpg", image)
    again = read_image(tmp_path / "out.jpg")
    assert again.notes == ()
    assert again.metadata.xmp.startswith(b'<rdf:Description dc:title="words">')
    assert b"HasExtendedXMP" not in again.metadata.xmp


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
        assert again.metadata.kinds() == ([] if strip else ["EXIF", "XMP"])


def png_bytes():
    buffer = io.BytesIO()
    PillowImage.fromarray(generated_photograph(64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg_bytes():
    buffer = io.BytesIO()
    PillowImage.fromarray(generated_photograph(64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


def deep_png_bytes():
    return deep_png(generated_photograph(64, 64).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty"),
        (b"just text", "not a PNG, JPEG, WebP, TIFF, AVIF or BMP image"),
        (jpeg_bytes()[:-300], "damaged or cut short"),
        (png_bytes()[:3000], "damaged or cut short"),
        (png_bytes()[:20], r"damaged|not a PNG"),
        (deep_png_bytes()[:3000], "damaged or cut short"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, content, complaint):
    path = tmp_path / "写真 1.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=complaint) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_phone_s_picture_with_a_preview_behind_it_is_still_a_photograph(tmp_path):
    """Such a JPEG is called MPO, and is no animation."""
    frames = [PillowImage.fromarray(generated_photograph(16, 24, seed)) for seed in range(2)]
    frames[0].save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=frames[1:], quality=100)
    levels = levels_of(read_image(tmp_path / "phone.jpg")).astype(int)
    assert np.abs(levels - np.asarray(frames[0])).mean() < np.abs(levels - np.asarray(frames[1])).mean() / 4


def test_missing_and_animated_files_are_refused(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)
    frames = [PillowImage.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animated"):
        read_image(tmp_path / "moving.webp")


def test_a_turn_told_behind_the_pixels_is_still_made(tmp_path):
    """Some programs write EXIF at the end of a PNG."""
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(generated_photograph(24, 36)).save(tmp_path / "early.png", exif=exif)
    content = (tmp_path / "early.png").read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    (tmp_path / "late.png").write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    assert read_image(tmp_path / "late.png").size == (24, 36)
    enlarger = CascadeUpscaler("trinas-xs-x2", "cpu", "fp32")
    size, save = SizeConfig(scale=2), SaveConfig()
    for name in ("early", "late"):
        (outcome,) = run_jobs(plan_jobs([tmp_path / f"{name}.png"], tmp_path, size, save).jobs, enlarger, size, save)
        assert outcome.state == "done"
    assert (tmp_path / "early_x2.png").read_bytes() == (tmp_path / "late_x2.png").read_bytes()


def encoded(suffix):
    buffer = io.BytesIO()
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112], exif[0x8769] = "Camera", 6, {0x9003: "2026"}
    picture = PillowImage.fromarray(generated_photograph(16, 16))
    picture.save(buffer, PillowImage.registered_extensions()[suffix], exif=exif.tobytes(), icc_profile=rgb_profile())
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".bmp"])
def test_damage_of_any_kind_is_one_clear_error(tmp_path, suffix):
    """A few bytes changed at random, and what is left is read and written, or refused in one line."""
    whole, random = encoded(suffix), np.random.default_rng(0)
    messages = []
    for number in range(150):
        content = bytearray(whole)
        for _ in range(int(random.integers(1, 6))):
            content[random.integers(len(content))] = random.integers(256)
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(content[: random.integers(8, len(content) + 1)] if number % 3 == 0 else content)
        try:
            image = read_image(path)
            write_image(tmp_path / f"written{suffix}", image)
        except ImageError as error:
            messages.append(str(error))
    assert len(messages) > 5
    assert all(str(tmp_path) in message and "\n" not in message for message in messages)


def test_too_large_an_image_is_refused_before_it_is_decoded(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side in (12_000, 60_000):  # above our limit, and above Pillow's own
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        (tmp_path / "bomb.png").write_bytes(content)
        with pytest.raises(ImageError, match=r"is too large; the limit|larger than Pillow reads"):
            read_image(tmp_path / "bomb.png")


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


def test_levels_are_rounded_and_clipped():
    pixels = torch.tensor([-0.1, 0.0, 0.5 / 255 + 1e-4, 1.0, 1.7]).view(1, 1, 5)
    assert to_levels(pixels, 8).flatten().tolist() == [0, 0, 1, 255, 255]
    assert to_levels(pixels, 16).flatten().tolist()[3:] == [65535, 65535]


def test_training_reads_every_kind_as_rgb(tmp_path):
    levels = generated_photograph(8, 8)
    PillowImage.fromarray(levels).convert("LA").save(tmp_path / "gray.png")
    rgb = read_rgb8(tmp_path / "gray.png")
    assert rgb.shape == (8, 8, 3)
    assert (rgb[:, :, 0] == rgb[:, :, 2]).all()
