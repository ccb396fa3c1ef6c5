"""The progress line."""

import io

from model_api.publishing.commands.progress import ProgressLine, describe


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rate_and_time_left_are_told() -> None:
    line = describe("copying", 219_000_000, 438_000_000, 2.0)
    assert line == "copying 219 MB of 438 MB, 50 %, 110 MB/s, 2 s left"
    assert describe("copying", 0, 438_000_000, 2.0) == "copying 0 bytes of 438 MB, 0 %"
    assert describe("copying", 10, 10, 0.0) == "copying 10 bytes of 10 bytes, 100 %"


def test_a_terminal_gets_one_line_that_is_redrawn() -> None:
    stream, now = Terminal(), iter(range(100))
    with ProgressLine("copying", stream, lambda: next(now)) as line:
        for done in range(0, 101, 20):
            line.show(done, 100)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().count("\r") == 6


def test_elsewhere_there_is_a_plain_line_every_few_seconds() -> None:
    stream, now = io.StringIO(), iter(range(1000))
    with ProgressLine("copying", stream, lambda: next(now)) as line:
        for done in range(21):
            line.show(done, 20)
    lines = stream.getvalue().splitlines()
    assert 3 <= len(lines) <= 6
    assert lines[-1].startswith("copying 20 bytes of 20 bytes, 100 %")
    assert "\r" not in stream.getvalue()


def test_what_is_done_at_once_says_nothing_in_a_log() -> None:
    stream = io.StringIO()
    with ProgressLine("copying", stream, lambda: 0.0) as line:
        line.show(100, 100)
    assert stream.getvalue() == ""
