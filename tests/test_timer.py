from trinas.timer import Timer, time_fastest


def test_a_timer_adds_up_its_blocks():
    timer = Timer()
    seen = []
    for _ in range(3):
        with timer:
            pass
        seen.append(timer.seconds)
    assert timer.laps == 3
    assert seen == sorted(seen)
    assert timer.seconds_per_lap == timer.seconds / 3


def test_the_fastest_of_several_runs_counts(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 29.0])  # runs of 5, 2 and 9 seconds
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert time_fastest(lambda: None, 3) == 2.0
