"""`compare`: one image, upscaled by several models, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from trinas.config import DEFAULT_DEVICE, DEFAULT_SCALE
from trinas.errors import ImageError, TrinasError

from ..words import format_count
from .options import DeviceOption, Precision, PrecisionOption, ScaleOption, start_decoders
from .terminal import print_line

ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Names or folders of models, separated by commas or repeated. [default: all bundled models of the scale]"
    ),
]


def write_comparison(
    image: Annotated[Path, typer.Argument(help="An image to upscale.")],
    models: ModelsOption = None,
    scale: ScaleOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")] = Path("comparison.png"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    device: DeviceOption = DEFAULT_DEVICE,
    precision: PrecisionOption = Precision.AUTO,
) -> None:
    """Compare bicubic and several models on one image: labelled crops, side by side in a PNG file."""
    from trinas.files import translate_os_errors, write_atomically
    from trinas.inference.compare import compare_models
    from trinas.zoo.bundled import list_models_of_scale
    from trinas.zoo.folder import load_model

    _check_output(output, image, overwrite)
    named = [name.strip() for part in models or [] for name in part.split(",")]
    names = named or list_models_of_scale(scale or DEFAULT_SCALE)
    with start_decoders() as decoders:
        loaded = [load_model(name) for name in names]
        _check_scales(dict(zip(names, (model.scale for model in loaded), strict=True)), scale)
        opened = decoders.open_image(image).read()
    content = compare_models(opened, loaded, device, precision.value)
    with translate_os_errors(ImageError, output, "written"):
        write_atomically(output, content)
    print_line(f"Wrote {output}: bicubic and {format_count(len(names), 'model')}.")


def _check_output(output: Path, image: Path, overwrite: bool) -> None:
    if output.suffix.lower() != ".png":
        raise ImageError(f"{output}: a comparison is written as PNG; choose a name that ends in .png")
    if output.exists() and not overwrite:
        raise ImageError(f"{output}: exists; choose another -o, or --overwrite")
    if output.resolve() == image.resolve():
        raise ImageError(f"{output}: is the image itself; choose another -o")


def _check_scales(scales: dict[str, int], wanted: int | None) -> None:
    """Refuse models of several scales.

    Args:
        scales: name -> scale of the model.
        wanted: the scale that was asked for, if any.
    """
    if len({*scales.values(), *([wanted] if wanted else [])}) > 1:
        listed = ", ".join(f"{name} x{scale}" for name, scale in scales.items())
        raise TrinasError(f"only models of one scale can be compared: {listed}" + (f", -s {wanted}" if wanted else ""))
