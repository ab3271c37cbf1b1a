"""Searches whose files are damaged: resuming, the report and the page's status work, or one line says why not."""

import json
import shutil

import pytest
from trinas_app.web.searches import Searches

from support import hostile
from support.runs import SEARCH_CONFIG, StopAfter
from trinas.errors import RunError, TrinasError
from trinas.networks.space import SearchSpace
from trinas.reports.pages import render_live_drawings, write_search_report
from trinas.search.loop import resume_search, search_network
from trinas.search.record import EVENTS_FILE, SEARCH_RECORD_FILE, read_story
from trinas.search.run import SEARCH_STATE_FILE, check_search_resumable
from trinas.training.data import generate_images
from trinas.training.state import load_state, save_state

EDGE = SearchSpace("edge", 2, 8, 2, 2, 1)
FILES = (SEARCH_STATE_FILE, EVENTS_FILE, SEARCH_RECORD_FILE, "state.pt", "metrics.jsonl", "config.json",
         "model.safetensors", "sample-network.png")  # fmt: skip


@pytest.fixture(scope="module")
def photographs():
    return generate_images(6, 112, seed=7)


@pytest.fixture(scope="module")
def runs(photographs, tmp_path_factory):
    """Run folders of a search that is finished, and of one that was stopped."""
    folder = tmp_path_factory.mktemp("search")
    assert search_network(EDGE, photographs, SEARCH_CONFIG, folder / "finished").finished
    assert not search_network(EDGE, photographs, SEARCH_CONFIG, folder / "stopped", stop=StopAfter(12)).finished
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def check_run(run_dir, photographs):
    """Everything that reads a run folder."""
    before = contents(run_dir)
    hostile.accept_or_refuse(lambda: write_search_report(run_dir), RunError)
    status = Searches(run_dir.parent).status()
    if status is not None:
        assert hostile.is_one_line(status.line)
        assert not status.events or "<svg" in render_live_drawings(status.events) or len(status.events) < 3
    (run_dir / "report.html").unlink(missing_ok=True)
    if hostile.accept_or_refuse(lambda: check_search_resumable(run_dir) or True, RunError):
        resume = lambda: resume_search(run_dir, photographs, stop=StopAfter(2))  # noqa: E731
        hostile.accept_or_refuse(resume, TrinasError)
    else:
        assert contents(run_dir) == before


@pytest.mark.parametrize("damage", hostile.FILES)
@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_damaged_file_of_a_search_is_one_line_or_no_harm(state, damage, runs, photographs, tmp_path):
    for name in FILES:
        run_dir = tmp_path / name / state
        shutil.copytree(runs / state, run_dir)
        path = run_dir / name
        if path.exists():
            path.write_bytes(hostile.FILES[damage](path.read_bytes()))
            check_run(run_dir, photographs)


def test_any_value_in_the_state_of_a_search_is_resumed_or_refused_in_one_line(runs, photographs, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(runs / "stopped", run_dir)
    kept = contents(run_dir)
    state = load_state(run_dir / SEARCH_STATE_FILE)
    for _, damaged in hostile.state_mutations(state):
        (run_dir / EVENTS_FILE).write_bytes(kept[EVENTS_FILE])
        save_state(run_dir / SEARCH_STATE_FILE, damaged)
        resume = lambda: resume_search(run_dir, photographs, stop=StopAfter(1))  # noqa: E731
        hostile.accept_or_refuse(resume, TrinasError)


def test_any_value_in_a_report_is_drawn_or_refused_in_one_line(runs, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(runs / "finished", run_dir)
    report, drawn = json.loads((run_dir / SEARCH_RECORD_FILE).read_text()), 0
    for _, damaged in hostile.mutations(report, every=6):
        (run_dir / SEARCH_RECORD_FILE).write_text(json.dumps(damaged))
        drawn += hostile.accept_or_refuse(lambda: write_search_report(run_dir) or True, RunError) is True
    assert drawn > 10


def test_any_value_in_an_event_is_drawn_or_refused_in_one_line(runs, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(runs / "finished", run_dir)
    path = run_dir / EVENTS_FILE
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kinds = {line["event"]: number for number, line in enumerate(lines)}  # the last one of each
    for number in kinds.values():
        for _, damaged in hostile.mutations(lines[number], every=3):
            told = [*lines[:number], damaged, *lines[number + 1 :]]
            path.write_text("".join(json.dumps(line) + "\n" for line in told))
            if events := hostile.accept_or_refuse(lambda: read_story(run_dir), RunError):
                render_live_drawings(events)


@pytest.mark.parametrize("order", [[], [0], [1, 0], [0, 0], [2, 1], [0, 3], [0, 1, 1, 3]])
def test_events_in_another_order_are_drawn_or_refused(order, runs, tmp_path):
    lines = (runs / "finished" / EVENTS_FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / EVENTS_FILE).write_bytes(b"".join(lines[number] for number in order))
    if events := hostile.accept_or_refuse(lambda: read_story(tmp_path), RunError):
        render_live_drawings(events)
