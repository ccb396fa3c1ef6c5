"""Code that is compiled once per shape: by the fork server, which no shape may hurt."""

import queue
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from model_api.processes.fork_server import ForkServer
from model_api.processes.group import ProcessGroup
from model_api.processes.spec import LeaderSpec
from model_api.repository.reader import Repository
from tests.rigs.author import Author
from tests.rigs.models import BertSize, tiny_model
from tests.rigs.project import ROOT

OTHER = BertSize(hidden=32, layers=1, heads=2, ffn=64, vocabulary=200)


class Groups:
    """Process groups of published models, without a web process."""

    def __init__(self, folder: Path) -> None:
        (folder / "efs").mkdir()
        self.author = Author(folder / "efs")
        self._folder = folder
        self._fork_server = ForkServer()
        self._fork_server.start()
        self._groups: list[ProcessGroup] = []

    def close(self) -> None:
        for group in self._groups:
            group.close()
            group.join(10)
        self._fork_server.stop()

    def load(self, name: str, precision: str = "auto") -> list[Mapping[str, Any]]:
        """Its events until it is ready or gone."""
        published = Repository(self._folder / "efs").observe([name])[name]
        events: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        spec = LeaderSpec(
            manifest=published.manifests["1"],
            source=str(published.sources["1"]),
            immutable=True,
            protected=(),
            local_store=str(self._folder / "store"),
            store_budget_bytes=None,
            precision=precision,
            lanes=1,
            recheck_s=3600.0,
            trusted_signers=None,
        )
        self._groups.append(
            ProcessGroup(
                self._fork_server.spawn(spec.key()),
                spec,
                on_event=lambda group, event: events.put(event),
                on_lane=lambda: None,
                name=name,
            )
        )
        told = [events.get(timeout=60)]
        while told[-1]["event"] not in ("ready", "gone"):
            told.append(events.get(timeout=60))
        return told


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Groups]:
    found = Groups(tmp_path)
    yield found
    found.close()


def leaders(events: list[Mapping[str, Any]]) -> list[int]:
    return [event["pid"] for event in events if event["event"] == "started"]


@pytest.mark.integration
def test_the_first_of_a_shape_begins_again_and_the_others_find_it_warm(groups: Groups, tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two")):
        groups.author.publish(tiny_model(tmp_path / name, seed=number), name)
    groups.author.publish(tiny_model(tmp_path / "other", seed=3, size=OTHER), "other")
    first, second = groups.load("one"), groups.load("two")
    assert first[-1]["event"] == second[-1]["event"] == "ready"
    assert len(set(leaders(first))) == 2
    assert len(leaders(second)) == 1
    assert len(leaders(groups.load("other"))) == 2
    assert len(leaders(groups.load("two", "float32"))) == 2  # other code
    copies = [event for event in first if event.get("stage") == "copying"]
    assert copies, "nothing was copied"
    assert first.index(copies[-1]) < first.index(next(e for e in first[1:] if e["event"] == "started"))


@pytest.mark.integration
def test_shapes_beyond_the_most_are_served_as_before(groups: Groups, tmp_path: Path) -> None:
    begun = []
    for number in range(1, 7):
        size = BertSize(hidden=16 * number, layers=1, heads=2, ffn=32, vocabulary=200)
        groups.author.publish(tiny_model(tmp_path / f"m{number}", seed=1, size=size), f"m{number}")
        events = groups.load(f"m{number}")
        assert events[-1]["event"] == "ready"
        begun.append(len(leaders(events)))
    assert begun == [2, 2, 2, 2, 1, 1]


def run_alone(code: str) -> str:
    """In a process with one thread, as the fork server has."""
    head = (
        "from model_api.compute.encoder_shape import EncoderShape, _warmed\n"
        "from model_api.processes.model_side.shared_code import SharedCode\n"
        "shared = SharedCode()\n"
        "def shape(hidden=32, heads=2, tokens=64, ffn=48):\n"
        "    return EncoderShape(hidden, ffn, heads, tokens, ('gelu', 'none'), 'float32')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + code], cwd=ROOT, capture_output=True, text=True, env={"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_shape_that_fails_or_crashes_does_so_in_a_child_and_once() -> None:
    said = run_alone(
        "bad = shape(heads=5)\n"  # which doesn't divide 32
        "assert shared.worth_asking(bad)\n"
        "shared.ask(bad); shared.warm_what_was_asked()\n"
        "assert bad not in _warmed and not shared.worth_asking(bad)\n"
        "import os, signal\n"
        "dying = shape(hidden=64)\n"
        "EncoderShape.warm = lambda self: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "shared.ask(dying); shared.warm_what_was_asked()\n"
        "assert dying not in _warmed and not shared.worth_asking(dying)\n"
        "print('alive')\n"
    )
    assert said == "alive\n"


def test_what_was_asked_twice_is_warmed_once_and_large_shapes_are_left_alone() -> None:
    said = run_alone(
        "good = shape()\n"
        "shared.ask(good); shared.ask(good); shared.warm_what_was_asked()\n"
        "assert good in _warmed and not shared.worth_asking(good)\n"
        "shared.warm_what_was_asked()\n"  # nothing more
        "assert not shared.worth_asking(shape(hidden=8192))\n"
        "assert not shared.worth_asking(shape(tokens=100_000))\n"
        "assert not shared.worth_asking(shape(ffn=2**30))\n"
        "print(len(_warmed))\n"
    )
    assert said == "1\n"
