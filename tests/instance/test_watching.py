"""Processes that are there and don't do what they should: what is noticed, and what is left alone."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from model_api.instance.planning import Phase
from model_api.instance.version import Version
from model_api.instance.watching import SILENCE_S, START_TIMEOUT_S, Trouble, find_trouble
from model_api.repository.manifest import FileEntry, Manifest

MANIFEST = Manifest("m", "1", "embedding", (FileEntry("config.json", 1, "0" * 64),), 0)
NOW = 1000.0


@dataclass
class Group:
    """What is seen of a group."""

    leader_pid: int | None = 1
    began_at: float = NOW - 500
    heard_at: float = NOW
    n_lanes: int = 2
    living: int = 2
    stopped: bool = False

    def is_open(self) -> bool:
        return True

    def living_lanes(self) -> int:
        return self.living

    def is_stopped(self) -> bool:
        return self.stopped


LONG_AGO = NOW - SILENCE_S - 1


@pytest.mark.parametrize(
    ("phase", "group", "loading_since", "wanted"),
    [
        (Phase.READY, Group(), 0.0, None),
        (Phase.READY, Group(heard_at=LONG_AGO, stopped=True), 0.0, None),  # its lanes answer
        (Phase.READY, Group(living=0), 0.0, None),  # they are about to be started anew
        (Phase.READY, Group(heard_at=LONG_AGO, living=1), 0.0, "lanes are missing"),
        (Phase.LOADING, Group(leader_pid=None, began_at=NOW - 1), 0.0, None),
        (Phase.LOADING, Group(leader_pid=None, began_at=NOW - START_TIMEOUT_S - 1), 0.0, "the fork server"),
        (Phase.LOADING, Group(heard_at=LONG_AGO), 0.0, None),  # a copy may take hours
        (Phase.LOADING, Group(heard_at=LONG_AGO, stopped=True), 0.0, "was stopped"),
        (Phase.LOADING, Group(heard_at=LONG_AGO), NOW - 599, None),
        (Phase.LOADING, Group(), NOW - 601, "not loaded within 600 s"),
    ],
)
def test_trouble(phase: Phase, group: Group, loading_since: float, wanted: str | None) -> None:
    version = Version(MANIFEST, phase, cast(Any, group), loading_since=loading_since)
    found = find_trouble(version, NOW, 600.0)
    assert (found is None) == (wanted is None)
    assert wanted is None or (found is not None and wanted in found.reason)


def test_too_long_is_final_unless_somebody_stopped_it() -> None:
    running = Version(MANIFEST, Phase.LOADING, cast(Any, Group()), loading_since=1.0)
    assert find_trouble(running, NOW, 600.0) == Trouble(
        "not loaded within 600 s (MODEL_API_LOAD_TIMEOUT_S)", final=True
    )
    stopped = Version(MANIFEST, Phase.LOADING, cast(Any, Group(stopped=True)), loading_since=1.0)
    found = find_trouble(stopped, NOW, 600.0)
    assert found is not None
    assert not found.final


def test_a_loader_that_crashes_twice_is_final_and_a_killed_one_never() -> None:
    version = Version(MANIFEST)
    version.enter("loading")
    assert version.died_loading(-9) == ("its processes ended during loading (out of memory?)", False)
    assert version.died_loading(None)[1] is False
    assert version.died_loading(-11)[1] is False
    assert version.died_loading(-11) == ("its content crashes the process that loads it (SIGSEGV during loading)", True)
