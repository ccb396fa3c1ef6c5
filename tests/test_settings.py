"""The environment, read once and checked as a whole."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from model_api.errors import SettingsError
from model_api.settings import Settings, env_name, settings_table, unknown_settings
from tests.rigs.project import ROOT


def test_defaults_need_nothing() -> None:
    settings = Settings.from_env({})
    assert settings.efs_root == Path("efs").absolute()
    assert settings.models is None
    assert settings.lanes is None


def test_values_are_read_and_empty_ones_count_as_unset() -> None:
    settings = Settings.from_env({"MODEL_API_MODELS": "a, b", "MODEL_API_POLL_S": "0.5", "MODEL_API_SIM_MODEL": " "})
    assert settings.models == ("a", "b")
    assert settings.poll_s == 0.5
    assert settings.sim_model is None


def test_all_bad_values_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"MODEL_API_POLL_S": "often", "MODEL_API_LANES": "0", "PORT": "8000"})
    told = str(caught.value)
    assert all(name in told for name in ("MODEL_API_POLL_S='often'", "MODEL_API_LANES='0'"))


def test_a_name_that_is_no_setting_is_found() -> None:
    assert unknown_settings({"MODEL_API_POLLS": "1", "MODEL_API_POLL_S": "1", "HOME": "/"}) == ["MODEL_API_POLLS"]


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings.from_env({}).port = 1  # type: ignore[misc]


def test_secrets_are_never_shown() -> None:
    secret, url = "s3cret-s3cret-s3cret", "redis://user:passw0rd@host"
    shown = repr(Settings.from_env({"MODEL_API_OPERATOR_KEY": secret, "MODEL_API_CACHE": url}))
    assert secret not in shown
    assert "passw0rd" not in shown
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"MODEL_API_OPERATOR_KEY": "s3cret s3cret s3cret", "MODEL_API_CACHE": "ftp://u:passw0rd@h"})
    assert "s3cret" not in str(caught.value)
    assert "passw0rd" not in str(caught.value)


def test_what_is_made_in_code_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_API_MAX_INPUTS", "7")
    assert Settings(port=1).max_inputs == 1000
    assert Settings.from_env().max_inputs == 7


@pytest.mark.parametrize("level", ["info", "INFO", "Info"])
def test_the_log_level_may_be_written_small(level: str) -> None:
    assert Settings.from_env({"MODEL_API_LOG_LEVEL": level}).log_level == "INFO"


def test_a_server_with_bad_settings_says_so_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"],
        env=os.environ | {"MODEL_API_LANES": "many", "MODEL_API_POLL_S": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("settings: MODEL_API_LANES='many': ")
    assert "MODEL_API_POLL_S='0'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_documentation_is_made_from_the_code() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page.endswith(settings_table()), "run scripts/document-settings"


def test_words_are_taken_in_any_case() -> None:
    """Of every setting that is one of a few words."""
    choices = {name: get_args(field.annotation) for name, field in Settings.model_fields.items()}
    choices = {name: words for name, words in choices.items() if words and all(isinstance(w, str) for w in words)}
    assert set(choices) >= {"precision", "log_format", "log_level", "role"}
    for name, words in choices.items():
        for word in words:
            for given in (word.lower(), word.upper(), word.capitalize()):
                assert getattr(Settings.from_env({env_name(name): given}), name) == word
    assert Settings.from_env({"MODEL_API_CACHE": "Memory"}).cache == "memory"


@pytest.mark.parametrize(
    ("given", "address"),
    [("::", "::"), ("[::]", "::"), ("0.0.0.0", "0.0.0.0"), ("fe80::1%eth0", "fe80::1%eth0"), ("a-b.internal",) * 2],
)
def test_an_address_to_listen_on(given: str, address: str) -> None:
    assert Settings.from_env({"MODEL_API_BIND": given}).bind == address


@pytest.mark.parametrize("given", ["0.0.0.0:5000", "localhost:80", "[::]:80", "http://x", "a b", "::g", "-x"])
def test_what_is_no_address_is_told(given: str) -> None:
    with pytest.raises(SettingsError, match=r"MODEL_API_BIND=.*must be an address"):
        Settings.from_env({"MODEL_API_BIND": given})
