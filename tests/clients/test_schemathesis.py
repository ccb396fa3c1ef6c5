"""schemathesis over the whole OpenAPI document: no 500, and every answer is one that the document promises."""

import shutil
import subprocess
from pathlib import Path

import pytest

from model_api.repository.keys import SCOPES
from scripts.rehearsal.upload import DEPLOY_BIN
from tests.needs import missing
from tests.rigs.keyed import KeyStore
from tests.rigs.polling import wait_until
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


@pytest.mark.parametrize("caller", ["anybody", "with a key", "without a key"])
def test_every_answer_is_as_the_document_says(caller: str, tmp_path: Path, tiny_store: Path) -> None:
    if not (DEPLOY_BIN / "st").exists():
        missing("scripts/setup-deploy --dev has not been run")
    shutil.copytree(tiny_store, tmp_path / "efs")
    token = KeyStore(tmp_path / "efs").create(*SCOPES)
    auth = "open" if caller == "anybody" else "required"
    keyed = caller == "with a key"
    checks = (*CHECKS, "ignored_auth") if keyed else CHECKS
    settings = {"MODEL_API_EFS_ROOT": tmp_path / "efs", "MODEL_API_JOBS_DIR": tmp_path / "jobs", "MODEL_API_AUTH": auth}
    with server(tmp_path, **settings) as api:
        api.wait_until_ready()
        wait_until(lambda: api.get("/readyz").json()["keys"] == "ok", within_s=10, what="known keys")
        done = subprocess.run(
            [
                *(
                    DEPLOY_BIN / "st",
                    "run",
                    f"{api.url}/openapi.json",
                    "--checks",
                    ",".join(checks),
                ),
                *(("--header", f"Authorization: Bearer {token}") if keyed else ()),
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
        assert token not in api.log_path.read_text()
