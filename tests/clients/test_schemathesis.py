"""schemathesis over the whole OpenAPI document: no 500, and every answer is one that the document promises."""

import subprocess
from pathlib import Path

import pytest

from scripts.rehearsal.upload import DEPLOY_BIN
from tests.needs import missing
from tests.rigs.server import server

pytestmark = pytest.mark.integration

# Not those that call a well-formed body right: what a model takes, a schema can't say.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def test_every_answer_is_as_the_document_says(tmp_path: Path, tiny_store: Path) -> None:
    if not (DEPLOY_BIN / "st").exists():
        missing("scripts/setup-deploy --dev has not been run")
    with server(tmp_path, MODEL_API_EFS_ROOT=tiny_store, MODEL_API_JOBS_DIR=tmp_path / "jobs") as api:
        api.wait_until_ready()
        done = subprocess.run(
            [
                *(DEPLOY_BIN / "st", "run", f"{api.url}/openapi.json", "--checks", ",".join(CHECKS)),
                *("--max-examples", "10", "--phases", "examples,coverage,fuzzing", "--seed", "1"),
                *("--request-timeout", "60", "--continue-on-failure", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        assert "Tested: " in done.stdout
        assert api.get("/healthz").status == 200
