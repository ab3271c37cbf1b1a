import pytest
from PIL import Image as PillowImage

import trinas.inference.estimate
from support.images import generated_photograph
from trinas.config import SaveConfig, SizeConfig
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.estimate import estimate_jobs, measure_peak_memory_bytes
from trinas.inference.plan import plan_jobs


@pytest.fixture
def upscaler():
    return CascadeUpscaler(None, "cpu", "fp32", "fast")


def estimate(paths, folder, upscaler, save=None, **size):
    size, save = SizeConfig(**size), save or SaveConfig()
    return list(estimate_jobs(plan_jobs(paths, folder, size, save).jobs, upscaler, size, save))


def test_time_and_memory_grow_with_the_image(tmp_path, upscaler):
    for side in (300, 900):
        PillowImage.fromarray(generated_photograph(side, side)).save(tmp_path / f"{side}.png")
    small, large = estimate([tmp_path / "300.png", tmp_path / "900.png"], tmp_path, upscaler, scale=4)
    assert large.seconds == pytest.approx(9 * small.seconds), "one image of a kind is timed"
    # 4 bytes for each value of input and result, and for a result's values as integers and in its file.
    growth = (900**2 - 300**2) * 3 * (4 * (1 + 16) + 2 * 16)
    assert large.memory_bytes - small.memory_bytes == pytest.approx(growth, rel=0.5)
    assert small.memory_bytes > measure_peak_memory_bytes() / 2
    assert (small.work.size, small.work.models) == ((1200, 1200), ["trinas-xs-x4"])
    assert not (tmp_path / "300_x4.png").exists()


def test_other_upscalers_are_timed_too(tmp_path, upscaler, monkeypatch):
    for side in (100, 200):
        PillowImage.fromarray(generated_photograph(side, side)).save(tmp_path / f"{side}.png")
    times = iter((1000.0, 3000.0))  # large, so that the time of reading does not count
    monkeypatch.setattr(trinas.inference.estimate, "time_fastest", lambda function, repeats: next(times))
    size, save = SizeConfig(scale=4), SaveConfig()
    jobs = plan_jobs([tmp_path / "100.png", tmp_path / "200.png"], tmp_path / "out", size, save).jobs
    best = CascadeUpscaler(None, "cpu", "fp32", "best")
    for estimated in estimate_jobs(jobs, upscaler, size, save, alternatives={"best": best}):
        assert estimated.alternatives == {"best": pytest.approx(3 * estimated.seconds, rel=0.01)}


def test_problems_are_told_and_results_that_exist_left_out(tmp_path, upscaler):
    PillowImage.fromarray(generated_photograph(20, 20)).save(tmp_path / "good.png")
    PillowImage.fromarray(generated_photograph(20, 20)).save(tmp_path / "done.png")
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/done_x4.png").write_bytes(b"")
    bad, good = estimate([tmp_path], tmp_path / "out", upscaler)
    assert (bad.work, bad.problem) == (None, f"{tmp_path / 'bad.png'}: the file is empty")
    assert good.problem == ""


def test_jpegs_are_timed_with_the_networks_that_they_get(tmp_path, upscaler, monkeypatch):
    timed = []

    def pretend_time(function, repeats):
        function()
        timed.append(1000.0 * (len(timed) + 1))
        return timed[-1]

    monkeypatch.setattr(trinas.inference.estimate, "time_fastest", pretend_time)
    for quality in (50, 95):
        PillowImage.fromarray(generated_photograph(200, 200)).save(tmp_path / f"{quality}.jpg", quality=quality)
    compressed, good = estimate([tmp_path / "50.jpg", tmp_path / "95.jpg"], tmp_path, upscaler, scale=2)
    assert compressed.work.models == ["trinas-s-photo-x2"]
    assert compressed.work.reason == "JPEG of quality 50"
    assert good.work.models == ["trinas-xs-x2"]
    assert good.work.reason == ""
    assert timed == [1000.0, 2000.0]
    assert good.seconds == pytest.approx(2 * compressed.seconds, rel=0.01), "each kind by its own time"


def test_transparent_images_can_be_timed_as_jpegs(tmp_path, upscaler):
    PillowImage.new("RGBA", (20, 20)).save(tmp_path / "logo.png")
    save = SaveConfig(suffix=".jpg", background="white")
    (estimated,) = estimate([tmp_path / "logo.png"], tmp_path, upscaler, save)
    assert estimated.seconds > 0
    (refused,) = estimate([tmp_path / "logo.png"], tmp_path, upscaler, SaveConfig(suffix=".jpg"))
    assert "cannot hold transparency" in refused.problem
