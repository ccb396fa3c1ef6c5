"""What `scripts/models` shows of plain copies and of what is no model."""

import json

import pytest

from model_api.repository.layout import Layout
from model_api.repository.statuses import write_status
from tests.rigs.commands import run
from tests.rigs.model_folders import make_folder


def test_models_judges_a_plain_copy_as_its_instances_do(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """A look from an author's machine knows neither what was taken first nor for how long nothing has changed."""
    make_folder(layout.model("plain"))
    assert run("models") == 0
    out = capsys.readouterr().out
    assert "waiting" in out
    assert "plain: unchanged for 0 of 60 s" in out
    row = {"name": "plain", "version": "d" * 64, "digest": "d" * 64, "state": "serving", "versions": []}
    write_status(layout.statuses, "i-1", {"models": [row]})
    assert run("models") == 0
    out = capsys.readouterr().out
    assert "not served" not in out
    assert "i-1" in out
    assert "serving" in out
    changed = {**row, "refused": [{"version": "", "reason": "changed since it was taken"}]}
    write_status(layout.statuses, "i-1", {"models": [changed]})
    assert run("models") == 0
    assert "plain: says i-1: changed since it was taken" in capsys.readouterr().out
    waiting = {"name": "plain", "state": "waiting", "refused": [{"version": "", "reason": "unchanged for 3 of 60 s"}]}
    write_status(layout.statuses, "i-1", {"models": [waiting]})
    assert run("models") == 0
    assert "plain: waiting on i-1: unchanged for 3 of 60 s" in capsys.readouterr().out


def test_models_shows_what_is_no_model_with_the_reason(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(layout.models / "my model")
    (layout.models / "model.safetensors").write_bytes(b"x")
    assert run("models") == 0
    out = capsys.readouterr().out
    assert "my model: ignored: not served under this name" in out
    assert "model.safetensors: ignored: a file straight in models/" in out
    assert run("models", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["ignored"]) == {"my model", "model.safetensors"}
