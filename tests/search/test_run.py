"""The course of a search: stages, rates, and which images move what."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from support.runs import SEARCH_CONFIG as CONFIG
from trinas.networks.space import SearchSpace
from trinas.search.loop import search_network
from trinas.search.pace import choose_arch_rate, choose_weight_rate, find_given_steps
from trinas.search.record import MeasuredTimes
from trinas.search.run import FINE_TUNE, SEARCH, WARM_UP, SearchRun
from trinas.search.step import Learner
from trinas.training.data import TrainingImage, generate_images, split

EDGE = SearchSpace("edge", 2, 8, 2, 2, 1)


def run_at(stage, step=0, **settings):
    config = dataclasses.replace(CONFIG, **settings)
    return SearchRun(EDGE, config, None, MeasuredTimes(), [], stage=stage, step=step, counts=[3, 101])


def test_anneal_waits_and_then_grows_evenly_to_one():
    assert [run_at(WARM_UP, step).anneal for step in (0, 2)] == [0, 0]
    assert [run_at(SEARCH, step).anneal for step in (0, 5, 15)] == [0, 0, 0]
    assert [run_at(SEARCH, step).anneal for step in (32, 49, 66, 83, 100)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert run_at(FINE_TUNE).anneal == 1


def test_rates_follow_the_width_the_steps_and_the_settings():
    assert choose_weight_rate(run_at(SEARCH)) == pytest.approx(0.024 / 8)
    assert choose_arch_rate(run_at(SEARCH)) == pytest.approx(4 / 101)
    assert choose_weight_rate(run_at(SEARCH, weight_rate=0.5)) == 0.5
    assert choose_arch_rate(run_at(SEARCH, arch_rate=0.5)) == 0.5
    long = run_at(SEARCH)
    long.counts[SEARCH] = 10**6
    assert choose_arch_rate(long) == 3e-4


def test_steps_are_given_shared_out_or_open():
    assert [find_given_steps(run_at(WARM_UP, steps=(7, 8, 9)), stage) for stage in (0, 1, 2)] == [7, 8, 9]
    assert [find_given_steps(run_at(WARM_UP, steps=1000), stage) for stage in (0, 1, 2)] == [40, 110, 850]
    assert find_given_steps(run_at(WARM_UP, steps=None, minutes=1), 0) is None


class Recorder(Learner):
    """Keeps the batches and the rates of each step."""

    weights, architecture, judged, warm_ups, searches = [], [], [], [], []

    def warm_up(self, batch, step, rate):
        self.weights.append(batch)
        self.warm_ups.append((step, rate))
        return super().warm_up(batch, step, rate)

    def search(self, weight_batch, arch_batch, anneal, weight_rate, arch_rate):
        self.weights.append(weight_batch)
        self.architecture.append(arch_batch)
        self.searches.append((anneal, weight_rate, arch_rate))
        return super().search(weight_batch, arch_batch, anneal, weight_rate, arch_rate)

    def choice_loss(self, batch, choice):
        self.judged.append(batch)
        return super().choice_loss(batch, choice)


@pytest.fixture
def recorder():
    lists = {name: [] for name in ("weights", "architecture", "judged", "warm_ups", "searches")}
    return type("FreshRecorder", (Recorder,), lists)


def levels_of(batches):
    """The grey levels of all patches; each image of `even` has one of its own."""
    return {round(float(patch.mean()) * 255) for _, high in batches for patch in high}


def test_weights_and_architecture_learn_from_different_images(recorder, tmp_path):
    """And neither from those that are held out."""
    even = [
        TrainingImage(Path(f"{level}.png"), np.full((112, 112, 3), level, np.uint8), f"{level:03}")
        for level in range(20, 220, 20)
    ]
    config = dataclasses.replace(CONFIG, steps=(6, 30, 1), batch_size=4)
    search_network(EDGE, even, config, tmp_path / "run", learner=recorder)
    weights, architecture = levels_of(recorder.weights), levels_of(recorder.architecture)
    learning = {int(photo.pixels[0, 0, 0]) for photo in split(even)[0]}
    assert not weights & architecture
    assert weights | architecture == learning
    assert abs(len(weights) - len(architecture)) <= 1
    assert levels_of(recorder.judged) <= architecture


def test_stages_hand_on_steps_rates_and_new_batches(recorder, tmp_path):
    result = search_network(EDGE, generate_images(6, 112, seed=7), CONFIG, tmp_path / "run", learner=recorder)
    rate = 0.024 / EDGE.trunk_width
    assert recorder.warm_ups == [(step, pytest.approx(rate * (step + 1) / 3)) for step in range(3)]
    assert [anneal for anneal, _, _ in recorder.searches] == pytest.approx(
        [max(0, (step / 16 - 0.15) / 0.85) for step in range(17)]
    )
    assert {(weights, architecture) for _, weights, architecture in recorder.searches} == {(rate, 4 / 17)}
    seen = {low.numpy().tobytes() for low, _ in (*recorder.weights, *recorder.architecture)}
    assert len(seen) == 3 + 2 * 17, "no batch comes twice"
    assert result.record.rates["architecture parameters"] == 4 / 17
    assert math.isfinite(result.record.validation_psnr)
