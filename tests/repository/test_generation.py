"""One generation for the whole store: every command is seen at the next look, and an unchanged store costs one read."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.errors import Refused, RepositoryUnavailable
from model_api.publishing import announce, changes
from model_api.publishing.announce import announced, read_generation
from model_api.publishing.changes import seal
from model_api.publishing.moves import promote, rollback
from model_api.publishing.removal import retire, unload
from model_api.repository import files
from model_api.repository.generation import Generation
from model_api.repository.layout import Layout
from model_api.repository.published import Published
from model_api.repository.reader import Repository
from model_api.repository.turns import QUIET_AFTER_S, Turns
from tests.needs import needs_root
from tests.rigs.clock import Clock
from tests.rigs.model_folders import make_folder
from tests.rigs.project import ROOT
from tests.rigs.stores import new_store, published

POLL_S = 2.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_store(tmp_path / "efs")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(layout: Layout, clock: Clock) -> Repository:
    return Repository(layout.root, clock=clock, poll_s=POLL_S)


@pytest.fixture
def mini(layout: Layout, tmp_path: Path) -> Path:
    """Models mini, with two versions, and other."""
    folder = make_folder(tmp_path / "folder")
    published(layout, folder, "other")
    published(layout, make_folder(tmp_path / "one", 1), "mini")
    published(layout, make_folder(tmp_path / "two", 2), "mini")
    return folder


def settle(repository: Repository) -> None:
    """Until a look finds nothing new and looks for nothing again."""
    for _ in range(6):
        repository.look()


def stable(seen: Published) -> str:
    assert seen.refs is not None
    assert seen.refs.stable is not None
    return seen.refs.stable.version


@contextmanager
def file_operations(root: Path) -> Iterator[Counter[str]]:
    """What this process asks of the files below `root`, as Python's own audit sees it."""
    counted: Counter[str] = Counter()
    watching = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.scandir", "os.listdir") and str(arguments[0]).startswith(str(root)):
            counted[f"{event} {Path(str(arguments[0])).relative_to(root)}"] += 1

    sys.addaudithook(hook)
    try:
        yield counted
    finally:
        watching.clear()


def test_a_look_at_an_unchanged_store_is_one_small_read(layout: Layout, mini: Path, repository: Repository) -> None:
    settle(repository)
    with file_operations(layout.root) as counted:
        assert repository.look() is None
    assert counted == {"open models/.generation": 1}


def test_the_first_look_is_whole_and_the_next_finds_nothing_new(mini: Path, repository: Repository) -> None:
    assert set(repository.look() or ()) == {"mini", "other"}
    assert repository.look() is None


def test_a_change_costs_what_changed_and_no_more(layout: Layout, mini: Path, repository: Repository) -> None:
    settle(repository)
    rollback(layout, "mini")
    with file_operations(layout.root) as counted:
        seen = repository.look()
    assert seen is not None
    assert stable(seen["mini"]) == "1"
    assert not any("other" in path for path in counted)


def test_every_command_is_seen_at_the_next_look(
    layout: Layout, mini: Path, repository: Repository, tmp_path: Path
) -> None:
    def next_look() -> dict[str, Published]:
        return dict(repository.look() or {})

    settle(repository)
    published(layout, make_folder(tmp_path / "three", 3), "mini", canary_percent=5.0)
    canary = next_look()["mini"].refs
    assert canary is not None
    assert canary.canary is not None
    promote(layout, "mini", None)
    assert stable(next_look()["mini"]) == "3"
    rollback(layout, "mini")
    assert stable(next_look()["mini"]) == "2"
    unload(layout, "other")
    other = next_look()["other"].refs
    assert other is not None
    assert other.stable is None
    published(layout, mini, "newcomer")
    assert stable(next_look()["newcomer"]) == "1"
    make_folder(layout.model("plain"))
    seal(layout, "plain")
    assert next_look()["plain"].waiting
    retire(layout, "mini", "1")
    settle(repository)
    assert repository.look() is None


def test_a_command_that_dies_between_its_change_and_its_last_word_hides_nothing(
    layout: Layout, mini: Path, repository: Repository
) -> None:
    settle(repository)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from model_api.publishing import changes, moves\n"
        "from model_api.repository.layout import Layout\n"
        "write = changes.write_aside\n"
        "def write_and_die(*arguments):\n"
        "    write(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "changes.write_aside = write_and_die\n"
        "moves.rollback(Layout(Path(sys.argv[1])), 'mini')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(layout.root)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_generation(layout).open == "mini"
    assert stable((repository.look() or {})["mini"]) == "1"
    published(layout, mini, "newcomer")
    assert read_generation(layout).open is None
    latecomer = Repository(layout.root)
    latecomer.look()
    promote(layout, "mini", "2")
    assert stable((latecomer.look() or {})["mini"]) == "2"
    assert stable((repository.look() or {})["mini"]) == "2"


def test_nothing_changes_where_the_change_cannot_be_announced(
    layout: Layout, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = layout.refs("mini").read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(announce, "write_aside", full)
    with pytest.raises(OSError, match="No space"):
        rollback(layout, "mini")
    assert layout.refs("mini").read_bytes() == before


def test_a_disk_that_fills_up_after_the_change_leaves_it_open(
    layout: Layout, mini: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(repository)
    write, calls = files.write_aside, []

    def full_later(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(announce, "write_aside", full_later)
    rollback(layout, "mini")
    assert read_generation(layout).open == "mini"
    assert stable((repository.look() or {})["mini"]) == "1"


def test_an_author_who_may_not_announce_is_found_by_the_slower_turn(
    layout: Layout, mini: Path, repository: Repository, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(repository)

    def denied(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(announce, "write_aside", denied)
    rollback(layout, "mini")
    assert repository.look() is None
    clock.now_s += 1.2 * Turns.of(POLL_S, quiet=False).published_s
    assert stable((repository.look() or {})["mini"]) == "1"


def test_an_author_who_is_shut_into_his_folder_is_looked_at_more_often(
    layout: Layout, mini: Path, repository: Repository, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root("files of another user")
    layout.models.chmod(0o755)
    os.chown(layout.model("mini"), 4711, 4711)
    settle(repository)
    clock.now_s += QUIET_AFTER_S + 1
    monkeypatch.setattr(changes, "announced", lambda layout, name: contextlib.nullcontext())
    rollback(layout, "mini")
    clock.now_s += 1.2 * Turns.of(POLL_S, quiet=True).unsettled_s
    assert stable((repository.look() or {})["mini"]) == "1"


def test_a_store_of_an_earlier_release_is_looked_at_as_a_whole(
    layout: Layout, mini: Path, repository: Repository
) -> None:
    layout.generation.unlink()
    repository.look()
    refs = layout.refs("mini").read_text()
    layout.refs("mini").write_text(refs.replace('"generation": 2', '"generation": 3').replace('"percent"', '"percent"'))
    seen = (repository.look() or {})["mini"].refs
    assert seen is not None
    assert seen.generation == 3
    promote(layout, "mini", "1")  # this release's command makes the store one of this release
    assert stable((repository.look() or {})["mini"]) == "1"
    settle(repository)
    assert repository.look() is None


@pytest.mark.parametrize("damage", ["[" * 100_000, "{}", "\0", '{"open": "../x", "changes": []}', "x" * 10**6])
def test_a_damaged_generation_only_costs_reads(layout: Layout, mini: Path, repository: Repository, damage: str) -> None:
    settle(repository)
    layout.generation.write_text(damage)
    assert set(repository.look() or ()) == {"mini", "other"}
    rollback(layout, "mini")
    assert stable((repository.look() or {})["mini"]) == "1"
    settle(repository)
    assert repository.look() is None


def test_what_was_announced_while_the_store_was_away_is_not_lost(
    layout: Layout, mini: Path, repository: Repository
) -> None:
    settle(repository)
    rollback(layout, "mini")
    aside = layout.marker.rename(layout.root / "away")
    with pytest.raises(RepositoryUnavailable):
        repository.look()
    aside.rename(layout.marker)
    assert stable((repository.look() or {})["mini"]) == "1"


def test_when_all_is_quiet_the_looks_are_seldom(
    layout: Layout, mini: Path, repository: Repository, clock: Clock
) -> None:
    settle(repository)
    assert repository.pause_s == POLL_S
    clock.now_s += QUIET_AFTER_S + 1
    repository.look()
    assert repository.pause_s == 10 * POLL_S
    rollback(layout, "mini")
    repository.look()
    assert repository.pause_s == POLL_S


names = st.sampled_from(["a", "b", "c"])


@given(st.lists(names, max_size=200), st.data())
def test_any_reader_learns_all_that_changed_since_it_looked(history: list[str], data: st.DataObject) -> None:
    looked_after = data.draw(st.integers(0, len(history)))
    generation = Generation()
    mark = generation.mark
    for n_done, name in enumerate(history):
        if n_done == looked_after:
            mark = generation.mark
        generation = generation.opened(name)
        if data.draw(st.booleans()):  # else its author died
            generation = generation.closed()
    if looked_after == len(history):
        mark = generation.mark
    read = Generation.from_json(generation.to_json().encode())
    assert read == generation
    changed = read.since(mark)
    assert changed is None or changed >= set(history[looked_after:])
    assert changed is not None or len(history) > 60


def test_authors_in_a_row_leave_no_trace_beside_it(layout: Layout) -> None:
    for name in ("a", "b"):
        with announced(layout, name):
            assert read_generation(layout).open == name
    assert sorted(path.name for path in layout.models.iterdir()) == [".generation", ".generation.lock"]
    with pytest.raises(Refused), announced(layout, "a"):
        raise Refused("", "what the change itself raises")
    assert read_generation(layout).open is None
    assert changes.read_refs(layout, "a").generation == 0


def test_who_remembers_many_models_waits_by_chance_before_the_first_look(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "m"), "mini")
    fresh = Repository(layout.root, poll_s=2.0)
    assert fresh.pause_before_first_s() == 0.0  # it has nothing to serve until it has looked
    (seen,) = fresh.observe().values()
    restarted = Repository(layout.root, poll_s=2.0)
    restarted.seed({f"m{number}": seen for number in range(500)})
    pauses = [restarted.pause_before_first_s() for _ in range(200)]
    assert 0.0 <= min(pauses) < 0.5
    assert 1.5 < max(pauses) <= 2.0  # a poll at most
