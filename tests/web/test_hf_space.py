"""The Space: app/hf_space.py as a script, where nothing of ours is installed."""

import os
import subprocess
import sys
from pathlib import Path

import gradio
import pytest
from gradio_client import Client, handle_file
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement
from PIL import Image as PillowImage

from support.images import generated_photograph
from support.web_server import Server, free_port

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "app" / "hf_space.py"

UNINSTALLED = f"""
import runpy, sys
# An editable install answers for our packages through finders of its own.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""

ZEROGPU = """
import sys
assert "torch" not in sys.modules, "ZeroGPU comes before torch"
def GPU(function):
    print("ZeroGPU has a function")
    return function
"""


class Space(Server):
    """The Space on a port that is free."""

    def __init__(self, folder: Path, **variables: str) -> None:
        address = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(free_port())}
        self.start(folder, ["-c", UNINSTALLED], **{"PYTHONPATH": "", **address, **variables})


def tabs(server: Server) -> set[str]:
    components = Client(server.url, verbose=False).config["components"]
    return {part["props"]["label"] for part in components if part["type"] == "tabitem"}


def test_the_space_enlarges_a_picture_through_the_api(tmp_path):
    server = Space(tmp_path)
    try:
        picture = tmp_path / "cat.png"
        PillowImage.fromarray(generated_photograph(24, 32)).save(picture)
        client = Client(server.url, verbose=False, download_files=str(tmp_path / "got"))
        with PillowImage.open(client.predict(handle_file(str(picture)), 4, "", api_name="/upscale")) as result:
            assert result.size == (128, 96)
        assert "trinas-xs-x4" in {model["name"] for model in client.predict(api_name="/models")}
        assert "Search" not in tabs(server)
    finally:
        server.close()
    assert "Traceback" not in server.said()


def test_with_zerogpu_and_with_searches_allowed(tmp_path):
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "spaces.py").write_text(ZEROGPU)
    server = Space(tmp_path, PYTHONPATH=str(tmp_path / "packages"), TRINAS_SEARCH_MINUTES="5", PYTHONUNBUFFERED="1")
    try:
        assert "ZeroGPU has a function" in server.said()
        assert "Search" in tabs(server)
    finally:
        server.close()


def test_a_setting_that_is_no_number_is_said_so(tmp_path):
    environment = os.environ | {"TRINAS_SEARCH_MINUTES": "some"}
    ended = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ended.returncode == 1
    assert ended.stderr == "TRINAS_SEARCH_MINUTES must be a number of minutes, got 'some'\n"


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {package.lower().replace("_", "-"): version for package, version in found}


def test_the_readme_says_to_spaces_what_is_so():
    card = SpaceCard.load(ROOT / "README.md").data
    assert (card.sdk, card.sdk_version) == ("gradio", gradio.__version__)
    assert (ROOT / card.app_file) == SCRIPT
    assert len(card.short_description) <= 60, "the Hub refuses more"


def test_a_space_installs_every_dependency_in_the_version_that_is_tested():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {requirement.name: requirement for requirement in map(Requirement, project["dependencies"])}
    installed = pins("requirements.txt")
    assert set(installed) == set(wanted)
    assert all(installed[name] in wanted[name].specifier for name in wanted)
    tested = pins("constraints.txt")
    assert {name for name in installed if installed[name] != tested[name]} <= {"torch"}, "ZeroGPU lags behind"
