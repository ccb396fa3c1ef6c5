"""One folder that hangs, fails or is somebody's mistake keeps no other waiting, and shows why."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_api.repository import inspection
from model_api.repository.fair_looks import FairLooks
from model_api.repository.layout import Layout
from model_api.repository.listing import shown
from model_api.repository.published import Published
from model_api.repository.reader import Repository
from model_api.repository.side_work import SideWork
from tests.rigs.clock import Clock
from tests.rigs.fuse_efs import FuseEfs, fuse_efs
from tests.rigs.model_folders import make_folder
from tests.rigs.polling import wait_until
from tests.rigs.stores import new_store, published


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_store(tmp_path / "efs")


class Held:
    """Work that hangs for those names that are held."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.released = threading.Event()
        self.done: list[str] = []

    def __call__(self, name: str) -> str:
        if name in self.names:
            self.released.wait(30)
        self.done.append(name)
        return name.upper()


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held("b", "d")
    yield held
    held.released.set()


def test_who_hangs_is_left_behind_and_taken_up_again_later(held: Held) -> None:
    looks: FairLooks[str] = FairLooks("test looks", patience_s=0.2)
    assert looks.take_turns("abcde", held) == {"a": "A", "c": "C", "e": "E"}
    assert (looks.hanging_s("b") or 0) >= 0.2
    assert looks.hanging_s("a") is None
    assert looks.take_turns("abcde", held) == {"a": "A", "c": "C", "e": "E"}
    assert held.done.count("b") == 0
    held.released.set()
    wait_until(lambda: looks.hanging_s("b") is None and looks.hanging_s("d") is None)
    assert looks.take_turns("abcde", held) == {name: name.upper() for name in "abcde"}


def test_more_hang_than_there_are_threads(held: Held) -> None:
    looks: FairLooks[str] = FairLooks("test looks", patience_s=0.1)
    held.names = {f"hang{n}" for n in range(40)}
    seen = looks.take_turns(["first", *sorted(held.names), "last"], held)
    assert "first" in seen
    assert sum(thread.name == "test looks" for thread in threading.enumerate()) <= 16
    held.released.set()
    wait_until(lambda: not any(thread.name == "test looks" for thread in threading.enumerate()))
    assert len(looks.take_turns(sorted(held.names), held)) == 40


def test_side_work_goes_round_whatever_hangs(held: Held) -> None:
    work: SideWork[str] = SideWork("test work", at_a_time=2, patience_s=0.3)
    for name in "abcdefg":
        work.ask(name, lambda on_progress, name=name: held(name))  # type: ignore[misc]
    outcomes: dict[str, object] = {}

    def collect() -> bool:
        outcomes.update({name: outcome for name in "abcdefg" if (outcome := work.outcome(name)) is not None})
        return set(outcomes) == set("acefg")

    wait_until(collect)
    assert work.is_running("b")
    assert work.is_running("d")
    work.forget("b")
    held.released.set()
    wait_until(lambda: work.outcome("d") == "D")
    assert work.outcome("b") is None


def test_side_work_that_moves_is_not_taken_for_stuck() -> None:
    work: SideWork[int] = SideWork("test work", at_a_time=1, patience_s=0.3)
    finish = threading.Event()

    def slow(on_progress: object) -> int:
        while not finish.wait(0.01):
            on_progress()  # type: ignore[operator]
        return 1

    work.ask("slow", slow)
    work.ask("next", lambda on_progress: 2)
    until = time.monotonic() + 0.6
    wait_until(lambda: work.outcome("next") is not None or time.monotonic() > until)
    assert not work.is_running("next")
    finish.set()
    wait_until(lambda: work.outcome("next") == 2)


def test_any_exception_is_an_outcome() -> None:
    work: SideWork[int] = SideWork("test work")

    def deep(on_progress: object) -> int:
        raise RecursionError("too deep")

    work.ask("deep", deep)
    assert isinstance(wait_until(lambda: work.outcome("deep")), RecursionError)
    assert work.outcome("deep") is None


def look(repository: Repository, clock: Clock, after_s: float = 0.0) -> dict[str, Published]:
    """Whole looks until nothing is worked on, `after_s` later on the test's clock."""
    clock.now_s += after_s
    repository.observe(None)
    wait_until(lambda: not any(t.name == "hash plain folders" for t in threading.enumerate()), within_s=60)
    return dict(repository.observe(None))


def test_a_file_that_cannot_be_read_keeps_no_later_folder_waiting(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a user who may not read it; the tests may run as root, whom no mode stops."""
    clock = Clock()
    repository = Repository(layout.root, 3, clock)
    for name in ("a-closed", "b-open", "c-open"):
        make_folder(layout.model(name), seed=ord(name[0]))
    hash_folder, tries = inspection.hash_folder, []

    def denied(name: str, folder: Path, *arguments: object) -> object:
        if name == "a-closed":
            tries.append(name)
            raise PermissionError(13, "Permission denied", str(folder / "model.safetensors"))
        return hash_folder(name, folder, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(inspection, "hash_folder", denied)
    look(repository, clock)
    seen = look(repository, clock, after_s=4)
    assert seen["b-open"].refs is not None
    assert seen["c-open"].refs is not None
    reason = "model.safetensors: can't be read here: Permission denied; chmod -R a+rX a-closed"
    assert seen["a-closed"].refused == {"": reason}
    assert not seen["a-closed"].waiting
    assert look(repository, clock)["a-closed"].refused == {"": reason}
    assert len(tries) == 1  # it is tried again, after a pause that grows
    look(repository, clock, after_s=3)
    look(repository, clock, after_s=3)
    assert len(tries) == 2
    monkeypatch.setattr(inspection, "hash_folder", hash_folder)
    assert look(repository, clock, after_s=60)["a-closed"].refs is not None


@pytest.mark.integration
def test_a_folder_that_hangs_keeps_no_other_waiting(tmp_path: Path) -> None:
    with fuse_efs(tmp_path) as efs:
        author = new_store(efs.backing)
        published(author, make_folder(tmp_path / "1", 1), "a-hangs")
        published(author, make_folder(tmp_path / "1", 1), "b-answers")
        published(author, make_folder(tmp_path / "1", 1), "c-new")
        repository = Repository(efs.root)
        before = repository.observe(None)
        efs.hang("/models/a-hangs/refs.json", "open")
        published(author, make_folder(tmp_path / "2", 2), "b-answers")
        seen = repository.observe(None)
        assert seen["a-hangs"].refs == before["a-hangs"].refs
        assert "gives no answer" in seen["a-hangs"].refused[""]
        assert seen["b-answers"].refs != before["b-answers"].refs
        assert_new_reader_manages(efs)
        efs.heal()
        wait_until(lambda: not repository.observe(None)["a-hangs"].refused)


def assert_new_reader_manages(efs: FuseEfs) -> None:
    seen = Repository(efs.root).observe(None)
    assert seen["a-hangs"].refs is None
    assert "gives no answer" in seen["a-hangs"].refused[""]
    assert seen["c-new"].refs is not None


@pytest.mark.integration
@pytest.mark.parametrize("error", ["EACCES", "EIO", "ESTALE"])
def test_the_only_model_cannot_be_read_and_the_store_is_mounted_all_the_same(tmp_path: Path, error: str) -> None:
    with fuse_efs(tmp_path) as efs:
        published(new_store(efs.backing), make_folder(tmp_path / "1", 1))
        efs.fail(error, "/models/mini/refs.json", "open")
        seen = Repository(efs.root).observe(None)["mini"]
        assert seen.refs is None
        assert "can't be read for the moment" in seen.refused[""]


def test_whatever_lies_where_models_lie_has_its_reason(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"), "good")
    make_folder(layout.models / "my model")
    make_folder(layout.models / "Upper")
    (layout.models / "weights.safetensors").write_bytes(b"x")
    (layout.models / "link").symlink_to(layout.model("good"))
    (layout.models / os.fsdecode(b"\xe9vil.json")).symlink_to("/dev/zero")
    os.mkfifo(layout.models / "pipe")
    (layout.models / "new\nline").mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir", ".incoming"):
        (layout.models / name).mkdir()
    (layout.root / "config.json").write_text("{}")
    make_folder(layout.root / "straight-in-the-root")
    (layout.root / "lost+found").mkdir()
    (layout.root / "status").mkdir()
    repository = Repository(layout.root)
    assert list(repository.observe(None)) == ["good"]
    assert {name: why.split(";")[0].split(",")[0][:30] for name, why in repository.oddities.items()} == {
        "Upper": "not served under this name: a "[:30],
        "my model": "not served under this name: a "[:30],
        "new\\nline": "not served under this name: a "[:30],
        "link": "a symbolic link",
        "\\xe9vil.json": "a symbolic link",
        "pipe": "a file straight in models/ bel",
        "weights.safetensors": "a file straight in models/ bel",
        "/config.json": "a file at the store's root bel",
        "/straight-in-the-root": "a model's folder beside models",
    }
    for name, why in repository.oddities.items():
        (name + why).encode()


def test_an_oddity_that_is_mended_becomes_a_model(layout: Layout, tmp_path: Path) -> None:
    clock = Clock()
    repository = Repository(layout.root, clock=clock)
    (layout.models / "mini").write_text("not a folder yet")
    repository.look()
    assert list(repository.oddities) == ["mini"]
    (layout.models / "mini").unlink()
    make_folder(layout.model("mini"))
    clock.now_s += 30
    assert list(repository.look() or ()) == ["mini"]
    assert not repository.oddities


def test_a_waiting_copy_is_waiting_and_a_wrong_one_refused(layout: Layout, tmp_path: Path) -> None:
    clock = Clock()
    repository = Repository(layout.root, 60, clock)
    make_folder(layout.model("settling"))
    make_folder(layout.model("growing"))
    (layout.model("growing") / "tokenizer.json").unlink()
    make_folder(layout.model("wrong"))
    (layout.model("wrong") / "model.bin").write_bytes(b"pickle")
    layout.model("empty").mkdir()
    layout.incoming("coming").mkdir(parents=True)
    seen = look(repository, clock)
    assert {name: model.waiting for name, model in seen.items()} == {
        "coming": True,
        "empty": True,
        "growing": True,
        "settling": True,
        "wrong": False,
    }
    assert all(model.refused[""] for model in seen.values())
    seen = look(repository, clock, after_s=61)
    assert not seen["growing"].waiting  # for a minute nothing has come that would make it whole
    assert "tokenizer.json: missing" in seen["growing"].refused[""]
    assert seen["settling"].refs is not None
    assert not seen["settling"].refused


@pytest.mark.parametrize("name", ["Thumbs.db", ".DS_Store", "desktop.ini", "._model.safetensors", "config.json~"])
def test_what_is_nobodys_splits_no_fleet(layout: Layout, name: str) -> None:
    """It appears beside a model that serves: old instances and new ones serve the same, without a word."""
    clock = Clock()
    old = Repository(layout.root, 60, clock)
    make_folder(layout.model("mini"))
    look(old, clock)
    before = look(old, clock, after_s=61)["mini"]
    (layout.model("mini") / name).write_bytes(b"\0nobody's")
    (layout.model("mini") / "1_Pooling" / name).write_bytes(b"\0nobody's")
    assert look(old, clock, after_s=61)["mini"] == before
    new = Repository(layout.root, 60, clock)
    look(new, clock)
    after = look(new, clock, after_s=61)["mini"]
    assert before.refs is not None
    assert after.refs == before.refs
    assert not after.refused


def test_names_are_shown_with_what_can_be_shown_of_them() -> None:
    assert shown("plain name") == "plain name"
    assert shown(os.fsdecode(b"\xe9vil\x1b[2J")) == "\\xe9vil\\x1b[2J"
    assert shown("bidi\u202eevil") == "bidi\\u202eevil"
    assert len(shown("x" * 255)) == 100
