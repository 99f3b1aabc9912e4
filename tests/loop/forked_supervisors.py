"""Supervisors that are forked off from one that has imported everything, which takes most of their time.

After that all is as in `Trainer.arm`: a session and an environment of its own, requests held back. Who starts
them is another process, so that they end unseen, as those do that a bot before this one started. The toys
that they start are forked off, too.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache

from loop.process import supervisor as program
from loop.process.environment import training_environment
from loop.process.trainer import Supervisor

SERVE = """\
import gc, json, os, signal, socket, subprocess, sys
sys.path.append(sys.argv[1].rpartition("/loop/")[0])
from loop.process import supervisor
from tests.loop.forked_programs import Begun, become, start
del sys.path[-1]
subprocess.Popen = start
signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.REQUESTS)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
orders = socket.socket(fileno=int(sys.argv[2]))
gc.freeze()
while True:
    environment, streams, *_ = socket.recv_fds(orders, 1 << 16, 1)
    if not environment:
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        break
    os.close(streams[0])
    orders.send(b"%d" % pid)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
os.setsid()
null = os.open(os.devnull, os.O_RDWR)
for old, new in ((streams[0], 0), (null, 1), (null, 2)):
    os.dup2(old, new)
os.environ.clear()
os.environ.update(json.loads(environment))
try:
    supervisor.main()
    os._exit(0)
except Begun as program:
    begun = program
become(begun)
"""


class ForkedSupervisor(Supervisor):
    """One that is no child of ours."""

    def dismiss(self) -> None:
        os.close(self.pipe)
        with suppress(ProcessLookupError):
            ended = os.pidfd_open(self.pid)
            try:
                if self.alive():
                    signal.pidfd_send_signal(ended, signal.SIGKILL)
                    select.select([ended], [], [])
            finally:
                os.close(ended)


class Forking:
    """The process that they are forked off from, whose command line they have: that of a supervisor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", SERVE, program.__file__, str(theirs.fileno())],
                env=training_environment(os.environ, {}),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def arm(self) -> Supervisor:
        read, write = os.pipe()
        environment = json.dumps(training_environment(os.environ, {})).encode()
        with self._lock:
            socket.send_fds(self._orders, [environment], [read])
            pid = int(self._orders.recv(100))
        os.close(read)
        started = program.start_time(pid)
        assert started is not None
        return ForkedSupervisor(pid, started, write)

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._orders.close()
        self._process.kill()
        self._process.wait()


@cache
def forking() -> Forking:
    made = Forking()
    atexit.register(made.close)
    return made


def forks_supervisors(pid: int) -> bool:
    """Tell whether this is the process that they are forked off from, which stays for all tests."""
    return forking.cache_info().currsize > 0 and forking().pid == pid
