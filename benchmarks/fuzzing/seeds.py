"""Whole files of every kind that the program reads, with all the metadata that they can hold."""

import io
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from support.format_matrix import XMP, cases, exif_of, source_levels, write_source
from support.icc_profiles import rgb_profile
from support.images import encode_png16, generated_photograph, insert_chunks, png_chunk
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec, CellSpec, SlotSpec
from trinas.zoo.folder import save_model
from trinas.zoo.record import Metrics, ModelConfig, TeacherRecord, TrainingRecord

from .bytes_damage import overwrite
from .parts_damage import find_boxes
from .stored_images import BMP_KINDS, PNG_KINDS, PNG_SAMPLES, make_bmp, make_png

HEIGHT, WIDTH = 24, 36
LARGE = (1000, 2000)
"""Height and width of a few images of one colour. Their files are small, but decoding them takes memory."""

IMAGE_KINDS = ("tiff", "png", "jpg", "webp", "avif", "bmp")
KINDS = (*IMAGE_KINDS, "zip", "model")
"""Image formats by their suffixes, archives, and model folders."""


@dataclass(frozen=True)
class Seed:
    """A whole file, or the files of a model folder."""

    kind: str
    """One of `KINDS`."""
    name: str
    """What is special about it."""
    files: Mapping[str, bytes]
    """Name -> content. Images and archives have one file."""

    @property
    def content(self) -> bytes:
        """The content of the only file."""
        (content,) = self.files.values()
        return content


@cache
def list_seeds(kind: str) -> Sequence[Seed]:
    """Return all seeds of a kind, the same in every process."""
    makers = {
        "png": _make_pngs, "jpg": _make_jpegs, "webp": _make_webps, "avif": _make_avifs, "bmp": _make_bmps,
        "tiff": _make_tiffs, "zip": _make_archives, "model": _make_models,
    }  # fmt: skip
    return tuple(makers[kind]())


def _image(kind: str, name: str, content: bytes) -> Seed:
    return Seed(kind, name, {f"image.{kind}": content})


def _matrix(kind: str) -> Iterator[Seed]:
    """Yield the files of the format table, which hold all metadata."""
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            if case.suffix == kind:
                path = Path(folder, "source." + kind)
                write_source(path, case, source_levels(case, HEIGHT, WIDTH))
                yield _image(kind, f"{case.file_format} of the table, {case.kind}", path.read_bytes())


def _saved(image: PillowImage.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _photograph(mode: str = "RGB") -> PillowImage.Image:
    return PillowImage.fromarray(generated_photograph(HEIGHT, WIDTH)).convert(mode)


def _describe(options: dict[str, Any]) -> str:
    """Return options in words; of bytes, only what they are."""
    return ", ".join(name if isinstance(value, bytes) else f"{name} {value}" for name, value in options.items())


def _make_pngs() -> Iterator[Seed]:
    yield from _matrix("png")
    for depth, colour in PNG_KINDS:
        for interlaced in (False, True):
            transparent = interlaced and PNG_SAMPLES[colour] % 2 == 1
            content = make_png(WIDTH, HEIGHT, depth, colour, interlaced=interlaced, transparent=transparent)
            yield _image("png", f"{depth} bits, colour type {colour}, interlaced {interlaced}", content)
    codes = png_chunk(b"cICP", bytes([9, 16, 0, 1]))
    texts = [png_chunk(kind, b"Comment\0" + b"text" * 9) for kind in (b"tEXt", b"zTXt")]
    plain = _saved(_photograph(), "PNG")
    yield _image(
        "png", "cICP and texts", insert_chunks(plain, codes, *texts, png_chunk(b"gAMA", bytes(2) + b"\xb1\x8f"))
    )
    yield _image(
        "png", "animated", _saved(_photograph(), "PNG", save_all=True, append_images=[_photograph("L").convert("RGB")])
    )
    deep = encode_png16(np.full((HEIGHT, WIDTH), 4660, np.uint16))
    yield _image("png", "gray of 16 bits with transparency", insert_chunks(deep, png_chunk(b"tRNS", b"\x12\x34")))

    large = np.full((*LARGE, 4), 4660, np.uint16)
    yield _image("png", "large, 16 bits", encode_png16(large))


def _make_jpegs() -> Iterator[Seed]:
    yield from _matrix("jpg")
    exif = exif_of(np.zeros((HEIGHT, WIDTH, 3))).tobytes()
    for options in (
        {"progressive": True}, {"subsampling": "4:2:0"}, {"subsampling": "4:2:2", "quality": 10},
        {"restart_marker_rows": 1}, {"progressive": True, "restart_marker_blocks": 2, "optimize": True},
        {"exif": exif, "xmp": XMP, "icc_profile": rgb_profile(), "comment": b"a comment", "progressive": True},
    ):  # fmt: skip
        for mode in ("RGB", "L", "CMYK"):
            yield _image("jpg", f"{mode} {_describe(options)}", _saved(_photograph(mode), "JPEG", **options))
    others = [_photograph().rotate(180), _photograph("L")]
    yield _image("jpg", "MPO", _saved(_photograph(), "MPO", save_all=True, append_images=others, exif=exif))
    yield _image("jpg", "large, CMYK", _saved(PillowImage.new("CMYK", LARGE), "JPEG", progressive=True))
    yield _image("jpg", "lossless", bytes(imagecodecs.jpeg_encode(generated_photograph(HEIGHT, WIDTH), lossless=True)))


def _make_webps() -> Iterator[Seed]:
    yield from _matrix("webp")
    for options in (
        {"quality": 30},
        {"lossless": True},
        {"lossless": True, "quality": 0, "method": 0},
        {"alpha_quality": 10},
    ):
        for mode in ("RGB", "RGBA"):
            image = _photograph(mode)
            if mode == "RGBA":
                image.putalpha(_photograph("L"))
            yield _image("webp", f"{mode} {_describe(options)}", _saved(image, "WEBP", **options))
    yield _image("webp", "large", _saved(PillowImage.new("RGBA", LARGE), "WEBP", lossless=True))
    yield _image(
        "webp", "animated", _saved(_photograph(), "WEBP", save_all=True, append_images=[_photograph().rotate(180)])
    )


def _make_avifs() -> Iterator[Seed]:
    yield from _matrix("avif")
    exif = exif_of(np.zeros((HEIGHT, WIDTH, 3))).tobytes()
    for options in (
        {"subsampling": "4:2:0"},
        {"subsampling": "4:0:0"},
        {"range": "limited"},
        {"exif": exif, "xmp": XMP},
    ):
        for mode in ("RGB", "L"):
            content = _saved(_photograph(mode), "AVIF", max_threads=1, speed=10, **options)
            yield _image("avif", f"{mode} {_describe(options)}", content)
    yield _image("avif", "large", _saved(PillowImage.new("RGBA", LARGE), "AVIF", max_threads=1, speed=10))
    for bits in (10, 12):
        levels = generated_photograph(HEIGHT, WIDTH).astype(np.uint16) << bits - 8
        content = bytes(imagecodecs.avif_encode(levels, bitspersample=bits, numthreads=1))
        yield _image("avif", f"{bits} bits", content)
    frames = [_photograph().rotate(180)]
    animated = _saved(_photograph(), "AVIF", max_threads=1, save_all=True, append_images=frames)
    yield _image("avif", "animated", _clear_times(animated))


def _clear_times(content: bytes) -> bytes:
    """Clear the times at which an animated AVIF was made."""
    for start, _ in find_boxes(content, 0, len(content)):
        if content[start + 4 : start + 8] in (b"mvhd", b"tkhd", b"mdhd"):
            content = overwrite(content, start + 12, bytes(16))
    return content


def _make_bmps() -> Iterator[Seed]:
    yield from _matrix("bmp")
    for header, bits in BMP_KINDS:
        yield _image("bmp", f"{bits} bits, header of {header}", make_bmp(WIDTH, HEIGHT, header, bits))
    for bits, compression in ((8, 1), (4, 2), (16, 3), (32, 3)):
        yield _image("bmp", f"{bits} bits, compression {compression}", make_bmp(WIDTH, HEIGHT, 40, bits, compression))
    content = make_bmp(WIDTH, HEIGHT, 40, 24)
    upside_down = content[:22] + (-HEIGHT).to_bytes(4, "little", signed=True) + content[26:]
    yield _image("bmp", "from top to bottom", upside_down)


TIFF_COMPRESSIONS = ("none", "packbits", "lzw", "adobe_deflate", "deflate", "jpeg", "zstd", "lzma", "webp")
RARE_COMPRESSIONS = ("jpegxr", "jpeg2000", "jpegxl", "png", "lerc")
"""The program does not read these. Their decoders are the ones that crash."""


def _tiff(name: str, levels: NDArray[Any], **options: Any) -> Seed:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, levels, metadata=None, **options)
    return _image("tiff", name, buffer.getvalue())


def _levels(channels: int, bits: int = 8) -> NDArray[Any]:
    """Return (H, W, C), or (H, W) for one channel, with values of so many bits."""
    levels: NDArray[Any] = np.dstack([generated_photograph(HEIGHT, WIDTH, seed) for seed in range(-(-channels // 3))])[
        ..., :channels
    ]
    levels = levels >> 8 - bits if bits <= 8 else levels.astype(np.uint16) << bits - 8
    return levels[..., 0] if channels == 1 else levels


def _make_tiffs() -> Iterator[Seed]:
    yield from _matrix("tiff")
    yield from _make_compressed_tiffs()
    yield from _make_tiff_kinds()
    yield from _make_large_tiffs()
    yield from _make_odd_tiffs()
    for compression in ("tiff_ccitt", "group3", "group4"):
        yield _image("tiff", compression, _saved(_photograph("1"), "TIFF", compression=compression))
    for mode in ("L", "RGB", "CMYK"):
        yield _image("tiff", f"Pillow's JPEG, {mode}", _saved(_photograph(mode), "TIFF", compression="jpeg"))


def _make_compressed_tiffs() -> Iterator[Seed]:
    """Yield every compression with every way of laying out pixels."""
    levels, planes = _levels(3), np.ascontiguousarray(np.moveaxis(_levels(3), 2, 0))
    for compression in TIFF_COMPRESSIONS + RARE_COMPRESSIONS:
        options: dict[str, Any] = {"compression": compression, "photometric": "rgb"}
        yield _tiff(f"{compression}, strips", levels, rowsperstrip=5, **options)
        yield _tiff(f"{compression}, tiles", levels, tile=(16, 16), **options)
        if compression != "webp":  # it only holds colours
            yield _tiff(f"{compression}, planes", planes, planarconfig="separate", **options)
    for compression in ("lzw", "adobe_deflate", "zstd", "lzma"):
        for bits in (8, 16):
            for order in "<>":
                yield _tiff(
                    f"{compression}, differences, {bits} bits {order}", _levels(3, bits), compression=compression,
                    predictor=True, photometric="rgb", byteorder=order,
                )  # fmt: skip
        yield _tiff(f"{compression}, BigTIFF", _levels(3), compression=compression, photometric="rgb", bigtiff=True)


def _make_tiff_kinds() -> Iterator[Seed]:
    """Yield every kind of pixel."""
    for bits in (2, 4, 6, 10, 12, 14):
        for channels, photometric in ((1, "minisblack"), (1, "miniswhite"), (3, "rgb")):
            name = f"{bits} bits, {photometric}"
            yield _tiff(name, _levels(channels, bits), bitspersample=bits, photometric=photometric)
    for bits in (8, 16):
        for extra in ("assocalpha", "unassalpha", "unspecified"):
            for channels, photometric in ((2, "minisblack"), (4, "rgb"), (5, "separated")):
                levels = _levels(channels, bits)
                name = f"{photometric}, {bits} bits, {extra}"
                yield _tiff(name, levels, photometric=photometric, extrasamples=[extra], planarconfig="contig")
    yield _tiff("1 bit", _levels(1) > 127, photometric="minisblack")
    yield _tiff("1 bit, PackBits, miniswhite", _levels(1) > 127, compression="packbits", photometric="miniswhite")
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    yield _tiff("palette", _levels(1), photometric="palette", colormap=colours)
    yield _tiff("floats", _levels(3).astype(np.float32), photometric="rgb", compression="zstd", predictor=3)
    yield _tiff("CIELAB", _levels(3), photometric="cielab")
    yield _tiff("values of 32 bits", _levels(1).astype(np.uint32), photometric="minisblack")
    yield _tiff("YCbCr of 4:2:0", _levels(3), photometric="ycbcr", compression="jpeg", subsampling=(2, 2))
    yield _tiff("six channels", _levels(6), photometric="rgb", planarconfig="contig")


def _make_large_tiffs() -> Iterator[Seed]:
    """Yield images that are converted on the way to pixels, which must not take more memory than is planned."""
    options: dict[str, Any] = {"compression": "adobe_deflate", "planarconfig": "contig"}
    for bits in (8, 16):
        levels = np.full((*LARGE, 6), 7, f"uint{bits}")
        for extra in ("assocalpha", "unassalpha"):
            colours = {"minisblack": 1, "rgb": 3, "separated": 4}
            for photometric, count in colours.items():
                name = f"large, {photometric}, {bits} bits, {extra}"
                yield _tiff(name, levels[..., : count + 1], photometric=photometric, extrasamples=[extra], **options)
        yield _tiff(f"large, 6 channels of {bits} bits", levels, photometric="rgb", **options)
    palette = np.zeros((3, 256), np.uint16)
    yield _tiff(
        "large, palette", levels[..., 0].astype(np.uint8), photometric="palette", colormap=palette, compression="lzw"
    )
    yield _tiff("large, 1 bit", np.zeros(LARGE, bool), photometric="miniswhite", compression="packbits")
    few = np.zeros((300, 400, 3), np.uint16)
    yield _tiff("large, 12 bits", few, photometric="rgb", bitspersample=12)


def _make_odd_tiffs() -> Iterator[Seed]:
    """Yield files of several directories, and of strange tags."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=False) as writer:
        writer.write(_levels(3), photometric="rgb", metadata=None, subifds=2)
        writer.write(_levels(3)[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
        writer.write(_levels(3)[::4, ::4], photometric="rgb", metadata=None, subfiletype=1)
        writer.write(_levels(3)[::3, ::3], photometric="rgb", metadata=None, subfiletype=1)
    yield _image("tiff", "directories inside, and a smaller image", buffer.getvalue())
    yield _tiff("two images", np.stack([_levels(3)] * 2), photometric="rgb")
    yield _tiff("a volume", np.stack([_levels(1)] * 16), photometric="minisblack", volumetric=True, tile=(16, 16, 16))
    tags = [(271, "s", 0, "Camera", True), (274, "H", 1, 6, True), (700, "B", len(XMP), XMP, True)]
    profile = rgb_profile()
    yield _tiff("tags", _levels(3), photometric="rgb", iccprofile=profile, resolution=(300, 300), extratags=tags)
    yield _tiff("tags, BigTIFF", _levels(3), photometric="rgb", iccprofile=profile, extratags=tags, bigtiff=True)


def _make_archives() -> Iterator[Seed]:
    image = _saved(_photograph(), "PNG")
    names = ["a.png", "folder/b.png", "folder/sub/c.jpg", "grün/日本.png", "a.png", "notes.txt"]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield _archive(f"method {method}", [(name, image) for name in names], method)
    yield _archive("empty", [], zipfile.ZIP_STORED)
    yield _archive("one folder", [("folder/", b"")], zipfile.ZIP_STORED)
    yield _archive("many files", [(f"{number}.png", b"") for number in range(40)], zipfile.ZIP_STORED)
    yield _archive("zeros", [("zeros.png", bytes(1 << 20))] * 2, zipfile.ZIP_DEFLATED)


def _archive(name: str, files: list[tuple[str, bytes]], method: int) -> Seed:
    return Seed("zip", name, {"images.zip": pack(files, method)})


def pack(files: Sequence[tuple[str, bytes]], method: int) -> bytes:
    """Return an archive of these names and contents, with the same date on every day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names may repeat
        for name, content in files:
            archive.writestr(_member(name), content, method)
        archive.comment = b"a comment"
    return buffer.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.orig_filename = member.filename = name  # as it is, even if it holds a zero
    return member


def _make_models() -> Iterator[Seed]:
    slots = {
        "edge": ("conv3x3", "gated", "mixer5", "residual", "block4", "skip"),
        "paper": ("conv3x3", "residual", "dws"),
    }
    first = TrainingRecord(name="first", sha256="ab" * 32, data=["photos (CC0)"], images=3, steps=10, seconds=1.5)
    teacher = TeacherRecord(name="teacher", sha256="cd" * 32, data=["photos (CC0)"])
    training = TrainingRecord(
        architecture="made up", method="none", space="edge", budgets="50k parameters", supernet="none", data=["photos"],
        images=2, data_sha256="ef" * 32, steps="900 + 5000", seconds=12, validation_psnr=31.5, config={"variants": 2},
        started_from=first, taught_by=teacher,
    )  # fmt: skip
    metrics = {"Set5": Metrics(psnr=31.1, ssim=0.88), "Set14": Metrics(psnr=28.0, ssim=0.77)}
    for family, primitives in slots.items():
        for scale in (2, 3, 4):
            cell = CellSpec((*(SlotSpec(primitive, 8) for primitive in primitives), SlotSpec("conv3x3", 8)))
            spec = ArchSpec(family, scale, 8, (cell, cell), long_skip=family == "edge")
            config = ModelConfig(f"{family}-x{scale}", spec, "Apache-2.0", training, metrics)
            yield _model(f"{family} x{scale}", spec, config)
    small = ArchSpec("edge", 2, 4, (CellSpec((SlotSpec("conv3x3", 4),)),))
    yield _model("nothing known", small, ModelConfig("small", small, "unspecified"))


def _model(name: str, spec: ArchSpec, config: ModelConfig) -> Seed:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), Network(spec), config)
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.suffix != ".md"}
    return Seed("model", name, files)
