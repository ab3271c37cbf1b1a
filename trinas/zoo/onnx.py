"""Write a model as an ONNX file, for programs without PyTorch."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from trinas.errors import ModelError
from trinas.files import translate_os_errors, write_atomically
from trinas.networks.network import Network
from trinas.zoo.folder import Model

OPSET = 18
"""Version of ONNX's operators. It is the oldest one that torch writes without converting, so that old runtimes work."""


def export_onnx(model: Model, path: Path, *, overwrite: bool = False) -> None:
    """Write a model as an ONNX file with its weights, for images of any size.

    The input `low` is float32 (N, 3, H, W) with sRGB values in [0, 1]. The output `high` is (N, 3, scale * H,
    scale * W), not clamped, as `Network.forward` computes it. Name, scale and licence are in the file's metadata.

    Args:
        model: to export.
        path: of the file.
        overwrite: replace the file if it exists.
    Raises:
        ModelError: the packages that write ONNX are not installed, or the file exists or cannot be written.
    """
    with translate_os_errors(ModelError, path, "written"):
        if path.exists() and not overwrite:
            raise ModelError(f"{path}: exists already; choose another name, or give --overwrite")
    try:
        import onnx
        import onnxscript  # noqa: F401  torch needs it
    except ImportError as error:
        raise ModelError(
            f"{path}: writing ONNX takes a package that is not here ({error.name}); pip install onnx onnxscript"
        ) from None
    proto = _convert(model.network)
    facts = {"name": model.config.name, "scale": str(model.scale), "licence": model.config.licence}
    onnx.helper.set_model_props(proto, facts)
    onnx.checker.check_model(proto)
    with translate_os_errors(ModelError, path, "written"):
        write_atomically(path, proto.SerializeToString())


def _convert(network: Network) -> Any:
    """Return the network as ONNX's ModelProto, for batches and images of any size."""
    sides = {2: torch.export.Dim("height", min=1), 3: torch.export.Dim("width", min=1)}
    low = torch.rand(2, 3, 24, 32)
    with _silence_exporter():
        program = torch.onnx.export(
            network,
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
        del node.metadata_props[:]  # they hold lines of our code, with paths of this machine
    return proto


@contextlib.contextmanager
def _silence_exporter() -> Iterator[None]:
    """Hide the warnings that torch prints about its own exporter."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
