"""Imports run one way, and what must stay light stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "model_api"

# From the outside in; a module may import from its own layer and from those after it.
LAYERS = (
    {"app", "gunicorn_worker"},
    {"routes", "problems"},
    {"service"},
    {"manager", "polling", "reporting", "loaded_model", "versions"},
    {"model_process", "loading"},
    {"planning", "batching", "scheduling"},
    {"lanes", "lane", "fork_server", "last_seen", "local_store"},
    {"repository", "tasks", "cache", "publishing", "staging", "store_changes"},
    {"tokenization", "encoder", "attention", "reference_encoder"},
)
FLASK_ONLY_IN = {"app", "routes", "problems"}
TORCH_ONLY_IN = {
    "attention",
    "classification_head",
    "conversion",
    "encoder",
    "generation",
    "linear",
    "loading",
    "pooling",
    "reference_encoder",
    "tasks",
    "training",
    "weights",
}


def top(path: Path) -> str:
    """`routes` for model_api/web/routes/health.py, `app` for model_api/app.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def depth(module: str) -> int | None:
    return next((i for i, layer in enumerate(LAYERS) if module in layer), None)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = depth(top(path))
    if own is None:
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "model_api" and len(parts) > 1:
            other = depth(parts[1])
            assert other is None or other >= own, f"{path.name} imports {name}, which is further out"


@pytest.mark.parametrize("library, allowed", [("flask", FLASK_ONLY_IN), ("torch", TORCH_ONLY_IN)])
def test_a_library_stays_in_its_place(library: str, allowed: set[str]) -> None:
    users = {top(path) for path in FILES if any(n.split(".")[0].startswith(library) for n in imports(path))}
    assert users <= allowed
    assert users, f"nothing imports {library}: has it moved?"


def loaded_modules(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_web_process_never_imports_torch() -> None:
    heavy = {"torch", "transformers", "ctranslate2", "scipy", "pandas"}
    loaded = loaded_modules("import model_api.app, model_api.tasks as t\n[t.find_task(name) for name in t.TASKS]")
    assert not loaded & heavy
    assert "flask" in loaded


def test_the_model_process_never_imports_flask() -> None:
    assert not loaded_modules(
        "from model_api.processes.model_side.bring_up import import_runtime; import_runtime()"
    ) & {"flask", "gunicorn"}
