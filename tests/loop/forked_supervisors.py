"""Supervisors that are forked off from one that has imported everything, which takes most of their time.

After that all is as in `Trainer.arm`: a session and an environment of its own, requests held back. Who starts
them is another process, so that they end unseen, as those do that a bot before this one started. A program
that is to be started as those of a `Lab` are is forked off from its supervisor, and is then as it would be.
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

class Begun(BaseException):
    pass

class Started:
    def __init__(self, pid):
        self.pid = pid

def start(job, stdin, printed, really=supervisor._start):
    if job["argv"] != [sys.executable, "-S", "train.py"] or stdin != subprocess.DEVNULL:
        return really(job, stdin, printed)
    us = os.getpid()
    if pid := os.fork():
        return Started(pid)
    for old, new in ((null, 0), (printed, 1), (printed, 2)):
        os.dup2(old, new)
    os.chdir(job["cwd"])
    os.setsid()
    supervisor.confine(job["limits"], us)
    os.environ.clear()
    os.environ.update(job["env"], **{supervisor.MARK: job["mark"]})
    raise Begun

def tell(kind, error, trace):
    sys.__excepthook__(kind, error.with_traceback(trace.tb_next), trace.tb_next)  # without our own frame

supervisor._start = start
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
null = 1
os.environ.clear()
os.environ.update(json.loads(environment))
try:
    supervisor.main()
    os._exit(0)
except Begun:
    pass
signal.set_wakeup_fd(-1)
for number in (*supervisor.REQUESTS, signal.SIGCHLD, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.closerange(3, 65536)
sys.argv, sys.path[:], sys.excepthook = ["train.py"], [os.getcwd(), *sys.path[:-1]], tell
sys.stdin, sys.stdout = open(0, closefd=False), open(1, "wb", buffering=0, closefd=False)
sys.stdout = type(sys.stdin)(sys.stdout, "utf-8", write_through=True)  # by PYTHONUNBUFFERED
main = sys.modules["__main__"] = type(sys)("__main__")
main.__file__ = os.path.abspath("train.py")
exec(compile(open("train.py", "rb").read(), main.__file__, "exec"), main.__dict__)
os._exit(0)  # skips the interpreter's own clean-up; what a program prints is not held back
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
