"""`export`: write a model as ONNX."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import say


def export_model(
    model: Annotated[str, typer.Argument(help="Bundled name, model folder, or user/name of the Hub.")],
    output: Annotated[Path, typer.Argument(help="File to write, for example out.onnx.", metavar="OUT.ONNX")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a model as ONNX, for programs without PyTorch.

    The input `low` is (N, 3, H, W), float32, sRGB in [0, 1], of any size. The output `high` is scale times as high
    and wide; clamp it to [0, 1]. Needs the packages onnx and onnxscript.
    """
    from trinas.zoo.folder import load_model
    from trinas.zoo.onnx import export_onnx

    export_onnx(load_model(model), output, overwrite=overwrite)
    say(f"Wrote {output}")
