"""Events and records come back from their files as they were."""

import dataclasses
import json
import math

import pytest

from trinas.config import Budgets, SearchConfig
from trinas.errors import RunError
from trinas.networks.space import SearchSpace, find_named_spec
from trinas.search.record import (
    ArchitectureChosen,
    EventLog,
    Finished,
    MixtureShares,
    SearchProgress,
    SearchStarted,
    StageStarted,
    count_stage_steps,
    read_events,
    read_settings,
)

SPACE = SearchSpace("edge", 2, 8, 2, 2, 1)


def progress(**changes):
    fields = {
        "stage": "search", "step": 3, "steps": 9, "anneal": 0.25, "loss": 0.1, "psnr": 30.0, "validated": True,
        "costs": {"params": 1.0}, "budgets": {"params": 2.0}, "steps_per_second": 2.0, "seconds_left": 3.0,
        "mixtures": MixtureShares(path=[0.5, 0.5], primitives=[[[1.0, 0.0]]], widths=[[]]),
    }  # fmt: skip
    return SearchProgress(**fields | changes)


EVENTS = [
    SearchStarted(space=SPACE, budgets={"params": 2.0}, started_from="noise"),
    StageStarted(stage="search", steps=9),
    progress(),
    ArchitectureChosen(spec=find_named_spec("paper-a1"), costs={"params": 1.0}),
    Finished(psnr=30.0, costs={"params": 1.0}, seconds=4.0),
]


def write(folder, events, count=0):
    heard = []
    log = EventLog(folder / "events.jsonl", heard.append, count)
    for event in events:
        log.add(event)
    assert heard == events
    return log


def test_events_come_back_as_they_were(tmp_path):
    assert write(tmp_path, EVENTS).count == len(EVENTS)
    assert read_events(tmp_path) == EVENTS
    assert count_stage_steps(EVENTS) == {"search": 9}


def test_what_is_no_number_is_null_in_the_file_and_nan_in_the_program(tmp_path):
    write(tmp_path, [progress(psnr=math.nan, seconds_left=math.nan)])
    assert json.loads((tmp_path / "events.jsonl").read_text())["psnr"] is None
    (event,) = read_events(tmp_path)
    assert math.isnan(event.psnr)
    assert math.isnan(event.seconds_left)


def test_unvalidated_progress_is_told_and_not_kept(tmp_path):
    assert write(tmp_path, [progress(validated=False)]).count == 0
    assert not (tmp_path / "events.jsonl").exists()


def test_what_came_after_the_saved_state_is_dropped(tmp_path):
    write(tmp_path, EVENTS)
    write(tmp_path, EVENTS[2:], count=2)
    assert read_events(tmp_path) == EVENTS


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    write(tmp_path, EVENTS)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "Fini')
    assert read_events(tmp_path) == EVENTS


@pytest.mark.parametrize("line", ["{", "3", '{"event": "Other"}', '{"event": "StageStarted", "stage": "search"}',
                                  '{"event": "StageStarted", "stage": "search", "steps": 1, "more": 2}'])  # fmt: skip
def test_what_is_no_event_is_refused(line, tmp_path):
    (tmp_path / "events.jsonl").write_text(line + "\n")
    with pytest.raises(RunError, match=r"events\.jsonl: does not hold the events of a search"):
        read_events(tmp_path)


def test_progress_of_earlier_versions_is_read():
    """They called anneal t."""
    stored = progress().model_dump(mode="json")
    stored["t"] = stored.pop("anneal")
    assert SearchProgress(**stored) == progress()


def test_settings_come_back_from_plain_values_of_this_version_and_earlier_ones():
    config = SearchConfig(Budgets(macs=3.0), steps=(1, 2, 3), arch_rate=0.5, shortened=((1, 2),))
    stored = json.loads(json.dumps(dataclasses.asdict(config)))
    assert read_settings(stored) == config
    stored["score_rate"] = stored.pop("arch_rate")
    assert read_settings(stored | {"order_weight": 0.0}) == config
    with pytest.raises(TypeError, match="unknown"):
        read_settings(stored | {"unknown": 1})
