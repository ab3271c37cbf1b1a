"""Files that are made to take much time or memory, to crash a decoder, or to pass for whole."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as PillowImage
from tifffile import COMPRESSION

from support.images import encode_png16, generated_photograph, insert_chunks, png_chunk, png_file
from support.processes import PATIENCE_S
from trinas.errors import ImageError
from trinas.images.colour import MAX_PROFILE_BYTES
from trinas.images.image import Image
from trinas.images.jpeg import MAX_SCANS, check_scans
from trinas.images.metadata import Metadata
from trinas.images.read import open_image, read_header, read_image
from trinas.images.stored import DecodeError
from trinas.images.tiff_directory import MAX_DIRECTORIES
from trinas.images.write import write_image
from trinas.text import MAX_LINE

READ_ALL = (
    *(COMPRESSION.NONE, COMPRESSION.CCITTRLE, COMPRESSION.CCITTFAX3, COMPRESSION.CCITTFAX4, COMPRESSION.LZW),
    *(COMPRESSION.OJPEG, COMPRESSION.JPEG, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.PACKBITS, COMPRESSION.DEFLATE),
    *(COMPRESSION.LZMA, COMPRESSION.ZSTD, COMPRESSION.WEBP),
)
LEVELS = generated_photograph(29, 37)


def tiff_of(levels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, levels, metadata=None, byteorder="<", **options)
    return buffer.getvalue()


def change_tag(content, tag, *numbers, kind=None, new_tag=None):
    """Return a TIFF whose tag has other values, in place or behind the file."""
    content = bytearray(content)
    (start,) = struct.unpack_from("<I", content, 4)
    for number in range(struct.unpack_from("<H", content, start)[0]):
        position = start + 2 + 12 * number
        found, found_kind = struct.unpack_from("<HH", content, position)
        if found == tag:
            values = struct.pack(f"<{len(numbers)}{'H' if (kind or found_kind) == 3 else 'I'}", *numbers)
            struct.pack_into("<HHI", content, position, new_tag or tag, kind or found_kind, len(numbers))
            if len(values) > 4:
                struct.pack_into("<I", content, position + 8, len(content))
                return bytes(content + values)
            content[position + 8 : position + 12] = values.ljust(4, b"\0")
            return bytes(content)
    raise AssertionError(f"there is no tag {tag}")


def read_content(tmp_path, content, name="image"):
    path = tmp_path / name
    path.write_bytes(content)
    return read_image(path)


def complaint_of(tmp_path, content):
    """What both ways of opening the file say, without its name."""
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(ImageError) as error:
        open_image(path).read()
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) <= len(f"{path}: ") + MAX_LINE
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "compression", [kind for kind in COMPRESSION if kind not in READ_ALL], ids=lambda kind: kind.name
)
def test_rare_compressions_are_refused_by_name(tmp_path, compression):
    content = change_tag(tiff_of(LEVELS, photometric="rgb"), 259, compression)
    expected = f"compression by {compression.name} is not supported; save it with LZW or Deflate first"
    assert complaint_of(tmp_path, content) == expected


def link_to(content, position):
    """Return a TIFF whose first directory is followed by the one at a position."""
    (start,) = struct.unpack_from("<I", content, 4)
    end = start + 2 + 12 * struct.unpack_from("<H", content, start)[0]
    return content[:end] + struct.pack("<I", position) + content[end + 4 :]


def test_a_png_whose_palette_comes_too_late_is_refused(tmp_path):
    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0\0\1"))
    palette = png_chunk(b"PLTE", bytes(6)), png_chunk(b"tRNS", bytes(2))
    assert read_content(tmp_path, png_file(header, *palette, pixels)).has_alpha
    complaint = complaint_of(tmp_path, png_file(header, pixels, *palette))
    assert complaint == "has no palette, though its pixels refer to one"


def test_a_complaint_does_not_repeat_hundreds_of_numbers(tmp_path):
    content = change_tag(change_tag(tiff_of(LEVELS[:, :, 0]), 258, *range(1, 257)), 277, 256)
    assert complaint_of(tmp_path, content).endswith(" …")


@pytest.mark.parametrize("bigtiff", [False, True])
def test_directories_in_a_loop_are_refused(tmp_path, bigtiff):
    content = tiff_of(LEVELS, photometric="rgb", bigtiff=bigtiff)
    if bigtiff:
        (start,) = struct.unpack_from("<Q", content, 8)
        end = start + 8 + 20 * struct.unpack_from("<Q", content, start)[0]
        content = content[:end] + struct.pack("<Q", start) + content[end + 8 :]
    else:
        content = link_to(content, *struct.unpack_from("<I", content, 4))
    assert complaint_of(tmp_path, content) == "damaged (its directories form a loop)"


def test_a_loop_of_two_directories_is_refused(tmp_path):
    content = tiff_of(np.stack([LEVELS] * 2), photometric="rgb")
    (first,) = struct.unpack_from("<I", content, 4)
    end = first + 2 + 12 * struct.unpack_from("<H", content, first)[0]
    (second,) = struct.unpack_from("<I", content, end)
    end = second + 2 + 12 * struct.unpack_from("<H", content, second)[0]
    content = content[:end] + struct.pack("<I", first) + content[end + 4 :]
    assert complaint_of(tmp_path, content) == "damaged (its directories form a loop)"


@pytest.mark.parametrize("count", [MAX_DIRECTORIES, 200_000])
def test_the_directories_behind_an_image_are_limited(tmp_path, count):
    content = tiff_of(LEVELS, photometric="rgb", extratags=[(65000, "I", 1, 8, True)])
    content = change_tag(content, 65000, *[8] * count, new_tag=330)
    assert "images; split it" in complaint_of(tmp_path, content)


def test_pages_are_counted_up_to_a_limit(tmp_path):
    page = np.zeros((1, 1), np.uint8)
    assert complaint_of(tmp_path, tiff_of(np.stack([page] * 40), photometric="minisblack")).startswith(
        "holds 40 images"
    )
    many = tiff_of(np.stack([page] * (MAX_DIRECTORIES + 1)), photometric="minisblack")
    assert complaint_of(tmp_path, many).startswith(f"holds more than {MAX_DIRECTORIES} images")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_strip_that_is_a_larger_image_is_not_decoded(tmp_path, kind):
    buffer = io.BytesIO()
    PillowImage.new("RGB", (3000, 2000)).save(buffer, kind)
    content = tiff_of(LEVELS, photometric="ycbcr" if kind == "JPEG" else "rgb", compression=kind.lower())
    larger = change_tag(change_tag(content, 273, len(content)), 279, len(buffer.getvalue())) + buffer.getvalue()
    assert complaint_of(tmp_path, larger) == "damaged (an image of 3000x2000 pixels as strip or tile)"


def test_channels_that_are_left_out_count_against_the_limit(tmp_path):
    content = tiff_of(np.zeros((20, 30, 40), np.uint8), photometric="minisblack", planarconfig="contig")
    path = tmp_path / "channels.tif"
    path.write_bytes(content)
    assert open_image(path, max_px=20 * 30 * 8).read().pixels.shape == (1, 20, 30)
    for read in (open_image, read_header):
        with pytest.raises(ImageError, match="30x20 with 40 channels is too large"):
            read(path, max_px=20 * 30 * 8 - 1)


@pytest.mark.parametrize("tag", [256, 257, 277])
def test_images_without_pixels_are_refused(tmp_path, tag):
    assert complaint_of(tmp_path, change_tag(tiff_of(LEVELS, photometric="rgb"), tag, 0)).startswith("damaged (")


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
@pytest.mark.parametrize("name", ["PNG", "BMP", "JPEG", "WEBP"])
def test_other_images_without_pixels_are_refused(tmp_path, name, size):
    buffer = io.BytesIO()
    PillowImage.new("RGB", (300, 200)).save(buffer, name)
    content = buffer.getvalue()
    if name == "PNG":
        content = png_file(struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0), png_chunk(b"IDAT", zlib.compress(b"")))
    elif name == "BMP":
        content = content[:18] + struct.pack("<ii", *size) + content[26:]
    elif name == "JPEG":
        content = content.replace(struct.pack(">HH", 200, 300), struct.pack(">HH", size[1], size[0]))
    else:
        content = content.replace(struct.pack("<HH", 300, 200), struct.pack("<HH", *size))
    complaint_of(tmp_path, content)


def one_of_each_compression():
    bilevel = PillowImage.fromarray(LEVELS).convert("1")
    for name in ("group3", "group4", "tiff_ccitt"):
        buffer = io.BytesIO()
        bilevel.save(buffer, "TIFF", compression=name)
        yield pytest.param(buffer.getvalue(), id=name)
    for name in (None, "packbits", "lzw", "adobe_deflate", "deflate", "zstd", "lzma", "webp", "jpeg"):
        options = {"photometric": "ycbcr" if name == "jpeg" else "rgb", "compression": name}
        yield pytest.param(tiff_of(LEVELS, rowsperstrip=16, **options), id=f"{name}-strips")
        yield pytest.param(tiff_of(LEVELS, tile=(16, 32), **options), id=f"{name}-tiles")


@pytest.mark.parametrize("content", list(one_of_each_compression()))
def test_a_tiff_that_is_cut_short_is_refused_or_loses_no_pixel(tmp_path, content):
    whole = read_content(tmp_path, content).pixels
    refused = 0
    for length in [*range(8, len(content), len(content) // 60), *range(len(content) - 20, len(content))]:
        try:
            pixels = read_content(tmp_path, content[:length]).pixels
        except ImageError:
            refused += 1
        else:
            assert pixels.equal(whole), f"{length} of {len(content)} bytes"
    assert refused


@pytest.mark.parametrize("compression", [None, "jpeg", "lzw"])
def test_strips_without_bytes_are_refused(tmp_path, compression):
    content = tiff_of(
        LEVELS, photometric="ycbcr" if compression == "jpeg" else "rgb", compression=compression, rowsperstrip=16
    )
    assert "not all of its pixels" in complaint_of(tmp_path, change_tag(content, 279, 800, 0))
    assert "not all of its pixels" in complaint_of(tmp_path, change_tag(content, 273, 400, 0))


def test_one_strip_whose_size_is_not_known_reaches_to_the_end(tmp_path):
    """As some old programs write it."""
    content = change_tag(tiff_of(LEVELS, photometric="rgb"), 279, 0)
    np.testing.assert_array_equal(
        (read_content(tmp_path, content).pixels * 255).round().byte().permute(1, 2, 0), LEVELS
    )
    assert complaint_of(tmp_path, content[:-1]).startswith("damaged or cut short")


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "avif"])
def test_huge_profiles_are_refused(tmp_path, suffix):
    buffer, profile = io.BytesIO(), bytes(MAX_PROFILE_BYTES + 1)
    if suffix == "tiff":
        buffer.write(tiff_of(LEVELS, photometric="rgb", iccprofile=profile))
    else:
        PillowImage.fromarray(LEVELS).save(buffer, suffix, icc_profile=profile)
    assert complaint_of(tmp_path, buffer.getvalue()) == "its colour profile is larger than 16 MB"


def test_a_jpeg_strip_without_its_end_is_refused(tmp_path):
    """Its bytes are all in the file, but the stream stops before the last pixels."""
    content = tiff_of(LEVELS, photometric="ycbcr", compression="jpeg")
    (size,) = tifffile.TiffFile(io.BytesIO(content)).pages[0].databytecounts
    assert complaint_of(tmp_path, change_tag(content, 279, size - 300)) == "damaged or cut short (JPEG without its end)"


def test_alpha_beyond_the_channels_of_the_file_is_ignored(tmp_path):
    content = tiff_of(LEVELS, photometric="rgb", extratags=[(65000, "H", 1, 0, True)])
    content = change_tag(content, 65000, 2, new_tag=338)
    image = read_content(tmp_path, content)
    assert (image.pixels.shape, read_header(tmp_path / "image").has_alpha) == ((3, 29, 37), False)


@pytest.mark.parametrize("colours", [1, 3])
def test_one_channel_more_than_the_colours_is_alpha(tmp_path, colours):
    levels = np.dstack([LEVELS, LEVELS[:, :, :1]])[:, :, -colours - 1 :]
    content = tiff_of(
        levels, photometric="rgb" if colours == 3 else "minisblack", planarconfig="contig", extrasamples=[2]
    )
    content = change_tag(content, 338, kind=3)  # without a value
    image = read_content(tmp_path, content)
    np.testing.assert_array_equal((image.pixels * 255).round().byte().permute(1, 2, 0), levels)
    assert image.notes == ("its last channel is taken for transparency, though the file does not say what it is",)


def test_more_scans_than_programs_write_are_refused_in_tiff():
    buffer = io.BytesIO()
    PillowImage.fromarray(LEVELS).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    with pytest.raises(DecodeError, match=f"^has more than {MAX_SCANS} scans"):
        check_scans(repeat_last_scan(content, MAX_SCANS))
    check_scans(content + b"\xff\xda\0\2" * MAX_SCANS * 2)  # behind the image, the same bytes do not count


def repeat_last_scan(content, times):
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * times + content[-2:]


@pytest.mark.parametrize(
    ("kind", "pixels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["gray", "RGB", "gray with alpha", "RGB with alpha"]
)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 11), (37, 29)])
def test_interlaced_png_of_16_bits_is_read_silently(tmp_path, capfd, kind, pixels, size):
    width, height = size
    levels = np.random.default_rng(0).integers(0, 65536, (height, width, pixels), dtype=np.uint16)
    rows = []
    for x, y, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        reduced = levels[y::down, x::across].astype(">u2")
        rows += [b"\0" + row.tobytes() for row in reduced] if reduced.size else []
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 1)
    content = png_file(header, png_chunk(b"IDAT", zlib.compress(b"".join(rows))))
    image = read_content(tmp_path, content)
    np.testing.assert_array_equal((image.pixels.double() * 65535).round().numpy(), np.moveaxis(levels, 2, 0))
    assert capfd.readouterr() == ("", "")


def test_damaged_png_of_16_bits_is_refused_silently(tmp_path, capfd):
    content = encode_png16(LEVELS.astype(np.uint16) * 200)
    noisy = insert_chunks(content, png_chunk(b"cICP", b"too long"), png_chunk(b"gAMA", b""))
    assert read_content(tmp_path, noisy).pixels.shape == (3, 29, 37)
    twice = zlib.compress(bytes((1 + 6 * 37) * 29)) * 2
    for body in (zlib.compress(bytes(40_000)), twice):
        surplus = png_file(content[16:29], png_chunk(b"IDAT", body))
        assert read_content(tmp_path, surplus).pixels.shape == (3, 29, 37)
    for length in range(60, len(content) - 12, 97):
        complaint_of(tmp_path, content[:length])
    assert capfd.readouterr() == ("", "")


def test_metadata_of_a_damaged_kind_leaves_results_readable(tmp_path):
    """Pillow cannot open a JPEG whose resolution is no fraction, for example."""
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112], exif[0x011A], exif[0x011B], exif[0x0128] = "Camera", 6, 300, 300, 2
    exif[0x8769] = {0x9003: "2026:01:02", 0xA002: 37, 0x829A: (1, 60), 0x9000: b"0232"}
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 1.5)}
    whole = exif.tobytes()
    random = np.random.default_rng(0)
    for number in range(300):
        mutated = bytearray(whole)
        for position in random.integers(14, len(mutated), random.integers(1, 4)):
            mutated[position] = random.choice([0, 1, 2, 3, 5, 7, 10, 12, 255, int(random.integers(256))])
        image = Image(
            torch.full((3, 8, 8), 0.5), metadata=Metadata(exif=bytes(mutated), dpi=(300, 300) if number % 2 else None)
        )
        for suffix in (".jpg", ".png", ".webp", ".tif"):
            write_image(tmp_path / f"out{suffix}", image)
            with PillowImage.open(tmp_path / f"out{suffix}") as opened:
                opened.load()


SLOW_IF_NOT_LIMITED = """
import io, resource, struct, sys, zlib
from pathlib import Path
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))  # all of it takes seconds; what is quadratic takes hours
from PIL import Image
from support.images import insert_chunks, png_chunk, png_file
from trinas.errors import ImageError
from trinas.images.colour import MAX_PROFILE_BYTES
from trinas.images.metadata import Metadata, fit_metadata
from trinas.images.read import read_header, read_image
from trinas.images.xmp import MAX_XMP_BYTES

def saved(name):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, name)
    return buffer.getvalue()

def fill(part):
    return part * (MAX_XMP_BYTES // 4 // len(part))

def tags(number, size):
    entries = b"".join(struct.pack("<HHII", 1000 + n % 60_000, 7, size, 8) for n in range(number))
    return b"II*\\0" + struct.pack("<IH", 8, number) + entries + bytes(4)

def segment(exif):
    return b"\\xff\\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\\0\\0" + exif

png, jpeg, webp = saved("PNG"), saved("JPEG"), saved("WEBP")
unknown = b"NONE" + bytes(4)
files = {
    "chunks before the pixels": insert_chunks(png, *[png_chunk(b"tIME", b"")] * 200_000),
    "chunks of pixels": png[:-12] + png_chunk(b"IDAT", b"") * 200_000 + png[-12:],
    "segments": jpeg[:2] + b"\\xff\\xe3\\0\\2" * 1_000_000 + jpeg[2:],
    "bytes between segments": jpeg[:2] + bytes(10_000_000) + jpeg[2:],
    "segments of EXIF": jpeg[:2] + segment(bytes(64_992)) * 1000 + jpeg[2:],
    "EXIF over itself": jpeg[:2] + segment(tags(4990, 40_000)) + jpeg[2:],
    "chunks of WebP": webp[:4] + struct.pack("<I", len(webp) + 4_000_000 - 8) + webp[8:] + unknown * 500_000,
}
path = Path(sys.argv[1])
for name, content in files.items():
    path.write_bytes(content)
    for read in (read_header, read_image):
        try:
            read(path)
        except ImageError as error:
            assert str(error).startswith(f"{path}: damaged"), error

packets = [fill(part) for part in (
    b"<xmp:Thumbnails>", b"<a>", b"<tiff:ImageWidth>1</tiff:ImageWidth>", b"<xmp:Thumbnails/>",
    b"<a b='>' tiff:ImageWidth='1'/>", b"<?xml ", b" ", b"<!--", b"&lt;",
)]
packets += [b"<a tiff:ImageWidth" + b" " * 1_000_000 + b"='1'/>", b"<a tiff:ImageWidth='1'" + b" " * 1_000_000 + b"/>"]
packets += [b"<a " + b" ".join(b"a%x=''" % n for n in range(75_000)) + b" tiff:ImageWidth='3'/>"]
packets += [b"<xmp:Thumbnails></xmp:Thumbnails" + b" " * 1_000_000 + b">"]
for packet in packets:
    fit_metadata(Metadata(xmp=packet), 8, 8)
exif = b"II+\\0" + struct.pack("<HHQQ", 8, 0, 16, 1_000_000) + struct.pack("<HHQQ", 271, 2, 4, 0) * 1_000_000
fit_metadata(Metadata(exif=exif), 8, 8)
fit_metadata(Metadata(exif=tags(60_000, 700_000)), 8, 8)
"""


def test_time_grows_no_faster_than_the_file(tmp_path):
    program = subprocess.run(
        [sys.executable, "-c", SLOW_IF_NOT_LIMITED, str(tmp_path / "image")],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert program.returncode == 0, program.stderr[-2000:]


MEASURE_MEMORY = """
import sys
from pathlib import Path
from trinas.images.read import open_image

def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

for name in sys.argv[1:]:
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    opened = open_image(name)
    opened.read()
    print(status("VmHWM") - before, opened.header.reading_bytes, Path(name).name)
    del opened
"""
HEIGHT, WIDTH = 2000, 3000


def large_files():
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[::2] = 200
    drawing = PillowImage.fromarray(pixels)
    for name, modes in {"PNG": "1 L P LA RGB RGBA", "JPEG": "L RGB CMYK", "BMP": "1 L P RGB"}.items():
        for mode in modes.split():
            options = {"progressive": True, "subsampling": 0} if name == "JPEG" else {}
            yield (
                f"{mode}.{name}",
                lambda path, mode=mode, name=name, options=options: drawing.convert(mode).save(path, name, **options),
            )
    for mode in ("RGB", "RGBA"):
        yield f"{mode}.WEBP", lambda path, mode=mode: drawing.convert(mode).save(path, "WEBP", method=0)
        yield f"{mode}.AVIF", lambda path, mode=mode: drawing.convert(mode).save(path, "AVIF", speed=10)
    for channels in (1, 4):
        deep = pixels[:, :, :channels].astype(np.uint16) * 200
        yield f"{channels}-16.PNG", lambda path, deep=deep: path.write_bytes(encode_png16(deep))
        for rows in (64, HEIGHT):
            yield (
                f"{channels}-{rows}.TIFF",
                lambda path, deep=deep, rows=rows: path.write_bytes(
                    tiff_of(
                        deep.squeeze(),
                        photometric="rgb" if deep.shape[2] == 4 else "minisblack",
                        extrasamples=["assocalpha"] if deep.shape[2] == 4 else None,
                        compression="adobe_deflate",
                        predictor=True,
                        rowsperstrip=rows,
                    )
                ),
            )
    many = np.zeros((HEIGHT, WIDTH, 7), np.uint8)
    yield (
        "many.TIFF",
        lambda path: path.write_bytes(
            tiff_of(many, photometric="rgb", planarconfig="contig", compression="adobe_deflate", rowsperstrip=HEIGHT)
        ),
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can only be measured anew on Linux")
def test_the_memory_that_a_header_states_is_enough(tmp_path):
    files = []
    for name, write in large_files():
        write(tmp_path / name)
        files.append(str(tmp_path / name))
    program = [sys.executable, "-c", MEASURE_MEMORY, *files]
    printed = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    for line in printed.splitlines():
        used, stated, name = line.split()
        assert int(used) <= int(stated), name
        assert int(stated) < 50 * HEIGHT * WIDTH + (64 << 20), name
    assert len(printed.splitlines()) == len(files)
