"""The web process's end of a process that encodes: every question gets its answer or an error, within its time."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from model_api.errors import DeadlineExceeded, ForwardFailed, LaneFailed, ModelNotReady, QueueFull
from model_api.processes import encoding_process
from model_api.processes.encoding_process import EncodingProcess
from model_api.processes.model_side.forking import fork_child
from model_api.processes.model_side.lane_loop import run_encoder
from model_api.tasks.text.encoding import ArrivedText, Encoded, LocalEncoder, answer_by
from tests.rigs.models import minilm_folder

TEXTS = ["the cat", "one dog, published twice", "naïve café, 東京, 🙂", "x" * 70_000, *["tea"] * 600]


class Started:
    """An EncodingProcess, and its other end in a process of its own."""

    def __init__(self, encoder: object) -> None:
        self.killed = threading.Event()
        self.process = EncodingProcess(self.killed.set)
        self._encoder = encoder
        self.pids: list[int] = []

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.pids.append(fork_child(lambda: run_encoder(theirs, self._encoder)))  # type: ignore[arg-type]
        self.process.connect(ours)

    def end(self) -> None:
        self.process.close()
        for pid in self.pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


class Wicked:
    """Does what the text says."""

    n_special = 0

    def encode(self, texts: list[str]) -> list[Encoded]:
        if texts[0] == "die":
            os._exit(1)
        if texts[0] == "hang":
            time.sleep(600)
        if texts[0] == "panic":
            raise BaseException("as a native library does")
        return [ArrivedText(np.zeros(len(text), np.int32), (0, 0)) for text in texts]


@pytest.fixture
def wicked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    monkeypatch.setattr(encoding_process, "ANSWER_TIMEOUT_S", 0.5)
    started = Started(Wicked())
    started.start()
    yield started
    started.end()


def test_it_encodes_and_decodes_as_the_encoder_does() -> None:
    local = LocalEncoder(minilm_folder())
    started = Started(local)
    started.start()
    apart, here = started.process.encode(TEXTS), local.encode(TEXTS)
    assert [list(one.ids) for one in apart] == [list(one.ids) for one in here]
    assert [one.ends for one in apart] == [one.ends for one in here]
    assert started.process.n_special == local.n_special
    assert started.process.decode(list(here[1].ids)) == local.decode(list(here[1].ids))
    started.end()


def test_a_panic_over_there_is_this_text_s(wicked: Started) -> None:
    with pytest.raises(ForwardFailed):
        wicked.process.encode(["panic"])
    assert len(wicked.process.encode(["ok"])[0].ids) == 2


def test_one_that_dies_is_told_and_the_next_one_answers(wicked: Started) -> None:
    with pytest.raises(LaneFailed):
        wicked.process.encode(["die"])
    wicked.start()
    assert len(wicked.process.encode(["ok"])[0].ids) == 2


def test_one_that_hangs_is_ended(wicked: Started) -> None:
    with pytest.raises(DeadlineExceeded):
        wicked.process.encode(["hang"])
    assert wicked.killed.is_set()


def test_no_question_is_begun_for_whom_nobody_waits(wicked: Started) -> None:
    with answer_by(time.monotonic() - 1), pytest.raises(DeadlineExceeded):
        wicked.process.encode(["die"])
    assert len(wicked.process.encode(["ok"])[0].ids) == 2  # it was never asked


def test_so_many_may_wait_and_all_hear_when_the_version_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_process, "MAX_WAITING", 2)
    process = EncodingProcess(lambda: None)  # none has been started yet
    heard: list[Exception] = []

    def ask() -> None:
        try:
            process.encode(["ok"])
        except (ModelNotReady, QueueFull) as error:
            heard.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    while not any(isinstance(error, QueueFull) for error in heard):
        assert any(thread.is_alive() for thread in threads)
    process.close()
    for thread in threads:
        thread.join(30)
    assert sorted(type(error).__name__ for error in heard) == ["ModelNotReady", "ModelNotReady", "QueueFull"]
