"""A Ray cluster on this machine: a head and nodes with GPUs that are not there, each a tree of processes.

It lives in a network of its own, where there is nothing but 127.0.0.1: `enter_network` comes first.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from tests.servers.ports import free_port

CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PATIENCE = 180.0  # seconds, for a failure only


def why_not() -> str:
    """Say why no cluster can be started here; empty where one can."""
    if find_spec("ray") is None:
        return "Ray is not installed: pip install -e '.[ray]'"
    if sys.platform != "linux":
        return "a network of its own needs Linux"
    probe = subprocess.run(
        [sys.executable, "-c", "from tests.ray_cluster.nodes import enter_network; enter_network()"],
        check=False,
    )
    return "" if probe.returncode == 0 else "no network of its own can be made here"


def enter_network() -> None:
    """Let this process, which has one thread, live where only 127.0.0.1 is."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNET | (CLONE_NEWUSER if uid else 0)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh", b"lo", 0)
        (found,) = struct.unpack("16xh", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)[:18])
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", found | IFF_UP))


class RayNode:
    """What `ray start --block` runs, with a folder of its own for its lanes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **{
                name: os.environ[name]
                for name in ("PATH", "PYTHONPATH", "TORCH_LEDGER", "TIMES")
                if name in os.environ
            },
            "HOME": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "AUTORESEARCH_NODE_HOME": str(folder / "lanes"),
        }
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"),
            *("--node-ip-address=127.0.0.1", "--object-store-memory=80000000", "--include-log-monitor=false"),
            *arguments,
        ]
        self._output = folder / "ray.out"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def said(self) -> str:
        return self._output.read_text()

    def runs(self) -> bool:
        return "Ray runtime started" in self.said()

    def is_decided(self) -> bool:
        return self.runs() or self.process.poll() is not None

    def tree(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Kill all of it at once, its trainings too, as when a machine loses its power."""
        found = self.tree()
        for process in found:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGSTOP)  # so that none sees another's end
        for process in {*found, *self.tree()}:
            with suppress(psutil.Error):
                process.kill()
        self.process.wait()


class RayCluster:
    """A head without processors for lanes, and nodes by their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.nodes: dict[str, RayNode] = {}
        self._sessions = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start_head(self) -> None:
        self._sessions += 1
        self._start(
            "head",
            *("--head", f"--port={self.port}", "--num-cpus=0", "--num-gpus=0", "--include-dashboard=false"),
            f"--temp-dir={self.folder}/s{self._sessions}",
        )

    def start(self, name: str, *, gpus: int = 0, cpus: int = 2) -> None:
        self._start(name, f"--address={self.address}", f"--num-gpus={gpus}", f"--num-cpus={cpus}")

    def _start(self, name: str, *arguments: str) -> None:
        """Start a node and wait until it runs; on a busy machine Ray may give that up."""
        for _ in range(5):
            node = self.nodes[name] = RayNode(self.folder / name, *arguments)
            until(node.is_decided)
            if node.runs():
                return
            node.kill()
        raise TimeoutError(node.said())

    def kill(self, name: str) -> None:
        self.nodes.pop(name).kill()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what no other process tells us of."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {PATIENCE:.0f} s in vain")
        time.sleep(0.05)


@contextmanager
def cluster() -> Iterator[RayCluster]:
    """Yield a cluster without nodes; in the end all that was started is killed."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        made = RayCluster(Path(folder))
        try:
            yield made
        finally:
            for name in list(made.nodes):
                made.kill(name)
