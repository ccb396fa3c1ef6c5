"""What a process may still do once it gave up all but arithmetic. (Less strict: tests/conversion/test_pickles.py.)"""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from model_api.processes import sandbox
from tests.rigs.project import ROOT

ATTEMPTS = {
    "network": "socket.socket()",
    "a pair of sockets": "socket.socketpair()",
    "another program": "os.execv('/bin/true', ['true'])",
    "a child": "os.fork()",
    "a thread": "threading.Thread(target=print).start()",
    "reading a file": "open(sys.argv[1])",
    "writing a file": "open(sys.argv[2], 'w')",
    "making an open file longer": "os.truncate(held.fileno(), 5)",
    "writing to an open file": "held.write(b'x'); held.flush()",
    "removing a file": "os.unlink(sys.argv[1])",
    "ending another process": "os.kill(os.getppid(), 15)",
    "looking into another process": "ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0) and 1 / 0",
    "an anonymous file": "os.memfd_create('x')",
    "memory": "bytearray(2**30)",
    "more time": "resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))",
    "privileges": "assert ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 0",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_computing_process_can_do_no_more(tmp_path: Path, attempt: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    code = (
        "import ctypes, os, resource, socket, sys, threading, traceback\n"
        "from model_api.processes import sandbox\n"
        "held = open(sys.argv[1], 'ab')\n"
        "sandbox.close_to_computing(2**30, 20)\n"
        "sys.stdout.write('closed\\n'); sys.stdout.flush()\n"
        "try:\n"
        f"    {ATTEMPTS[attempt]}\n"
        "except BaseException as error:\n"
        "    os.write(1, type(error).__name__.encode() + b' refused\\n')\n"
        "else:\n"
        "    os.write(1, b'done\\n')\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-c", code, str(victim), str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert done.stdout.startswith("closed"), done.stderr
    assert done.stdout.endswith("refused\n"), done.stdout
    assert victim.read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["victim"]


def test_processor_time_ends_it() -> None:
    code = "from model_api.processes import sandbox\nsandbox.close_to_computing(2**30, 1)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=120)
    assert done.returncode in (-24, -9)  # SIGXCPU, or the hard limit's SIGKILL


def test_where_there_is_no_filter_nothing_is_promised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    monkeypatch.setattr(sandbox, "_limit", lambda *limits: None)
    with pytest.raises(OSError, match="no filter of system calls"):
        sandbox.close_to_computing(2**30, 1)
    assert sandbox.close(tmp_path, 2**30, 1) == ["network and other programs (no filter of system calls here)"]


def test_every_call_has_a_number_for_every_architecture() -> None:
    for calls in (sandbox._REFUSED, sandbox._COMPUTING):
        assert all(len(numbers) == len(sandbox._ARCHITECTURES) for numbers in calls.values())
        for column in range(len(sandbox._ARCHITECTURES)):
            numbers = [pair[column] for pair in calls.values()]
            assert len(set(numbers)) == len(numbers)
    assert not sandbox._REFUSED.keys() & sandbox._COMPUTING.keys()
