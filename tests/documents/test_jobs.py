"""What docs/jobs.md shows, done letter by letter."""

import json
import re
import subprocess
from typing import Any

import pytest

from tests.rigs.project import ROOT
from tests.rigs.server import Server

pytestmark = pytest.mark.integration
PAGE = (ROOT / "docs" / "jobs.md").read_text()


def curl(command: str, api: Server) -> Any:
    assert command.count("http://127.0.0.1:8000") == 1
    moved = command.replace("http://127.0.0.1:8000", api.url)
    done = subprocess.run(["bash", "-c", f"{moved} --silent --fail"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def as_shown(got: Any, shown: Any) -> Any:
    """What was got, with … where that is shown, and with numbers as near as they are shown."""
    if isinstance(shown, dict) and isinstance(got, dict):
        return {key: as_shown(value, shown.get(key)) for key, value in got.items()}
    if isinstance(shown, list) and isinstance(got, list) and len(got) == len(shown):
        return [as_shown(value, part) for value, part in zip(got, shown, strict=True)]
    if shown == "…" and isinstance(got, str) and got:
        return shown
    if isinstance(shown, float) and got == pytest.approx(shown, abs=5e-3):
        return shown
    return got


def test_the_curls_answer_as_shown(minilm_api: Server) -> None:
    blocks = re.findall(r"```\n(curl .*?)\n```\n```json\n(.*?)\n```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    job_id = ""
    for command, text in blocks:
        shown = json.loads(text)
        got = curl(re.sub(r"/jobs/[0-9a-f]{64}", f"/jobs/{job_id}", command), minilm_api)
        if not job_id:
            job_id = got["id"]
            shown["id"] = job_id  # it stands for this machine's weights
        assert as_shown(got, shown) == shown


def test_every_problem_it_names_exists() -> None:
    http = (ROOT / "docs" / "http.md").read_text()
    named = set(re.findall(r"\| \d+(?: or \d+)? `([a-z-]+)`", PAGE))
    assert len(named) >= 4
    assert all(f"| {slug} |" in http for slug in named)
