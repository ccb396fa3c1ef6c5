"""What authors really do with good and refused versions, and what instances then serve. e1, e2 are good, bad ones are
refused by every load."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from model_api.instance.planning import Phase
from model_api.publishing.changes import read_refs
from model_api.publishing.commands import following, waiting
from model_api.publishing.commands.main import main
from model_api.publishing.draft import draft
from model_api.publishing.moves import take_back
from model_api.repository.refs import Ref
from model_api.repository.statuses import read_statuses
from tests.rigs.instances import Instance, living
from tests.rigs.model_folders import make_folder
from tests.rigs.polling import wait_until
from tests.rigs.stores import new_store, quiet


class Store:
    """A store with one model, and its author."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = new_store(folder / "efs")
        self.bad: set[str] = set()

    def instance(self, name: str, **how: object) -> Instance:
        return Instance(self.layout, name, refuses=self.bad, **how)  # type: ignore[arg-type]

    def model(self, name: str) -> Path:
        """A folder whose weights depend on its name; those called bad... are refused by every load."""
        folder = self.folder / name
        if not folder.exists():
            make_folder(folder, seed=sum(map(ord, name)))
            if name.startswith("bad"):
                self.bad.add(draft(folder, "mini", quiet).manifest.digest)
        return folder

    def publish(self, name: str, *more: str) -> int:
        return self.run("publish", str(self.model(name)), "--model", "mini", *more)

    def run(self, *arguments: str) -> int:
        return main([*arguments, "--root", str(self.layout.root)])

    def stable(self) -> str | None:
        stable = read_refs(self.layout, "mini").stable
        return stable.version if stable else None


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(waiting, "LIVE_S", 0.5)
    monkeypatch.setattr(waiting, "LOOK_EVERY_S", 0.05)
    return Store(tmp_path)


def serves(instance: Instance) -> str | None:
    return instance.serving.version if instance.serving else None


def publish_and_look(store: Store, names: Sequence[str], *instances: Instance) -> None:
    for name in names:
        assert store.publish(name) == 0
        for instance in instances:
            instance.look()


def test_refused_versions_in_a_row_leave_a_restart_with_the_good_one(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: e1, bad1, bad2: the refs named only the bad ones, a restart answered 503, and 1 could be retired."""
    old, new = store.instance("old"), store.instance("new")
    publish_and_look(store, ["e1", "bad1", "bad2"], old)
    new.look()
    assert (serves(old), serves(new)) == ("1", "1")
    assert store.run("retire", "mini", "1") == 3
    assert "mini@1 is the previous version" in capsys.readouterr().err


def test_a_rollback_skips_what_was_refused_and_says_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Seen: e1, bad1, e2, rollback: "version 2 is now stable", exit 0, and e2 went on serving."""
    old, new = store.instance("old"), store.instance("new")
    publish_and_look(store, ["e1", "bad1", "e2"], old)
    assert serves(old) == "3"
    capsys.readouterr()
    assert store.run("rollback", "mini") == 0
    said = capsys.readouterr().out
    assert "mini: version 1 is now stable (was 3)" in said
    assert "version 2 is passed over: it is refused by old: probe 0 is off" in said
    for instance in (old, new):
        instance.look()
        assert serves(instance) == "1"


def test_a_refused_version_is_not_promoted_unless_forced(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    instance = store.instance("i-1")
    publish_and_look(store, ["e1", "bad1"], instance)
    assert store.run("rollback", "mini") == 0
    assert store.run("promote", "mini", "2") == 3
    assert "mini@2 is refused by i-1: probe 0 is off; --force overrides this" in capsys.readouterr().err
    assert store.stable() == "1"
    assert store.run("promote", "mini", "2", "--force") == 0
    assert store.stable() == "2"


def test_a_refused_canary_is_not_promoted(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    instance = store.instance("i-1")
    publish_and_look(store, ["e1"], instance)
    assert store.publish("bad1", "--canary", "5") == 0
    instance.look()
    assert store.run("promote", "mini") == 3
    assert "mini@2 is refused by i-1" in capsys.readouterr().err
    assert store.stable() == "1"
    assert read_refs(store.layout, "mini").canary is not None
    assert store.run("rollback", "mini") == 0
    assert store.publish("bad1", "--canary", "5") == 3  # it is known by now


def test_old_and_new_instances_end_with_the_same_version(store: Store) -> None:
    """Seen: a rollback seconds after a promote, and they served different versions: what an instance happened to serve
    came before what the refs name."""
    old, new = store.instance("old"), store.instance("new")
    publish_and_look(store, ["e1", "e2"], old)
    publish_and_look(store, ["bad1"], old)
    assert store.run("promote", "mini", "1") == 0
    assert store.run("promote", "mini", "3", "--force") == 0  # as a rollback did, before the instance looked
    old.look()
    new.look()
    assert serves(old) == serves(new)


def test_promote_and_rollback_say_what_they_saw(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    instances = [store.instance(f"i-{n}") for n in (1, 2)]
    picky = Instance(store.layout, "i-3")
    publish_and_look(store, ["e1", "e2"], *instances, picky)
    one = read_refs(store.layout, "mini").previous
    assert one is not None
    picky.refuses.add(one.digest)
    assert store.run("rollback", "mini") == 0
    for instance in (*instances, picky):
        instance.look()
    capsys.readouterr()
    assert store.run("promote", "mini", "1", "--force") == 0
    said = capsys.readouterr().out
    assert "nothing changed" in said
    assert "2 of 3 instances serve it, i-3 refuses: probe 0 is off" in said


def test_without_instances_they_say_that_nobody_reports(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    publish_and_look(store, ["e1", "e2"])
    assert store.run("rollback", "mini") == 0
    assert "mini: version 1 is now stable (was 2)\n  no instance reports yet\n" in capsys.readouterr().out


def test_publish_speaks_of_loading_not_of_serving(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.publish("e1") == 0
    said = capsys.readouterr().out
    assert "mini: published as version 1; instances load it now" in said
    assert "stable" not in said


def test_retire_asks_the_living(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """What a live instance serves stays, whatever the refs say; what a dead one served last doesn't matter."""
    publish_and_look(store, ["e1", "e2", "e3", "e4"])
    one = Ref("1", read_refs(store.layout, "mini").published["1"])

    class Stuck(Instance):
        """It reports, and doesn't get at the refs any more."""

        def look(self, report: bool = True) -> None:
            self.report()

    stuck = Stuck(store.layout, "i-1", have={one: Phase.READY}, serving=one)
    with living(stuck, store.instance("i-2")):
        assert store.run("promote", "mini", "4", "--wait", "--wait-timeout", "1") == 6
        assert store.run("retire", "mini", "1") == 3
        assert "mini@1 is what i-1 serves; --force" in capsys.readouterr().err
    assert store.run("retire", "mini", "1") == 0  # it is dead now


def test_wait_on_each_command(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with living(store.instance("i-1"), store.instance("i-2")):
        assert store.publish("e1", "--wait") == 0
        assert store.publish("e2", "--wait") == 0
        assert store.run("rollback", "mini", "--wait") == 0
        assert store.run("promote", "mini", "2", "--wait") == 0
        assert store.publish("e3", "--wait") == 0
        said = capsys.readouterr().out
        assert said.count("every live instance serves it") == 5
        assert store.run("promote", "mini", "2", "--wait") == 0
        assert store.run("retire", "mini", "1", "--wait") == 0
        assert "mini@1: no live instance has it any more" in capsys.readouterr().out
        assert store.run("retire", "mini", "--all", "--wait") == 0
        assert store.run("promote", "mini", "2", "--wait") == 0
        assert store.run("delete", "mini", "--yes", "--wait") == 0
        assert "mini: no live instance has it any more" in capsys.readouterr().out


def test_wait_writes_the_proof_down(store: Store) -> None:
    with living(store.instance("i-1")):
        assert store.publish("e1", "--wait") == 0
    refs = read_refs(store.layout, "mini")
    assert (refs.proven, refs.last_good) == (("1",), refs.stable)


def test_wait_tells_refused_silent_and_excluded_apart(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.instance("i-dead").report()
    with living(store.instance("i-1"), store.instance("i-2", only=["other"])):
        assert store.publish("e1", "--wait") == 0
        said = capsys.readouterr().out
        assert "i-1: serving" in said
        assert "i-2: excluded by MODEL_API_MODELS there" in said
        assert "i-dead: silent, its heartbeat stands still" in said
        assert store.publish("bad1", "--wait") == 4
        assert "i-1: refused: probe 0 is off" in capsys.readouterr().out
    with living(store.instance("i-1", only=["other"])):
        assert store.publish("e2", "--wait") == 8
        assert "no live instance is set up to serve it (MODEL_API_MODELS)" in capsys.readouterr().out


def test_wait_ends_when_somebody_else_goes_on(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Never "every live instance serves it" of what isn't stable."""
    slow = draft(store.model("e1"), "mini", quiet).manifest.digest
    codes: list[int] = []
    waiter = threading.Thread(target=lambda: codes.append(store.publish("e1", "--wait")))
    with living(store.instance("i-1", slow={slow})):
        waiter.start()
        wait_until(lambda: store.stable() == "1", what="the first author's publish")
        assert store.publish("e2") == 0
        waiter.join()
    assert codes == [7]
    said = capsys.readouterr().out
    assert "mini@1: superseded by version 2" in said
    assert "every live instance" not in said


def test_a_load_that_does_not_end_is_loading_until_the_timeout(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = draft(store.model("e1"), "mini", quiet).manifest.digest
    with living(store.instance("i-1", slow={slow})):
        assert store.publish("e1", "--wait", "--wait-timeout", "1") == 6
    assert "i-1: loading" in capsys.readouterr().out


def test_an_atomic_publish_goes_back_by_itself(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    instance = store.instance("i-1")
    with living(instance):
        assert store.publish("e1", "--wait") == 0
        before = read_refs(store.layout, "mini")
        assert store.publish("bad1", "--atomic") == 4
        assert "mini: version 2 is refused; version 1 is stable again" in capsys.readouterr().out
        after = read_refs(store.layout, "mini")
        assert (after.stable, after.previous, after.canary) == (before.stable, before.previous, before.canary)
        assert "2" in after.refused
        assert store.publish("bad2", "--canary", "5", "--atomic") == 4
        assert "version 3 is refused and no canary any more" in capsys.readouterr().out
        assert store.publish("e2", "--atomic") == 0
    assert store.stable() == "4"


def test_an_atomic_publish_undoes_a_first_one_too(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with living(store.instance("i-1")):
        assert store.publish("bad1", "--atomic") == 4
    assert "nothing is stable, as before" in capsys.readouterr().out
    assert store.stable() is None


def test_atomic_never_undoes_somebody_elses_newer_change(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_and_look(store, ["e1"])

    def after_another_author(*arguments: object, **more: object) -> object:
        assert store.publish("e2") == 0
        return take_back(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(following, "take_back", after_another_author)
    with living(store.instance("i-1")):
        assert store.publish("bad1", "--atomic") == 4
    assert "somebody else's newer change stays: version 3 is stable" in capsys.readouterr().out
    assert store.stable() == "3"


def test_expect_previous_is_a_compare_and_set(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.publish("e1", "--expect-previous", "none") == 0
    assert store.publish("e2", "--expect-previous", "1") == 0
    for arguments in (["rollback", "mini"], ["promote", "mini", "1"], ["delete", "mini", "--yes"]):
        assert store.run(*arguments, "--expect-previous", "1") == 1
        assert "version 2 is stable, not 1 as --expect-previous says; nothing changed" in capsys.readouterr().err
    assert store.publish("e3", "--expect-previous", "1") == 1
    assert store.stable() == "2"
    assert not store.layout.version("mini", "3").exists()


def test_an_older_releases_statuses_still_prove(store: Store) -> None:
    """They name no `only`, no `sim`; and their refs have no `last_good`."""
    publish_and_look(store, ["e1"])
    refs = json.loads(store.layout.refs("mini").read_text())
    for key in ("last_good", "proven", "refused"):
        del refs[key]
    store.layout.refs("mini").write_text(json.dumps(refs))
    store.instance("i-1").look()
    (file,) = store.layout.statuses.glob("i-1.json")
    raw = json.loads(file.read_text())
    file.write_text(json.dumps({key: raw[key] for key in ("instance", "heartbeat", "models")}))
    assert list(read_statuses(store.layout.statuses)) == ["i-1"]
    assert store.publish("bad1") == 0
    refs_now = read_refs(store.layout, "mini")
    assert refs_now.last_good is not None
    assert refs_now.last_good.version == "1"


def test_files_that_are_gone_are_noticed_before_they_serve(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    publish_and_look(store, ["e1", "e2"])
    (store.layout.version("mini", "1") / "model.safetensors").unlink()
    assert store.run("rollback", "mini") == 3
    assert "model.safetensors: missing or cut short in mini@1" in capsys.readouterr().err
    assert store.stable() == "2"


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("canary", "ambiguous"),
        ("stable", "ambiguous"),
        ("9" * 64, "at most 9 digits"),
        ("x" * 65, "1 to 64 of a-z"),
    ],
)
def test_versions_that_would_confuse_are_refused(
    store: Store, capsys: pytest.CaptureFixture[str], version: str, words: str
) -> None:
    assert store.publish("e1", "--version", version) == 3
    assert words in capsys.readouterr().err
    assert store.publish("e1") == 0
    assert store.stable() == "1"
