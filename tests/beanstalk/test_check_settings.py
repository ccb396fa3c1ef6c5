"""check_settings: the application reads an environment's properties before it is started with them."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts.rehearsal.ebextensions import extensions_of
from tests.rigs.get_config import write_get_config
from tests.rigs.project import ROOT

PROPERTIES = extensions_of(ROOT / ".ebextensions").option_settings["aws:elasticbeanstalk:application:environment"]


def check(folder: Path, properties: Mapping[str, object] | None) -> tuple[int, str]:
    """The hook's status and all it says, in a bundle with the application beside it."""
    python = folder / "venv/staging/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    scripts = folder / "bundle/.platform/bin"
    scripts.mkdir(parents=True)
    write_get_config(folder / "get-config", properties)
    for name in ("properties.sh", "check_settings"):
        text = (ROOT / ".platform/bin" / name).read_text()
        text = text.replace("/opt/elasticbeanstalk/bin/get-config", str(folder / "get-config"))
        (scripts / name).write_text(text.replace("/var/app/venv", str(folder / "venv")))
    (folder / "bundle/model_api").symlink_to(ROOT / "model_api")
    shutil.copy(ROOT / "Procfile", folder / "bundle")
    done = subprocess.run(["bash", scripts / "check_settings"], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "more", [{}, {"MODEL_API_BIND": "::"}, {"MODEL_API_LANES": " 2 "}, {"ANYTHING": 'it\'s "100%" $HOME\n`x`'}]
)
def test_good_ones_pass(tmp_path: Path, more: dict[str, str]) -> None:
    assert check(tmp_path, {**PROPERTIES, **more}) == (0, "")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"MODEL_API_LANES": "many"}, "MODEL_API_LANES='many'"),
        ({"MODEL_API_MAX_BODY_BYTES": "1e99"}, "MODEL_API_MAX_BODY_BYTES='1e99'"),
        ({"MODEL_API_OPERATOR_KEY": "short"}, "MODEL_API_OPERATOR_KEY=...: must have at least 16"),
        ({"MODEL_API_BIND": "10.0.0.5"}, "nginx asks 127.0.0.1:8000"),
        ({"PORT": "5000"}, "PORT=5000"),
    ],
)
def test_bad_ones_end_the_deployment_in_a_line(tmp_path: Path, more: dict[str, str], told: str) -> None:
    status, said = check(tmp_path, {**PROPERTIES, **more})
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith("check_settings: ")
    assert told in said


def test_a_misspelt_one_is_told(tmp_path: Path) -> None:
    status, said = check(tmp_path, {**PROPERTIES, "MODEL_API_MODLES": "minilm"})
    assert (status, said) == (0, "check_settings: WARNING: no such setting: MODEL_API_MODLES\n")


def test_properties_that_can_not_be_read_are_told(tmp_path: Path) -> None:
    status, said = check(tmp_path, None)
    assert status == 1
    assert "get-config failed" in said
