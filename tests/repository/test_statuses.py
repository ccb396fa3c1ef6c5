"""Each instance's report in the status folder."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from model_api.repository.refs import Ref
from model_api.repository.statuses import (
    Said,
    Status,
    beat_status,
    prune_statuses,
    read_statuses,
    remove_status,
    write_status,
)


def test_the_heartbeat_counts_up_even_over_a_restart(tmp_path: Path) -> None:
    beats = []
    for _ in range(3):
        write_status(tmp_path / "status", "i-1", {"models": [{"name": "mini", "version": "1"}]})
        status = read_statuses(tmp_path / "status")["i-1"]
        beats.append(status.heartbeat)
    assert beats == sorted(set(beats))
    assert status.model("mini")["version"] == "1"
    assert status.model("other") == {}


def test_a_beat_is_seen_and_writes_nothing(tmp_path: Path) -> None:
    write_status(tmp_path, "i-1", {"models": []})
    before, written = read_statuses(tmp_path)["i-1"], (tmp_path / "i-1.json").read_bytes()
    os.utime(tmp_path / "i-1.json", (0, 0))
    beat_status(tmp_path, "i-1")
    after = read_statuses(tmp_path)["i-1"]
    assert after.heartbeat >= before.heartbeat
    assert after.heartbeat > 10**9
    assert (tmp_path / "i-1.json").read_bytes() == written
    with pytest.raises(FileNotFoundError):
        beat_status(tmp_path, "i-2")


def test_what_cannot_be_understood_is_left_out(tmp_path: Path) -> None:
    write_status(tmp_path, "good", {"models": []})
    (tmp_path / "half.json").write_text('{"instance": "ha')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "README").write_text("x")
    assert list(read_statuses(tmp_path)) == ["good"]
    assert read_statuses(tmp_path / "absent") == {}


def test_odd_instance_names_stay_inside_the_folder(tmp_path: Path) -> None:
    write_status(tmp_path / "status", "../../etc/x y", {"models": []})
    assert list(read_statuses(tmp_path / "status")) == ["../../etc/x y"]
    assert [path.name for path in tmp_path.iterdir()] == ["status"]


def test_the_dead_are_pruned_and_the_living_are_not(tmp_path: Path) -> None:
    def beat(instance: str, heartbeat: int) -> None:
        document = {"instance": instance, "heartbeat": heartbeat, "models": []}
        (tmp_path / f"{instance}.json").write_text(json.dumps(document))
        os.utime(tmp_path / f"{instance}.json", (1000, 1000))

    beat("dead", 7)
    beat("alive", 1)
    assert prune_statuses(tmp_path) == []
    beat("alive", 900)  # one beat short of the 900 that prove it
    assert prune_statuses(tmp_path) == []
    beat("alive", 901)
    assert prune_statuses(tmp_path) == ["dead"]
    assert list(read_statuses(tmp_path)) == ["alive"]


def test_many_publishes_in_a_row_remove_no_living_instance(tmp_path: Path) -> None:
    for instance in ("i-1", "i-2"):
        write_status(tmp_path, instance, {"models": []})
    for _ in range(50):
        assert prune_statuses(tmp_path) == []
    write_status(tmp_path, "i-2", {"models": []})
    assert prune_statuses(tmp_path) == []
    assert list(read_statuses(tmp_path)) == ["i-1", "i-2"]


def test_a_restarted_instance_is_not_taken_for_dead(tmp_path: Path) -> None:
    """Its heartbeat begins anew, below what was noted."""
    for _ in range(3):
        write_status(tmp_path, "i-1", {"models": []})
    prune_statuses(tmp_path)
    remove_status(tmp_path, "i-1")
    write_status(tmp_path, "i-1", {"models": []})
    assert prune_statuses(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", '{"beats": "many"}', '{"beats": 1, "seen": {"i-1": []}}'])
def test_notes_that_cannot_be_understood_are_begun_anew(tmp_path: Path, text: str) -> None:
    write_status(tmp_path, "i-1", {"models": []})
    (tmp_path / ".heartbeats.json").write_text(text)
    assert prune_statuses(tmp_path) == []
    assert json.loads((tmp_path / ".heartbeats.json").read_text())["seen"]["i-1"][1] == 0


def said(model: Mapping[str, Any] | None, **more: Any) -> Said:
    models = (model,) if model else ()
    return Status("i-1", 1, models, **more).said_of("mini", Ref("2", "d" * 64))


def test_what_an_instance_says_of_a_version() -> None:
    versions = [{"version": "2", "digest": "d" * 64, "state": "failed", "reason": "no room"}]
    old = {"name": "mini", "version": "1", "digest": "c" * 64}
    assert said(None) == Said("")
    assert said(None, only=("other",)) == Said("excluded")
    assert str(said(None, only=("other",))) == "excluded by MODEL_API_MODELS there"
    assert said({**old, "digest": "d" * 64}) == Said("serving")
    assert said({**old, "versions": versions}) == Said("failing", "no room")
    assert said({**old, "versions": [{**versions[0], "state": "waiting"}]}).state == "failing"
    assert said({**old, "versions": [{**versions[0], "state": "refused"}]}) == Said("refused", "no room")
    assert said({**old, "refused": [{"version": "2", "reason": "manifest.json: bad"}]}).state == "refused"
    assert said({**old, "versions": [{**versions[0], "state": "loading", "reason": None}]}) == Said("loading")


def test_an_instance_signs_off(tmp_path: Path) -> None:
    write_status(tmp_path, "i-1", {"models": []})
    remove_status(tmp_path, "i-1")
    remove_status(tmp_path, "i-1")
    assert read_statuses(tmp_path) == {}


def test_a_folder_that_does_not_exist_is_not_made_by_pruning(tmp_path: Path) -> None:
    assert prune_statuses(tmp_path / "status") == []
    assert not (tmp_path / "status").exists()
