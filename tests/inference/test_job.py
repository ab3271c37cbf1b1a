"""A file is read once and decoded once, whatever is done with it."""

import sys
from collections import Counter

import pytest
from PIL import Image as PillowImage

from support.images import generated_photograph
from trinas.config import SaveConfig, SizeConfig
from trinas.images.read import ImageFile
from trinas.inference.batch import run_jobs
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.estimate import estimate_jobs
from trinas.inference.plan import plan_jobs

SIZE = SizeConfig(scale=2)
KINDS = ["plain.png", "compressed.jpg", "deep.tif", "opaque.png", "transparent.png"]

_opened: Counter[str] | None = None


def _count_open(event, arguments):
    if _opened is not None and event == "open":
        _opened[str(arguments[0])] += 1


sys.addaudithook(_count_open)  # cannot be taken back, so that it does nothing while nobody counts


@pytest.fixture
def opened(monkeypatch):
    """How often each file was opened."""
    counter = Counter()
    monkeypatch.setattr(sys.modules[__name__], "_opened", counter)
    return counter


@pytest.fixture
def decoded(monkeypatch):
    """How often each file was decoded."""
    counter, read = Counter(), ImageFile.read

    def counted_read(file):
        counter[file.path] += 1
        return read(file)

    monkeypatch.setattr(ImageFile, "read", counted_read)
    return counter


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in KINDS:
        image = PillowImage.fromarray(generated_photograph(16, 20))
        if name in ("opaque.png", "transparent.png"):
            image.putalpha(255 if name == "opaque.png" else 100)
        image.save(folder / name, **({"quality": 50} if name.endswith(".jpg") else {}))
    return folder


@pytest.fixture
def upscaler(tiny_model_dir):
    return CascadeUpscaler(str(tiny_model_dir), "cpu", "fp32")


@pytest.mark.parametrize("save", [SaveConfig(), SaveConfig(suffix=".jpg"), SaveConfig(suffix=".jpg", background="red")])
def test_a_run_opens_and_decodes_each_file_once(photos, tmp_path, upscaler, save, opened, decoded):
    jobs = plan_jobs([photos / name for name in KINDS], tmp_path / "out", SIZE, save).jobs
    opened.clear()  # planning looks at the first bytes
    states = [outcome.state for outcome in run_jobs(jobs, upscaler, SIZE, save)]
    refused = save == SaveConfig(suffix=".jpg")
    assert states == ["done"] * 4 + ["failed" if refused else "done"], "transparency does not fit into a JPEG"
    assert [opened[str(job.source)] for job in jobs] == [1] * 5
    assert [decoded[job.source] for job in jobs] == [1] * 5


def test_an_estimate_opens_each_file_once_and_decodes_one_of_a_kind(photos, tmp_path, upscaler, opened, decoded):
    save = SaveConfig(suffix=".jpg")
    jobs = plan_jobs([photos / name for name in KINDS], tmp_path / "out", SIZE, save).jobs
    opened.clear()
    estimates = list(estimate_jobs(jobs, upscaler, SIZE, save))
    assert [bool(estimate.problem) for estimate in estimates] == [False] * 4 + [True]
    assert [opened[str(job.source)] for job in jobs] == [1] * 5
    # The first is timed; of the last two it takes the pixels to know whether they are transparent.
    assert [decoded[job.source] for job in jobs] == [1, 0, 0, 1, 1]
