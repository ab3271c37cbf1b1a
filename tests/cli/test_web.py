"""The command `web`, without the server."""

import pytest
from trinas_app.web import server as server_module
from trinas_app.web.hosts import Hosts
from trinas_app.web.server import WebConfig

from support.command_line import run

NOTE = "note: everybody who can reach this machine can use the page; --auth asks for a password\n"


@pytest.fixture
def served(monkeypatch) -> list[WebConfig]:
    """What the command asks the server to serve."""
    asked: list[WebConfig] = []
    monkeypatch.setattr(server_module, "serve", asked.append)
    return asked


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ([], ""),
        (["--host", "::1"], ""),
        (["--host", "0.0.0.0"], NOTE),
        (["--host", "192.168.1.5"], NOTE),
        (["--allow-host", "photos.example"], NOTE),
        (["--host", "0.0.0.0", "--auth", "ann:secret"], ""),
    ],
)
def test_a_page_for_others_without_a_password_is_noted(served, options, note):
    result = run("web", "--device", "cpu", *options)
    assert (result.exit_code, result.stderr, len(served)) == (0, note, 1)


@pytest.mark.parametrize(
    "name", ["photos.example", "Photos.Example.", "nas.local:8080", "192.168.1.5", "[fe80::1]", "xn--bcher-kva.example"]
)
def test_a_name_may_be_allowed(served, name):
    assert run("web", "--device", "cpu", "--allow-host", name, "--allow-host", "other.example").exit_code == 0
    assert served[0].hosts == Hosts("127.0.0.1", (name, "other.example"))


@pytest.mark.parametrize(
    "name",
    ["", "*", "*.example", "https://photos.example", "photos.example/", "a,b", "a b", "a:b", "ann@photos.example",
     "bücher.example", "fe80::1", "a\nb"],
)  # fmt: skip
def test_what_is_no_name_cannot_be_allowed(served, name):
    result = run("web", "--device", "cpu", "--allow-host", name)
    assert (result.exit_code, served) == (2, [])
    assert "--allow-host is a name such as photos.example" in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("auth", ["ann", ":", "ann:", ":secret"])
def test_half_a_password_is_refused(served, auth):
    result = run("web", "--device", "cpu", "--auth", auth)
    assert (result.exit_code, served) == (2, [])
