import subprocess
import sys

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


DISCARD = """
import os, sys, threading, time
from pathlib import Path
from trinas.errors import Stopped
from trinas.files import discard_unfinished_files, write_atomically
folder = Path(sys.argv[1])
for name in ("0", "1"):
    threading.Thread(target=write_atomically, args=(folder / name, bytes(1 << 26)), daemon=True).start()
while len(list(folder.iterdir())) < 2:
    time.sleep(0.001)
discard_unfinished_files()
try:
    write_atomically(folder / "late", b"")
except Stopped:
    print("refused", flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_a_process_that_leaves_at_once_leaves_no_half_files(tmp_path):
    ended = subprocess.run([sys.executable, "-c", DISCARD, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ended.stdout == "refused\n", ended.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"0", "1"}, "a file is whole or absent"
    assert all(path.stat().st_size == 1 << 26 for path in tmp_path.iterdir())
