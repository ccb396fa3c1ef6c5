"""requirements.txt, the lock: in step with what it is made of, complete, with hashes; torch alone beside it.

Nothing here asks a registry: what is installed tells what each package needs.
"""

import importlib.metadata
import re
import subprocess
from collections.abc import Iterator

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.rigs.project import ROOT

# What a CPU build doesn't need.
CUDA = re.compile(r"^(nvidia-|cuda-|triton)")
TARGETS = [
    (python, processor) for python in ("3.11.14", "3.12.12", "3.13.9") for processor in ("x86_64", "aarch64")
]  # fmt: skip


def requirements(name: str) -> list[Requirement]:
    """A requirements file's lines, without hashes and comments."""
    joined = (ROOT / name).read_text().replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*|\s--hash=\S+", "", line).strip() for line in joined.splitlines())
    return [Requirement(line) for line in lines if line]


def pins(name: str) -> dict[str, str]:
    """Name and version of each `==` of a requirements file."""
    return {
        canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
        for requirement in requirements(name)
        if str(requirement.specifier).startswith("==")
    }


LOCKED = pins("requirements.txt")


def needs_of(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What the installed distribution asks for on this very machine."""
    for text in importlib.metadata.requires(name) or []:
        requirement = Requirement(text)
        chosen = [{"extra": extra} for extra in extras or {""}]
        if requirement.marker is None or any(requirement.marker.evaluate(one) for one in chosen):
            yield requirement


def test_every_line_has_hashes() -> None:
    joined = (ROOT / "requirements.txt").read_text().replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(lines) > 40
    without = [line for line in lines if not re.search(r"\s--hash=sha256:[0-9a-f]{64}\b", line)]
    assert without == []
    assert "torch" not in LOCKED
    assert list(pins("requirements-torch.txt")) == ["torch"]


def test_it_is_in_step_with_what_it_is_made_of() -> None:
    wrong = []
    for requirement in requirements("requirements-direct.txt"):
        locked = LOCKED.get(canonicalize_name(requirement.name))
        if locked is None or not requirement.specifier.contains(locked, prereleases=True):
            wrong.append(f"{requirement}: locked is {locked}")
    for name, version in pins("requirements-dev.txt").items():
        if LOCKED.get(name, version) != version:
            wrong.append(f"{name}: development wants {version}, locked is {LOCKED[name]}")
    assert wrong == [], "run scripts/lock"


def test_all_that_is_needed_is_locked() -> None:
    """From what the project imports through what those packages ask for: every one stands in the lock."""
    waiting = [(canonicalize_name(one.name), frozenset(one.extras)) for one in requirements("requirements-direct.txt")]
    waiting.append((canonicalize_name("torch"), frozenset()))
    seen, wrong = set(waiting), []
    while waiting:
        name, extras = waiting.pop()
        for need in needs_of(name, extras):
            needed = canonicalize_name(need.name)
            if needed == "torch" or CUDA.match(needed):
                continue
            if needed not in LOCKED or not need.specifier.contains(LOCKED[needed], prereleases=True):
                wrong.append(f"{name} needs {need}, locked is {LOCKED.get(needed)}")
            if (entry := (needed, frozenset(need.extras))) not in seen:
                seen.add(entry)
                waiting.append(entry)
    assert wrong == [], "run scripts/lock"
    assert len(seen) > 40


def test_what_torch_needs_is_asked_for() -> None:
    asked = {canonicalize_name(one.name): one.specifier for one in requirements("requirements-direct.txt")}
    needs = {canonicalize_name(one.name): one.specifier for one in needs_of("torch", frozenset())}
    missing = {
        name: str(wanted) for name, wanted in needs.items() if not CUDA.match(name) and asked.get(name) != wanted
    }
    assert missing == {}


def test_what_is_installed_is_what_is_locked() -> None:
    installed = {canonicalize_name(one.name): one.version for one in importlib.metadata.distributions()}
    applies = [one for one in requirements("requirements.txt") if one.marker is None or one.marker.evaluate()]
    wanted = {name: LOCKED[name] for name in (canonicalize_name(one.name) for one in applies)}
    assert {name: installed.get(name) for name in wanted} == wanted


def test_all_pythons_and_processors_get_the_same() -> None:
    """scripts/wheelhouse fills one for another machine, and pip judges the markers by the Python that it runs on."""
    found = {
        frozenset(one.name for one in requirements("requirements.txt") if one.marker is None or one.marker.evaluate(at))
        for at in map(environment_of, TARGETS)
    }
    assert len(found) == 1
    versions = {f"{python.rpartition('.')[0]}" for python, _ in TARGETS}
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert {f'"{version}"' for version in versions} == set(re.findall(r'"3\.\d+"', workflow))


def environment_of(target: tuple[str, str]) -> dict[str, str]:
    python, processor = target
    here = {name: str(value) for name, value in default_environment().items()}
    short = python.rpartition(".")[0]
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    return {**here, **linux, "python_full_version": python, "python_version": short, "platform_machine": processor}


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("requirements*.txt")))
def test_no_file_says_where_packages_come_from(name: str) -> None:
    """That is each machine's own matter; only the CPU index of torch stands in a script."""
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted-host| @ ", (ROOT / name).read_text())


def test_locked_versions_are_what_pip_takes_as_constraints() -> None:
    script = ROOT / "scripts" / "locked-versions"
    lines = subprocess.run([script], capture_output=True, text=True, check=True).stdout.splitlines()
    both = requirements("requirements.txt") + requirements("requirements-torch.txt")
    assert [str(Requirement(line)) for line in lines] == [str(one) for one in both]


def test_what_decodes_videos_is_in_no_bundle_and_no_wheelhouse() -> None:
    """Its wheels carry GPL encoders: whoever wants them installs them."""
    assert list(pins("requirements-video.txt")) == ["av"]
    for path in (ROOT / ".ebignore", ROOT / "scripts" / "wheelhouse", *(ROOT / ".platform").rglob("*")):
        if path.is_file():
            assert "requirements-video" not in path.read_text(), path
    assert "av" not in LOCKED
