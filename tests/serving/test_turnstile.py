import threading

import pytest

from model_api.serving.turnstile import Turnstile, leave_early
from tests.rigs.polling import wait_until


def test_so_many_at_a_time_and_who_waits_lets_the_next_one_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_api.serving.turnstile.PATIENCE_S", 20)
    turnstile = Turnstile(2)
    inside: list[int] = []
    waits, ends = threading.Event(), threading.Event()

    def work(number: int) -> None:
        turnstile.enter()
        inside.append(number)
        waits.wait(20)
        leave_early()
        leave_early()  # of no effect
        ends.wait(20)
        turnstile.leave()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(inside) == 2)
    assert turnstile._free._value == 0
    waits.set()
    wait_until(lambda: len(inside) == 6)  # though nobody has ended
    ends.set()
    for thread in threads:
        thread.join()
    assert turnstile._free._value == 2


def test_leaving_without_having_entered_is_nothing() -> None:
    leave_early()


def test_who_waited_long_goes_in_all_the_same() -> None:
    turnstile = Turnstile(1)
    turnstile.enter()

    def pass_through() -> None:
        turnstile.enter()
        turnstile.leave()

    other = threading.Thread(target=pass_through)
    other.start()
    other.join(20)
    assert not other.is_alive()
    turnstile.leave()
    assert turnstile._free._value == 1
