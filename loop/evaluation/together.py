"""The small process beside an evaluation. It starts the programs, joins their pipes, and ends all of it.

    python -m loop.evaluation.together < job

It gets one line of JSON, a `Job` of `evaluator.py`, and prints one: how it ended, each program's exit status,
and the end of what each said. The evaluation ends when its stdin does, so with the bot too, and with itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from select import select

from loop.process.supervisor import MARK, become_subreaper, confine, descendants, excess_below

TYPE_CHECKING = False  # typing takes long to import, and nothing here needs it
if TYPE_CHECKING:
    from typing import Any

EXCHANGE = "{exchange}"  # of a command: the descriptor of the file that two programs share
POLL = 0.2  # seconds between looks at what the programs use
PATIENCE = 5.0  # seconds for killed processes to go
SAID, PRINTED = 2**13, 2**20  # bytes kept: the end of what a program says, and the answer of a single one
CHUNK = 2**16


class Programs:
    """The programs of an evaluation and all processes that come of them; we have no other children."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self.exit_codes: list[int | None] = [None] * len(job["programs"])
        self.said = [b""] * len(job["programs"])
        self.printed = b""
        self._limits = job["limits"]
        self._output: dict[int, int] = {}  # pipes, with the place of their program; -1: of the answer
        exchange = _shared_file()
        ends: list[tuple[int, int]] = [_answer_pipe(self._output)]
        if len(job["programs"]) == 2:
            to_first, to_second = os.pipe(), os.pipe()
            ends = [(to_first[0], to_second[1]), (to_second[0], to_first[1])]
        self._pids = [
            self._start(place, program, job["mark"], ends[place], exchange)
            for place, program in enumerate(job["programs"])
        ]
        for descriptor in (exchange, *(end for pair in ends for end in pair)):
            os.close(descriptor)

    @property
    def pipes(self) -> list[int]:
        return list(self._output)

    def _start(
        self, place: int, program: Mapping[str, Any], mark: str, ends: tuple[int, int], exchange: int
    ) -> int:
        reading, writing = os.pipe()
        us = os.getpid()
        try:
            started = subprocess.Popen(
                [str(exchange) if word == EXCHANGE else word for word in program["argv"]],
                cwd=program["cwd"],
                env={**program["env"], MARK: mark},
                stdin=ends[0],
                stdout=ends[1],
                stderr=writing,
                pass_fds=[exchange],
                start_new_session=True,
                preexec_fn=lambda: confine(self._limits, us),  # noqa: PLW1509 - we have no threads
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            os.write(writing, os.fsencode(f"cannot start {program['argv'][0]}: {error}\n")[:CHUNK])
            self.exit_codes[place] = 127
            return 0
        else:
            return started.pid
        finally:
            os.close(writing)
            self._output[reading] = place

    def take(self, pipe: int) -> None:
        """Take what a program has said, and keep the end of it."""
        place, chunk = self._output[pipe], os.read(pipe, CHUNK)
        if not chunk:
            os.close(pipe)
            del self._output[pipe]
        elif place < 0:
            self.printed = (self.printed + chunk)[: PRINTED + 1]
        else:
            self.said[place] = (self.said[place] + chunk)[-SAID:]

    def reap(self) -> bool:
        """Note who has ended; say whether no process is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid in self._pids:
                self.exit_codes[self._pids.index(pid)] = os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        give_up = time.monotonic() + PATIENCE
        while not self.reap() and time.monotonic() < give_up:
            for pid in descendants(os.getpid()):
                with suppress(OSError):  # gone
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)


def wait(programs: Programs, deadline: float, limits: Mapping[str, int], wake: int) -> str:
    """Wait until the first program has ended; return how it came to an end, "left" if nobody waits for it."""
    end, look = time.monotonic() + deadline, time.monotonic() + POLL
    while True:
        now = time.monotonic()
        if now >= end:
            return "deadline"
        if now >= look:
            if excess := excess_below(os.getpid(), limits):
                return excess[0]
            look = time.monotonic() + POLL
        ready, _, _ = select([0, wake, *programs.pipes], [], [], max(0.0, min(end, look) - now))
        if 0 in ready and not os.read(0, CHUNK):
            return "left"
        if wake in ready:
            os.read(wake, CHUNK)
        for pipe in ready:
            if pipe in programs.pipes:
                programs.take(pipe)
        programs.reap()
        if programs.exit_codes[0] is not None:
            return "exited"


def main() -> None:
    line = FileIO(0, closefd=False).readline()  # no byte beyond the line is taken
    if not line.endswith(b"\n"):
        return
    os.umask(0o077)
    become_subreaper()
    wake, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    job = json.loads(line)
    programs = Programs(job)
    ending = wait(programs, job["deadline"], job["limits"], wake)
    codes = tuple(programs.exit_codes)  # as they were before we killed the rest
    programs.kill()
    if ending == "left":
        return
    for pipe in programs.pipes:
        os.set_blocking(pipe, False)
        with suppress(BlockingIOError):
            while pipe in programs.pipes:
                programs.take(pipe)
    answer = {
        "ending": ending,
        "exit_codes": codes,
        "said": [said.decode(errors="replace") for said in programs.said],
        "printed": programs.printed.decode(errors="replace"),
    }
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer))
        sys.stdout.flush()


def _shared_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("exchange")
    import tempfile  # takes long

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _answer_pipe(output: dict[int, int]) -> tuple[int, int]:
    """Return stdin and stdout for a single program."""
    reading, writing = os.pipe()
    output[reading] = -1
    return os.open(os.devnull, os.O_RDONLY), writing


if __name__ == "__main__":
    main()
    os._exit(0)
