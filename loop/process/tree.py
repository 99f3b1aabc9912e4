"""The processes of a training or an agent, found by the mark in their environment."""

from __future__ import annotations

import os
import sys
from io import FileIO

from loop.process.supervisor import MARK, descendants

if sys.platform == "linux":

    def _marked(variables: set[bytes]) -> list[int]:
        """Look without psutil, whose import takes longer than all else that a keeper does."""
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - twice as fast
        return [pid for pid in pids if not variables.isdisjoint(_variables(pid))]

    def _variables(pid: int) -> list[bytes]:
        try:
            with FileIO(f"/proc/{pid}/environ") as file:
                return file.readall().split(b"\0")
        except OSError:  # gone, or another user's
            return []

else:
    import psutil

    def _marked(variables: set[bytes]) -> list[int]:
        pairs = {tuple(os.fsdecode(variable).split("=", 1)) for variable in variables}
        found = psutil.process_iter(["environ"])
        return [process.pid for process in found if pairs & (process.info["environ"] or {}).items()]


def find_tree(*values: str, root: int | None = None, mark: str = MARK) -> list[int]:
    """List the processes with one of these marks, and what descends from them or from `root`."""
    marked = _marked({os.fsencode(f"{mark}={value}") for value in values})
    below = descendants(*marked, *(() if root is None else (root,)))
    return sorted({*marked, *below} - {os.getpid()})
