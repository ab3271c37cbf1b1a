"""What one address may use up: wrong passwords, megabytes of uploads."""

import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from math import ceil

MOST_ADDRESSES = 10_000
"""Addresses that are remembered. The one that was seen longest ago is forgotten first."""


class Allowance:
    """An amount that each address may use up, and that grows back evenly.

    Args:
        most: the amount.
        seconds: the time in which all of it grows back.
    """

    def __init__(self, most: float, seconds: float) -> None:
        self._most, self._per_second = most, most / seconds
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()  # network -> amount, and when it was so much

    def take(self, address: str, amount: float = 1) -> int:
        """Use up some of an address's allowance.

        Returns:
            0 if there was enough left. Otherwise the whole seconds until there is, and nothing is used up.
        """
        network, now = _find_network(address), time.monotonic()
        used, since = self._used.pop(network, (0.0, now))
        used = max(0.0, used - (now - since) * self._per_second)
        excess = used + amount - self._most
        self._used[network] = (used if excess > 0 else used + amount, now)
        while len(self._used) > MOST_ADDRESSES:
            self._used.popitem(last=False)
        return max(0, ceil(excess / self._per_second))

    def give_back(self, address: str) -> None:
        """Let an address have its whole allowance again."""
        self._used.pop(_find_network(address), None)


def _find_network(address: str) -> str:
    """Return the address, or the 64 bits of an IPv6 address that one household shares."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
