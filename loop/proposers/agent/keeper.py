"""The small process beside a coding agent. It owns the agent's process tree, its time and its output.

    python -m loop.proposers.agent.keeper

It reads one line of JSON on stdin: `argv cwd env prompt folder limit`. When the agent exits, its time is over
or stdin ends (the bot is gone), all its processes are killed; then one JSON object is written to stdout:
`ending` (`exited`, `deadline`, `dismissed` or `absent`), `exit_code`, `output` and `errors`.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from loop.process.supervisor import PATIENCE, become_subreaper, find_tree

MARK = "AUTORESEARCH_AGENT"
"""Environment variable that names the folder of a call in every process of its agent."""

OUTPUT = 8 * 2**20  # so many of the last bytes on stdout are kept
ERRORS = 2**16  # and on stderr
NICENESS = 10  # a training that needs the processor goes first
CHUNK = 2**16
POLL = 0.02
DRAIN = 1.0  # seconds for what is still in a pipe whose writers are dead

PR_SET_PDEATHSIG = 1  # prctl(2)


class Tail(threading.Thread):
    """Reads a pipe to its end and keeps the last `limit` bytes of it."""

    def __init__(self, pipe: int, limit: int) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._limit = limit
        self._kept = bytearray()
        self.start()

    def run(self) -> None:
        while chunk := os.read(self._pipe, CHUNK):
            self._kept += chunk
            if len(self._kept) > 2 * self._limit:
                del self._kept[: -self._limit]

    def text(self) -> str:
        self.join(DRAIN)
        return bytes(self._kept[-self._limit :]).decode(errors="replace")


def keep(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run the agent until it ends, its time is over or it is dismissed; leave nothing of its processes."""
    folder = job["folder"]
    subreaper = become_subreaper()
    try:
        with Path(job["prompt"]).open("rb") as prompt:
            agent = subprocess.Popen(
                job["argv"],
                stdin=prompt,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=job["cwd"],
                env={**job["env"], MARK: folder},
                start_new_session=True,
                preexec_fn=_die_with_us(),  # noqa: PLW1509 - there are no threads yet
            )
    except OSError as error:
        return {"ending": "absent", "exit_code": None, "output": "", "errors": error.strerror or str(error)}
    assert agent.stdout is not None
    assert agent.stderr is not None
    output, errors = Tail(agent.stdout.fileno(), OUTPUT), Tail(agent.stderr.fileno(), ERRORS)
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    for wait, event in ((agent.wait, "exited"), (sys.stdin.buffer.read, "dismissed")):
        threading.Thread(target=_report, args=(wait, events, event), daemon=True).start()
    try:
        ending = events.get(timeout=job["limit"])
    except queue.Empty:
        ending = "deadline"
    _end_tree(folder, os.getpid(), subreaper=subreaper)
    exit_code = agent.returncode if ending == "exited" else None
    return {"ending": ending, "exit_code": exit_code, "output": output.text(), "errors": errors.text()}


def sweep(folder: str) -> None:
    """Kill what carries the mark of a call whose keeper is gone."""
    _end_tree(folder, None, subreaper=False)


def main() -> None:
    os.nice(NICENESS)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # the bot died
    result = keep(json.loads(line))
    if result["ending"] != "dismissed":
        sys.stdout.write(json.dumps(result))
        sys.stdout.flush()


def _report(wait: Callable[[], object], events: queue.SimpleQueue[str], event: str) -> None:
    wait()
    events.put(event)


def _end_tree(folder: str, root: int | None, *, subreaper: bool) -> None:
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        tree = find_tree(folder, root=root, mark=MARK)
        for pid in tree:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        # Every orphan of the tree becomes a child of a subreaper: without children, nothing is left.
        if _is_childless() if subreaper else not tree:
            return
        time.sleep(POLL)


def _is_childless() -> bool:
    """Reap what has ended, and tell whether no child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def _die_with_us() -> Callable[[], None] | None:
    """Return what a child does so that it is killed when we are."""
    if sys.platform != "linux":
        return None
    try:
        from ctypes import CDLL
    except ImportError:  # a Python that was built without it
        return None
    prctl = CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
    os._exit(0)  # threads of ours may still wait for what never comes
