"""ONNX files, run by another program's runtime."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from trinas.errors import ModelError
from trinas.networks.network import Network
from trinas.networks.primitives import PRIMITIVES
from trinas.networks.space import ArchSpec, CellSpec, SlotSpec, find_named_spec
from trinas.zoo.folder import Model, load_model
from trinas.zoo.onnx import export_onnx
from trinas.zoo.record import ModelConfig


def model_of(spec: ArchSpec) -> Model:
    torch.manual_seed(0)
    network = Network(spec)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return Model(ModelConfig("tried", spec, "Apache-2.0"), network.eval().requires_grad_(False))


def every_edge_primitive(scale: int) -> ArchSpec:
    slots = tuple(SlotSpec(name, 8) for name in PRIMITIVES["edge"] if name != "skip")
    return ArchSpec("edge", scale, 8, (CellSpec(slots),), long_skip=True)


def every_paper_primitive(scale: int, upsample_after: tuple[int, ...]) -> ArchSpec:
    slots = tuple(SlotSpec(name, width) for name in PRIMITIVES["paper"] if name != "skip" for width in (6, 8))
    return ArchSpec("paper", scale, 8, (CellSpec(slots), CellSpec((SlotSpec("conv3x3", 8),))), upsample_after)


SPECS = {
    **{f"edge-x{scale}": every_edge_primitive(scale) for scale in (2, 3, 4)},
    "paper-x3-within": every_paper_primitive(3, (1,)),
    "paper-x4-within": every_paper_primitive(4, (0, 1)),
    "paper-x4-behind": every_paper_primitive(4, ()),
    "paper-b1": find_named_spec("paper-b1"),
}


@pytest.mark.parametrize("name", SPECS)
def test_the_runtime_computes_what_the_network_does(name, tmp_path):
    model, path = model_of(SPECS[name]), tmp_path / "out.onnx"
    export_onnx(model, path)
    session = onnxruntime.InferenceSession(path)
    for shape in [(1, 3, 7, 5), (2, 3, 40, 33), (1, 3, 1, 1)]:
        low = torch.rand(shape)
        (high,) = session.run(["high"], {"low": low.numpy()})
        np.testing.assert_allclose(high, model.network(low).numpy(), atol=1e-4)


def test_a_bundled_model_says_what_it_is(tmp_path):
    path = tmp_path / "out.onnx"
    export_onnx(load_model("trinas-xs-x3"), path)
    proto = onnx.load(path)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert facts == {"name": "trinas-xs-x3", "scale": "3", "licence": "Apache-2.0"}
    assert str(tmp_path.cwd()).encode() not in path.read_bytes(), "no paths of the machine it was written on"


def test_a_file_that_exists_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "out.onnx"
    path.write_bytes(b"precious")
    with pytest.raises(ModelError, match="exists already; choose another name, or give --overwrite"):
        export_onnx(load_model("trinas-xs-x3"), path)
    assert path.read_bytes() == b"precious"
    export_onnx(load_model("trinas-xs-x3"), path, overwrite=True)
    assert onnx.load(path).graph.node


def test_a_folder_without_permission_is_one_clear_error(tmp_path, forbid):
    """Looking the file up fails already, before anything is written."""
    forbid(tmp_path / "private")
    with pytest.raises(ModelError, match=r"private/out\.onnx: cannot be written \(Permission denied\)"):
        export_onnx(load_model("trinas-xs-x3"), tmp_path / "private/out.onnx")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ModelError, match="pip install onnx onnxscript"):
        export_onnx(load_model("trinas-xs-x3"), tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []
