import json

import pytest
import torch

from trinas.errors import RunError
from trinas.networks.latency import find_cache_dir, measure_ms_per_mp, measure_slot_times, measure_spec_ms_per_mp
from trinas.networks.network import Network
from trinas.networks.space import SearchSpace

CPU = torch.device("cpu")
SPACE = SearchSpace("edge-all", 2, 8, 1, 1, 0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_every_primitive_and_pair_of_widths_is_measured():
    table = measure_slot_times(SPACE, CPU, "fp32")
    assert table.shape == (len(SPACE.primitives), len(SPACE.widths), len(SPACE.widths))
    assert table.dtype == torch.float64
    assert (table > 0).all()


def test_times_are_stored_for_each_space_and_precision():
    first = measure_slot_times(SPACE, CPU, "fp32")
    (path,) = find_cache_dir().iterdir()
    assert torch.equal(measure_slot_times(SPACE, CPU, "fp32"), first)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["key"] | {"torch": torch.__version__, "threads": torch.get_num_threads()} == stored["key"]
    measure_slot_times(SPACE, CPU, "bf16")
    measure_slot_times(SearchSpace("paper-b", 2, 8, 1, 1, 0), CPU, "fp32")
    assert len(list(find_cache_dir().iterdir())) == 3


def test_a_damaged_file_of_times_is_measured_again():
    measure_slot_times(SPACE, CPU, "fp32")
    (path,) = find_cache_dir().iterdir()
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: len(whole) // 2], encoding="utf-8")
    assert measure_slot_times(SPACE, CPU, "fp32").shape == (len(SPACE.primitives), 2, 2)
    assert json.loads(path.read_text(encoding="utf-8"))


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(RunError, match="set XDG_CACHE_HOME"):
        measure_slot_times(SPACE, CPU, "fp32")


def test_a_network_can_be_timed(tiny_spec):
    network = Network(tiny_spec)
    assert measure_ms_per_mp(network, CPU, "fp32") > 0
    assert measure_spec_ms_per_mp(tiny_spec, CPU, "bf16") > 0
