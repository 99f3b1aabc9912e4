"""The sandbox where namespaces are refused: a program that confines itself by Landlock and becomes another.

    python -I -S landlock.py '{"read": […], "write": […], "list": […], "network": false, …}' PROGRAM…

It gives up all capabilities, reaches only the paths named (`write` includes reading, `read` executing, `list`
tells names), and dies with its parent. It does not hold: unix sockets by path, UDP, modes and times of files
elsewhere, names of what is hidden in a folder that is shown, what /proc tells of other processes, their
limits and priorities, shared memory (/dev/shm, System V), keys of the user, and a file that should be
read-only in a folder that is not; signals and abstract sockets before Linux 6.12, TCP before 6.7.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import sys
from typing import Any

# linux/landlock.h: the rights on files, in the order of their bits, by the version that brought them
_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # execute, write, read, truncate, ioctl of a device
_LIST = 1 << 3
_READ = 1 << 0 | 1 << 2 | _LIST  # execute, read a file, list a folder
_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_NET = {4: 1 << 0 | 1 << 1}  # bind and connect by TCP
_SCOPES = {6: 1 << 0 | 1 << 1}  # abstract sockets and signals
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1  # flag of the first
_PATH_BENEATH = 1

# linux/prctl.h, linux/securebits.h, linux/capability.h
_SET_PDEATHSIG, _SET_SECUREBITS, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT = 1, 28, 24, 38, 47
_SET_SECCOMP, _FILTER = 22, 2
_CLEAR_ALL = 4
_NOROOT_LOCKED = 0b11
_CAPABILITY_VERSION_3 = 0x20080522


class _Program(ctypes.Structure):  # struct sock_fprog
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Return the version of the kernel's Landlock, 0 where there is none."""
    if sys.platform != "linux":
        return 0
    found: int = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return max(0, found)


def restrict(rules: dict[str, Any]) -> None:
    """Confine this process and its children for good.

    Raises:
        OSError: the kernel refused; the process is not confined.
    """
    libc, abi = _libc(), version()
    if abi == 0:
        raise OSError("this kernel has no Landlock")
    rights = _known(_RIGHTS, abi)
    net = 0 if rules["network"] else _known(_NET, abi)
    attributes = (ctypes.c_uint64 * 3)(rights, net, _known(_SCOPES, abi))
    ruleset = _checked(
        libc.syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), 0)
    )
    for access, allowed in {"read": _READ, "write": rights, "list": _LIST}.items():
        for path in rules[access]:
            _allow(libc, ruleset, path, allowed & rights)
    _checked(libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    if instructions := bytes.fromhex(rules["seccomp"]):
        program = _Program(len(instructions) // 8, instructions)
        _checked(libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0))


def drop_capabilities() -> None:
    """Keep no capability, and let no program that is started get one: root is a user like any other then."""
    libc = _libc()
    libc.prctl(_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    libc.prctl(_SET_SECUREBITS, _NOROOT_LOCKED, 0, 0, 0)  # an ordinary user may not, and need not
    for capability in range(64):
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _checked(libc.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())))


def main() -> None:
    rules, program = json.loads(sys.argv[1]), sys.argv[2:]
    parent = os.getppid()
    try:
        drop_capabilities()
        _checked(_libc().prctl(_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0))
        if os.getppid() != parent:
            os._exit(1)  # it died in between
        restrict(rules)
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]} under Landlock: {error}\n")
        os._exit(126)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, allowed: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it is not there: nothing to allow
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            allowed &= _OF_FILES
        rule = _Beneath(allowed, opened)
        _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(opened)


def _known(bits: dict[int, int], abi: int) -> int:
    return sum(value for since, value in bits.items() if since <= abi)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main()
