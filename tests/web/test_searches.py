"""Searches run in a process of their own and are what their run folder says."""

import time

import pytest
from trinas_app.web.limits import Limits
from trinas_app.web.searches import Searches, SearchStatus
from trinas_app.web.tab_search import check_photographs

from support.processes import PATIENCE_S
from trinas.config import Budgets
from trinas.errors import RunError, TrinasError
from trinas.images.guard import DecoderPool


def wait_for(searches: Searches, states: set[str]) -> SearchStatus:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        status = searches.status()
        assert status is not None
        if status.state in states:
            return status
        time.sleep(0.2)
    raise AssertionError(f"still {status.state}: {status.line}")


def has_event(searches: Searches, name: str) -> bool:
    status = searches.status()
    return status is not None and any(line.event == name for line in status.events)


@pytest.mark.slow
def test_a_search_is_stopped_survives_the_page_and_is_resumed_to_the_end(tmp_path, photographs):
    searches = Searches(tmp_path / "runs", "cpu")
    assert searches.status() is None
    run_dir = searches.start(Budgets(params=4000), 2, 0.2, photographs)
    with pytest.raises(RunError, match="one at a time"):
        searches.start(Budgets(params=4000), 2, 0.2, photographs)
    while not has_event(searches, "Progress"):
        assert searches.is_running, searches.status()
        time.sleep(0.1)
    for _ in range(2):  # an impatient visitor: the state is saved all the same
        searches.stop()
    status = wait_for(searches, {"stopped", "failed"})
    assert (status.state, status.run_dir) == ("stopped", run_dir)

    later = Searches(tmp_path / "runs", "cpu")  # as after a restart of the server
    found = later.status()
    assert found is not None
    assert (found.state, found.run_dir, found.events) == ("stopped", run_dir, status.events)
    later.resume()
    status = wait_for(later, {"finished", "failed"})
    assert status.state == "finished", status.line
    assert status.events[-1].costs["params"] <= 4000
    assert "Finished after" in status.line
    assert (run_dir / "report.html").is_file()


@pytest.mark.slow
def test_what_cannot_be_searched_fails_with_its_reason(tmp_path, photographs):
    searches = Searches(tmp_path / "runs", "cpu")
    searches.start(Budgets(params=10), 2, 0.2, photographs)
    status = wait_for(searches, {"failed", "finished"})
    assert "parameters" in status.line
    assert "Traceback" not in status.line
    again = searches.start(Budgets(params=10), 2, 0.2, photographs)
    assert again != status.run_dir, "a folder of its own: what the first one wrote is kept"
    searches.close()


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        (Limits(files=3), "4 photographs are too many; the limit is 3"),
        (Limits(unpacked_mb=0.01), r"more than 0\.01 MB of photographs"),
        (Limits(input_px=1000), r"^photo 0\.png: .* too large"),
    ],
)
def test_photographs_are_within_the_limits_of_a_batch(photographs, limits, complaint):
    with DecoderPool() as decoders:
        check_photographs(photographs, Limits(), decoders)
        with pytest.raises(TrinasError, match=complaint):
            check_photographs(photographs, limits, decoders)
        with pytest.raises(TrinasError, match="2 photographs are too few"):
            check_photographs(photographs[:2], limits, decoders)


def test_photographs_that_cannot_be_copied_leave_nothing(tmp_path, photographs):
    searches = Searches(tmp_path / "runs", "cpu")
    with pytest.raises(RunError, match="runs: cannot be written"):
        searches.start(Budgets(params=4000), 2, 0.3, [*photographs, tmp_path / "gone.png"])
    assert list((tmp_path / "runs").iterdir()) == []


def test_without_a_search_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(RunError, match="no search"):
        Searches(tmp_path / "runs").resume()
