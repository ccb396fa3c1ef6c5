"""Imports run one way, and what must stay light stays light. The picture is in docs/architecture.md."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rigs.project import ROOT

PACKAGE = ROOT / "model_api"

# The floors of the house, from the top down; a module may import from its own floor and from those below it.
# Every module stands on the floor whose name is the longest beginning of its own.
FLOORS = (
    "__main__",
    "app",
    "web/routes",
    "web/protocols",
    "web/pages",
    "web/security",
    "web/server",
    "web",
    "jobs",
    "serving",
    "instance",
    "processes/model_side",
    "processes",
    "history",
    "tasks",
    "compute",
    "local_store",
    "database",
    "settings",
    "publishing",
    "repository",
    "errors",
)
AUTHORS_SIDE = ("publishing", "repository", "errors", "__main__")  # Python 3.9, standard library only
LIBRARY_ONLY_IN = {
    "torch": ("compute", "processes/model_side", "tasks"),
    "transformers": ("compute", "processes/model_side", "tasks"),
    "ctranslate2": ("compute", "processes/model_side", "tasks"),
    "flask": ("app", "web"),
    "flask_openapi3": ("app", "web"),
    "gunicorn": ("web/server",),
    "prometheus_client": ("web",),
    "redis": ("serving",),
    "limits": ("web/security",),
    "sqlalchemy": ("database", "history"),
    "alembic": ("database",),
    "psycopg": ("database",),
    "jwt": ("web/security",),
    "av": ("compute/video",),
    "boto3": ("jobs/fleet",),
    "botocore": ("jobs/fleet",),
}


def name_of(path: Path) -> str:
    """`web/routes/health`; a package's own file is the package."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"}


def floor_of(name: str) -> str | None:
    standing = [floor for floor in FLOORS if name == floor or name.startswith(floor + "/")]
    return max(standing, key=len, default=None)


def all_imports(name: str) -> set[str]:
    """Full dotted names of what a module imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide the floor"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_imports(name: str) -> set[str]:
    """The modules of this package that a module imports."""
    found = set()
    for dotted in all_imports(name):
        parts = dotted.split(".")
        if parts[0] == "model_api":
            # `from model_api.tasks import find_task` names the package's own file, or a module in it.
            found |= {next(n for n in ("/".join(parts[1:]), "/".join(parts[1:-1]), "") if n in FILES or not n)}
    return found - {""}


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name: str) -> None:
    own = floor_of(name)
    assert own is not None, f"{name} stands nowhere: give its folder a floor, here and in docs/architecture.md"
    for other in own_imports(name):
        below = floor_of(other)
        assert below is not None
        assert FLOORS.index(below) >= FLOORS.index(own), f"{name} imports {other}, which is further up"


def test_every_import_of_this_package_was_found() -> None:
    """What `own_imports` can't place would be allowed to import anything."""
    for name in FILES:
        for dotted in all_imports(name):
            if dotted.startswith("model_api."):
                parts = dotted.split(".")[1:]
                assert "/".join(parts) in FILES or "/".join(parts[:-1]) in FILES, f"{name} imports {dotted}"


def test_no_module_needs_itself() -> None:
    graphlib.TopologicalSorter({name: own_imports(name) for name in FILES}).prepare()  # raises CycleError


@pytest.mark.parametrize("library", LIBRARY_ONLY_IN)
def test_a_library_stays_in_its_place(library: str) -> None:
    users = {name for name in FILES if any(n.split(".")[0] == library for n in all_imports(name))}
    assert users, f"nothing imports {library}: has it moved?"
    allowed = LIBRARY_ONLY_IN[library]
    strangers = {name for name in users if not any(name == a or name.startswith(a + "/") for a in allowed)}
    assert not strangers, f"{library} is for {', '.join(allowed)}"


@pytest.mark.parametrize("name", [name for name in FILES if floor_of(name) in AUTHORS_SIDE])
def test_what_authors_run_is_the_standard_library(name: str) -> None:
    for dotted in all_imports(name):
        package = dotted.split(".")[0]
        if package == "model_api":
            assert all(floor_of(other) in AUTHORS_SIDE for other in own_imports(name))
        else:
            assert package in sys.stdlib_module_names, f"{name} imports {dotted}"


def test_what_authors_run_is_python_3_9() -> None:
    """Its syntax, and what it takes from the standard library."""
    files = [PACKAGE / floor for floor in AUTHORS_SIDE if (PACKAGE / floor).is_dir()]
    files += [PACKAGE / f"{floor}.py" for floor in AUTHORS_SIDE if not (PACKAGE / floor).is_dir()]
    vermin = Path(sys.executable).with_name("vermin")
    command = [str(vermin), "--target=3.9-", "--no-tips", "--violations", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Analyzing" in done.stdout


def _modules_loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_web_process_never_imports_torch() -> None:
    tasks = "from model_api import tasks\n[tasks.find_task(name) for name in tasks.TASKS]"
    loaded = _modules_loaded_by(f"import model_api.app\n{tasks}")
    assert not loaded & {"torch", "transformers", "ctranslate2", "scipy", "pandas"}
    assert not loaded & {"sqlalchemy", "alembic"}  # who keeps no history pays nothing for one
    assert "flask" in loaded


def test_the_model_process_never_imports_flask() -> None:
    runtime = "from model_api.processes.model_side.bring_up import import_runtime\nimport_runtime()"
    assert not _modules_loaded_by(runtime) & {"flask", "gunicorn"}


def _longest(measure: Callable[[ast.AST, str], int]) -> dict[str, int]:
    return {name: measure(ast.parse(path.read_text()), path.read_text()) for name, path in FILES.items()}


def test_no_module_is_too_long_to_read() -> None:
    too_long = {name: n for name, n in _longest(lambda tree, text: text.count("\n")).items() if n > 300}
    assert not too_long


def test_no_function_is_too_long_to_read() -> None:
    def longest_function(tree: ast.AST, text: str) -> int:
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        return max(((node.end_lineno or 0) - node.lineno + 1 for node in functions), default=0)

    too_long = {name: n for name, n in _longest(longest_function).items() if n > 60}
    assert not too_long
