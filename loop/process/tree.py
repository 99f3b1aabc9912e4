"""The processes of a training or an agent, found by the mark in their environment."""

from __future__ import annotations

import os
import sys
from io import FileIO

from loop.process.supervisor import MARK, descendants

if sys.platform == "linux":

    def _marked(variable: bytes) -> list[int]:
        """Look without psutil, whose import takes longer than all else that a keeper does."""
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - twice as fast
        return [pid for pid in pids if variable in _variables(pid)]

    def _variables(pid: int) -> list[bytes]:
        try:
            with FileIO(f"/proc/{pid}/environ") as file:
                return file.readall().split(b"\0")
        except OSError:  # gone, or another user's
            return []

else:
    import psutil

    def _marked(variable: bytes) -> list[int]:
        name, _, value = os.fsdecode(variable).partition("=")
        found = psutil.process_iter(["environ"])
        return [process.pid for process in found if (process.info["environ"] or {}).get(name) == value]


def find_tree(value: str, root: int | None = None, *, mark: str = MARK) -> list[int]:
    """List the processes with this mark, and what descends from them or from `root`."""
    marked = _marked(os.fsencode(f"{mark}={value}"))
    below = descendants(*marked, *(() if root is None else (root,)))
    return sorted({*marked, *below} - {os.getpid()})
