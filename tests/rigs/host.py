"""What the tests take from the machine they run on: what is listed here, and nothing else.

A shell's settings, a home folder, pip, git, ssh and the aws tools as somebody set them up, a proxy, a language, a time
zone and a umask differ from machine to machine; a test that reads one of them is green on some. tests/conftest.py
shuts them out before any test module is imported, for this process and so for every program that tests start.
"""

import codecs
import locale
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

# Where programs and their libraries are, where temporary files go, whether this is CI, who calls.
KEPT = frozenset({"PATH", "LD_LIBRARY_PATH", "TMPDIR", "CI", "USER", "LOGNAME", "TERM"})
# pytest's own; the processor that OpenBLAS is told to take this one for.
KEPT_PREFIXES = ("PYTEST_", "OPENBLAS_")

# As it was, for a test that is about the real package registry: how to reach it is the host's to say. A worker of a
# parallel run is started by a process that was cleaned, which hands this on (tests/conftest.py).
ENVIRONMENT: dict[str, str] = dict(os.environ)

GITCONFIG = """[user]
    name = tester
    email = tester@example.com
[init]
    defaultBranch = main
[safe]
    directory = *
"""


def clean_environment(found: Mapping[str, str], home: Path) -> dict[str, str]:
    """`found` reduced to what is kept; `home` as the home folder, UTF-8, UTC, and nobody's configuration."""
    kept = {name: value for name, value in found.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    # A version manager's programs on PATH look for themselves here, by default in the real home.
    pyenv = found.get("PYENV_ROOT") or str(Path(found.get("HOME", "/nonexistent"), ".pyenv"))
    return {
        "PATH": os.defpath,
        **kept,
        **({"PYENV_ROOT": pyenv} if Path(pyenv).is_dir() else {}),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PIP_CONFIG_FILE": os.devnull,  # pip then reads no configuration at all, the system's included
        "GIT_CONFIG_NOSYSTEM": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HF_HUB_OFFLINE": "1",
    }


def shut_out(home: Path) -> None:
    """Clean this process's environment, umask, time zone and signals. `home` is made. On the main thread only."""
    home.mkdir(mode=0o700, parents=True)
    (home / ".gitconfig").write_text(GITCONFIG)
    wanted = clean_environment(os.environ, home)
    os.environ.clear()
    os.environ.update(wanted)
    time.tzset()
    os.umask(0o022)
    # nohup and a shell's `&` start programs that ignore these, and so would the programs that tests start.
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def expect_utf8() -> None:
    """Fail where text files aren't read as UTF-8, which the interpreter decided before it read a line of ours."""
    encoding = locale.getpreferredencoding(False)
    if codecs.lookup(encoding).name != "utf-8":
        raise pytest.UsageError(f"tests read text as UTF-8, not {encoding}: run scripts/test, or set PYTHONUTF8=1")
