"""When has a version arrived everywhere? The rules without threads, and the command against a real status folder."""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from model_api.publishing.commands import waiting
from model_api.publishing.commands.main import main
from model_api.publishing.commands.waiting import Sight, Verdict, Watch
from model_api.repository.refs import Canary, Ref, Refs
from model_api.repository.statuses import Status, write_status
from tests.rigs.model_folders import make_folder
from tests.rigs.stores import new_store

REF = Ref("2", "d" * 64)
REFS = Refs(4, REF, Ref("1", "c" * 64))
SERVING: Mapping[str, Any] = {"name": "mini", "version": "2", "digest": "d" * 64}
OLD: Mapping[str, Any] = {"name": "mini", "version": "1", "digest": "c" * 64}
REFUSING: Mapping[str, Any] = {**OLD, "refused": [{"version": "2", "reason": "no room"}]}


def sight(refs: Refs = REFS, **models: tuple[int, Mapping[str, Any]]) -> Sight:
    statuses = {instance: Status(instance, heartbeat, (model,)) for instance, (heartbeat, model) in models.items()}
    return Sight(refs, statuses)


@pytest.fixture
def watch() -> Watch:
    return Watch("mini", REF, canary=False, live_s=10)


def test_every_live_instance_must_serve_it(watch: Watch) -> None:
    assert watch.look(sight(a=(1, OLD), b=(1, OLD)), 0)[0] is None
    assert watch.look(sight(a=(2, SERVING), b=(2, OLD)), 1)[0] is None
    verdict, states = watch.look(sight(a=(3, SERVING), b=(3, SERVING)), 2)
    assert verdict is Verdict.CONVERGED
    assert {i: str(said) for i, said in states.items()} == {"a": "serving", "b": "serving"}


def test_one_look_proves_nobody_alive(watch: Watch) -> None:
    assert watch.look(sight(a=(7, SERVING)), 0)[0] is None
    assert watch.look(sight(a=(7, SERVING)), 9)[0] is None
    assert watch.look(sight(a=(7, SERVING)), 11)[0] is Verdict.NO_LIVE_STATUS


def test_no_status_at_all_is_a_verdict_of_its_own(watch: Watch) -> None:
    assert watch.look(sight(), 0)[0] is None
    assert watch.look(sight(), 11)[0] is Verdict.NO_LIVE_STATUS


def test_the_dead_do_not_hold_it_up(watch: Watch) -> None:
    watch.look(sight(a=(1, OLD), dead=(9, OLD)), 0)
    assert watch.look(sight(a=(2, SERVING), dead=(9, OLD)), 5)[0] is None
    assert watch.look(sight(a=(3, SERVING), dead=(9, OLD)), 11)[0] is Verdict.CONVERGED


def test_a_refusal_is_told_once_everyone_has_decided(watch: Watch) -> None:
    watch.look(sight(a=(1, OLD), b=(1, OLD)), 0)
    assert watch.look(sight(a=(2, REFUSING), b=(2, OLD)), 1)[0] is None
    verdict, states = watch.look(sight(a=(3, REFUSING), b=(3, SERVING)), 2)
    assert verdict is Verdict.REFUSED
    assert str(states["a"]) == "refused: no room"


def test_a_canary_is_looked_for_beside_stable() -> None:
    watch = Watch("mini", REF, canary=True, live_s=10)
    loading = {**OLD, "versions": [{"version": "2", "digest": "d" * 64, "state": "loading"}]}
    both = {**OLD, "versions": [{"version": "2", "digest": "d" * 64, "state": "ready"}]}
    refs = Refs(5, Ref("1", "c" * 64), canary=Canary("2", "d" * 64, 5))
    watch.look(sight(refs, a=(1, loading)), 0)
    assert watch.look(sight(refs, a=(2, loading)), 1)[0] is None
    assert watch.look(sight(refs, a=(3, both)), 2)[0] is Verdict.CONVERGED
    assert watch.words(Verdict.CONVERGED) == "every live instance has the canary ready"


def test_a_new_instance_counts_as_alive(watch: Watch) -> None:
    watch.look(sight(), 0)
    assert watch.look(sight(a=(1, SERVING)), 1)[0] is Verdict.CONVERGED


def beat(status_dir: Path, model: Callable[[], Mapping[str, Any]], stop: threading.Event) -> threading.Thread:
    """An instance that reports `model()` until `stop`."""

    def run() -> None:
        while not stop.wait(0.05):
            write_status(status_dir, "i-1", {"models": [model()]})

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize(("refuse", "code"), [(False, 0), (True, 4)])
def test_wait_follows_real_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str], refuse: bool, code: int) -> None:
    layout = new_store(tmp_path / "efs")

    def model() -> Mapping[str, Any]:
        if refuse:
            return {"name": "mini", "refused": [{"version": "1", "reason": "probe 0 is off"}]}
        refs = layout.refs("mini")
        digest = json.loads(refs.read_text())["stable"]["digest"] if refs.exists() else None
        return {"name": "mini", "version": "1", "digest": digest}

    stop = threading.Event()
    thread = beat(layout.statuses, model, stop)
    folder = make_folder(tmp_path / "a")
    try:
        assert main(["publish", str(folder), "--model", "mini", "--root", str(layout.root), "--wait"]) == code
    finally:
        stop.set()
        thread.join()
    assert ("i-1: refused: probe 0 is off" if refuse else "i-1: serving") in capsys.readouterr().out


def test_wait_without_any_instance_has_a_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = new_store(tmp_path / "efs")
    monkeypatch.setattr(waiting, "LIVE_S", 0.1)
    folder = make_folder(tmp_path / "a")
    arguments = ["publish", str(folder), "--model", "mini", "--root", str(layout.root), "--wait"]
    assert main(arguments) == 5
    assert main([*arguments, "--wait-timeout", "0"]) in (5, 6)
