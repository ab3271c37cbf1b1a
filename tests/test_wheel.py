"""What people install: the wheel alone, in an environment of its own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from support.images import generated_photograph
from trinas.zoo.bundled import list_bundled_models
from trinas.zoo.record import EXAMPLE_FILE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing of an earlier build gets in."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("trinas", "app", "models"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", folder / "dist", folder], check=True)
    return next((folder / "dist").glob("*.whl"))


def test_the_wheel_enlarges_an_image_in_a_clean_environment(wheel, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin/python"
    # Dependencies are lent by path; the editable install among them is not followed, so trinas is the wheel's.
    ours = Path(sysconfig.get_path("purelib"))
    theirs = environment / ours.relative_to(sys.prefix)
    (theirs / "dependencies.pth").write_text(f"{ours}\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True)
    PillowImage.fromarray(generated_photograph(24, 32)).save(tmp_path / "cat.png")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([environment / "bin/trinas-upscale", "cat.png", "-s", "4"], cwd=tmp_path, env=clean, check=True)
    with PillowImage.open(tmp_path / "upscaled/cat_x4.png") as picture:
        assert picture.size == (128, 96)
    code = (
        "import trinas, trinas_app, trinas_models; print(trinas.__file__, trinas_app.__file__, trinas_models.__file__)"
    )
    command = [python, "-c", code]
    places = subprocess.run(command, cwd=tmp_path, env=clean, check=True, capture_output=True, text=True).stdout
    assert all(place.startswith(str(theirs)) for place in places.split())


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"trinas", "trinas_app", "trinas_models"}
    for model in list_bundled_models():
        assert f"trinas_models/{model}/{EXAMPLE_FILE}" in names, "the card shows it"
    assert wheel.stat().st_size < 25_000_000
