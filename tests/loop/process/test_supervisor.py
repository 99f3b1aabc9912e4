from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from loop.logs.capture import LOG
from loop.process import supervisor
from loop.process.supervisor import find_tree, start_time
from loop.process.trainer import SUPERVISE, Limits, mark_of
from tests.loop import toys
from tests.loop.training_bench import until

PROGRAM = (sys.executable, "-I", "-S", "-c", SUPERVISE, supervisor.__file__)
SHORT = 2.0  # seconds of a deadline, in which a toy gets ready even on a busy machine


class Bench:
    """Starts supervisors as the bot would, by hand, and reads what they leave."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder
        self.log = folder / "run.log"
        self.attempt = folder / "attempt"
        self.mark = mark_of(self.attempt)
        self.started: list[subprocess.Popen[bytes]] = []

    def idle(self, *inherited: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            PROGRAM,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=inherited,
        )
        self.started.append(process)
        return process

    def job(self, source: str, **changed: Any) -> bytes:
        (self.cwd / "train.py").write_text(source)
        job = {
            "argv": toys.COMMAND,
            "cwd": str(self.cwd),
            "env": {"PATH": os.environ["PATH"]},
            "log": str(self.log),
            "folder": str(self.attempt),
            "mark": self.mark,
            "deadline": 100.0,
            "grace": 0.1,
            "wrapped": False,
            "limits": asdict(Limits()) | changed.pop("limits", {}),
        }
        return json.dumps(job | changed).encode() + b"\n"

    def give(self, source: str, **changed: Any) -> subprocess.Popen[bytes]:
        process = self.idle()
        send(process, self.job(source, **changed))
        return process

    def record(self, name: str = supervisor.STARTED) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.attempt / name).read_text())
        return data

    def kept(self) -> str:
        return (self.attempt / LOG).read_text()

    async def outcome(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert await asyncio.to_thread(process.wait, 60) == 0, (self.attempt / supervisor.ERRORS).read_text()
        return self.record(supervisor.OUTCOME)


def send(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(data)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for process in bench.started:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(60)
    left = toys.leftovers(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.mark.parametrize("words", [b"", b'{"argv": ["/bin/true"]', b'{"argv": ["/bin/true"]}'])
def test_without_a_whole_job_line_nothing_is_done(bench: Bench, words: bytes) -> None:
    process = bench.idle()
    send(process, words)
    assert process.wait(60) == 0
    assert list(bench.cwd.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "code"),
    [("", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV)],
)
async def test_the_outcome_tells_how_the_training_exited(bench: Bench, source: str, code: int) -> None:
    before, began = time.time(), time.monotonic()
    outcome = await bench.outcome(bench.give(source))
    assert (outcome["ending"], outcome["exit_code"], outcome["limit"]) == ("exited", code, None)
    assert before <= outcome["started_at"] <= outcome["ended_at"] <= time.time()
    assert 0.0 < outcome["seconds"] <= time.monotonic() - began


async def test_both_streams_go_to_a_new_log(bench: Bench) -> None:
    bench.log.write_text("of the training before\n")
    await bench.outcome(
        bench.give(
            "import sys; print('out', flush=True); print('err', file=sys.stderr); print(sys.stdin.read())"
        )
    )
    assert bench.log.read_text() == "out\nerr\n\n"


async def test_lines_are_seen_while_it_trains(bench: Bench, pipes: toys.Pipes) -> None:
    process = bench.give(toys.held(pipes))
    await until(lambda: bench.log.exists() and toys.PROGRESS in bench.log.read_text())
    pipes.release()
    await bench.outcome(process)
    assert bench.log.read_text() == (bench.attempt / LOG).read_text()


@pytest.mark.parametrize("text", [b"", b"of somebody else\n"])
async def test_a_log_that_was_emptied_or_overwritten_is_gone_on_with(
    bench: Bench, pipes: toys.Pipes, text: bytes
) -> None:
    process = bench.give(toys.held(pipes))
    await until(lambda: bench.log.exists() and bench.log.stat().st_size > 0)
    bench.log.write_bytes(text)
    pipes.release()
    await bench.outcome(process)
    assert bench.log.read_bytes() == text + f"\r{toys.PROGRESS}\n{toys.summary()}".encode()


async def test_a_log_that_was_deleted_is_made_anew(bench: Bench, pipes: toys.Pipes) -> None:
    process = bench.give(toys.held(pipes))
    await until(lambda: bench.log.exists() and bench.log.stat().st_size > 0)
    bench.log.unlink()
    pipes.release()
    await bench.outcome(process)
    assert bench.log.read_text().endswith(toys.summary())


async def test_a_place_for_the_copy_that_is_gone_changes_nothing(bench: Bench, pipes: toys.Pipes) -> None:
    worktree = bench.cwd / "worktree"
    worktree.mkdir()
    source = pipes.report() + pipes.hold() + "print('one', flush=True)\n" + pipes.report() + pipes.hold()
    process = bench.give(source + "print('two')", log=str(worktree / "run.log"))
    await pipes.pids()
    worktree.rename(bench.cwd / "elsewhere")
    pipes.release()
    await until(lambda: bench.kept() == "one\n")
    (bench.cwd / "elsewhere").rename(worktree)
    pipes.release()
    assert (await bench.outcome(process))["exit_code"] == 0
    assert bench.kept() == "one\ntwo\n"
    assert (worktree / "run.log").read_text().endswith("two\n")


@pytest.mark.parametrize(
    "put",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: path.symlink_to("precious"),
        lambda path: path.hardlink_to(path.with_name("precious")),
    ],
)
async def test_what_is_in_the_place_of_the_log_is_neither_followed_nor_waited_for(
    bench: Bench, put: Callable[[Path], None]
) -> None:
    (bench.cwd / "precious").write_text("mine")
    put(bench.log)
    await bench.outcome(bench.give(toys.good()))
    assert toys.summary() in bench.log.read_text()
    assert (bench.cwd / "precious").read_text() == "mine"


async def test_a_link_that_the_training_puts_there_is_not_followed(bench: Bench) -> None:
    (bench.cwd / "precious").write_text("mine")
    source = "import os\nos.unlink('run.log')\nos.symlink('precious', 'run.log')\n" + toys.good()
    await bench.outcome(bench.give(source))
    assert (bench.cwd / "precious").read_text() == "mine"
    assert toys.summary() in (bench.attempt / LOG).read_text()


async def test_the_training_gets_the_given_environment_its_mark_and_default_signals(bench: Bench) -> None:
    source = (
        "import os, signal\nprint(dict(os.environ))\n"
        "print([n for n in (1, 10, 13, 15, 17) if signal.getsignal(n) is not signal.SIG_DFL])\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "print(os.getpgid(0) == os.getpid() == os.getsid(0))"
    )
    argv = (sys.executable, "-I", "-S", "-c", f"import signal; signal.signal(13, signal.SIG_DFL)\n{source}")
    await bench.outcome(bench.give("", argv=argv, env={"ONE": "1"}))
    environment, handled, mask, own_group = bench.log.read_text().splitlines()
    assert {name: value for name, value in eval(environment).items() if name != "LC_CTYPE"} == {
        "ONE": "1",
        supervisor.MARK: bench.mark,
    }
    assert (handled, mask, own_group) == ("[]", "set()", "True")


async def test_no_other_file_stays_open(bench: Bench) -> None:
    read, write = os.pipe()
    process = bench.idle(write)
    os.close(write)
    send(process, bench.job("import os; print(*sorted(os.listdir('/proc/self/fd')))"))
    await bench.outcome(process)
    with os.fdopen(read) as pipe:
        assert pipe.read() == ""
    assert bench.log.read_text() == "0 1 2 3\n"  # 3 lists them


async def test_a_program_that_cannot_be_started_says_so_in_the_log(bench: Bench) -> None:
    outcome = await bench.outcome(bench.give("", argv=["no-such-program", "train.py"]))
    assert outcome["exit_code"] == 127
    assert "cannot start no-such-program" in bench.log.read_text()


def test_a_folder_that_is_gone_is_no_outcome(bench: Bench) -> None:
    process = bench.give("", cwd=str(bench.cwd / "gone"))
    assert process.wait(60) == 1
    assert not (bench.attempt / supervisor.OUTCOME).exists()
    assert "No such file or directory" in (bench.attempt / supervisor.ERRORS).read_text()


async def test_at_the_deadline_the_whole_tree_is_killed(bench: Bench, pipes: toys.Pipes) -> None:
    process = bench.give(toys.hanging(pipes), deadline=SHORT)
    pids = await pipes.pids()
    outcome = await bench.outcome(process)
    assert (outcome["ending"], outcome["exit_code"]) == ("deadline", -signal.SIGKILL)
    assert outcome["seconds"] >= SHORT
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_a_training_that_heeds_sigterm_is_not_killed(bench: Bench, pipes: toys.Pipes) -> None:
    source = (
        "import signal, sys\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        f"{pipes.report()}\nsignal.sigwait([signal.SIGTERM])\nsys.exit('cleaned up')"
    )
    process = bench.give(source, grace=30.0)
    await pipes.pids()
    process.send_signal(signal.SIGTERM)
    outcome = await bench.outcome(process)
    assert (outcome["ending"], outcome["exit_code"]) == ("interrupted", 1)
    assert bench.log.read_text() == "cleaned up\n"


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGTERM, "interrupted"), (signal.SIGUSR1, "stalled")])
async def test_a_request_ends_a_training_that_ignores_sigterm(
    bench: Bench, pipes: toys.Pipes, number: signal.Signals, ending: str
) -> None:
    process = bench.give(toys.hanging(pipes))
    pids = await pipes.pids()
    process.send_signal(number)
    assert (await bench.outcome(process))["ending"] == ending
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_a_second_request_ends_the_grace(bench: Bench, pipes: toys.Pipes) -> None:
    process = bench.give(toys.hanging(pipes), grace=1000.0)
    await pipes.pids()
    while process.poll() is None:  # two in a row may be delivered as one
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.01)
    assert (await bench.outcome(process))["ending"] == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGPIPE])
async def test_other_signals_do_not_matter(bench: Bench, pipes: toys.Pipes, number: signal.Signals) -> None:
    process = bench.give(toys.held(pipes))
    await pipes.pids()
    process.send_signal(number)
    pipes.release()
    assert (await bench.outcome(process))["ending"] == "exited"


async def test_a_daemon_in_a_session_of_its_own_is_killed_when_the_training_has_exited(
    bench: Bench, pipes: toys.Pipes
) -> None:
    process = bench.give(toys.straggling(pipes, then=toys.good()))
    _, daemon = await pipes.pids()
    outcome = await bench.outcome(process)
    assert (outcome["ending"], outcome["exit_code"]) == ("exited", 0)
    assert start_time(daemon) is None


async def test_a_daemon_without_the_mark_is_killed_too(bench: Bench, pipes: toys.Pipes) -> None:
    source = (
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    os.execve({sys.executable!r}, [{sys.executable!r}, '-I', '-S', 'daemon.py'], {{}})\n"
        "os.wait()"
    )
    leaves = "import os, time\nparent = os.getpid()\nif os.fork():\n    os._exit(0)\n"
    has_left = "while os.getppid() == parent:\n    time.sleep(0.001)\n"
    (bench.cwd / "daemon.py").write_text(leaves + has_left + pipes.report() + pipes.hold())
    process = bench.give(source + "\n" + pipes.hold())
    (daemon,) = await pipes.pids()
    assert daemon not in find_tree(bench.mark)
    assert daemon in find_tree(bench.mark, root=process.pid)
    process.send_signal(signal.SIGTERM)
    await bench.outcome(process)
    assert start_time(daemon) is None


async def test_a_supervisor_ends_with_its_bot_while_idle(tmp_path: Path) -> None:
    bot = (
        "import os, signal\nfrom loop.process.trainer import Trainer\n"
        "print(Trainer().arm().pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    told = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", bot], stdout=subprocess.PIPE, check=False
    )
    assert told.returncode == -signal.SIGKILL
    armed = int(told.stdout)
    await until(lambda: start_time(armed) is None)


def test_a_start_time_names_a_living_process_only() -> None:
    ours = start_time(os.getpid())
    assert ours is not None
    assert ours == start_time(os.getpid())
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(child.pid) is None  # a zombie
    child.wait()
    assert start_time(child.pid) is None
