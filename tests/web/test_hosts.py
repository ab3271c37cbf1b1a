"""The names of the page, and the origins that belong to them."""

import pytest
from trinas_app.web.hosts import Hosts

LOCAL, OPEN = Hosts("127.0.0.1"), Hosts("0.0.0.0")
PROXIED = Hosts("127.0.0.1", ("Photos.example",))


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "127.0.0.2:80", "LOCALHOST:7860", "localhost.:7860"]
)
@pytest.mark.parametrize("hosts", [LOCAL, OPEN, PROXIED, Hosts("localhost"), Hosts("::1")])
def test_every_page_has_the_names_of_its_own_machine(hosts, host):
    assert hosts.has(host)


@pytest.mark.parametrize(
    "host",
    ["", ":7860", "evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example",
     "evil.example@127.0.0.1", "127.0.0.1/evil.example", "[::1", "localhost:x", "localhost,evil.example", "a b",
     "local\thost", "localhost?", "localhost#"],
)  # fmt: skip
@pytest.mark.parametrize("hosts", [LOCAL, OPEN, PROXIED])
def test_no_page_has_the_name_of_a_stranger(hosts, host):
    assert not hosts.has(host)


def test_an_address_cannot_be_rebound_but_a_page_for_one_machine_has_only_its_own():
    assert OPEN.has("192.168.1.5:7860")
    assert OPEN.has("[fe80::1]:7860")
    assert not LOCAL.has("192.168.1.5:7860")
    assert Hosts("pc.local").has("PC.local:7860")
    assert PROXIED.has("photos.example")
    assert PROXIED.has("photos.example:443")
    assert not PROXIED.has("other.photos.example")


def test_an_allowed_name_may_have_a_port():
    hosts = Hosts("0.0.0.0", ("NAS.local:8080",))
    assert hosts.has("nas.local:8080")
    assert hosts.has("nas.local"), "the server in front may leave the port out"
    assert hosts.complete("nas.LOCAL") == "NAS.local:8080"
    assert hosts.complete("nas.local:7860") == "nas.local:7860"
    assert hosts.complete("192.168.1.5") == "192.168.1.5"
    assert hosts.is_origin("http://nas.local:8080", "nas.local")
    assert not hosts.is_origin("http://nas.local:8081", "nas.local"), "another page of the same machine"
    assert not hosts.is_origin("http://nas.local", "nas.local:7860")


def test_a_page_with_further_names_is_not_for_one_machine():
    assert LOCAL.is_loopback
    assert Hosts("[::1]").is_loopback
    assert not PROXIED.is_loopback
    assert not OPEN.is_loopback


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:7860", "127.0.0.1:7860"),
        ("http://LOCALHOST:7860", "localhost:7860"),
        ("https://pc.local", "pc.local:443"),
        ("http://[::1]:7860", "[::1]:7860"),
        ("https://photos.example", "127.0.0.1:7860"),  # a server in front replaced the name
    ],
)
def test_the_page_is_its_own_origin(origin, host):
    assert PROXIED.is_origin(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "127.0.0.1:7860"),
        ("", ""),
        ("http://localhost:7860", "127.0.0.1:7860"),
        ("http://127.0.0.1:8000", "127.0.0.1:7860"),
        ("http://127.0.0.1", "127.0.0.1:7860"),
        ("https://photos.example:8443", "127.0.0.1:7860"),
        ("file://", ""),
        ("ftp://127.0.0.1:7860", "127.0.0.1:7860"),
    ],
)
def test_another_origin_is_not_the_page(origin, host):
    assert not PROXIED.is_origin(origin, host)
