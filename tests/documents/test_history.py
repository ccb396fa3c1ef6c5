"""What docs/history.md shows, done letter by letter."""

import json
import re
from pathlib import Path

import pytest

from tests.documents.test_jobs import as_shown, curl
from tests.rigs.project import ROOT
from tests.rigs.server import server

PAGE = (ROOT / "docs" / "history.md").read_text()


@pytest.mark.integration
def test_the_curls_answer_as_shown(tmp_path: Path, tiny_store: Path) -> None:
    blocks = re.findall(r"```\n(curl .*?)\n```\n```json\n(.*?)\n```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    last_id = ""
    with server(tmp_path, MODEL_API_EFS_ROOT=tiny_store) as api:
        for command, text in blocks:
            shown = json.loads(text)
            got = curl(command.replace("history/ID", f"history/{last_id}"), api)
            last_id = last_id or got["ids"][-1]
            assert as_shown(got, shown) == shown


def test_it_names_the_measures_and_the_settings() -> None:
    from model_api.history.measures import MEASURES
    from model_api.settings import env_name
    from model_api.settings.history import HistorySettings

    assert all(f"`{name}`" in PAGE for name in MEASURES if name != "all")
    assert all(env_name(name) in PAGE for name in HistorySettings.model_fields)
