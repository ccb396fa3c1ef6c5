"""Every regular expression of the package takes time that grows with its input, not with the input's square.

All are found: by importing every module, and by a look at the source that none is used without being compiled at the
top of a module or class.
"""

import ast
import importlib
import pkgutil
import re
import resource
import subprocess
import sys
from typing import Any

import pytest

import model_api
from tests.rigs.project import ROOT
from tests.rigs.regular_expressions import N_CHARS
from tests.test_imports import FILES

CPU_S = 30


def patterns() -> dict[str, "re.Pattern[Any]"]:
    """By module and name."""
    found: dict[str, re.Pattern[Any]] = {}
    for info in pkgutil.walk_packages(model_api.__path__, "model_api."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        owners = [module, *(v for v in vars(module).values() if isinstance(v, type) and v.__module__ == info.name)]
        for owner in owners:
            for name, value in vars(owner).items():
                if isinstance(value, re.Pattern):
                    assert isinstance(value.pattern, str), f"{info.name}.{name}: try it with bytes too, then"
                    found.setdefault(value.pattern, value)
    return found


PATTERNS = patterns()


def test_no_pattern_is_used_without_being_compiled_where_it_is_found() -> None:
    for name, path in FILES.items():
        tree = ast.parse(path.read_text())
        inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "re":
                assert node.attr in ("compile", "Pattern", "Match", "IGNORECASE", "DOTALL", "MULTILINE", "error"), name
                assert node.attr != "compile" or id(node) not in inside, f"{name} compiles inside a function"


def expect_little_time(*arguments: str) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))

    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, preexec_fn=limit, capture_output=True, check=False)
    assert done.returncode == 0, f"ended after at most {CPU_S} s of processor time: {done.stderr.decode()[-500:]}"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_time_grows_with_the_input(pattern: str) -> None:
    found = PATTERNS[pattern]
    expect_little_time("-m", "tests.rigs.regular_expressions", found.pattern, str(found.flags))


def test_sentences_of_nothing_but_marks() -> None:
    expect_little_time(
        "-c",
        "from model_api.tasks.text.sentences import split_sentences\n"
        "for unit in ('.', '. ', 'J. ', 'Dr. ', '.)', '\\n', '\\n ', ' ', '.\\n', '(.', 'A. '):\n"
        f"    split_sentences(unit * ({N_CHARS} // len(unit)))\n",
    )
