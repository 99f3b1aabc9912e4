"""The program that tries to break out of the sandbox it is started in.

    python -I probe.py          prints what Python and GPU are here, as JSON
    python -I probe.py FILE     also tries what FILE names (`proof.py` writes it), and prints what came of it

It runs alone, with the Python that trains, which may be older than the bot's.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

MS_REMOUNT_BIND = 32 | 4096  # linux/mount.h
CLONE_NEWUSER = 0x10000000  # linux/sched.h
KERNEL = ("sys/kernel/core_pattern", "sys/vm/swappiness", "sys/net/ipv4/ip_forward", "sysrq-trigger")
FILLING = 0x5EED


class Attempts:
    """What is tried: a method each, which returns what it got and raises OSError where it is refused."""

    def __init__(self, targets: dict[str, Any]) -> None:
        self.marker: str = targets["marker"]
        self.targets = targets

    def work(self) -> object:
        for folder in (self.targets["work"], tempfile.gettempdir()):
            Path(folder, self.marker).write_text(self.marker)
        with tempfile.TemporaryFile(dir="/dev/shm") as file:  # where programs share memory
            return file.write(b"1")

    def write_outside(self) -> object:
        return self._write([*map(Path, self.targets["outside"]), Path(sys.prefix, self.marker)])

    def change_fixed(self) -> object:
        path = Path(self.targets["fixed"])
        done = self._write([path])
        for moved in (path, path.parent):
            try:
                moved.rename(moved.with_name(f"moved-{moved.name}"))
                path.parent.mkdir(exist_ok=True)
            except OSError:
                continue
            done += self._write([path])
        return done

    def read_secret(self) -> object:
        return self._read([Path(self.targets["secret"])])

    def read_git(self) -> object:
        return self._read([Path(path) for path in self.targets["git"]])

    def list_home(self) -> object:
        names = {path.name for path in Path(self.targets["home"]).iterdir()}
        return sorted(names & set(self.targets["of_home"]))

    def connect_tcp(self) -> object:
        return self._connect(socket.AF_INET, tuple(self.targets["tcp"]))

    def send_udp(self) -> object:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            return client.sendto(self.marker.encode(), tuple(self.targets["udp"]))

    def open_vsock(self) -> object:
        """Make a socket to the host of a virtual machine, and connect it to nothing."""
        with socket.socket(getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM):
            return "made"

    def connect_socket(self) -> object:
        os.chdir(self.targets["folder"])  # a long path is no address
        return self._connect(socket.AF_UNIX, "socket")

    def see_processes(self) -> object:
        paths = Path("/proc").glob("[0-9]*/cmdline")
        return [str(path) for path in paths if self.marker in (self._read([path]) or "")]

    def read_environ(self) -> object:
        return self.marker in (self._read([Path(f"/proc/{self.targets['process']}/environ")]) or "")

    def set_kernel(self) -> object:
        """Open settings of the kernel to write, and write nothing: with core_pattern one is root outside."""
        return self._write([Path("/proc", name) for name in KERNEL], nothing=True)

    def remount(self) -> object:
        path = Path(self.targets["remount"])
        _call("mount", None, bytes(path), None, MS_REMOUNT_BIND, None)
        return ["remounted", *self._write([path])]

    def send_signal(self) -> object:
        if self.targets["process"] in (1, os.getpid()):
            return None  # another one of that number
        os.kill(self.targets["process"], signal.SIGUSR1)
        return "sent"

    def open_namespace(self) -> object:  # the last: it changes what this process may do
        _call("unshare", CLONE_NEWUSER)
        return "opened"

    def _write(self, paths: list[Path], *, nothing: bool = False) -> list[str]:
        done = []
        for path in paths:
            try:
                opened = os.open(path, os.O_WRONLY | (0 if nothing else os.O_CREAT))
            except OSError:
                continue
            if not nothing:
                os.write(opened, self.marker.encode())
            os.close(opened)
            done.append(str(path))
        return done

    def _read(self, paths: list[Path]) -> str | None:
        for path in paths:
            try:
                return path.read_text(errors="replace")[:4096]
            except OSError:
                pass
        return None

    def _connect(self, family: int, address: Any) -> str:
        with socket.socket(family) as client:
            client.settimeout(2)
            client.connect(address)
        return "connected"


def gpu() -> str:
    """Return what the first GPU answers when some of its memory is filled and read back."""
    os.environ["CUDA_CACHE_DISABLE"] = "1"  # else it makes ~/.nv, outside and inside
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no driver"
    number, context, address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    back = (ctypes.c_uint32 * 1024)()
    size = ctypes.c_size_t(ctypes.sizeof(back))
    steps = (
        ("cuInit", (0,)),
        ("cuDeviceGetCount", (ctypes.byref(number),)),
        ("cuDevicePrimaryCtxRetain", (ctypes.byref(context), 0)),
        ("cuCtxSetCurrent", (context,)),
        ("cuMemAlloc_v2", (ctypes.byref(address), size)),
        ("cuMemsetD32_v2", (address, FILLING, ctypes.c_size_t(len(back)))),
        ("cuMemcpyDtoH_v2", (back, address, size)),
        ("cuMemFree_v2", (address,)),
        ("cuDevicePrimaryCtxRelease_v2", (0,)),
    )
    for name, arguments in steps:
        code = getattr(cuda, name)(*arguments)
        if code != 0:
            return f"{name}: error {code}"
    computes = all(value == FILLING for value in back)
    return f"{number.value} GPU, {'computes' if computes else 'wrong memory'}"


def _call(name: str, *arguments: Any) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    said: dict[str, Any] = {
        "python": [sys.version, os.path.realpath(sys.prefix)],
        "gpu": gpu(),
        "got": {},
        "refused": {},
    }
    if len(sys.argv) > 1:
        attempts = Attempts(json.loads(Path(sys.argv[1]).read_text()))
        for name in [name for name in vars(Attempts) if not name.startswith("_")]:
            try:
                got = getattr(attempts, name)()
            except OSError as error:
                said["refused"][name] = str(error)
            else:
                if got:
                    said["got"][name] = got
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
