"""scripts/keys as it is typed."""

import hashlib
import json
import re
import threading
from pathlib import Path

import pytest

from model_api.repository.keys import Keys, Rate, moment, parse_moment
from model_api.repository.layout import Layout
from tests.rigs.commands import run


def token_of(output: str) -> str:
    assert re.fullmatch(r"mk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}\n", output), "the key and nothing else"
    return output.strip()


def test_a_key_s_life(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--scope", "predict,jobs", "--scope", "status", "--models", "a,b", "--expires", "2100-01-01")
    rates = ("--rate", "100/minute", "--rate", "20000 tokens/hour")
    assert run("keys", "create", "--name", "billing job", *given, *rates) == 0
    told = capsys.readouterr()
    token = token_of(told.out)
    assert token not in told.err
    key = Keys.read(layout.keys).by_id[token[:15]]
    assert key.sha256 == hashlib.sha256(token[16:].encode()).hexdigest()
    assert key.scopes == frozenset({"predict", "jobs", "status"})
    assert key.models == frozenset({"a", "b"})
    assert key.expires == parse_moment("2100-01-01T00:00:00Z")
    assert key.rates == (Rate(100, 60), Rate(20000, 3600, "tokens"))
    assert token[16:] not in layout.keys.read_text()
    assert run("keys", "list") == 0
    line = capsys.readouterr().out
    assert f"{key.id}  good until 2100-01-01T00:00:00Z  billing job  jobs,predict,status  a,b" in line
    assert run("keys", "revoke", key.id) == 0
    assert "within 5 s" in capsys.readouterr().out
    first = Keys.read(layout.keys).by_id[key.id].revoked
    assert first is not None
    assert run("keys", "revoke", key.id) == 0  # again: nothing changes
    assert Keys.read(layout.keys).by_id[key.id].revoked == first
    capsys.readouterr()
    assert run("keys", "list", "--json") == 0
    (shown,) = json.loads(capsys.readouterr().out)["keys"]
    assert shown["state"].startswith("revoked")
    assert "sha256" not in shown


def test_a_key_is_revoked_by_its_whole_text_too(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    run("keys", "create", "--name", "n", "--scope", "predict")
    token = token_of(capsys.readouterr().out)
    assert run("keys", "revoke", token) == 0
    told = capsys.readouterr()
    assert token not in told.out + told.err
    assert Keys.read(layout.keys).by_id[token[:15]].revoked is not None


def test_a_key_of_elsewhere_is_revoked_and_that_is_said(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "revoke", "mk_first") == 0
    assert "is the id right?" in capsys.readouterr().out
    assert Keys.read(layout.keys).by_id["mk_first"].revoked is not None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("create", "--name", "n", "--scope", "predikt"), "'predikt' is no scope; there are predict, jobs"),
        (("create", "--name", "n", "--scope", ","), "no scope is given"),
        (("create", "--name", "n" * 101, "--scope", "jobs"), "at most 100 characters"),
        (("create", "--name", "a\nb", "--scope", "jobs"), "name must be one line"),
        (("create", "--name", "n", "--scope", "jobs", "--models", "../x"), "'../x' is no model's name"),
        (("create", "--name", "n", "--scope", "jobs", "--models", ","), "models must name at least one"),
        (("create", "--name", "n", "--scope", "jobs", "--expires", "soon"), "'soon' is no moment"),
        (("create", "--name", "n", "--scope", "jobs", "--expires", "2001-01-01"), "is over already"),
        (("create", "--name", "n", "--scope", "jobs", "--expires", "0d"), "is no moment"),
        (("create", "--name", "n", "--scope", "jobs", "--rate", "fast"), "'fast' is no rate"),
        (("create", "--name", "n", "--scope", "jobs", "--rate", "0/minute"), "is no rate"),
        (("revoke", "billing job"), "is no key's id"),
        (("revoke", "mk_A"), "is no key's id"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_changes_nothing(
    arguments: tuple[str, ...], told: str, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("keys", *arguments) == 3
    said = capsys.readouterr()
    assert told in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not layout.keys.exists()


def test_a_damaged_file_is_never_written_over(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    for damaged in ("{", '{"format": 1, "keys": [{"id": "mk_abcd"}]}', '{"format": 9, "keys": []}'):
        layout.keys.write_text(damaged)
        assert run("keys", "create", "--name", "n", "--scope", "predict") == 3
        assert run("keys", "revoke", "mk_abcd") == 3
        said = capsys.readouterr()
        assert said.out == ""
        assert "keys.json: " in said.err
        assert layout.keys.read_text() == damaged


def test_a_store_that_is_not_mounted(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    layout.marker.unlink()
    assert run("keys", "create", "--name", "n", "--scope", "predict") == 1
    assert "not mounted" in capsys.readouterr().err
    assert not layout.keys.exists()


def test_keys_that_are_made_at_once_are_all_there(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    threads = [
        threading.Thread(target=run, args=("keys", "create", "--name", f"n{n}", "--scope", "predict")) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    printed = set(capsys.readouterr().out.split())
    assert {token[:15] for token in printed} == set(Keys.read(layout.keys).by_id)
    assert len(printed) == 8


def test_moments_and_offsets() -> None:
    assert moment(parse_moment("2027-01-01T01:00:00+01:00")) == "2027-01-01T00:00:00Z"
    assert moment(parse_moment("2027-01-01")) == "2027-01-01T00:00:00Z"
    assert str(Rate.parse("5/day")) == "5 requests/day"


def test_the_file_may_be_read_by_the_instances(layout: Layout, tmp_path: Path) -> None:
    run("keys", "create", "--name", "n", "--scope", "predict")
    assert layout.keys.stat().st_mode & 0o777 == 0o644
