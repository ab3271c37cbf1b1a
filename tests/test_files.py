import pytest
import torch

from trinas.errors import RunError
from trinas.files import write_atomically
from trinas.training.state import load_state, save_state


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "result.bin"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.bin"]


def test_a_file_that_cannot_take_its_name_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "taken", b"content")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "usual").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_state_survives_saving(tmp_path):
    save_state(tmp_path / "state.pt", {"step": 7, "history": [{"loss": 0.5}]})
    assert load_state(tmp_path / "state.pt") == {"step": 7, "history": [{"loss": 0.5}]}


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 cut short"])
def test_a_damaged_state_is_one_clear_error(tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(RunError, match=r"state\.pt: damaged state"):
        load_state(tmp_path / "state.pt")


def test_a_missing_state_is_one_clear_error(tmp_path):
    with pytest.raises(RunError, match="nothing to resume"):
        load_state(tmp_path / "state.pt")


class Malicious:
    """Pickles as a call."""

    def __reduce__(self):
        return (print, ("ran",))


def test_a_state_never_runs_code(tmp_path, capsys):
    torch.save({"step": Malicious()}, tmp_path / "state.pt")
    with pytest.raises(RunError, match="damaged state"):
        load_state(tmp_path / "state.pt")
    assert capsys.readouterr().out == ""
