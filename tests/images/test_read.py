import gc
import io
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as PillowImage
from PIL import ImageOps

from support.icc_profiles import rgb_profile
from support.images import encode_png16, generated_photograph, insert_chunks, levels_of, png_chunk, png_file
from trinas.config import SaveConfig, SizeConfig
from trinas.errors import ImageError
from trinas.images import decode
from trinas.images.colour import make_srgb_profile
from trinas.images.image import to_levels, to_rgb
from trinas.images.read import open_image, read_header, read_image, read_rgb8
from trinas.images.write import write_image
from trinas.inference.batch import run_jobs
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.plan import plan_jobs


def test_16_bit_gray_with_alpha_is_read_as_such(tmp_path):
    levels = np.random.default_rng(0).integers(0, 65536, (3, 4, 2)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)

    header = struct.pack(">IIBBBBB", 4, 3, 16, 4, 0, 0, 0)
    content = png_file(header, png_chunk(b"IDAT", zlib.compress(rows)))
    (tmp_path / "in.png").write_bytes(content)
    np.testing.assert_array_equal(levels_of(read_image(tmp_path / "in.png")), levels)


def test_palettes_become_colour(tmp_path):
    drawn = PillowImage.fromarray(generated_photograph(20, 30)).quantize(32)
    drawn.save(tmp_path / "opaque.png")
    drawn.save(tmp_path / "transparent.png", transparency=drawn.getpixel((0, 0)))
    np.testing.assert_array_equal(levels_of(read_image(tmp_path / "opaque.png")), np.asarray(drawn.convert("RGB")))
    transparent = read_image(tmp_path / "transparent.png")
    assert transparent.pixels.shape[0] == 4
    assert transparent.pixels[3, 0, 0] == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [8, 16])
def test_images_are_set_upright_as_pillow_does_it(tmp_path, orientation, depth):
    levels = generated_photograph(20, 30)
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    PillowImage.fromarray(levels).save(path, exif=exif)
    with PillowImage.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    if depth == 16:  # the same header around 16-bit pixels
        deep = encode_png16(levels.astype(np.uint16) * 257)
        path.write_bytes(insert_chunks(deep, png_chunk(b"eXIf", exif.tobytes()[6:])))
    image = read_image(path)
    assert image.depth == depth
    np.testing.assert_array_equal(to_levels(image.pixels, 8), expected)
    header = read_header(path)
    assert (header.width, header.height) == expected.shape[1::-1]


@pytest.mark.parametrize(
    ("suffix", "said_in"),
    [(".jpg", "file"), (".png", "file"), (".tif", "file"), (".jpg", "EXIF"), (".webp", "EXIF"), (".avif", "EXIF")],
)
def test_a_resolution_turns_with_its_image(tmp_path, suffix, said_in):
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


def test_damaged_exif_does_not_spoil_a_sound_image(tmp_path):
    for name in ("photo.png", "photo.jpg", "photo.webp"):
        PillowImage.fromarray(generated_photograph(20, 30)).save(tmp_path / name, exif=b"Exif\0\0not a TIFF header")
        assert read_image(tmp_path / name).pixels.shape == (3, 20, 30)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_transparent_gray_of_few_bits_becomes_alpha(tmp_path, bits):
    levels = np.arange(8, dtype=np.uint8) % min(8, 2**bits)
    row = b"\0" + np.packbits(np.unpackbits(levels[:, None], axis=1)[:, -bits:]).tobytes()
    header = struct.pack(">IIBBBBB", 8, 2, bits, 0, 0, 0, 0)
    transparent, pixels = png_chunk(b"tRNS", struct.pack(">H", 1)), png_chunk(b"IDAT", zlib.compress(2 * row))
    (tmp_path / "in.png").write_bytes(png_file(header, transparent, pixels))
    pixels = levels_of(read_image(tmp_path / "in.png"))
    np.testing.assert_array_equal(pixels[0, :, 0], levels * (255 // (2**bits - 1)))
    np.testing.assert_array_equal(pixels[0, :, 1] == 0, levels == 1)


def test_transparent_gray_of_16_bits_becomes_alpha(tmp_path):
    levels = np.full((4, 5), 500, np.uint16)
    levels[0, 0] = 7
    content = encode_png16(levels)
    (tmp_path / "in.png").write_bytes(insert_chunks(content, png_chunk(b"tRNS", struct.pack(">H", 7))))
    pixels = levels_of(read_image(tmp_path / "in.png"))
    np.testing.assert_array_equal(pixels[:, :, 0], levels)
    np.testing.assert_array_equal(pixels[:, :, 1] == 0, levels == 7)


@pytest.mark.parametrize("profile", [None, b"no profile at all", rgb_profile()])
def test_cmyk_without_a_profile_of_its_own_is_still_read(tmp_path, profile):
    inks = PillowImage.new("CMYK", (4, 4), (0, 200, 100, 20))
    inks.save(tmp_path / "in.tif", icc_profile=profile)
    image = read_image(tmp_path / "in.tif")
    np.testing.assert_array_equal(levels_of(image), inks.convert("RGB"))
    assert image.icc_profile == make_srgb_profile()
    assert image.notes == ("CMYK was converted to sRGB without a profile, so that colours may differ from print",)


def png_with_cicp(primaries, transfer, profile=None):
    buffer = io.BytesIO()
    PillowImage.fromarray(generated_photograph(8, 8)).save(buffer, "PNG", icc_profile=profile)
    return insert_chunks(buffer.getvalue(), png_chunk(b"cICP", bytes([primaries, transfer, 0, 1])))


def avif_with_codes(primaries, transfer):
    return imagecodecs.avif_encode(generated_photograph(8, 8), primaries=primaries, transfer=transfer, matrix=6)


@pytest.mark.parametrize("encode", [png_with_cicp, avif_with_codes])
def test_colours_told_by_a_code_are_said_to_be_taken_for_srgb(tmp_path, encode):
    path = tmp_path / "in"
    path.write_bytes(encode(1, 13))
    assert read_image(path).notes == ()
    path.write_bytes(encode(12, 13))
    assert read_image(path).notes == ("its colours are given by a code (12/13) and no profile, and are taken for sRGB",)
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


def png_bytes():
    buffer = io.BytesIO()
    PillowImage.fromarray(generated_photograph(64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg_bytes():
    buffer = io.BytesIO()
    PillowImage.fromarray(generated_photograph(64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


def png16_bytes():
    return encode_png16(generated_photograph(64, 64).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty"),
        (b"just text", "not a PNG, JPEG, WebP, TIFF, AVIF or BMP image"),
        (jpeg_bytes()[:-300], "damaged or cut short"),
        (png_bytes()[:3000], "damaged or cut short"),
        (png_bytes()[:20], r"damaged|not a PNG"),
        (png16_bytes()[:3000], "damaged or cut short"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, content, complaint):
    path = tmp_path / "写真 1.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=complaint) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_phone_s_image_with_a_preview_behind_it_is_no_animation(tmp_path):
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
    upscaler = CascadeUpscaler("trinas-xs-x2", "cpu", "fp32")
    size, save = SizeConfig(scale=2), SaveConfig()
    for name in ("early", "late"):
        (outcome,) = run_jobs(plan_jobs([tmp_path / f"{name}.png"], tmp_path, size, save).jobs, upscaler, size, save)
        assert outcome.state == "done"
    assert (tmp_path / "early_x2.png").read_bytes() == (tmp_path / "late_x2.png").read_bytes()


def encoded(suffix):
    buffer = io.BytesIO()
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112], exif[0x8769] = "Camera", 6, {0x9003: "2026"}
    drawn = PillowImage.fromarray(generated_photograph(16, 16))
    drawn.save(buffer, PillowImage.registered_extensions()[suffix], exif=exif.tobytes(), icc_profile=rgb_profile())
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
    for side in (12_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        (tmp_path / "bomb.png").write_bytes(png_file(header, png_chunk(b"IDAT", b"")))
        with pytest.raises(ImageError, match="is too large; the limit"):
            read_image(tmp_path / "bomb.png")


def sources(folder):
    """Files of every kind of pixels."""
    rgb = generated_photograph(30, 20)
    image, alpha = PillowImage.fromarray(rgb), PillowImage.fromarray(generated_photograph(30, 20, 1)[:, :, 0])
    ramp = PillowImage.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    image.putalpha(alpha)
    files = {
        "ramp.png": ramp,
        "gray.png": image.convert("LA"),
        "rgb.png": image.convert("RGB"),
        "rgba.webp": image,
        "palette.png": image.convert("RGB").quantize(20),
        "bits.tif": ramp.convert("1"),
        "inks.jpg": ramp.convert("CMYK"),
    }
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    for name, content in files.items():
        content.save(folder / name, exif=exif.tobytes())
        yield folder / name
    deep = rgb.astype(np.uint16) * 201
    for name, levels in (("deep.png", deep), ("deep-gray.png", deep[:, :, 0])):
        (folder / name).write_bytes(encode_png16(levels))
        yield folder / name


def test_levels_for_training_are_those_of_the_image(tmp_path):
    """They are never floats on the way, unless there are 16 bits."""
    for path in sources(tmp_path):
        rgb = read_rgb8(path)
        assert rgb.flags.writeable
        assert rgb.flags.c_contiguous
        np.testing.assert_array_equal(rgb, to_levels(to_rgb(read_image(path).pixels), 8), path.name)


def test_a_file_is_opened_once(tmp_path, monkeypatch):
    files = list(sources(tmp_path))
    expected = [(read_header(path), read_image(path), read_rgb8(path)) for path in files]
    opened = []
    original = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *args, **named: opened.append(path) or original(path, *args, **named)
    )
    for path, (header, image, rgb) in zip(files, expected, strict=True):
        file = open_image(path)
        path.unlink()
        assert (file.path, file.header) == (path, header)
        first, again = file.read(), file.read()
        assert torch.equal(first.pixels, image.pixels)
        assert torch.equal(again.pixels, image.pixels)
        assert (first.metadata, first.notes, first.jpeg_quality) == (image.metadata, image.notes, header.jpeg_quality)
        np.testing.assert_array_equal(file.read_rgb8(), rgb)
    assert [path for path in opened if path in files] == files


@pytest.mark.parametrize(
    ("chunk", "options"),
    [(b"VP8 ", {}), (b"VP8L", {"lossless": True}), (b"VP8X", {"exif": b"Exif\0\0II*\0\10\0\0\0\0\0\0\0\0\0"})],
)
def test_the_size_of_webp_is_checked_before_its_decoder_takes_memory(tmp_path, monkeypatch, chunk, options):
    path = tmp_path / "in.webp"
    PillowImage.fromarray(generated_photograph(300, 4001)).save(path, **options)
    assert path.read_bytes()[12:16] == chunk
    assert open_image(path, 300 * 4001).header.width == 4001
    monkeypatch.setattr(decode, "PillowFile", lambda *arguments: pytest.fail("it was parsed"))
    with pytest.raises(ImageError, match=r"in.webp: 4001x300 is too large; the limit is 1,200,299 pixels"):
        open_image(path, 300 * 4001 - 1)


def test_a_header_needs_no_more_than_the_beginning(tmp_path):
    """Of the formats of most large files."""
    for name in ("photo.jpg", "photo.png"):
        path = tmp_path / name
        PillowImage.fromarray(generated_photograph(300, 200)).save(path)
        whole = read_header(path)
        removed_bytes = path.stat().st_size - 1000
        path.write_bytes(path.read_bytes()[:1000])
        assert read_header(path) == replace(whole, reading_bytes=whole.reading_bytes - removed_bytes)


def test_of_many_packets_and_profiles_in_a_png_only_the_last_is_decompressed(tmp_path, monkeypatch):
    texts = [png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x%d/>" % n)) for n in range(50)]
    profiles = [png_chunk(b"iCCP", b"name\0\0" + zlib.compress(b"profile %d" % n)) for n in range(50)]
    PillowImage.fromarray(generated_photograph(8, 8)).save(tmp_path / "in.png")
    content = (tmp_path / "in.png").read_bytes()
    (tmp_path / "in.png").write_bytes(insert_chunks(content, *texts, *profiles))
    calls = []
    original = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", lambda: calls.append(1) or original())
    image = read_image(tmp_path / "in.png")
    assert (image.metadata.xmp, image.icc_profile, len(calls)) == (b"<x49/>", b"profile 49", 2)


def test_what_follows_a_png_is_not_part_of_it(tmp_path):
    PillowImage.fromarray(generated_photograph(12, 20)).save(tmp_path / "in.png")
    content = (tmp_path / "in.png").read_bytes()
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    turned = png_chunk(b"eXIf", exif.tobytes()[6:])
    for name, trailing in (("turned", turned), ("damaged", turned[:-1] + b"?"), ("cut", content[:40])):
        (tmp_path / f"{name}.png").write_bytes(content + trailing)
        assert read_image(tmp_path / f"{name}.png").size == (20, 12), name


def test_a_large_file_of_too_many_pixels_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("trinas.images.decode._LARGE_FILE_BYTES", 1000)
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, generated_photograph(300, 400))
    tracemalloc.start()
    with pytest.raises(ImageError, match="too large"):
        open_image(path, max_px=1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2


def test_the_bytes_of_a_tiff_are_released_with_it(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, generated_photograph(300, 400))
    open_image(path).read()  # what is imported on the way stays in memory
    gc.collect()
    gc.disable()  # objects that refer to each other stay
    tracemalloc.start()
    opened = open_image(path)
    opened.read()
    del opened
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.enable()
    assert left < path.stat().st_size / 2
