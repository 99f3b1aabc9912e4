"""System calls that no training without a network gets, as a program for the kernel's seccomp.

No namespace holds sockets to the host of a virtual machine (vsock), and io_uring makes sockets of any kind.
`seccomp.bpf` is what `rules` returns, as a file for bwrap: after a change, `python -m loop.sandbox.seccomp`.
"""

from __future__ import annotations

import errno
import struct
from pathlib import Path

FILE = Path(__file__).with_suffix(".bpf")
MACHINES = ("x86_64", "aarch64")
OPENING = ("/bin/sh", "-c", 'exec "$@" 9<"$0"', str(FILE))  # begins a command that finds the rules as its 9

# linux/bpf_common.h, linux/seccomp.h, linux/audit.h
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # where they are; of the argument the lower half
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_X86_64, _AARCH64 = 0xC000003E, 0xC00000B7
_X32 = 0x40000000  # marks the numbers of a second set of calls

_SOCKET_X86_64, _SOCKET_AARCH64, _IO_URING_SETUP = 41, 198, 425
_AF_VSOCK = 40


def rules() -> bytes:
    """Return instructions: each with what to do, how many to skip if so, how many if not, and an operand."""
    steps = (
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _X86_64),
        (_EQUAL, 3, 10, _AARCH64),  # to ARM, or no call of any other
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 8, 0, _X32),
        (_EQUAL, 3, 2, _SOCKET_X86_64),
        (_LOAD, 0, 0, _NUMBER),  # ARM
        (_EQUAL, 1, 0, _SOCKET_AARCH64),
        (_EQUAL, 4, 3, _IO_URING_SETUP),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),  # a socket
        (_EQUAL, 0, 1, _AF_VSOCK),
        (_RETURN, 0, 0, _ERROR | errno.EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
    )
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


if __name__ == "__main__":
    FILE.write_bytes(rules())
