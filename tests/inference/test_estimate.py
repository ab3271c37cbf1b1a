import pytest
from PIL import Image as PillowImage

from support.images import generated_photograph
from trinas.config import SaveConfig, SizeConfig, UpscaleConfig
from trinas.inference.batch import plan_jobs
from trinas.inference.cascade import Enlarger
from trinas.inference.estimate import estimate_jobs, peak_memory_bytes


@pytest.fixture
def enlarger():
    return Enlarger(None, UpscaleConfig(device="cpu", precision="fp32"))


def estimate(paths, folder, enlarger, save=None, **size):
    size, save = SizeConfig(**size), save or SaveConfig()
    return list(estimate_jobs(plan_jobs(paths, folder, size, save).jobs, enlarger, size, save))


def test_time_and_memory_grow_with_the_picture(tmp_path, enlarger):
    for side in (300, 900):
        PillowImage.fromarray(generated_photograph(side, side)).save(tmp_path / f"{side}.png")
    small, large = estimate([tmp_path / "300.png", tmp_path / "900.png"], tmp_path, enlarger, scale=4)
    assert large.seconds == pytest.approx(9 * small.seconds), "one picture of a kind is timed"
    # 4 bytes for each value of input and result, and for a result's values as integers and in its file.
    growth = (900**2 - 300**2) * 3 * (4 * (1 + 16) + 2 * 16)
    assert large.memory_bytes - small.memory_bytes == pytest.approx(growth, rel=0.5)
    assert small.memory_bytes > peak_memory_bytes() / 2
    assert (small.work.size, small.work.models) == ((1200, 1200), ["trinas-xs-x4"])
    assert not (tmp_path / "300_x4.png").exists()


def test_problems_are_told_and_results_that_exist_left_out(tmp_path, enlarger):
    PillowImage.fromarray(generated_photograph(20, 20)).save(tmp_path / "good.png")
    PillowImage.fromarray(generated_photograph(20, 20)).save(tmp_path / "done.png")
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/done_x4.png").write_bytes(b"")
    bad, good = estimate([tmp_path], tmp_path / "out", enlarger)
    assert (bad.work, bad.problem) == (None, f"{tmp_path / 'bad.png'}: the file is empty")
    assert good.problem == ""


def test_jpegs_are_timed_with_the_networks_that_they_get(tmp_path, enlarger):
    for quality in (50, 95):
        PillowImage.fromarray(generated_photograph(200, 200)).save(tmp_path / f"{quality}.jpg", quality=quality)
    compressed, good = estimate([tmp_path / "50.jpg", tmp_path / "95.jpg"], tmp_path, enlarger, scale=2)
    assert compressed.work.models == ["trinas-s-photo-x2"]
    assert compressed.work.why == "JPEG of quality 50"
    assert good.work.models == ["trinas-xs-x2"]
    assert good.work.why == ""
    assert compressed.seconds > good.seconds, "the photo network is several times as slow"


def test_transparent_pictures_can_be_timed_as_jpegs(tmp_path, enlarger):
    PillowImage.new("RGBA", (20, 20)).save(tmp_path / "logo.png")
    save = SaveConfig(suffix=".jpg", background="white")
    (estimated,) = estimate([tmp_path / "logo.png"], tmp_path, enlarger, save)
    assert estimated.seconds > 0
    (refused,) = estimate([tmp_path / "logo.png"], tmp_path, enlarger, SaveConfig(suffix=".jpg"))
    assert "cannot hold transparency" in refused.problem
