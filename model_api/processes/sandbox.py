"""A process that reads a stranger's file: no network, no other program, bounded memory and time.

What it takes away is gone for good, so it is called once everything is imported. Linux; elsewhere only the limits that
the system has, which the caller is told. Standard library only.
"""

import ctypes
import os
import platform
import resource
import struct
from pathlib import Path

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
_KILL, _EPERM, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000  # what a filter may answer; the second is errno 1
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same number on every architecture
_BENEATH_A_PATH = 1
_WRITES = 1 << 1 | sum(1 << bit for bit in range(4, 13))  # linux/landlock.h: write, remove and make of every kind
_X32_BIT = 0x40000000  # calls of x86-64's other table
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
# call: its number on (x86_64, aarch64). Sockets, programs, and looking into other processes.
_REFUSED = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "bpf": (321, 280),
    "io_uring_setup": (425, 425), "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268), "kill": (62, 129),
    "tkill": (200, 130),
}  # fmt: skip
# All that arithmetic between two open descriptors needs: nothing is opened, and no thread or process begins.
_COMPUTING = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "newfstatat": (262, 79), "lseek": (8, 62),
    "pread64": (17, 67), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216),
    "brk": (12, 214), "madvise": (28, 233), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "sigaltstack": (131, 132), "restart_syscall": (219, 128), "getpid": (39, 172),
    "gettid": (186, 178), "tgkill": (234, 131), "exit": (60, 93), "exit_group": (231, 94), "futex": (202, 98),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115), "getrandom": (318, 278), "getrusage": (98, 165), "membarrier": (324, 283),
    "set_robust_list": (273, 99), "rseq": (334, 293),
}  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def close(writable: Path | None, max_memory_bytes: int, max_cpu_s: int) -> list[str]:
    """Give up what reading a file and writing below `writable` (None: nowhere) doesn't need. Returns what could not be
    given up here. Raises OSError."""
    _limit(max_memory_bytes, max_cpu_s, {resource.RLIMIT_NOFILE: 256})
    if not _has_filters():
        return ["network and other programs (no filter of system calls here)"]
    libc = _without_new_privileges()
    missing = [] if _write_below(libc, writable) else ["writing elsewhere (no Landlock here)"]
    failed = _install(libc, _REFUSED, listed=_EPERM, others=_ALLOW)
    return [*missing, *([f"network and other programs ({os.strerror(failed)})"] if failed else [])]


def close_to_computing(max_memory_bytes: int, max_cpu_s: int) -> None:
    """Give up all but arithmetic, and reading and writing what is open already; a file's length can't be changed.
    Raises OSError where this system has no such filter: then nothing of a stranger's may be read here."""
    if not _has_filters():
        raise OSError(0, "this system has no filter of system calls")
    _limit(max_memory_bytes, max_cpu_s, {resource.RLIMIT_NOFILE: 16, resource.RLIMIT_FSIZE: 0})
    failed = _install(_without_new_privileges(), _COMPUTING, listed=_ALLOW, others=_EPERM)
    if failed:
        raise OSError(failed, f"no filter of system calls ({os.strerror(failed)})")


def _limit(max_memory_bytes: int, max_cpu_s: int, more: dict[int, int]) -> None:
    wanted = {resource.RLIMIT_AS: max_memory_bytes, resource.RLIMIT_CPU: max_cpu_s, resource.RLIMIT_CORE: 0, **more}
    for limit, value in wanted.items():
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def _has_filters() -> bool:
    return platform.system() == "Linux" and platform.machine() in _ARCHITECTURES


def _without_new_privileges() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    return libc


def _write_below(libc: ctypes.CDLL, folder: Path | None) -> bool:
    """Let this process create, change and remove files below `folder` alone, or none. False where the kernel can't."""
    rules = struct.pack("=Q", _WRITES)
    ruleset = libc.syscall(_LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return False
    try:
        added = folder is None or _add_rule(libc, ruleset, folder)
        return bool(added and libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _add_rule(libc: ctypes.CDLL, ruleset: int, folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        rule = struct.pack("=Qi", _WRITES, descriptor)
        return bool(libc.syscall(_LANDLOCK_ADD, ruleset, _BENEATH_A_PATH, rule, 0) == 0)
    finally:
        os.close(descriptor)


def _install(libc: ctypes.CDLL, calls: dict[str, tuple[int, int]], *, listed: int, others: int) -> int:
    """The error's number, 0 if the filter holds from now on."""
    machine = platform.machine()
    column = list(_ARCHITECTURES).index(machine)
    code = _filter(_ARCHITECTURES[machine], [numbers[column] for numbers in calls.values()], listed, others)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    failed = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    return ctypes.get_errno() if failed else 0


def _filter(architecture: int, numbers: list[int], listed: int, others: int) -> bytes:
    """Berkeley packet filter over the call's number and architecture: one answer for these calls, one for the rest."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    steps = [step(_LOAD, 4), step(_EQUAL, architecture, 1, 0), step(_RETURN, _KILL), step(_LOAD, 0)]
    steps += [step(_AT_LEAST, _X32_BIT, 0, 1), step(_RETURN, _EPERM)]
    for number in numbers:
        steps += [step(_EQUAL, number, 0, 1), step(_RETURN, listed)]
    return b"".join([*steps, step(_RETURN, others)])
