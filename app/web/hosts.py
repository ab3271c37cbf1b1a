"""The names by which the page may be reached.

A web site can give its own name the address of this machine (DNS rebinding). Then a browser takes the page for a part
of that site. The name in the request's Host header gives it away.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

LOOPBACK_NAME = "localhost"
NAME = re.compile(r"[a-z0-9_.-]+")
"""Browsers write all names so, also those with other letters (xn--...)."""


@dataclass(frozen=True)
class Hosts:
    """The names of the page."""

    listening: str
    """Name or address on which the server listens."""
    allowed: tuple[str, ...] = ()
    """Further names, such as that of a server in front of this one, each with its port unless that is the usual one."""

    @property
    def is_loopback(self) -> bool:
        """Whether only users of this machine can reach the page. They can read its folders anyway."""
        return _is_loopback(_strip(self.listening)) and not self.allowed

    def has(self, host: str) -> bool:
        """Return whether a Host header names the page. The port does not matter.

        An address cannot be rebound, so every address will do if the page is not for this machine alone.
        """
        name = read_name(host)
        if not name:
            return False
        known = _is_loopback(name) or name in (_strip(self.listening), *map(read_name, self.allowed))
        return known or (not self.is_loopback and _is_address(name))

    def complete(self, host: str) -> str:
        """Return a Host header with the port that a server in front has left out. The page makes addresses of it."""
        return next((each for each in self.allowed if read_name(each) == host.lower()), host)

    def is_origin(self, origin: str, host: str) -> bool:
        """Return whether an Origin header is that of the page.

        Args:
            origin: the header.
            host: the Host header of the same request. A server in front of this one may have replaced it, so the
                origin may also be an allowed name with its port.
        """
        scheme, _, place = origin.lower().partition("://")
        usual = {"http": ":80", "https": ":443"}.get(scheme)
        if usual is None:
            return False
        place = place.removesuffix(usual)
        return place == host.lower().removesuffix(usual) or place in map(str.lower, self.allowed)


def read_name(host: str) -> str:
    """Return the name in a Host header, in small letters and without the port. Empty: there is none."""
    if any(each in "/\\?#@" or not each.isprintable() for each in host):
        return ""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises ValueError
    except ValueError:
        return ""
    return (parts.hostname or "").removesuffix(".")


def is_name(text: str) -> bool:
    """Return whether a text is a name or an address as it is in a Host header, with or without a port."""
    name = read_name(text)
    return NAME.fullmatch(name) is not None or _is_address(name)


def _strip(name: str) -> str:
    return name.lower().strip("[]").removesuffix(".")


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == LOOPBACK_NAME


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
