"""Toy training programs: stand-ins for train.py that run in milliseconds, each with one trait.

A toy is the text of a program. Some speak with their test through `Pipes`, so that no test has to wait a
while and hope.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil

from loop.process.supervisor import start_time
from tests.loop.forked_supervisors import forks_supervisors

COMMAND = (sys.executable, "-I", "-S", "train.py")
"""How a toy is started; a Python without site-packages starts fastest."""

BIG_LOG_BYTES = 100 * 2**20

PROGRESS = "step 00012 (45.6%) | loss: 4.123456 | dt: 320ms | remaining: 163s"


def summary(val_bpb: float = 1.0, *, training_seconds: float = 300.0) -> str:
    """Return the block that a training ends with."""
    return (
        f"---\nval_bpb: {val_bpb:.6f}\ntraining_seconds: {training_seconds:.1f}\n"
        f"total_seconds: {training_seconds + 25.0:.1f}\npeak_vram_mb: 1024.0\nnum_steps: 12\n"
    )


def printing(*texts: str) -> str:
    """Return a program that prints the texts, each at once."""
    return "".join(f"print({text!r}, end='', flush=True)\n" for text in texts)


def good(val_bpb: float = 1.0, *, training_seconds: float = 300.0) -> str:
    """Return a program that trains well."""
    return printing(f"\r{PROGRESS}\n", summary(val_bpb, training_seconds=training_seconds))


SLOW = good(training_seconds=400.0)
NOT_A_NUMBER = good(float("nan"))
TWICE = printing(summary(2.0), "once more\n", summary(1.5))
SILENT = ""
NO_SUMMARY = printing(f"\r{PROGRESS}\n", "that was all\n")
CRASH = printing("loading\n") + "raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')\n"
NOT_UTF8 = (
    "import sys\nsys.stdout.buffer.write(b'caf\\xe9 \\xff\\xfe\\x00\\n')\nsys.stdout.flush()\n" + good()
)
BIG_LOG = f"""
import sys
line = b"step 00001 | loss: 4.0".ljust(127) + b"\\n"
for _ in range({BIG_LOG_BYTES} // 2**20):
    sys.stdout.buffer.write(line * 2**13)
sys.stdout.flush()
""" + good(1.25)


class Pipes:
    """Two named pipes between a test and a toy: the toy says who it is, the test lets it go on."""

    def __init__(self, folder: Path) -> None:
        self.ready, self.gate = folder / "ready", folder / "gate"
        for path in (self.ready, self.gate):
            os.mkfifo(path)
        # Open for both directions: neither side has to wait for the other to open its end.
        self._ready, self._gate = (
            os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in (self.ready, self.gate)
        )

    async def pids(self) -> list[int]:
        """Wait until a toy is ready; return the pids of its processes, its own first."""
        loop, line = asyncio.get_running_loop(), bytearray()
        while not line.endswith(b"\n"):
            ready = asyncio.Event()
            loop.add_reader(self._ready, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(self._ready)
            line += os.read(self._ready, 1)
        return [int(pid) for pid in line.split()]

    def release(self) -> None:
        """Let a held toy go on."""
        os.write(self._gate, b"\n")

    def close(self) -> None:
        """Close both."""
        os.close(self._ready)
        os.close(self._gate)

    def report(self, *pids: str) -> str:
        """Return a statement that says the toy's own pid and those in the given variables."""
        numbers = ", ".join(("os.getpid()", *pids))
        return f"import os\nopen({str(self.ready)!r}, 'w').write(' '.join(map(str, ({numbers},))) + '\\n')\n"

    def hold(self) -> str:
        """Return a statement that waits for `release`."""
        return f"open({str(self.gate)!r}).readline()\n"


def held(pipes: Pipes, val_bpb: float = 1.0) -> str:
    """Return a program that trains until it is let go."""
    return printing(f"\r{PROGRESS}\n") + pipes.report() + pipes.hold() + good(val_bpb)


def held_at_end(pipes: Pipes, text: str) -> str:
    """Return a program that prints `text` and is then held before it ends."""
    return printing(text) + pipes.report() + pipes.hold()


def hanging(pipes: Pipes) -> str:
    """Return a program that hangs, with a child; both ignore SIGTERM."""
    return f"""
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    while True:
        signal.pause()
{pipes.report("child")}
while True:
    signal.pause()
"""


def straggling(pipes: Pipes, *, then: str = "") -> str:
    """Return a program that starts a daemon of its own session, deaf to SIGTERM, and goes on with `then`."""
    return f"""
import os, signal
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    daemon = os.fork()
    if daemon == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(write, str(os.getpid()).encode())
        while True:
            signal.pause()
    os._exit(0)
os.wait()
daemon = os.read(read, 32).decode()
{pipes.report("daemon")}
{then}
"""


def _stays(child: psutil.Process) -> bool:
    """Tell whether it is there for all tests of a session: others are forked off from it, or it cleans up."""
    try:
        command = " ".join(child.cmdline())
    except psutil.Error:
        return False
    stay = ("preloaded.py", "tests.rewording", "resource_tracker")
    return any(part in command for part in stay) or forks_supervisors(child.pid)


def leftovers(folder: Path) -> list[int]:
    """Return the living processes of trainings that work below `folder`, and our own children."""
    found = {child.pid for child in psutil.Process().children(recursive=True) if not _stays(child)}
    for process in psutil.process_iter(["cwd"]):
        if Path(process.info["cwd"] or "/").is_relative_to(folder):
            found.add(process.pid)
    return [pid for pid in found if start_time(pid) is not None]
