"""Each instance's report in the status folder."""

import os
from pathlib import Path

import pytest

from model_api.repository.statuses import beat_status, prune_statuses, read_statuses, remove_status, write_status


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
    write_status(tmp_path, "dead", {"models": []})
    removed: list[str] = []
    for _ in range(5):
        write_status(tmp_path, "alive", {"models": []})
        removed += prune_statuses(tmp_path)
    assert removed == ["dead"]
    assert list(read_statuses(tmp_path)) == ["alive"]


def test_an_instance_signs_off(tmp_path: Path) -> None:
    write_status(tmp_path, "i-1", {"models": []})
    remove_status(tmp_path, "i-1")
    remove_status(tmp_path, "i-1")
    assert read_statuses(tmp_path) == {}


def test_a_folder_that_does_not_exist_is_not_made_by_pruning(tmp_path: Path) -> None:
    assert prune_statuses(tmp_path / "status") == []
    assert not (tmp_path / "status").exists()
