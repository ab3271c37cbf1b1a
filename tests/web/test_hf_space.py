"""The Space: app/hf_space.py as a script, where nothing of ours is installed."""

import runpy
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
    print("ZeroGPU has a function", flush=True)
    return function
"""


class Space(Server):
    """The Space on a free port, with nothing on Python's path but `packages`."""

    def __init__(self, folder: Path, packages: Path) -> None:
        address = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(free_port())}
        self.start(folder, ["-c", UNINSTALLED], PYTHONPATH=str(packages), **address)


@pytest.mark.slow
def test_the_space_upscales_an_image_through_the_api_and_shows_zerogpu_a_function(tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "spaces.py").write_text(ZEROGPU)
    server = Space(tmp_path, packages)
    try:
        assert "ZeroGPU has a function" in server.said()
        image = tmp_path / "cat.png"
        PillowImage.fromarray(generated_photograph(24, 32)).save(image)
        client = Client(server.url, verbose=False, download_files=str(tmp_path / "got"))
        with PillowImage.open(client.predict(handle_file(str(image)), 4, "", api_name="/upscale")) as result:
            assert result.size == (128, 96)
        assert "trinas-xs-x4" in {model["name"] for model in client.predict(api_name="/models")}
        tabs = {part["props"]["label"] for part in client.config["components"] if part["type"] == "tabitem"}
        assert "Upscale" in tabs
        assert "Search" not in tabs
        client.close()
    finally:
        server.close()
    assert "Traceback" not in server.said()


def test_a_variable_allows_searches():
    read_search_minutes = runpy.run_path(str(SCRIPT))["read_search_minutes"]
    assert read_search_minutes({}) == 0
    assert read_search_minutes({"TRINAS_SEARCH_MINUTES": "5"}) == 5
    with pytest.raises(SystemExit, match=r"^TRINAS_SEARCH_MINUTES must be a number of minutes, got 'some'$"):
        read_search_minutes({"TRINAS_SEARCH_MINUTES": "some"})


def read_pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {package.lower().replace("_", "-"): version for package, version in pins}


def test_the_readme_tells_spaces_what_is_true():
    card = SpaceCard.load(ROOT / "README.md").data
    assert (card.sdk, card.sdk_version) == ("gradio", gradio.__version__)
    assert (ROOT / card.app_file) == SCRIPT
    assert len(card.short_description) <= 60, "the Hub refuses more"


def test_a_space_installs_every_dependency_in_the_version_that_is_tested():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {requirement.name: requirement for requirement in map(Requirement, project["dependencies"])}
    installed = read_pins("requirements.txt")
    assert set(installed) == set(wanted)
    assert all(installed[name] in wanted[name].specifier for name in wanted)
    tested = read_pins("constraints.txt")
    assert {name for name in installed if installed[name] != tested[name]} <= {"torch"}, "ZeroGPU lags behind"
