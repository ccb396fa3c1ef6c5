"""rigs/host.py: the tests take nothing from their machine that isn't listed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import host
from tests.rigs.project import ROOT

# A machine where much is set that tests and the programs they start would read.
HOSTILE = {
    "LC_ALL": "C",
    "LANGUAGE": "tr",
    "TZ": "Pacific/Chatham",
    "COLUMNS": "20",
    "MODEL_API_LANES": "0",
    "MODEL_API_CACHE": "ftp://nowhere",
    "PORT": "1",
    "WEB_CONCURRENCY": "7",
    "GUNICORN_CMD_ARGS": "--no-such-option",
    "FLASK_DEBUG": "1",
    "AWS_PROFILE": "nope",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "PIP_INDEX_URL": "bad",
    "PIP_REQUIRE_VIRTUALENV": "nonsense",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "https_proxy": "http://127.0.0.1:1",
    "GIT_DIR": "/nonexistent",
    "GIT_INDEX_FILE": "/nonexistent",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "commit.gpgsign",
    "GIT_CONFIG_VALUE_0": "true",
    "SSH_AUTH_SOCK": "/nonexistent",
    "RSYNC_RSH": "false",
    "REDIS_URL": "redis://127.0.0.1:1",
    "BASH_ENV": "/nonexistent",
    "CDPATH": "/",
    "GREP_OPTIONS": "-v",
    "TAR_OPTIONS": "--no-such-option",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONPATH": "/nonexistent",
    "TRANSFORMERS_CACHE": "/nonexistent",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
    "XDG_CONFIG_HOME": "/nonexistent",
}
# Prints what a program that a test starts finds: its environment, umask, ignored signals, pip's and git's settings.
REPORT = """
import json, os, signal, subprocess, sys, time
def said(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
umask = os.umask(0); os.umask(umask)
print(json.dumps({
    "environment": dict(os.environ), "umask": umask, "zone": time.tzname[0],
    "ignored": [n.name for n in signal.Signals if signal.getsignal(n) is signal.SIG_IGN],
    "blocked": [n.name for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "pip": said(sys.executable, "-m", "pip", "config", "list"),
    "git": said("git", "-C", "/", "config", "--list", "--name-only"),
}))
"""
SHUT_OUT = f"""
import subprocess, sys
from pathlib import Path
from tests.rigs import host
from tests.rigs.project import ROOT
host.shut_out(Path(sys.argv[1]))
sys.exit(subprocess.run([sys.executable, "-c", {REPORT!r}]).returncode)
"""


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """HOSTILE, with a home and system folder full of settings."""
    home = tmp_path / "odd home"
    for name, text in {
        ".gitconfig": "[commit]\ngpgsign = true\n[core]\nautocrlf = true\n",
        ".config/pip/pip.conf": "[global]\nconstraint = /nonexistent\n",
        "xdg/pip/pip.conf": "[global]\nconstraint = /nonexistent\n",
        ".netrc": "machine 127.0.0.1 login a password b\n",
        ".curlrc": "proxy = http://127.0.0.1:1\n",
        ".aws/config": "[default]\nendpoint_url = http://127.0.0.1:1\n",
        ".ssh/config": "Host *\n  ProxyCommand false\n",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    kept = {"PATH": os.environ["PATH"]}
    return {**kept, **HOSTILE, "HOME": str(home), "XDG_CONFIG_DIRS": str(home / "xdg")}


def _odd_process() -> None:
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])


@pytest.fixture
def report(hostile: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    """What a program finds that a test starts on such a machine."""
    clean_start = {name: value for name, value in hostile.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", SHUT_OUT, tmp_path / "home"],
        cwd=ROOT, env=clean_start, preexec_fn=_odd_process, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_program_that_a_test_starts_finds_none_of_its_machines_ways(report: dict[str, Any], tmp_path: Path) -> None:
    environment = report["environment"]
    assert not {name for name, value in HOSTILE.items() if environment.get(name) == value}
    assert environment["HOME"] == str(tmp_path / "home")
    assert (environment["LANG"], environment["TZ"], report["zone"]) == ("C.UTF-8", "UTC", "UTC")
    assert report["umask"] == 0o022
    # Python itself ignores these two.
    assert set(report["ignored"]) <= {"SIGPIPE", "SIGXFSZ"}
    assert report["blocked"] == []
    assert all(line.startswith(":env:") for line in report["pip"]), report["pip"]
    assert set(report["git"]) == {"user.name", "user.email", "init.defaultbranch", "safe.directory"}


def test_this_very_process_was_cleaned() -> None:
    """What the machine had set, and still is so, is listed in rigs/host.py."""
    listed = set(host.clean_environment({}, Path("/home"))) | host.KEPT | {"PYENV_ROOT"}
    still = {name for name, value in host.ENVIRONMENT.items() if os.environ.get(name) == value}
    assert {name for name in still - listed if not name.startswith(host.KEPT_PREFIXES)} == set()
    assert Path(os.environ["HOME"]) != Path(host.ENVIRONMENT.get("HOME", ""))


def test_how_the_machine_was_set_is_kept_apart() -> None:
    """For whoever asks the real registry. The next test reads the report from a worker of a parallel run."""
    if report := os.environ.get("PYTEST_HOST_REPORT"):
        Path(report).write_text(json.dumps(host.ENVIRONMENT))
    assert "PATH" in host.ENVIRONMENT


def test_workers_of_a_parallel_run_know_it_too(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--numprocesses", "1"]
    done = subprocess.run(
        [*command, __file__, "-k", "kept_apart"],
        cwd=ROOT, env={**os.environ, "PIP_PROXY": "a-proxy", "PYTEST_HOST_REPORT": str(report)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert json.loads(report.read_text())["PIP_PROXY"] == "a-proxy"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"PYTHONOPTIMIZE": "1"}, "assert statements are not executed"),
        ({"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}, "tests read text as UTF-8, not"),
    ],
)
def test_an_interpreter_that_would_lie_is_refused(setting: dict[str, str], reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", __file__],
        cwd=ROOT, env={**os.environ, **setting}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr
