"""Every file format with every kind of image it can hold: what comes out of upscaling it.

    cd tests; python -m support.format_matrix > ../docs/formats.md

`test_formats.py` runs the same cases. It compares each with what is promised, and the page with what was found.
"""

import io
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
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
from PIL import ImageCms, PngImagePlugin

from support.icc_profiles import cmyk_profile, gray_profile, rgb_profile
from support.images import encode_png16, generated_photograph, insert_chunks, png_chunk
from trinas.config import SaveConfig, SizeConfig
from trinas.images.image import Image, to_levels
from trinas.inference.batch import run_jobs
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.plan import plan_jobs

SCALE = 2
MODEL = "trinas-xs-x2"
MAKE, TAKEN, DPI, ROTATED = "Camera & Sons", "2026:01:02 03:04:05", 300, 6
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'tiff:Orientation="6" dc:title="A title"/></rdf:RDF></x:xmpmeta>'
)

KINDS = {
    "1 bit": (1, 8),
    "gray": (1, 8),
    "gray, 16 bit": (1, 16),
    "gray with alpha": (2, 8),
    "gray with alpha, 16 bit": (2, 16),
    "palette": (3, 8),
    "palette with transparency": (4, 8),
    "RGB": (3, 8),
    "RGB, 16 bit": (3, 16),
    "RGB with alpha": (4, 8),
    "RGB with alpha, 16 bit": (4, 16),
    "CMYK": (3, 8),
}
"""Kind of image -> channels and bits it has once decoded."""

HOLDS = {
    "png": [kind for kind in KINDS if kind != "CMYK"],
    "jpg": ["gray", "RGB", "CMYK"],
    "webp": ["RGB", "RGB with alpha"],
    "webp, lossless": ["RGB", "RGB with alpha"],
    "tiff": list(KINDS),
    "avif": ["RGB", "RGB with alpha"],
    "bmp": ["1 bit", "gray", "palette", "RGB"],
}
"""File format -> the kinds of image it is tried with."""

LOSSY = ("jpg", "webp", "avif")


@dataclass(frozen=True)
class Case:
    """A file format with a kind of image in it."""

    file_format: str
    kind: str

    @property
    def suffix(self) -> str:
        return self.file_format.partition(",")[0]

    @property
    def channels(self) -> int:
        return KINDS[self.kind][0]

    @property
    def depth(self) -> int:
        return KINDS[self.kind][1]

    @property
    def is_lossy(self) -> bool:
        return self.file_format in LOSSY

    @property
    def is_turned(self) -> bool:
        """Whether the file says, in its metadata, that the image lies on its side."""
        return self.suffix != "bmp"

    def __str__(self) -> str:
        return f"{self.file_format}: {self.kind}"


@dataclass(frozen=True)
class Finding:
    """What a result file turned out to be."""

    kind: str
    """As in KINDS."""
    error_levels: float
    """Largest difference from what the network makes of the input's pixels, in levels of 255; RMS if lossy."""
    flat_levels: float
    """Largest change of an even patch's colour, in levels of 255."""
    profile: str
    exif: str
    xmp: str
    resolution: str


def cases() -> Iterator[Case]:
    for file_format, kinds in HOLDS.items():
        for kind in kinds:
            yield Case(file_format, kind)


def source_levels(case: Case, height: int = 24, width: int = 36) -> NDArray[Any]:
    """Made-up pixels as the file stores them: (H, W, C), uint8 or uint16; CMYK has four inks."""
    rgb = generated_photograph(height, width)
    alpha = generated_photograph(height, width, seed=1)[:, :, :1]
    alpha[:, : width // 4], alpha[:, -width // 4 :] = 0, 255
    if case.kind == "CMYK":
        return np.dstack([rgb, alpha // 3])
    if case.kind == "1 bit":
        return np.where(rgb[:, :, :1] > 127, 255, 0).astype(np.uint8)
    if case.kind.startswith("palette"):
        rgb = rgb // 64 * 64
        alpha = np.where(rgb[:, :, :1] == rgb[0, 0, 0], 0, 255).astype(np.uint8)
        if case.channels == 4:  # one colour of the palette is the transparent one
            alpha = np.where((rgb == rgb[0, 0]).all(axis=2, keepdims=True), 0, 255).astype(np.uint8)
    levels = np.dstack([rgb[:, :, : 1 if case.channels < 3 else 3], alpha])[:, :, : case.channels]
    if case.channels % 2 == 0:
        levels[:, :, -1:] = alpha
    return levels if case.depth == 8 else levels.astype(np.uint16) * 257 - (levels > 100) * np.uint16(57)


def profile_of(case: Case) -> bytes:
    if case.kind == "CMYK":
        return cmyk_profile()
    return gray_profile() if case.channels < 3 else rgb_profile()


def exif_of(levels: NDArray[Any]) -> PillowImage.Exif:
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112] = MAKE, ROTATED
    exif[0x011A], exif[0x011B], exif[0x0128] = DPI, DPI, 2  # the only place where WebP and AVIF say it
    exif[0x8769] = {0x9003: TAKEN, 0xA002: levels.shape[1], 0xA003: levels.shape[0]}
    return exif


def write_source(path: Path, case: Case, levels: NDArray[Any]) -> None:
    """A file as other programs write it, with all the metadata its format can hold."""
    profile, exif = profile_of(case), exif_of(levels).tobytes()
    if case.depth == 16 and case.suffix == "tiff":
        _write_deep_tiff(path, levels, profile)
        return
    if case.depth == 16:
        _write_deep_png(path, levels, profile, exif)
        return
    options: dict[str, Any] = {"dpi": (DPI, DPI)}
    if case.suffix != "bmp":
        options |= {"icc_profile": profile, "exif": exif}
    if case.suffix == "png":
        options["pnginfo"] = _png_text()
    elif case.suffix == "tiff":
        tags = exif_of(levels)
        tags[700] = XMP
        options["exif"] = tags.tobytes()
    elif case.suffix != "bmp":
        options |= {"xmp": XMP, "quality": 95, "lossless": case.file_format == "webp, lossless"}
    if case.suffix in ("jpg", "avif"):
        options |= {"subsampling": "4:4:4"}
    _pillow(case, levels).save(path, **options)


def find(case: Case, folder: Path) -> Finding:
    """Upscale a file as the command line does, and look at the result with other libraries than the program uses."""
    levels = source_levels(case)
    source = folder / f"source.{case.suffix}"
    write_source(source, case, levels)
    path = upscale(source)
    written = decoded(path)
    error = written.astype(float) - expected_levels(case, source, levels)
    error *= 255 / np.iinfo(written.dtype).max
    if written.shape[2] in (2, 4):  # colour that nobody sees may differ
        error[..., :-1] *= written[..., -1:] > 0
    kinds = {value: name for name, value in KINDS.items() if name not in ("1 bit", "CMYK") and "palette" not in name}
    return Finding(
        kind=kinds[written.shape[2], written.itemsize * 8],
        error_levels=float(np.sqrt((error**2).mean()) if case.is_lossy else np.abs(error).max()),
        flat_levels=flat_error(case, folder),
        **_described(path, case),
    )


@cache
def load_upscaler() -> CascadeUpscaler:
    return CascadeUpscaler(MODEL, "cpu", "fp32")


def upscale(source: Path) -> Path:
    """The result file, made as the command line makes it."""
    size, save = SizeConfig(scale=SCALE), SaveConfig()
    plan = plan_jobs([source], source.parent, size, save)
    (outcome,) = run_jobs(plan.jobs, load_upscaler(), size, save)
    assert outcome.state == "done", outcome.reason
    return outcome.job.result


def decoded(path: Path) -> NDArray[Any]:
    """(H, W, C) as the file holds it."""
    content = path.read_bytes()
    if path.suffix == ".tiff":
        levels = tifffile.imread(io.BytesIO(content))
    elif path.suffix == ".png" and content[24] == 16:
        levels = imagecodecs.png_decode(content)
    else:
        with PillowImage.open(path) as opened:
            levels = np.asarray(opened)
    return levels if levels.ndim == 3 else levels[:, :, None]


def expected_levels(case: Case, source: Path, levels: NDArray[Any]) -> NDArray[Any]:
    """What the network makes of the pixels, turned and converted as the file says."""
    if case.is_lossy and case.kind != "CMYK":
        levels = decoded(source)
    if case.kind == "CMYK":
        levels = _converted(_inks(case, source, levels))
    if case.is_turned:
        levels = np.rot90(levels, -1)  # what an orientation of 6 asks for
    pixels = torch.from_numpy(levels.astype(np.float32)).permute(2, 0, 1) / np.iinfo(levels.dtype).max
    return to_levels(load_upscaler().load_upscaler(MODEL)(Image(pixels)).pixels, 16 if levels.dtype == np.uint16 else 8)


def flat_error(case: Case, folder: Path) -> float:
    """The most that the colour of an even image changes, in levels of 255."""
    worst = 0.0
    for number, colour in enumerate(
        [(0, 0, 0), (255, 255, 255), (0, 0, 255), (255, 160, 40), (93, 140, 31), (7, 9, 8)]
    ):
        levels = source_levels(case, 20, 20)
        levels[..., : min(3, levels.shape[2] - (levels.shape[2] == 2))] = 0
        ink = np.array(colour[:1] if case.channels < 3 else colour)
        levels[..., : len(ink)] = ink * (257 if case.depth == 16 else 1)
        if case.kind == "1 bit":
            levels[:] = 255 if colour[0] > 127 else 0
        if case.channels in (2, 4) and case.kind != "CMYK":
            levels[..., -1] = np.iinfo(levels.dtype).max
        if case.kind == "CMYK":
            levels[..., 3] = 20
        source = folder / f"flat{number}.{case.suffix}"
        write_source(source, case, levels)
        written = decoded(upscale(source))
        if case.kind == "CMYK":
            before = _converted(_inks(case, source, levels))
        elif case.kind.startswith("palette"):
            before = levels[..., : written.shape[2]]
        else:
            before = decoded(source)
            before = before.astype(np.uint8) * 255 if before.dtype == bool else before
        change = np.abs(written[..., :3].astype(float) - before[0, 0, :3][: written.shape[2]])
        worst = max(worst, float(change.max()) * 255 / np.iinfo(written.dtype).max)
    return worst


def _inks(case: Case, source: Path, levels: NDArray[Any]) -> PillowImage.Image:
    """The image as it is in the file; Pillow turns a TIFF by itself, so that is not read again."""
    if not case.is_lossy:
        return PillowImage.fromarray(levels, "CMYK")
    with PillowImage.open(source) as opened:
        return opened.copy()


def _converted(inks: PillowImage.Image) -> NDArray[np.uint8]:
    """LittleCMS's own conversion of CMYK to sRGB."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile()))
    transform = ImageCms.buildTransform(
        profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip
    converted = ImageCms.applyTransform(inks, transform)
    assert converted is not None
    return np.asarray(converted)


def _described(path: Path, case: Case) -> dict[str, str]:
    """What became of profile, EXIF, XMP and resolution."""
    exif = PillowImage.Exif()
    if case.suffix == "tiff":
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            size, profile, xmp = (page.imagewidth, page.imagelength), page.iccprofile, page.tags.valueof(700)
            dpi = page.get_resolution("INCH")[0] if 282 in page.tags else 0
        exif.load(path.read_bytes())
    else:
        with PillowImage.open(path) as opened:
            opened.load()
            size, profile, xmp = opened.size, opened.info.get("icc_profile"), opened.info.get("xmp")
            exif.load(opened.info.get("exif", b""))
            dpi = opened.info.get("dpi", (float(exif.get(282, 0)),))[0]
    details = exif.get_ifd(0x8769)
    has_details = case.suffix != "tiff" or case.depth == 8  # the others' sources were written without
    expected = (1, TAKEN, *size) if has_details else (1, None, None, None)
    found = (exif.get(0x0112, 1), *(details.get(tag) for tag in (0x9003, 0xA002, 0xA003)))
    xmp_kept = xmp is not None and b"A title" in xmp and b'tiff:Orientation="1"' in xmp
    return {
        "profile": {profile_of(case): "kept", None: "none"}.get(profile, "sRGB"),
        "exif": "kept" if found == expected and exif.get(0x010F) == MAKE else "none",
        "xmp": "kept" if xmp_kept else "none",
        "resolution": "kept" if abs(dpi - DPI) < 0.1 else "none",
    }


def _pillow(case: Case, levels: NDArray[Any]) -> PillowImage.Image:
    if case.kind == "CMYK":
        return PillowImage.fromarray(levels, "CMYK")
    image = PillowImage.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
    if case.kind == "1 bit":
        return image.convert("1")
    if case.kind == "palette":
        return image.convert("P", palette=PillowImage.Palette.ADAPTIVE, colors=256)
    if case.kind == "palette with transparency":
        return _palette_with_transparency(levels) if case.suffix == "png" else _palette_with_alpha(levels)
    return image


def _palette_with_transparency(levels: NDArray[Any]) -> PillowImage.Image:
    colours, indices = np.unique(levels.reshape(-1, 4), axis=0, return_inverse=True)
    image = PillowImage.fromarray(indices.reshape(levels.shape[:2]).astype(np.uint8), "P")
    image.putpalette(colours[:, :3].tobytes())
    image.info["transparency"] = colours[:, 3].tobytes()
    return image


def _palette_with_alpha(levels: NDArray[Any]) -> PillowImage.Image:
    """A channel that refers to a palette, and one of alpha, as a TIFF file has them."""
    image = _palette_with_transparency(levels)
    del image.info["transparency"]
    image = image.convert("PA")
    image.putalpha(PillowImage.fromarray(levels[:, :, 3]))
    return image


def _png_text() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return text


def _write_deep_png(path: Path, levels: NDArray[Any], profile: bytes, exif: bytes) -> None:
    per_metre = round(DPI / 0.0254)
    chunks = {
        b"iCCP": b"profile\0\0" + zlib.compress(profile),
        b"pHYs": struct.pack(">IIB", per_metre, per_metre, 1),
        b"eXIf": exif[6:],
        b"iTXt": b"XML:com.adobe.xmp\0\0\0\0\0" + XMP,
    }
    path.write_bytes(insert_chunks(encode_png16(levels), *(png_chunk(kind, body) for kind, body in chunks.items())))


def _write_deep_tiff(path: Path, levels: NDArray[Any], profile: bytes) -> None:
    is_gray = levels.shape[2] < 3
    tifffile.imwrite(
        path,
        levels[:, :, 0] if levels.shape[2] == 1 else levels,
        photometric="minisblack" if is_gray else "rgb",
        extrasamples=["unassalpha"] if levels.shape[2] in (2, 4) else None,
        planarconfig="contig" if levels.shape[2] > 1 else None,
        compression="lzw",
        resolution=(DPI, DPI),
        resolutionunit="INCH",
        iccprofile=profile,
        metadata=None,
        extratags=[(274, "H", 1, ROTATED, True), (271, "s", 0, MAKE.encode(), True), (700, "B", len(XMP), XMP, True)],
    )


INTRODUCTION = """# Formats

This table says what comes out when a file of each format, with each kind of image it can hold, is upscaled without
options. The tests write it (`cd tests; python -m support.format_matrix > ../docs/formats.md`). They make such files
with other programs' libraries, upscale them as the command line does, and read the results with other libraries again.

- *pixels*: difference of the result from what the network makes of the input's pixels, upright and in their own
  colours, in levels of 255; the largest one, or for lossy formats the mean (RMS).
- *even patches*: the most that the colour of an image of one colour changes, in levels of 255.
- *profile*: the ICC profile. CMYK is converted through it to sRGB.
- *EXIF*, *XMP*: kept. The orientation is set to upright, sizes are set to the result's, and the thumbnail is left out.
  Every other value is the same bytes as before. Of a TIFF's own tags those about the image are kept.
- *resolution*: where it is not the same in both directions, it is turned with its image.

| file | image | result | pixels | even patches | profile | EXIF | XMP | resolution |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""

NOTES = """
A note says what a format cannot hold when the result is written: JPEG, WebP, AVIF and BMP have 8 bits per channel. JPEG
and BMP hold no transparency: such images are refused unless `--background` gives a colour to lay them on. BMP holds
neither metadata nor a profile; colours are converted to sRGB. WebP and AVIF hold gray as colour. A JPEG holds 64 KB
each of EXIF and XMP. AVIF of more than 8 bits is read as 8, without a note. A lossless WebP file stays lossless.

These are not kept: IPTC, text chunks of PNG, and its gAMA where there is no profile; letters outside ASCII in the EXIF
of an AVIF that is turned by its own means and not by EXIF; and, with a note, the XMP that a JPEG has beyond 64 KB, and
XMP that is no well-formed XML or is larger than 4 MB.

An image without a profile is taken for sRGB. Where AVIF (nclx) or PNG (cICP) say by codes that it is something else,
Display P3 or HDR for example, a note says so, and the colours are not converted.

A TIFF may be uncompressed, or compressed with PackBits, LZW, Deflate, LZMA, Zstandard, CCITT (G3, G4), JPEG or WebP.
If it has one channel more than its colours, and does not say what it is, this channel is taken for alpha, with a note.

Refused, with the reason: animations, TIFF files of several images, 32-bit and floating-point values, CIELAB, raw files
that are built like TIFF (DNG, NEF), files that are cut short, and TIFF without its empty tiles (sparse GeoTIFF).
GIF, HEIC, JPEG XL and other raw files are not read.

No file takes long or much memory because of how it is built. These are refused: profiles of more than 16 MB; PNG files
of more than 10,000 chunks (or one per KB, if that is more); JPEG files of more than 4,096 segments before the pixels or
64 segments of EXIF; TIFF files of more than 256 directories, 4,096 tags in one of them, 100,000 strips or tiles, or 100
scans in one of these. Channels of a TIFF beyond the fifth count against the limit of pixels. With a note, these are
left out: EXIF beyond 4,096 tags or 16 MB, and values that do not have the type and count that EXIF gives their tags.
"""


def main() -> None:
    lines = [INTRODUCTION]
    for case in cases():
        with tempfile.TemporaryDirectory() as folder:
            lines.append(table_line(case, find(case, Path(folder))) + "\n")
    sys.stdout.write("".join(lines) + NOTES)


def table_line(case: Case, found: Finding) -> str:
    error = "equal" if found.error_levels == 0 else f"{found.error_levels:.1f}" + (" RMS" if case.is_lossy else "")
    flat = f"{found.flat_levels:.1f}"
    cells = [case.file_format, case.kind, found.kind, error, flat]
    return f"| {' | '.join([*cells, found.profile, found.exif, found.xmp, found.resolution])} |"


if __name__ == "__main__":
    main()
