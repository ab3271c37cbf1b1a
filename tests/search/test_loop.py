import dataclasses
import json
import shutil
import threading
from pathlib import Path

import pytest
import torch

import trinas.device
import trinas.search.finetune
import trinas.search.fit
import trinas.search.loop
import trinas.training.loop
from support.networks import same_weights
from support.runs import SEARCH_CONFIG as CONFIG
from support.runs import StopAfter
from trinas.config import Budgets
from trinas.device import torch_threads
from trinas.errors import BudgetError, DataError, ModelError, RunError
from trinas.networks.cost import compute_cost
from trinas.networks.space import SearchSpace
from trinas.search.budgets import find_smallest_choice
from trinas.search.loop import repeat_search, resume_search, search_network
from trinas.search.record import (
    STAGES,
    ArchitectureChosen,
    Finished,
    MeasuredTimes,
    Precisions,
    SearchProgress,
    StageStarted,
    read_search_record,
)
from trinas.search.run import check_search_resumable
from trinas.training.data import generate_images
from trinas.training.state import load_state, save_state
from trinas.zoo.folder import load_config, load_model, save_model
from trinas.zoo.record import ModelConfig

EDGE = SearchSpace("edge", 2, 8, 2, 2, 1)


@pytest.fixture(scope="module")
def photographs():
    return generate_images(6, 112, seed=7)


@pytest.fixture(scope="module")
def straight(photographs, tmp_path_factory):
    """A search that ran through, and what it told."""
    events = []
    run_dir = tmp_path_factory.mktemp("search") / "straight"
    result = search_network(EDGE, photographs, CONFIG, run_dir, on_event=events.append)
    assert result.finished
    return run_dir, result.network, events


@pytest.mark.parametrize("steps", [1, 3, 4, 11, 19, 20, 21, 22, 23])
def test_resuming_is_the_same_as_never_stopping(straight, photographs, tmp_path, steps):
    """Stopped in warm-up, search or fine-tuning, at their first and last steps too."""
    run_dir = tmp_path / "straight"
    assert not search_network(EDGE, photographs, CONFIG, run_dir, stop=StopAfter(steps)).finished
    resumed = resume_search(run_dir, photographs).network
    assert same_weights(resumed, straight[1])
    assert (run_dir / "model.safetensors").read_bytes() == (straight[0] / "model.safetensors").read_bytes()
    assert what_was_told(run_dir) == what_was_told(straight[0])


def what_was_told(run_dir):
    """The lines of events.jsonl without what the clock has a part in."""
    lines = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    clocks = ("seconds", "steps_per_second", "seconds_left")
    return [{key: value for key, value in line.items() if key not in clocks} for line in lines]


@pytest.mark.parametrize("lost", [["report.json"], ["report.json", "state.pt"]])
def test_what_a_kill_leaves_unwritten_is_made_up_for(straight, photographs, tmp_path, lost):
    """Killed after the last training step, and between the choice and the first training step."""
    run_dir = tmp_path / "straight"
    shutil.copytree(straight[0], run_dir)
    for name in lost:
        (run_dir / name).unlink()
    state = load_state(run_dir / "search.pt")
    save_state(run_dir / "search.pt", state | {"finished": False})
    assert same_weights(resume_search(run_dir, photographs).network, straight[1])
    assert json.loads((run_dir / "report.json").read_text())["steps"]["fine-tune"] == 4


@pytest.mark.parametrize("steps", [2, 11])
def test_a_state_of_an_earlier_version_is_resumed(straight, photographs, tmp_path, steps):
    """It called architecture parameters scores, and anneal t."""
    run_dir = tmp_path / "straight"
    assert not search_network(EDGE, photographs, CONFIG, run_dir, stop=StopAfter(steps)).finished
    state = load_state(run_dir / "search.pt")
    learner = state["learner"]
    learner["score_optimizer"] = learner.pop("arch_optimizer")
    for level in ("path", "primitive", "width"):
        new = "arch_path" if level == "path" else f"arch_{level}s"
        learner["supernet"][f"{level}_scores"] = learner["supernet"].pop(new)
    state["config"] |= {"score_rate": state["config"].pop("arch_rate"), "order_weight": 0.0}
    state["speeds"] = [{"t": entry["anneal"], "seconds": entry["seconds"]} for entry in state.pop("step_times")]
    state["told"] = state.pop("event_count")
    save_state(run_dir / "search.pt", state)
    assert same_weights(resume_search(run_dir, photographs).network, straight[1])
    assert what_was_told(run_dir) == what_was_told(straight[0])


def test_a_kill_between_the_two_states_takes_nothing_from_the_story(straight, photographs, tmp_path):
    """The training has saved its last step, the search has not heard of it yet."""

    def die(event):
        if isinstance(event, SearchProgress) and event.stage == "fine-tune" and event.validated:
            raise KeyboardInterrupt

    run_dir = tmp_path / "straight"
    with pytest.raises(KeyboardInterrupt):
        search_network(EDGE, photographs, CONFIG, run_dir, on_event=die)
    assert same_weights(resume_search(run_dir, photographs).network, straight[1])
    assert what_was_told(run_dir) == what_was_told(straight[0])


def test_what_was_killed_before_it_had_a_state_can_be_started_again(straight, photographs, tmp_path):
    def die(event):
        raise KeyboardInterrupt

    run_dir = tmp_path / "straight"
    with pytest.raises(KeyboardInterrupt):
        search_network(EDGE, photographs, CONFIG, run_dir, on_event=die)
    assert (run_dir / "events.jsonl").exists()
    assert same_weights(search_network(EDGE, photographs, CONFIG, run_dir).network, straight[1])
    assert what_was_told(run_dir) == what_was_told(straight[0])


def test_a_search_is_one_process_s_at_a_time(straight, photographs, tmp_path):
    refused = []

    def resume_too(event):
        if isinstance(event, SearchProgress) and event.validated and not refused:
            with pytest.raises(RunError, match="straight: another process is at work there"):
                resume_search(tmp_path / "straight", photographs)
            refused.append(event)

    network = search_network(EDGE, photographs, CONFIG, tmp_path / "straight", on_event=resume_too).network
    assert refused
    assert same_weights(network, straight[1])
    assert what_was_told(tmp_path / "straight") == what_was_told(straight[0])


@pytest.mark.parametrize("steps", [11, 22])
def test_resuming_keeps_the_threads_and_the_precision_of_the_run(photographs, tmp_path, monkeypatch, steps):
    """Whatever the machine it goes on with would choose."""
    config = dataclasses.replace(CONFIG, precision="auto")
    monkeypatch.setattr(trinas.device, "has_native_bf16", lambda device: True)
    threads = torch.get_num_threads()
    straight = search_network(EDGE, photographs, config, tmp_path / "straight").network
    assert not search_network(EDGE, photographs, config, tmp_path / "run", stop=StopAfter(steps)).finished
    monkeypatch.setattr(trinas.device, "has_native_bf16", lambda device: False)
    with torch_threads(threads + 1):
        resumed = resume_search(tmp_path / "run", photographs)
        assert torch.get_num_threads() == threads + 1, "the caller's own number is back"
    assert resumed.record.threads == threads
    assert same_weights(resumed.network, straight)
    reports = [read_search_record(tmp_path / name / "report.json") for name in ("straight", "run")]
    assert [report.precision.training for report in reports] == ["bf16", "bf16"]


def test_photographs_of_a_folder_named_generated_are_photographs(photographs, tmp_path):
    called = [dataclasses.replace(photo, path=Path("generated", f"{photo.path.name}.png")) for photo in photographs]
    assert not search_network(EDGE, called, CONFIG, tmp_path / "run", stop=StopAfter(3)).finished
    check_search_resumable(tmp_path / "run", generated=False)
    with pytest.raises(RunError, match="was started with images of generated; name their folders"):
        check_search_resumable(tmp_path / "run", generated=True)
    assert resume_search(tmp_path / "run", called).record.data.folders == ["generated"]


def test_a_finished_search_can_be_resumed_without_harm(straight, photographs, tmp_path):
    run_dir = tmp_path / "straight"
    shutil.copytree(straight[0], run_dir)
    before = {path.name: path.read_bytes() for path in run_dir.iterdir() if path.suffix in (".jsonl", ".safetensors")}
    assert same_weights(resume_search(run_dir, photographs).network, straight[1])
    assert before == {name: (run_dir / name).read_bytes() for name in before}


def test_the_result_is_a_model_within_its_budgets(straight):
    run_dir, network, _ = straight
    model = load_model(str(run_dir))
    assert same_weights(model.network, network)
    params = sum(parameter.numel() for parameter in network.parameters())
    assert 0.7 * 3000 <= params <= 3000
    assert model.config.training.started_from.method == "trilevel search"


def test_events_tell_the_story_in_order(straight):
    run_dir, network, events = straight
    assert [event.stage for event in events if isinstance(event, StageStarted)] == list(STAGES)
    assert [event.steps for event in events if isinstance(event, StageStarted)] == [3, 17, 4]
    progress = [event for event in events if isinstance(event, SearchProgress)]
    of_search = [event for event in progress if event.stage == "search"]
    assert [event.anneal for event in of_search] == sorted(event.anneal for event in of_search)
    assert of_search[0].anneal == 0
    assert of_search[-1].anneal == 1
    (chosen,) = (event for event in events if isinstance(event, ArchitectureChosen))
    assert chosen.spec == network.spec
    assert chosen.costs["params"] == compute_cost(network.spec).params
    assert isinstance(events[-1], Finished)
    lines = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    for event in progress:
        assert (event.mixtures is not None) == (event.validated and event.stage != "fine-tune")
    last = of_search[-1].mixtures
    assert [set(shares) for slots in last.primitives for shares in slots] == [{0.0, 1.0}] * 4
    kept = [event for event in events if not isinstance(event, SearchProgress) or event.validated]
    assert [line["event"] for line in lines] == [event.event for event in kept]


def test_the_report_says_how_the_result_came_about(straight, photographs):
    run_dir, network, _ = straight
    report = json.loads((run_dir / "report.json").read_text())
    assert report["steps"] == {"warm-up": 3, "search": 17, "fine-tune": 4}
    assert report["budgets"] == {"params": 3000}
    assert report["results"]["params"] == compute_cost(network.spec).params
    assert report["settings"]["seed"] == 0
    assert report["data"]["images"] == len(photographs)
    assert report["versions"]["torch"] == torch.__version__
    assert report["ms_per_mp"]["measured"] > 0
    anneals = [entry["anneal"] for entry in report["step_seconds"]]
    assert anneals == sorted(anneals)


def test_the_same_seed_gives_the_same_network_and_another_one_another(straight, photographs, tmp_path):
    same = search_network(EDGE, photographs, CONFIG, tmp_path / "same").network
    assert same_weights(same, straight[1])
    other = search_network(EDGE, photographs, dataclasses.replace(CONFIG, seed=1), tmp_path / "other").network
    assert not (other.spec == straight[1].spec and same_weights(other, straight[1]))


@pytest.mark.parametrize("name", ["paper-a", "paper-b"])
@pytest.mark.parametrize("scale", [2, 3])
def test_the_spaces_of_the_paper_can_be_searched(name, scale, tmp_path):
    space = SearchSpace(name, scale, 16, 2, 2, 1)
    config = dataclasses.replace(CONFIG, budgets=Budgets(params=9000), steps=(1, 4, 1))
    photographs = generate_images(4, 48 * scale, seed=1)
    network = search_network(space, photographs, config, tmp_path / "run").network
    assert network.spec.family == "paper"
    assert bool(network.spec.upsample_after) == (name == "paper-a")
    assert compute_cost(network.spec).params <= 9000


def test_every_budget_is_met(photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    smallest = compute_cost(EDGE.spec(find_smallest_choice(EDGE)))
    budgets = Budgets(params=4000, macs=2 * smallest.macs, ms_per_mp=1e6)
    config = dataclasses.replace(CONFIG, budgets=budgets, steps=(1, 3, 1))
    network = search_network(EDGE, photographs, config, tmp_path / "run").network
    cost = compute_cost(network.spec)
    assert cost.params <= 4000
    assert cost.macs <= 2 * smallest.macs
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["ms_per_mp"]["expected"] > 0


def pretend_times(monkeypatch, measured):
    """Parts promise 4 ms each; whole networks take what `measured` says of their parameters."""
    promised = torch.full((len(EDGE.primitives), len(EDGE.widths), len(EDGE.widths)), 4.0, dtype=torch.float64)
    monkeypatch.setattr(trinas.search.loop, "measure_times", lambda *_: MeasuredTimes(slot_ms=promised.tolist()))
    timed = []

    def network_time(spec, device, precision):
        timed.append(measured(compute_cost(spec).params))
        return timed[-1]

    monkeypatch.setattr(trinas.search.fit, "measure_spec_ms_per_mp", network_time)
    return timed


def test_a_network_that_takes_longer_than_promised_is_made_smaller(photographs, tmp_path, monkeypatch):
    timed = pretend_times(monkeypatch, lambda params: params / 400)
    config = dataclasses.replace(CONFIG, budgets=Budgets(params=5000, ms_per_mp=6.5), steps=(1, 2, 1))
    network = search_network(EDGE, photographs, config, tmp_path / "run").network
    assert len(timed) > 1
    assert timed[-1] == compute_cost(network.spec).params / 400 <= 6.5
    report = read_search_record(tmp_path / "run/report.json")
    assert len(report.times.slowdowns) == len(timed) - 1
    pretend_times(monkeypatch, lambda params: params / 50)  # a machine ten times as slow changes nothing
    again = repeat_search(report, photographs, tmp_path / "again").network
    assert same_weights(again, network)
    assert read_search_record(tmp_path / "again/report.json").times == report.times


def test_a_search_is_repeated_from_its_report(straight, photographs, tmp_path):
    report = read_search_record(straight[0] / "report.json")
    again = repeat_search(report, photographs, tmp_path / "again").network
    assert again.spec == report.spec
    assert same_weights(again, straight[1])
    with pytest.raises(RunError, match=r"learnt from 6 images of \(generated\) with other pixels than these 5"):
        repeat_search(report, photographs[:5], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_report_without_a_part_is_named(straight, tmp_path):
    report = json.loads((straight[0] / "report.json").read_text())
    for part in ("threads", "weights_sha256"):
        (tmp_path / "report.json").write_text(json.dumps({key: value for key, value in report.items() if key != part}))
        with pytest.raises(RunError, match=f"the report lacks {part}"):
            read_search_record(tmp_path / "report.json")
    (tmp_path / "report.json").write_text(json.dumps(report | {"data": 1}))
    with pytest.raises(RunError, match="is not the report of a search"):
        read_search_record(tmp_path / "report.json")


def test_a_repeated_search_runs_in_the_precision_and_on_the_device_of_the_first(photographs, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, precision="auto", device="auto", steps=(1, 2, 1))
    monkeypatch.setattr(trinas.device, "has_native_bf16", lambda device: True)
    first = search_network(EDGE, photographs, config, tmp_path / "run").network
    report = read_search_record(tmp_path / "run/report.json")
    assert report.precision == Precisions(training="bf16", running="fp32")
    monkeypatch.setattr(trinas.device, "has_native_bf16", lambda device: False)
    again = repeat_search(report, photographs, tmp_path / "again").network
    assert same_weights(again, first)
    repeated = read_search_record(tmp_path / "again/report.json")
    for part in ("precision", "device", "weights_sha256", "spec", "rates"):
        assert getattr(repeated, part) == getattr(report, part)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_measured_times_survive_a_stop(photographs, tmp_path, monkeypatch, steps):
    """In warm-up, in the search, and in fine-tuning after the network was made smaller."""
    pretend_times(monkeypatch, lambda params: params / 400)
    config = dataclasses.replace(CONFIG, budgets=Budgets(params=5000, ms_per_mp=6.5), steps=(1, 2, 4))
    straight = search_network(EDGE, photographs, config, tmp_path / "straight").network
    assert not search_network(EDGE, photographs, config, tmp_path / "run", stop=StopAfter(steps)).finished
    resumed = resume_search(tmp_path / "run", photographs).network
    assert same_weights(resumed, straight)
    first, second = (read_search_record(tmp_path / name / "report.json") for name in ("straight", "run"))
    assert first.times.slowdowns
    for part in ("times", "results", "weights_sha256"):
        assert getattr(second, part) == getattr(first, part)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "is not the report"), ('{"spec": 1}', "is not the report"), ("3", "is not the report")],
)
def test_what_is_no_report_is_named(content, complaint, tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(RunError, match=r"report\.json: cannot be read \(No such file"):
        read_search_record(path)
    path.write_text(content)
    with pytest.raises(RunError, match=complaint):
        read_search_record(path)


def test_a_time_that_cannot_be_reached_ends_the_search(photographs, tmp_path, monkeypatch):
    timed = pretend_times(monkeypatch, lambda params: 7.0)
    config = dataclasses.replace(CONFIG, budgets=Budgets(ms_per_mp=6.5), steps=(1, 2, 1))
    with pytest.raises(BudgetError, match=r"takes 7\.0 ms .* the budget is 6\.5, and no smaller one was found"):
        search_network(EDGE, photographs, config, tmp_path / "run")
    assert 1 < len(timed) <= 6


def test_a_teacher_is_imitated_in_the_fine_tuning(photographs, tmp_path, tiny_model_dir):
    config = dataclasses.replace(CONFIG, teacher=str(tiny_model_dir), steps=(1, 2, 2))
    taught = search_network(EDGE, photographs, config, tmp_path / "taught").network
    untaught = search_network(
        EDGE, photographs, dataclasses.replace(config, teacher=None), tmp_path / "untaught"
    ).network
    assert taught.spec == untaught.spec
    assert not same_weights(taught, untaught)
    report = read_search_record(tmp_path / "taught/report.json")
    assert report.taught_by.model_dump() == load_config(str(tmp_path / "taught")).training.taught_by.model_dump()
    assert same_weights(repeat_search(report, photographs, tmp_path / "again").network, taught)
    save_model(tiny_model_dir, taught, ModelConfig("tiny-model", taught.spec, "Apache-2.0"))
    with pytest.raises(RunError, match="tiny-model has other weights than when it taught"):
        repeat_search(report, photographs, tmp_path / "another")
    space, larger = dataclasses.replace(EDGE, scale=4), generate_images(3, 200, seed=0)
    config = dataclasses.replace(config, budgets=Budgets(params=9000))
    with pytest.raises(ModelError, match="upscales 2 times and cannot teach a network that upscales 4 times"):
        search_network(space, larger, config, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_minutes_become_steps_that_resuming_keeps(photographs, tmp_path):
    config = dataclasses.replace(CONFIG, steps=None, minutes=0.02)
    stop = threading.Event()

    def on_event(event):
        if isinstance(event, StageStarted) and event.stage == "search":
            stop.set()

    assert not search_network(EDGE, photographs, config, tmp_path / "run", on_event=on_event, stop=stop).finished
    counts = torch.load(tmp_path / "run/search.pt", weights_only=True)["counts"]
    assert len(counts) == 2
    assert min(counts) >= 1
    resume_search(tmp_path / "run", photographs)
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert list(report["steps"].values())[:2] == counts


def test_a_search_that_was_shortened_is_repeated_as_it_was(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(trinas.training.loop, "count_affordable_steps", lambda *_: 10**6)
    tuning = trinas.search.finetune._make_tuning_config
    monkeypatch.setattr(
        trinas.search.finetune,
        "_make_tuning_config",
        lambda session: dataclasses.replace(tuning(session), validate_every=2),
    )
    config = dataclasses.replace(CONFIG, steps=None, minutes=0.02)
    network = search_network(EDGE, photographs, config, tmp_path / "run").network
    report = read_search_record(tmp_path / "run/report.json")
    assert report.steps["fine-tune"] == 10**6
    assert report.shortened[-1][1] < 10**6
    again = repeat_search(report, photographs, tmp_path / "again").network
    assert same_weights(again, network)
    assert read_search_record(tmp_path / "again/report.json").shortened == report.shortened


@pytest.mark.parametrize(
    ("changes", "kind", "complaint"),
    [
        ({"budgets": Budgets(params=400)}, BudgetError, "the smallest has"),
        ({"budgets": Budgets(params=3000, macs=1e6)}, BudgetError, "multiply-adds: the smallest has"),
        (
            {"patch_px": 64},
            DataError,
            "training patch of 128x128, as are 5 more of the 6 images",
        ),
        ({"teacher": "nobody"}, ModelError, "nobody: no such model"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(changes, kind, complaint, photographs, tmp_path):
    with pytest.raises(kind, match=complaint):
        search_network(EDGE, photographs, dataclasses.replace(CONFIG, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_few_images_and_folders_in_use_are_refused(photographs, tmp_path):
    with pytest.raises(DataError, match="2 images are too few"):
        search_network(EDGE, photographs[:2], CONFIG, tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        search_network(EDGE, photographs, CONFIG, tmp_path / "run")


def test_only_the_run_s_own_images_resume_it(straight, photographs, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(straight[0], run_dir)
    with pytest.raises(RunError, match="other training images"):
        resume_search(run_dir, photographs[:-1])
    (run_dir / "search.pt").write_bytes(b"torn")
    with pytest.raises(RunError, match="damaged state"):
        resume_search(run_dir, photographs)


def test_a_loss_that_is_no_number_ends_the_run(photographs, tmp_path):
    ruinous = dataclasses.replace(CONFIG, weight_rate=1e18, clip_norm=1e30)
    with pytest.raises(RunError, match="the loss is no longer a number"):
        search_network(EDGE, photographs, ruinous, tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"steps": None}, "exactly one of steps and minutes"),
        ({"minutes": 1.0}, "exactly one of steps and minutes"),
        ({"steps": 0}, "steps must be one positive number or three"),
        ({"steps": (1, 2)}, "steps must be one positive number or three"),
        ({"arch_rate": 0.0}, "arch_rate must be positive"),
        ({"seed": -1}, "must not be negative"),
        ({"precision": "fp8"}, "precision must be"),
    ],
)
def test_bad_settings_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(CONFIG, **settings)


def test_a_search_of_other_primitives_is_neither_resumed_nor_repeated(straight, photographs, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(straight[0], run_dir)
    state = torch.load(run_dir / "search.pt", weights_only=True)
    supernet = state["learner"]["supernet"]
    supernet["arch_primitives"] = supernet["arch_primitives"][..., :-1]
    torch.save(state, run_dir / "search.pt")
    with pytest.raises(RunError, match="whose space edge had 1 primitives, not 2; start anew"):
        resume_search(run_dir, photographs)
    record = read_search_record(run_dir / "report.json")
    assert record.primitives == EDGE.primitives
    with pytest.raises(RunError, match="the space edge had other primitives when this search ran"):
        repeat_search(record.model_copy(update={"primitives": ("skip",)}), photographs, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_samples_that_an_earlier_version_did_not_write_are_written(straight, photographs, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(straight[0], run_dir)
    samples = {path.name: path.read_bytes() for path in run_dir.glob("sample-*.png")}
    for name in samples:
        (run_dir / name).unlink()
    assert resume_search(run_dir, photographs).finished
    assert {path.name: path.read_bytes() for path in run_dir.glob("sample-*.png")} == samples
    assert len(samples) == 3


def test_memory_that_is_too_small_in_the_fine_tuning_is_the_search_s(photographs, tmp_path, monkeypatch):
    def fail(*arguments):
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr("trinas.training.loop.TrainStep.__call__", fail)
    with pytest.raises(RunError, match=r"too small for this search; a smaller space \(--trunk-width, --cells\)"):
        search_network(EDGE, photographs, CONFIG, tmp_path / "run")
