"""What one address may use up."""

import pytest
from trinas_app.web import allowance as allowance_module
from trinas_app.web.allowance import Allowance


class Clock:
    """A clock that only goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(allowance_module.time, "monotonic", stopped)
    return stopped


def test_an_allowance_is_used_up_and_grows_back(clock):
    allowance = Allowance(10, seconds=100)
    assert [allowance.take("192.0.2.1") for _ in range(10)] == [0] * 10
    assert allowance.take("192.0.2.1") == 10
    assert allowance.take("192.0.2.1") == 10, "asking costs nothing"
    assert allowance.take("192.0.2.2") == 0, "others have their own"
    clock.now += 10
    assert allowance.take("192.0.2.1") == 0
    assert allowance.take("192.0.2.1") == 10
    clock.now += 1000
    assert [allowance.take("192.0.2.1", 5) for _ in range(3)] == [0, 0, 50], "it does not grow beyond the whole"


def test_an_allowance_can_be_given_back(clock):
    allowance = Allowance(2, seconds=10)
    allowance.take("192.0.2.1", 2)
    allowance.give_back("192.0.2.1")
    allowance.give_back("192.0.2.9")
    assert allowance.take("192.0.2.1", 2) == 0


def test_more_than_the_whole_is_never_granted(clock):
    assert Allowance(10, seconds=10).take("192.0.2.1", 11) == 1


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("testclient", "testclient", True),
    ],
)
def test_a_household_has_one_allowance(clock, one, other, is_shared):
    allowance = Allowance(1, seconds=10)
    allowance.take(one)
    assert (allowance.take(other) > 0) == is_shared


def test_so_many_addresses_are_remembered_and_no_more(clock, monkeypatch):
    monkeypatch.setattr(allowance_module, "MOST_ADDRESSES", 3)
    allowance = Allowance(1, seconds=10)
    for number in range(1, 5):
        allowance.take(f"192.0.2.{number}")
    assert [allowance.take(f"192.0.2.{number}") > 0 for number in (4, 3, 2)] == [True] * 3
    assert allowance.take("192.0.2.1") == 0, "the oldest one is forgotten"
