"""An exception per problem type of the server, and what the client's package is made of."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import model_api_client
import pytest
from model_api_client._problems import BY_TYPE, problem_of
from model_api_client.errors import CallerProblem, Problem, ServerProblem

from model_api.web.problems import ROWS, UNEXPECTED
from tests.rigs.project import ROOT

PACKAGE = ROOT / "clients" / "python" / "model_api_client"
OF_HTTP = (
    "not-found",
    "method-not-allowed",
    "request-timeout",
    "request-entity-too-large",
    "unsupported-media-type",
    "too-many-requests",
)


@pytest.mark.parametrize("slug", [*(row.slug for row in ROWS.values()), UNEXPECTED.slug, *OF_HTTP])
def test_every_problem_has_a_class_of_its_own(slug: str) -> None:
    """A new row in web/problems.py wants a class in the client's errors.py, by the same name in CamelCase."""
    status = next((row.status for row in ROWS.values() if row.slug == slug), 500 if slug == UNEXPECTED.slug else 404)
    found = problem_of(status, {"type": f"/problems/{slug}", "title": "t", "detail": "d"})
    assert type(found) is BY_TYPE[slug]
    assert type(found) not in (Problem, CallerProblem, ServerProblem)
    assert getattr(model_api_client, type(found).__name__) is type(found)
    if slug != "job-failed":  # the caller's fault, or the server's
        assert isinstance(found, ServerProblem if status >= 500 else CallerProblem)


def test_one_that_this_release_doesn_t_know_is_told_by_its_status() -> None:
    assert type(problem_of(418, {"type": "/problems/teapot", "detail": "short"})) is CallerProblem
    assert type(problem_of(599, {"type": "/problems/tired"})) is ServerProblem


def test_it_says_what_the_server_said() -> None:
    document = {
        "type": "/problems/invalid-input",
        "title": "t",
        "status": 422,
        "detail": "must not\nbe empty",
        "errors": [{"pointer": "/texts/1", "detail": "must not be empty"}],
        "request_id": "r1",
    }
    found = problem_of(422, document, {"retry-after": "7", "location": "/jobs/ab12"})
    for error in (found, pickle.loads(pickle.dumps(found))):
        assert (str(error), error.type, error.status, error.request_id) == (
            "must not be empty",
            "invalid-input",
            422,
            "r1",
        )
        assert [(place.pointer, place.detail) for place in error.places] == [("/texts/1", "must not be empty")]
        assert (error.retry_after_s, error.job_id) == (7, "ab12")


def test_it_needs_httpx_and_nothing_else() -> None:
    optional = {("results.py", "numpy"), ("results.py", "numpy.typing")}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                known = name.split(".")[0] in {"httpx", "model_api_client", *sys.stdlib_module_names}
                assert known or (path.name, name) in optional, f"{path.name} imports {name}"


def test_it_is_python_3_9() -> None:
    vermin = Path(sys.executable).with_name("vermin")
    command = [str(vermin), "--target=3.9-", "--no-tips", "--violations", str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Analyzing" in done.stdout


def test_all_that_it_offers_is_there() -> None:
    assert len(set(model_api_client.__all__)) == len(model_api_client.__all__)
    assert all(hasattr(model_api_client, name) for name in model_api_client.__all__)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_its_modules_can_be_read(path: Path) -> None:
    assert path.read_text().count("\n") <= 300
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60
