"""The small process beside programs of `programs.py`: it starts them, limits them, and ends all of it.

    python -m loop.process.together < job

It gets one line of JSON and prints one: how it ended, each program's exit status, and the end of what each
said. The programs and all that they started end when its stdin does, so with the bot too, and with itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from select import select

from loop.process.supervisor import PATIENCE, POLL, Usage, become_subreaper, confine, end_marked, kill_below

TYPE_CHECKING = False  # typing takes long to import, and nothing here needs it
if TYPE_CHECKING:
    from typing import Any

EXCHANGE = "{exchange}"  # of a command: the descriptor of the file that the first program and another share
SECOND = "{second}"  # of the first: such a file, and where it reads from the third program and writes to it
SAID, PRINTED = 2**16, 2**23  # bytes kept of the end of stderr, and of the stdout of a single program
CHUNK = 2**16
PF_EXITING = 4  # include/linux/sched.h, shown in /proc/PID/stat


class Programs:
    """The programs of an evaluation and all processes that come of them; we have no other children."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self.exit_codes: list[int | None] = [None] * len(job["programs"])
        self.said = [bytearray() for _ in job["programs"]]
        self.printed = bytearray()
        self.absent = False  # the first cannot be started
        self._job = job
        self._output: dict[int, tuple[bytearray, int]] = {}  # by pipe: what came, and how much is kept
        links = [_link() for _ in job["programs"][1:]]
        if links:
            ends, words = links[0][1:3], {EXCHANGE: links[0][:1]}
            words |= {SECOND: links[1][:3]} if links[1:] else {}
        else:
            reading, writing = os.pipe()
            self._output[reading] = self.printed, PRINTED
            ends, words = (os.open(job["stdin"], os.O_RDONLY), writing), {}
        given = [(ends, words), *((link[3:], {EXCHANGE: link[:1]}) for link in links)]
        # All are kept: a `Popen` that is thrown away takes the exit status of one that has ended with it.
        self._started = [
            self._start(place, program, *given[place]) for place, program in enumerate(job["programs"])
        ]
        for descriptor in {*ends, *(each for link in links for each in link)}:
            os.close(descriptor)

    @property
    def pipes(self) -> list[int]:
        return list(self._output)

    def _start(
        self, place: int, program: Mapping[str, Any], ends: Sequence[int], words: Mapping[str, Sequence[int]]
    ) -> subprocess.Popen[bytes] | None:
        reading, writing = os.pipe()
        self._output[reading] = self.said[place], SAID
        us, (variable, mark) = os.getpid(), self._job["mark"]

        def begin() -> None:
            os.nice(self._job["nice"])
            confine(self._job["limits"], us)

        try:
            return subprocess.Popen(
                [",".join(map(str, words.get(word, ()))) or word for word in program["argv"]],
                cwd=program["cwd"],
                env={**program["env"], variable: mark},
                stdin=ends[0],
                stdout=ends[1],
                stderr=writing,
                pass_fds=[each for some in words.values() for each in some],
                start_new_session=True,
                preexec_fn=begin,  # noqa: PLW1509 - we have no threads
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            said = getattr(error, "strerror", None) or error
            os.write(writing, os.fsencode(f"cannot be started: {said}\n")[:CHUNK])
            self.exit_codes[place] = 127
            self.absent = self.absent or place == 0
            return None
        finally:
            os.close(writing)

    def take(self, pipe: int) -> None:
        """Take what a program has said, and keep the end of it."""
        chunk = os.read(pipe, CHUNK)
        if not chunk:
            os.close(pipe)
            del self._output[pipe]
            return
        kept, most = self._output[pipe]
        kept += chunk
        if len(kept) > 2 * most:
            del kept[:-most]

    def reap(self) -> bool:
        """Note who has ended; say whether no process is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            for place, started in enumerate(self._started):
                if started is not None and pid == started.pid:
                    self.exit_codes[place] = os.waitstatus_to_exitcode(status)

    def settle(self) -> None:
        """Reap who is ending: the other end of its pipes hears of it before we do."""
        give_up = time.monotonic() + PATIENCE
        while any(started and is_ending(started.pid) for started in self._started):
            if self.reap() or time.monotonic() > give_up:
                return
            time.sleep(0.001)

    def kill(self, *, subreaper: bool) -> None:
        give_up = time.monotonic() + PATIENCE
        while not self.reap() and time.monotonic() < give_up:
            kill_below()
            time.sleep(0.005)
        if not subreaper:  # then some may have left our tree
            variable, mark = self._job["mark"]
            end_marked(mark, variable=variable)


def wait(programs: Programs, deadline: float, usage: Usage, wake: int) -> str:
    """Wait until the first program has ended; return how it came to an end, "left" if nobody waits for it."""
    end = time.monotonic() + deadline
    while not programs.absent:
        left = end - time.monotonic()
        if left <= 0:
            return "deadline"
        if excess := usage.excess():
            return excess[0]
        ready, _, _ = select([0, wake, *programs.pipes], [], [], min(left, POLL))
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
    return "absent"


def is_ending(pid: int) -> bool:
    """Tell whether all threads of a process are on their way out, or the process waits to be reaped."""
    flags = []
    with suppress(OSError):  # it has ended, or there is no /proc
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib takes long to import
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:  # noqa: PTH123
                flags.append(int(file.read().rpartition(b")")[2].split()[6]))
    return bool(flags) and all(each & PF_EXITING for each in flags)


def main() -> None:
    line = FileIO(0, closefd=False).readline()  # no byte beyond the line is taken
    if not line.endswith(b"\n"):
        return
    os.umask(0o077)
    subreaper = become_subreaper()
    wake, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    job = json.loads(line)
    programs = Programs(job)
    ending = wait(programs, job["deadline"], Usage(job["limits"]), wake)
    if ending == "exited":
        programs.settle()
    codes = tuple(programs.exit_codes)  # as they were before we killed the rest
    programs.kill(subreaper=subreaper)
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
        "said": [said[-SAID:].decode(errors="replace") for said in programs.said],
        "printed": programs.printed[-PRINTED:].decode(errors="replace"),
    }
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer))
        sys.stdout.flush()


def _link() -> tuple[int, ...]:
    """Return a file to share, the first program's ends of two pipes (in, out), and the other's."""
    (first_reads, other_writes), (other_reads, first_writes) = os.pipe(), os.pipe()
    return _shared_file(), first_reads, first_writes, other_reads, other_writes


def _shared_file() -> int:
    if hasattr(os, "memfd_create"):
        file = FileIO(os.memfd_create("exchange"))
    else:
        import tempfile  # takes long

        with tempfile.TemporaryFile() as temporary:
            file = FileIO(os.dup(temporary.fileno()))
    with file:  # a sandbox is begun by a shell, which opens its 9
        return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10)


if __name__ == "__main__":
    main()
    os._exit(0)
