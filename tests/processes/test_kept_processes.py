"""What an order must have in common with what is loaded, so that it gets that and nothing is loaded anew."""

import ctypes
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model_api.processes.keeping import Keeper, code_version
from model_api.processes.spec import LeaderSpec
from model_api.repository.manifest import Manifest
from tests.rigs.author import Author
from tests.rigs.polling import wait_until
from tests.rigs.web_end import WebEnd

pytestmark = pytest.mark.integration
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@pytest.fixture
def order(tmp_path: Path, tiny_author: Author) -> LeaderSpec:
    folder = tiny_author.layout.version("tiny", "1")
    return LeaderSpec(
        manifest=Manifest.from_json((folder / "manifest.json").read_bytes()),
        source=str(folder),
        immutable=True,
        protected=(),
        local_store=str(tmp_path / "store"),
        store_budget_bytes=None,
        precision="float32",
        lanes=1,
        recheck_s=3600.0,
        trusted_signers=None,
    )


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """This process, which is made the parent of what its children leave."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    folder = tmp_path / "keeper"
    folder.mkdir(0o700)
    try:
        yield Keeper(os.getpid(), folder, code_version())
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0)
        for pid in children():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def loaded_and_left(keeper: Keeper, order: LeaderSpec) -> int:
    with WebEnd(keeper) as web:
        assert not web.waiting
        pid, said = web.load(order)
        assert "adopting" not in said
        assert said[-1] == "ready"
    return pid


def test_the_same_order_gets_what_is_loaded(keeper: Keeper, order: LeaderSpec) -> None:
    first = loaded_and_left(keeper, order)
    # What must not make room for it has nothing to do with what is loaded.
    again = replace(order, protected=("0" * 64,))
    with WebEnd(keeper) as web:
        assert web.waiting == [again.key()]
        assert web.load(again) == (first, ["started", "adopting", "ready"])


def test_whatever_else_was_ordered_is_loaded_anew(keeper: Keeper, order: LeaderSpec) -> None:
    others = {
        "lanes": replace(order, lanes=2),
        "precision": replace(order, precision="bfloat16"),
        "options": replace(order, manifest=replace(order.manifest, options={"pooling": "mean"})),
        "version": replace(order, manifest=replace(order.manifest, version="2")),
        "place": replace(order, local_store=f"{order.local_store}-elsewhere"),
        "signers": replace(order, trusted_signers="/etc/signers"),
    }
    assert len({order.key(), *(other.key() for other in others.values())}) == len(others) + 1
    first = loaded_and_left(keeper, order)
    with WebEnd(keeper) as web:
        pid, said = web.load(others["precision"])
        assert pid != first
        assert "adopting" not in said
        assert web.load(order) == (first, ["started", "adopting", "ready"])  # that one still waited


def test_other_code_gets_nothing(keeper: Keeper, order: LeaderSpec) -> None:
    first = loaded_and_left(keeper, order)
    with WebEnd(replace(keeper, code="another")) as web:
        assert not web.waiting
        pid, said = web.load(order)
        assert pid != first
        assert said[-1] == "ready"


def test_an_order_under_a_wrong_key_ends_what_it_finds(keeper: Keeper, order: LeaderSpec) -> None:
    """The leader compares the order itself."""
    first = loaded_and_left(keeper, order)
    with WebEnd(keeper) as web:
        assert web.load(replace(order, precision="bfloat16"), order.key()) == (first, ["started", "gone"])
    wait_until(lambda: not Path(f"/proc/{first}").exists())


def test_what_two_web_processes_have_is_never_the_same(keeper: Keeper, order: LeaderSpec) -> None:
    with WebEnd(keeper) as one, WebEnd(keeper) as other:
        first, _ = one.load(order)
        second, said = other.load(order)
        assert first != second
        assert "adopting" not in said
