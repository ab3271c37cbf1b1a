"""The tab of searches, as far as it needs neither a search nor a browser."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import pytest
from trinas_app.web import tab_search as tab_search_module
from trinas_app.web.backend import Backend
from trinas_app.web.components import Picker
from trinas_app.web.limits import Limits
from trinas_app.web.searches import SearchStatus
from trinas_app.web.tab_search import SearchTab

from support.processes import run_async
from trinas.reports.pages import PAGE_FILE
from trinas.search.record import Finished


@dataclass
class OneSearch:
    """Takes the place of `Searches`: one search that has a state."""

    folder: Path
    state: str = "finished"

    def status(self) -> SearchStatus:
        events = [Finished.__new__(Finished)] if self.state == "finished" else []
        return SearchStatus(self.folder / "run", self.state, events, 0, "")


@pytest.fixture
def search(tmp_path: Path) -> OneSearch:
    """A finished search without a network."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / PAGE_FILE).write_text("report")
    return OneSearch(tmp_path)


def make_tab(backend: Backend, search: OneSearch, is_loopback: bool = True) -> SearchTab:
    async def make() -> SearchTab:  # outside of an event loop Gradio would start one, and leave it open
        with gr.Blocks():
            return SearchTab(backend, search, Picker(backend.catalogue), is_loopback)

    return run_async(make())


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str, str]]:
    """What was pushed. The machine's owner is logged in."""
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    calls: list[tuple[Path, str, str]] = []

    def push_model(*arguments: Path | str) -> str:
        calls.append(arguments)
        return "https://hub.example/ann/net"

    monkeypatch.setattr(tab_search_module, "push_model", push_model)
    return calls


def test_a_push_takes_the_token_that_was_typed(backend, search, pushed):
    said, token = make_tab(backend, search)._push_network(" ann/net ", " hf_typed ")
    assert pushed == [(search.folder / "run", "ann/net", "hf_typed")]
    assert "https://hub.example/ann/net" in said
    assert token == "", "it does not stay in the page"


@pytest.mark.parametrize(
    ("repo", "token", "is_loopback", "state", "complaint"),
    [
        ("ann/net", "", True, "finished", "a token is needed"),
        ("ann/net", " \n", True, "finished", "a token is needed"),
        ("ann/net", "hf_typed", False, "finished", "nothing to share"),
        ("ann/net", "hf_typed", True, "running", "nothing to share"),
        ("", "hf_typed", True, "finished", "nothing: not a repository"),
        ("ann/net@main", "hf_typed", True, "finished", "not a repository"),
        ("https://hub.example/ann/net", "hf_typed", True, "finished", "not a repository"),
    ],
)
def test_nothing_is_pushed(backend, search, pushed, repo, token, is_loopback, state, complaint):
    search.state = state
    said, _ = make_tab(backend, search, is_loopback)._push_network(repo, token)
    assert complaint in said
    assert pushed == []


def test_a_network_that_cannot_be_used_is_an_error_in_one_line(backend, search):
    with pytest.raises(gr.Error, match=r"config\.json") as raised:
        make_tab(backend, search)._use_network()
    assert "\n" not in raised.value.message
    search.state = "running"
    with pytest.raises(gr.Error, match="no finished search"):
        make_tab(backend, search)._use_network()


def test_a_run_is_not_copied_to_a_disk_that_is_nearly_full(tmp_path, search, monkeypatch):
    monkeypatch.setattr(SearchStatus, "line", "Finished.")
    monkeypatch.setattr(tab_search_module, "render_live_drawings", lambda events: "")
    folder = tmp_path / "visitors"
    folder.mkdir()
    full, enough = (Backend.create(folder, Limits(free_mb=free), "cpu") for free in (1e12, 0))
    said, *_, version = make_tab(full, search)._watch("")
    assert "cannot be downloaded now: the disk of this server is nearly full" in said
    assert version == "", "the next call tries again"
    assert list(folder.iterdir()) == []
    tab = make_tab(enough, search)
    said, *_, version = tab._watch("")
    assert tab._watch("")[-1] == version
    assert "cannot" not in said
    assert version != ""
    assert len(list(folder.rglob("run.zip"))) == 1, "all visitors get the same file"
    for backend in (full, enough):
        backend.decoders.close()
