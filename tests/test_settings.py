"""The environment, read once and checked as a whole."""

import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from model_api.errors import SettingsError
from model_api.settings import Settings, unknown_settings
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
    with pytest.raises(FrozenInstanceError):
        Settings.from_env({}).port = 1  # type: ignore[misc]


def test_the_readme_lists_every_setting_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]*)` \|", readme, re.MULTILINE))
    expected = {spec.metadata["env"]: spec.metadata["shown"] for spec in fields(Settings)}
    assert rows == expected
