"""Models for other programs: ONNX."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from trinas.errors import ModelError
from trinas.files import write_atomically
from trinas.zoo.folder import Model

OPSET = 18
"""Version of ONNX's operators: the oldest that torch writes without converting, so that old runtimes read it."""


def export_onnx(model: Model, path: Path) -> None:
    """Write a model as an ONNX file with weights inside, for pictures of any size.

    Its input `low` is float32 (N, 3, H, W) with sRGB values in [0, 1]; its output `high` is (N, 3, scale * H,
    scale * W), not clamped: what `Network.forward` computes. Name, scale and licence are among its metadata.

    Raises:
        ModelError: the packages that write ONNX are not installed, or the file cannot be written.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch needs it
    except ImportError as error:
        raise ModelError(
            f"{path}: writing ONNX takes a package that is not here ({error.name}); pip install onnx onnxscript"
        ) from None
    sides = {2: torch.export.Dim("height", min=1), 3: torch.export.Dim("width", min=1)}
    low = torch.rand(2, 3, 24, 32)
    with _quiet():
        program = torch.onnx.export(
            model.network,
            (low,),
            dynamo=True,
            verbose=False,
            input_names=["low"],
            output_names=["high"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1), **sides},),
            opset_version=OPSET,
        )
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # lines of our code, with the paths they have here
    facts = {"name": model.config.name, "scale": str(model.scale), "licence": model.config.licence}
    onnx.helper.set_model_props(proto, facts)
    onnx.checker.check_model(proto)
    try:
        write_atomically(path, proto.SerializeToString())
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror})") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch says of its own exporter from the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
