"""A process that reads a stranger's file: no network, no other program, bounded memory and time.

What it takes away is gone for good, so it is called once everything is imported. Linux; elsewhere only the limits that
the system has, which the caller is told.
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
# (audit's name of the architecture, {call: its number}): sockets, programs, and looking into other processes.
_CALLS = {
    "x86_64": (0xC000003E, {"socket": 41, "socketpair": 53, "connect": 42, "execve": 59, "execveat": 322, "ptrace": 101,
                            "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "io_uring_setup": 425,
                            "mount": 165, "unshare": 272, "setns": 308, "kill": 62, "tkill": 200}),
    "aarch64": (0xC00000B7, {"socket": 198, "socketpair": 199, "connect": 203, "execve": 221, "execveat": 281,
                             "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280,
                             "io_uring_setup": 425, "mount": 40, "unshare": 97, "setns": 268, "kill": 129,
                             "tkill": 130}),
}  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def close(writable: Path, max_memory_bytes: int, max_cpu_s: int) -> list[str]:
    """Give up what reading a file and writing below `writable` doesn't need. Returns what could not be given up here.
    Raises OSError."""
    for limit, value in (
        (resource.RLIMIT_AS, max_memory_bytes),
        (resource.RLIMIT_CPU, max_cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    if platform.machine() not in _CALLS or platform.system() != "Linux":
        return ["network and other programs (no filter of system calls here)"]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    missing = [] if _write_below(libc, writable) else ["writing elsewhere (no Landlock here)"]
    code = _filter(*_CALLS[platform.machine()])
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        missing.append(f"network and other programs ({os.strerror(ctypes.get_errno())})")
    return missing


def _write_below(libc: ctypes.CDLL, folder: Path) -> bool:
    """Let this process create, change and remove files below `folder` alone. False where the kernel can't."""
    rules = struct.pack("=Q", _WRITES)
    ruleset = libc.syscall(_LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return False
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        rule = struct.pack("=Qi", _WRITES, descriptor)
        added = libc.syscall(_LANDLOCK_ADD, ruleset, _BENEATH_A_PATH, rule, 0) == 0
        return bool(added and libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(descriptor)
        os.close(ruleset)


def _filter(architecture: int, calls: dict[str, int]) -> bytes:
    """Berkeley packet filter over the call's number and architecture: refuse these calls, allow the rest."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    steps = [step(_LOAD, 4), step(_EQUAL, architecture, 1, 0), step(_RETURN, _KILL), step(_LOAD, 0)]
    steps += [step(_AT_LEAST, _X32_BIT, 0, 1), step(_RETURN, _EPERM)]
    for number in calls.values():
        steps += [step(_EQUAL, number, 0, 1), step(_RETURN, _EPERM)]
    return b"".join([*steps, step(_RETURN, _ALLOW)])
