"""What an instance knows of keys.json, whatever becomes of the file."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from model_api.web.security.key_ring import KeyRing
from tests.rigs.keyed import KeyStore
from tests.rigs.polling import wait_until


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "efs")


def ring_of(store: KeyStore, folder: Path) -> KeyRing:
    return KeyRing(store.layout.root, folder / "store", 2.0, required=True)


def damage(name: str) -> Callable[[Path], object]:
    """Ways in which a file stops being one that can be read."""

    def as_link(file: Path) -> None:
        file.rename(file.with_name("elsewhere.json"))
        file.symlink_to("elsewhere.json")

    def as_folder(file: Path) -> None:
        file.unlink()
        file.mkdir()

    def as_pipe(file: Path) -> None:
        file.unlink()
        os.mkfifo(file)

    return {
        "gone": lambda file: file.unlink(),
        "empty": lambda file: file.write_bytes(b""),
        "cut": lambda file: file.write_bytes(file.read_bytes()[:-20]),
        "no JSON": lambda file: file.write_bytes(b"\xff\xfe{}"),
        "null": lambda file: file.write_text("null"),
        "list": lambda file: file.write_text("[]"),
        "object": lambda file: file.write_text("{}"),
        "later format": lambda file: file.write_text('{"format": 2, "keys": []}'),
        "keys no list": lambda file: file.write_text('{"format": 1, "keys": {}}'),
        "deep": lambda file: file.write_text('{"format": 1, "keys": ' + "[" * 5000 + "]" * 5000 + "}"),
        "too large": lambda file: file.write_text('{"format": 1, "keys": []}' + " " * 2**24),
        "too many": lambda file: file.write_text(json.dumps({"format": 1, "keys": [{}] * 10_001})),
        "a link": as_link,
        "a folder": as_folder,
        "a pipe": as_pipe,
    }[name]


WAYS = (
    "gone,empty,cut,no JSON,null,list,object,later format,keys no list,deep,too large,too many,a link,a folder,a pipe"
)


@pytest.mark.parametrize("way", [*WAYS.split(","), "a pipe"])
def test_a_broken_file_changes_nothing_and_is_told(way: str, store: KeyStore, tmp_path: Path) -> None:
    good, revoked = store.create("predict"), store.create("predict")
    store.revoke(revoked)
    ring = ring_of(store, tmp_path)
    ring.look()
    damage(way)(store.layout.keys)
    ring.look()
    assert ring.state().known
    assert ring.state().detail != "ok"
    again = ring_of(store, tmp_path)  # and over a restart
    again.start()
    again.stop()
    for one in (ring, again):
        kept, gone = one.get(good[:15]), one.get(revoked[:15])
        assert kept is not None
        assert kept.revoked is None
        assert gone is not None
        assert gone.revoked is not None


def test_what_was_kept_of_one_store_is_nothing_to_another(store: KeyStore, tmp_path: Path) -> None:
    token = store.create("predict")
    ring_of(store, tmp_path).look()
    other = ring_of(KeyStore(tmp_path / "other"), tmp_path)
    other.start()
    other.stop()
    assert other.get(token[:15]) is None


def test_a_mended_file_counts_again(store: KeyStore, tmp_path: Path) -> None:
    token = store.create("predict")
    before = store.layout.keys.read_bytes()
    ring = ring_of(store, tmp_path)
    ring.look()
    store.layout.keys.write_bytes(b"{")
    ring.look()
    assert "keys.json" in ring.state().detail
    store.layout.keys.write_bytes(before)
    other = store.create("predict")
    ring.look()
    assert ring.state().detail == "ok"
    assert ring.get(other[:15]) is not None
    assert ring.get(token[:15]) is not None


def test_a_store_that_is_not_mounted_is_told_as_that(store: KeyStore, tmp_path: Path) -> None:
    store.create("predict")
    ring = ring_of(store, tmp_path)
    ring.look()
    store.layout.root.rename(tmp_path / "away")
    ring.look()
    assert "not mounted" in ring.state().detail
    assert ring.state().known


def test_an_empty_list_is_a_good_file_and_refuses_everybody(store: KeyStore, tmp_path: Path) -> None:
    token = store.create("predict")
    ring = ring_of(store, tmp_path)
    ring.look()
    store.layout.keys.write_text('{"format": 1, "keys": []}')
    ring.look()
    assert ring.get(token[:15]) is None
    assert ring.state().detail == "ok"


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": ["predict", "all"]},
        {"scopes": []},
        {"scopes": "predict"},
        {"scopes": None},
        {"models": []},
        {"models": ["../x"]},
        {"models": "tiny"},
        {"expires": "never"},
        {"expires": 4102444800},
        {"expires": "9" * 30},
        {"revoked": True},
        {"sha256": "0" * 63},
        {"sha256": None},
        {"id": "mk_"},
        {"id": ["mk_abcdef"]},
        {"rates": ["100"]},
        {"rates": ["0/minute"]},
        {"rates": "100/minute"},
        {"name": "two\nlines"},
        {"only_from": "10.0.0.0/8"},
    ],
    ids=str,
)
def test_an_entry_that_is_not_understood_is_no_key_and_the_others_are(
    change: dict[str, object], store: KeyStore, tmp_path: Path
) -> None:
    """Above all one whose limit isn't understood: it isn't a key without that limit."""
    odd, good = store.create("predict"), store.create("predict")
    document = json.loads(store.layout.keys.read_text())
    document["keys"][0] |= change
    store.layout.keys.write_text(json.dumps(document))
    ring = ring_of(store, tmp_path)
    ring.look()
    assert ring.get(odd[:15]) is None
    assert ring.get(good[:15]) is not None
    assert ring.state().detail == "ok"


def test_an_id_that_is_there_twice_is_no_key(store: KeyStore, tmp_path: Path) -> None:
    token, good = store.create("predict"), store.create("predict")
    document = json.loads(store.layout.keys.read_text())
    document["keys"].append({**document["keys"][0], "scopes": ["operate"]})
    store.layout.keys.write_text(json.dumps(document))
    ring = ring_of(store, tmp_path)
    ring.look()
    assert ring.get(token[:15]) is None
    assert ring.get(good[:15]) is not None


def test_a_file_system_that_hangs_holds_up_nobody(
    store: KeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = store.create("predict")
    ring = ring_of(store, tmp_path)
    ring.look()
    hangs, go_on = threading.Event(), threading.Event()

    def read(*_: object) -> bytes:
        hangs.set()
        go_on.wait()
        raise OSError("gone")

    monkeypatch.setattr("model_api.web.security.key_ring.read_bounded", read)
    monkeypatch.setattr("model_api.web.security.key_ring.HANG_S", 0.01)
    ring.start()
    assert hangs.wait(10)
    try:
        wait_until(lambda: "no answer for" in ring.state().detail, within_s=10, what="a hang that is told")
        assert ring.get(token[:15]) is not None
    finally:
        go_on.set()
        ring.stop()


def test_a_thousand_keys_are_read_and_kept(store: KeyStore, tmp_path: Path) -> None:
    token = store.create("predict")
    document = json.loads(store.layout.keys.read_text())
    (entry,) = document["keys"]
    document["keys"] += [{**entry, "id": f"mk_{number:012x}"} for number in range(1000)]
    store.layout.keys.write_text(json.dumps(document))
    ring = ring_of(store, tmp_path)
    ring.look()
    assert ring.get(token[:15]) is not None
    assert all(ring.get(f"mk_{number:012x}") is not None for number in range(1000))
    assert store.create("jobs")[:15] != token[:15]  # and the next one is made among them
