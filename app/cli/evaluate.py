"""`evaluate`: measure PSNR and SSIM of a model on your own images."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trinas.config import DEFAULT_DEVICE, DEFAULT_SCALE, UpscaleOptions
from trinas.errors import ModelError, TrinasError

from .options import (
    DeviceOption,
    JsonOption,
    Precision,
    PrecisionOption,
    ScaleOption,
    SelfEnsembleOption,
    complete_model,
    start_decoders,
)
from .terminal import print_json, print_table

if TYPE_CHECKING:
    from trinas.inference.tiled import TiledUpscaler
    from trinas.training.metrics import FolderMetrics, ImageMetrics

ModelOption = Annotated[
    str | None, typer.Option(help="Bundled name, model folder, or bicubic.", autocompletion=complete_model)
]


def measure_model(
    images: Annotated[Path, typer.Argument(help="Folder of high-resolution images, or one image.")],
    scale: ScaleOption = None,
    model: ModelOption = None,
    tta: SelfEnsembleOption = UpscaleOptions.self_ensemble,
    device: DeviceOption = DEFAULT_DEVICE,
    precision: PrecisionOption = Precision.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Measure PSNR and SSIM on Y as the field does: reduce each image, upscale it again, compare."""
    from trinas.training.metrics import evaluate_model, upscale_bicubic

    if not images.exists():
        raise TrinasError(f"{images}: no such file or folder")
    with start_decoders() as decoders:
        if model == "bicubic":
            name, factor = model, scale or DEFAULT_SCALE
            measured = evaluate_model(lambda low: upscale_bicubic(low, factor), images, factor, decoders.open_image)
        else:
            upscaler, name = _load_tiled_upscaler(model, scale, device, precision.value)
            options = UpscaleOptions(self_ensemble=tta)
            factor = upscaler.scale
            measured = evaluate_model(
                lambda low: upscaler.upscale_rgb8(low, options), images, factor, decoders.open_image
            )
    if as_json:
        rows = [{"image": image.name, **_metrics_to_json(image)} for image in measured.images]
        print_json({"model": name, "scale": factor, "mean": _metrics_to_json(measured), "images": rows})
        return
    lines = [[image.name, f"{image.psnr:.2f}", f"{image.ssim:.4f}"] for image in measured.images]
    mean = [f"mean of {len(lines)}", f"{measured.psnr:.2f}", f"{measured.ssim:.4f}"]
    print_table([*lines, mean], [f"{name}, x{factor}", "PSNR", "SSIM"], numbers=[1, 2], foldable=[0])


def _load_tiled_upscaler(
    model: str | None, scale: int | None, device: str, precision: str
) -> "tuple[TiledUpscaler, str]":
    """Return the upscaler of a model, or of the default model of a scale, and the name of the model."""
    from trinas.inference.tiled import TiledUpscaler
    from trinas.zoo.bundled import find_default_model
    from trinas.zoo.folder import load_model

    name = model or find_default_model(scale or DEFAULT_SCALE)
    loaded = load_model(name)
    if scale not in (None, loaded.scale):
        raise ModelError(f"{name} has scale {loaded.scale}, not {scale}; leave out --model or -s {scale}")
    return TiledUpscaler(loaded, device, precision), name


def _metrics_to_json(measured: "FolderMetrics | ImageMetrics") -> dict[str, float | None]:
    """Return the metrics for JSON. It has no infinity, so the PSNR of an exact result becomes null."""
    return {"psnr": measured.psnr if isfinite(measured.psnr) else None, "ssim": measured.ssim}
