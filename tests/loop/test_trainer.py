from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loop import supervisor as program
from loop.environment import training_environment
from loop.errors import LoopError
from loop.experiment import Ending
from loop.summary import TAIL, read_tail
from loop.supervisor import start_time
from loop.trainer import Job, Process, Supervisor, Trainer, Training
from tests.loop import toys

NUMBERS = {
    "val_bpb": 1.0,
    "training_seconds": 300.0,
    "total_seconds": 325.0,
    "peak_vram_mb": 1024.0,
    "num_steps": 12.0,
}
SHORT = 2.0  # seconds of a deadline, in which a toy gets ready even on a busy machine


class Bench:
    """A worktree with a toy in it, and the trainings started there."""

    def __init__(self, folder: Path) -> None:
        self.trainer = Trainer()
        self.folder = folder
        self.supervisor: Supervisor | None = None

    def job(self, source: str) -> Job:
        (self.folder / "train.py").write_text(source)
        return Job(
            argv=toys.COMMAND,
            cwd=self.folder,
            env=training_environment(os.environ, {}),
            log=self.folder / "run.log",
            folder=self.folder / "0-1",
            deadline=100.0,
            grace=0.1,
        )

    async def start(self, job: Job) -> Training:
        self.supervisor = await self.trainer.arm()
        return self.trainer.start(self.supervisor, job)

    def reattach(self) -> Training:
        """Find the training as a bot started anew does."""
        assert self.supervisor is not None
        return Trainer().attach(
            self.folder / "0-1", self.folder / "run.log", self.supervisor.pid, self.supervisor.started
        )

    def record(self) -> dict[str, object]:
        data: dict[str, object] = json.loads((self.folder / "0-1" / program.STARTED).read_text())
        return data

    def write(self, name: str, text: str) -> None:
        (self.folder / "0-1").mkdir(exist_ok=True)
        (self.folder / "0-1" / name).write_text(text)

    def kill_supervisor(self) -> None:
        assert self.supervisor is not None
        os.kill(self.supervisor.pid, signal.SIGKILL)

    def kill_both(self, training: int) -> None:
        """Kill training and supervisor so that no outcome can be written in between."""
        assert self.supervisor is not None
        os.kill(self.supervisor.pid, signal.SIGSTOP)
        os.kill(training, signal.SIGKILL)
        self.kill_supervisor()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)
    left = toys.leftovers(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[toys.Pipes]:
    pipes = toys.Pipes(tmp_path)
    yield pipes
    pipes.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.005)


# What trainings leave


async def test_a_good_training_is_measured(bench: Bench) -> None:
    before = time.time()
    training = await bench.start(bench.job(toys.good()))
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.error) == (Ending.EXITED, 0, "")
    assert outcome.numbers == NUMBERS
    assert before <= outcome.started_at <= outcome.ended_at <= time.time()
    assert not training.alive()
    assert await training.wait() == outcome


@pytest.mark.parametrize(
    ("source", "exit_code", "numbers", "error"),
    [
        (toys.CRASH, 1, {}, "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"),
        (toys.NO_SUMMARY, 0, {}, "that was all"),
        (toys.SILENT, 0, {}, ""),
        (toys.NOT_A_NUMBER, 0, {key: NUMBERS[key] for key in NUMBERS if key != "val_bpb"}, ""),
        (toys.SLOW, 0, NUMBERS | {"training_seconds": 400.0, "total_seconds": 425.0}, ""),
        (toys.NOT_UTF8, 0, NUMBERS, ""),
        (toys.TWICE, 0, NUMBERS | {"val_bpb": 1.5}, ""),
        (toys.good() + "raise SystemExit('too late')", 1, NUMBERS, "too late"),
    ],
    ids=["crash", "no summary", "silent", "NaN", "slow", "not UTF-8", "twice", "late crash"],
)
async def test_what_a_training_leaves(
    bench: Bench, source: str, exit_code: int, numbers: dict[str, float], error: str
) -> None:
    outcome = await (await bench.start(bench.job(source))).wait()
    assert outcome.ending is Ending.EXITED
    assert outcome.exit_code == exit_code
    assert outcome.numbers == numbers
    assert outcome.error == error


async def test_a_log_of_100_mb_is_read_from_its_end_only(bench: Bench) -> None:
    job = bench.job(toys.BIG_LOG)
    outcome = await (await bench.start(job)).wait()
    assert outcome.numbers["val_bpb"] == 1.25
    assert job.log.stat().st_size > toys.BIG_LOG_BYTES
    assert len(read_tail(job.log)) == TAIL
    job.log.unlink()


async def test_a_summary_is_found_with_much_printed_after_it(bench: Bench) -> None:
    source = toys.good() + "print(('noise ' * 20 + '\\n') * 5000)\n"
    assert (await (await bench.start(bench.job(source))).wait()).numbers == NUMBERS


async def test_a_hanging_training_is_killed_with_its_child_at_the_deadline(
    bench: Bench, pipes: toys.Pipes
) -> None:
    training = await bench.start(replace(bench.job(toys.hanging(pipes)), deadline=SHORT))
    pids = await pipes.pids()
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code) == (Ending.DEADLINE, -signal.SIGKILL)
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_a_daemon_does_not_outlive_its_training(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.straggling(pipes, then=toys.good())))
    _, daemon = await pipes.pids()
    assert (await training.wait()).numbers == NUMBERS
    assert start_time(daemon) is None


async def test_no_secret_reaches_the_training_or_its_supervisor(
    bench: Bench, pipes: toys.Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TELEGRAM_BOT_TOKEN", "OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.setenv(name, "hush")
    source = "import os\nprint(dict(os.environ), flush=True)\n" + toys.held(pipes)
    training = await bench.start(bench.job(source))
    await pipes.pids()
    assert bench.supervisor is not None
    assert "hush" not in repr(psutil.Process(bench.supervisor.pid).environ())
    assert "hush" not in repr(psutil.Process(bench.supervisor.pid).cmdline())
    pipes.release()
    await training.wait()
    assert "PATH" in training.log.read_text()
    assert "hush" not in training.log.read_text()


async def test_an_environment_larger_than_a_pipe_arrives(bench: Bench) -> None:
    job = bench.job("import os; print(sum(map(len, os.environ.values())) > 500_000)")
    large = {f"CUDA_{n}": "é" * 50_000 for n in range(12)}
    training = await bench.start(replace(job, env={**job.env, **large}))
    assert (await training.wait()).exit_code == 0
    assert training.log.read_text() == "True\n"


async def test_what_an_earlier_attempt_left_in_the_folder_does_not_count(bench: Bench) -> None:
    await (await bench.start(bench.job(toys.good(2.0)))).wait()
    assert (await (await bench.start(bench.job(toys.CRASH))).wait()).exit_code == 1


async def test_without_pidfd_the_end_is_seen_by_looking(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    assert (await (await bench.start(bench.job(toys.good()))).wait()).numbers == NUMBERS


# Ending a training


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.STALLED])
async def test_a_training_is_ended_on_request(bench: Bench, pipes: toys.Pipes, ending: Ending) -> None:
    training = await bench.start(bench.job(toys.hanging(pipes)))
    pids = await pipes.pids()
    assert training.alive()
    await training.end(ending)
    assert (await training.wait()).ending is ending
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_a_request_right_after_the_start_is_not_lost(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.held(pipes)))
    await training.end(Ending.INTERRUPTED)
    assert (await training.wait()).ending is Ending.INTERRUPTED


async def test_a_request_after_the_end_changes_nothing(bench: Bench) -> None:
    training = await bench.start(bench.job(toys.good()))
    await training.wait()
    await training.end(Ending.INTERRUPTED)
    assert (await training.wait()).ending is Ending.EXITED


async def test_a_request_holds_for_the_supervisor_that_takes_over(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.hanging(pipes)))
    pids = await pipes.pids()
    bench.kill_supervisor()
    await training.end(Ending.INTERRUPTED)
    assert (await training.wait()).ending is Ending.INTERRUPTED
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_waiting_can_be_given_up_and_taken_up_again(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.held(pipes)))
    await pipes.pids()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(training.wait(), 0.01)
    first, second = asyncio.create_task(training.wait()), asyncio.create_task(training.wait())
    pipes.release()
    assert await first == await second
    assert (await first).numbers == NUMBERS


# Re-attaching


async def test_a_training_is_found_again_while_it_runs(bench: Bench, pipes: toys.Pipes) -> None:
    await bench.start(bench.job(toys.held(pipes)))
    await pipes.pids()
    training = bench.reattach()
    assert training.alive()
    pipes.release()
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, 0, NUMBERS)


async def test_a_training_outlives_a_bot_that_is_killed(bench: Bench, pipes: toys.Pipes) -> None:
    job = bench.job(toys.held(pipes))
    bot = f"""
import asyncio, os, pathlib, signal, sys
from loop.trainer import Job, Trainer
async def main():
    trainer, path = Trainer(), pathlib.Path
    supervisor = await trainer.arm()
    job = Job(argv={job.argv!r}, cwd=path({str(job.cwd)!r}), env={{}}, log=path({str(job.log)!r}),
              folder=path({str(job.folder)!r}), deadline=100.0)
    trainer.start(supervisor, job)
    print(supervisor.pid, supervisor.started, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    told = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", bot], stdout=subprocess.PIPE, check=False
    )
    assert told.returncode == -signal.SIGKILL
    pid, started = told.stdout.split()
    await pipes.pids()
    training = Trainer().attach(job.folder, job.log, int(pid), float(started))
    pipes.release()
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, 0, NUMBERS)


async def test_a_result_that_came_meanwhile_is_found(bench: Bench) -> None:
    outcome = await (await bench.start(bench.job(toys.good()))).wait()
    assert await bench.reattach().wait() == outcome


async def test_a_supervisor_that_never_got_its_job_leaves_nothing(bench: Bench) -> None:
    bench.supervisor = await bench.trainer.arm()
    training = bench.reattach()
    assert training.alive()
    os.close(bench.supervisor.pipe)  # as the death of the bot would
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.VANISHED, None, {})


async def test_an_attempt_without_a_supervisor_has_vanished(bench: Bench) -> None:
    training = Trainer().attach(bench.folder / "0-1", bench.folder / "run.log", None, None)
    assert not training.alive()
    assert (await training.wait()).ending is Ending.VANISHED


async def test_other_processes_with_the_same_pids_are_not_taken_for_ours(bench: Bench) -> None:
    await (await bench.start(bench.job(toys.NO_SUMMARY))).wait()
    (bench.folder / "0-1" / program.OUTCOME).unlink()
    ours = os.getpid()  # would be waited for, or killed
    bench.write(
        program.STARTED, json.dumps({**bench.record(), "pid": ours, "supervisor": ours, "start": 0.01})
    )
    training = Trainer().attach(bench.folder / "0-1", bench.folder / "run.log", ours, 0.01)
    assert not training.alive()
    await training.end(Ending.INTERRUPTED)
    assert (await training.wait()).ending is Ending.VANISHED


async def test_processes_of_another_boot_are_not_taken_for_ours(bench: Bench) -> None:
    await (await bench.start(bench.job(toys.NO_SUMMARY))).wait()
    (bench.folder / "0-1" / program.OUTCOME).unlink()
    same = {"pid": os.getpid(), "start": start_time(os.getpid()), "boot": "another"}
    bench.write(program.STARTED, json.dumps({**bench.record(), **same}))
    assert (await bench.reattach().wait()).ending is Ending.VANISHED


def written(log: Path, mode: str, data: bytes) -> None:
    with log.open(mode) as file:
        file.write(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "overwritten": lambda log: log.write_text(toys.summary(0.5)),
    "written over": lambda log: written(log, "r+b", b"\0" * 200),
    "appended to": lambda log: written(log, "ab", toys.summary(0.5).encode()),
    "replaced": lambda log: log.with_name("train.py").rename(log),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("killed", [False, True], ids=["", "and all are killed"])
async def test_no_result_is_lost_with_the_log(
    bench: Bench, pipes: toys.Pipes, damage: Callable[[Path], object], killed: bool
) -> None:
    training = await bench.start(bench.job(toys.held_at_end(pipes, toys.summary())))
    (pid,) = await pipes.pids()
    await until(lambda: training.log.read_text() == toys.summary())
    damage(training.log)
    if killed:
        bench.kill_both(pid)
    else:
        pipes.release()
    assert (await bench.reattach().wait()).numbers == NUMBERS


async def test_a_training_of_an_earlier_version_is_read_from_that_log(bench: Bench) -> None:
    training = await bench.start(bench.job(toys.good()))
    outcome = await training.wait()
    (training.folder / program.LOG).unlink()
    assert await bench.reattach().wait() == outcome


# Killing


async def test_a_killed_supervisor_is_replaced_and_the_result_kept(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.held(pipes)))
    (pid,) = await pipes.pids()
    waiting = asyncio.create_task(training.wait())
    assert bench.supervisor is not None
    killed = {bench.supervisor.pid}
    for _ in range(2):
        os.kill(int(str(bench.record()["supervisor"])), signal.SIGKILL)
        await until(lambda: bench.record()["supervisor"] not in killed)
        killed.add(int(str(bench.record()["supervisor"])))
    assert bench.reattach().alive()
    pipes.release()
    outcome = await waiting
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, None, NUMBERS)
    assert outcome.started_at == bench.record()["started_at"]
    assert start_time(pid) is None


async def test_a_deadline_outlives_its_supervisor(bench: Bench, pipes: toys.Pipes) -> None:
    await bench.start(replace(bench.job(toys.hanging(pipes)), deadline=SHORT))
    pids = await pipes.pids()
    bench.kill_supervisor()
    outcome = await bench.reattach().wait()
    assert (outcome.ending, outcome.exit_code) == (Ending.DEADLINE, None)
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_a_training_killed_with_its_supervisor_has_vanished(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.straggling(pipes, then=pipes.hold())))
    pid, daemon = await pipes.pids()
    bench.kill_both(pid)
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.VANISHED, None, {})
    assert start_time(daemon) is None


async def test_a_whole_summary_counts_though_all_were_killed(bench: Bench, pipes: toys.Pipes) -> None:
    await bench.start(bench.job(toys.held_at_end(pipes, toys.summary())))
    (pid,) = await pipes.pids()
    bench.kill_both(pid)
    outcome = await bench.reattach().wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, None, NUMBERS)
    assert outcome.started_at <= outcome.ended_at <= time.time()


@pytest.mark.parametrize("cut", [-1, len("---\nval_bpb: 1.000000\n")])
async def test_a_summary_cut_off_by_a_kill_does_not_count(bench: Bench, pipes: toys.Pipes, cut: int) -> None:
    await bench.start(bench.job(toys.held_at_end(pipes, toys.summary()[:cut])))
    (pid,) = await pipes.pids()
    bench.kill_both(pid)
    assert (await bench.reattach().wait()).ending is Ending.VANISHED


@pytest.mark.parametrize(
    "outcome",
    [
        "",
        '{"ending": "exited", "exit_co',
        "[]",
        '{"ending": "well", "exit_code": 0, "started_at": 1.0, "ended_at": 2.0}',
        '{"ending": "exited", "exit_code": "0", "started_at": 1.0, "ended_at": 2.0}',
        "\0" * 80,
    ],
)
async def test_a_broken_outcome_counts_as_none(bench: Bench, outcome: str) -> None:
    await (await bench.start(bench.job(toys.good()))).wait()
    bench.write(program.OUTCOME, outcome)
    found = await bench.reattach().wait()
    assert (found.ending, found.exit_code, found.numbers) == (Ending.EXITED, None, NUMBERS)


@pytest.mark.parametrize("started", ["", "{}", '{"pid": 1', "[]"])
async def test_a_broken_start_record_counts_as_none(bench: Bench, started: str) -> None:
    await (await bench.start(bench.job(toys.good()))).wait()
    (bench.folder / "0-1" / program.OUTCOME).unlink()
    bench.write(program.STARTED, started)
    assert (await bench.reattach().wait()).ending is Ending.VANISHED


async def test_a_training_that_could_not_be_recorded_says_why(bench: Bench) -> None:
    job = bench.job(toys.good())
    outcome = await (await bench.start(replace(job, log=bench.folder / "gone" / "run.log"))).wait()
    assert outcome.ending is Ending.VANISHED
    assert "No such file or directory" in outcome.error


# Idle supervisors


async def test_a_dismissed_supervisor_is_gone_at_once(bench: Bench) -> None:
    armed = await bench.trainer.arm()
    assert Process(armed.pid, armed.started).alive()
    armed.dismiss()
    assert not psutil.pid_exists(armed.pid)


async def test_a_supervisor_that_died_before_its_job_leaves_a_vanished_training(bench: Bench) -> None:
    armed = await bench.trainer.arm()
    os.kill(armed.pid, signal.SIGKILL)
    await armed.process.gone()
    training = bench.trainer.start(armed, bench.job(toys.good()))
    assert (await training.wait()).ending is Ending.VANISHED


async def test_no_descriptor_and_no_zombie_is_left(bench: Bench) -> None:
    before, children = psutil.Process().num_fds(), psutil.Process().children()
    for _ in range(3):
        await (await bench.start(bench.job(toys.SILENT))).wait()
        (await bench.trainer.arm()).dismiss()
    assert psutil.Process().num_fds() == before
    assert [child for child in psutil.Process().children() if child not in children] == []


async def test_a_missing_python_is_one_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().num_fds()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(LoopError, match="No supervisor can be started with /no/such/python"):
        await bench.trainer.arm()
    assert psutil.Process().num_fds() == before
