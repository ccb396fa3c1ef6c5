"""Child processes that never outlive their parent."""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent's thread that made us ends. Elsewhere than on Linux: sockets only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before we asked
        os._exit(1)


def wake_on_child() -> int:
    """A file descriptor that becomes readable whenever a child ends. Main thread."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reader


def fork_child(run: Callable[[], None]) -> int:
    """Fork; the child calls `run` and exits whatever happens. The child's pid."""
    parent_pid = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        die_with_parent(parent_pid)
        run()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
