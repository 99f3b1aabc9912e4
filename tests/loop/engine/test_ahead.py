"""A Python that waits for the next training: what it becomes, and what never depends on it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from loop.engine.ahead import waiting
from loop.engine.ahead.waiting import waiting_command
from loop.experiment import Ending, Outcome
from loop.process import supervisor as program
from loop.process.supervisor import start_time
from loop.process.trainer import Job, Supervisor, Trainer, TrainingProcess
from loop.sandbox.sandbox import Sandbox
from tests.loop import toys
from tests.loop.engine.engines import MakeLab
from tests.loop.fake_gpu import FakeGpu
from tests.loop.lab import Lab
from tests.loop.lab import program as toy
from tests.loop.training_bench import Bench, until

PLAIN = (sys.executable, "-S", "train.py")
DONE = toys.printing(toys.summary())
TELLS = """
import inspect, json, multiprocessing, os, sys

def tell():
    return "told"

if __name__ == "__main__":
    own = {
        name: repr(value) if name.startswith("__") else type(value).__name__
        for name, value in globals().items() if name not in ("__loader__", "own")
    }
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.apply(tell)
    environ = dict(os.environ)
    environ.pop("AUTORESEARCH_TRAINING")
    print(json.dumps([
        own, type(__loader__).__name__, sys.argv, sys.orig_argv, sys.path, repr(sys.flags), os.getcwd(),
        inspect.getsource(tell), sys.stdin.read(), len(os.listdir("/proc/self/fd")), spawned, environ,
        [finder if isinstance(finder, type) else type(finder) for finder in sys.meta_path].__repr__(),
    ]))
    sys.exit(3)
"""


class Ahead(Bench):
    """Starts toys that waited for their turn; they have imported `heavy`."""

    def __init__(self, folder: Path, heavy: str = "") -> None:
        super().__init__(folder)
        self.packages = folder / "packages"
        self.packages.mkdir()
        (self.packages / "heavy.py").write_text(heavy)
        (folder / "0-1").mkdir()

    def job(self, source: str, argv: Sequence[str] = PLAIN) -> Job:
        job = super().job(source)
        return replace(job, argv=tuple(argv), env={**job.env, "PYTHONPATH": str(self.packages)})

    def wait(self, job: Job, *variables: tuple[str, str, bool]) -> None:
        command = waiting_command(job.argv, "train.py", [("heavy", ()), ("absent.part", ())], variables)
        assert command is not None
        self.supervisor = self.trainer.arm()
        self.trainer.start_ahead(self.supervisor, replace(job, argv=command, waits=True))

    def go(self, job: Job) -> TrainingProcess:
        assert self.supervisor is not None
        return self.trainer.start(self.supervisor, replace(job, goes=True))

    async def both(self, source: str, argv: Sequence[str] = PLAIN) -> tuple[list[str], list[Outcome]]:
        """Train it plainly, and after it has waited; return what it printed and how it ended."""
        job = self.job(source, argv)
        outcomes = [await (await self.start(job)).wait()]
        printed = [self.kept]
        self.wait(job)
        outcomes.append(await self.go(job).wait())
        return [*printed, self.kept], outcomes


@pytest.mark.parametrize("flags", [("-S", "-u"), ("-I", "-S", "-O")])
async def test_it_becomes_what_the_command_would_have_been(tmp_path: Path, flags: tuple[str, ...]) -> None:
    bench = Ahead(tmp_path)
    printed, outcomes = await bench.both(TELLS, (sys.executable, *flags, "train.py", "--depth", "8"))
    plain, waited = map(json.loads, printed)
    assert waited == plain
    assert [outcome.exit_code for outcome in outcomes] == [3, 3]


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    raise ValueError('of the program')\nf()",
        "x = 1\ndef",
        "raise SystemExit('said at the end')",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "from __future__ import annotations\ndef f(x: nothing): ...\nprint(f.__annotations__)",
        "# -*- coding: latin-1 -*-\nprint(len('\xe9'))",
        "import absent",
    ],
)
async def test_it_ends_as_the_command_would_have(tmp_path: Path, source: str) -> None:
    printed, (plain, waited) = await Ahead(tmp_path).both(source)
    assert printed[1] == printed[0]
    assert (waited.ending, waited.exit_code, waited.error) == (plain.ending, plain.exit_code, plain.error)


async def test_packages_are_imported_before_its_turn_and_nothing_else_is_done(
    tmp_path: Path, pipes: toys.Pipes
) -> None:
    bench = Ahead(tmp_path, "import os\nseen = os.environ['A'], os.environ['B']\n" + pipes.report())
    job = bench.job("raise ValueError('of another program')")
    job = replace(job, env={**job.env, "B": "given"})
    bench.wait(job, ("A", "1", False), ("B", "2", True))
    (pid,) = await pipes.pids()
    assert start_time(pid) is not None
    assert not [*(tmp_path / "0-1").iterdir()]
    assert not (tmp_path / "run.log").exists()
    bench.job(f"import os, sys\nprint(os.getpid(), sys.modules['heavy'].seen)\n{DONE}")
    assert (await bench.go(job).wait()).ending is Ending.EXITED
    assert bench.kept == f"{pid} ('1', 'given')\n{toys.summary()}"


@pytest.mark.parametrize("name", ["os", "heavy", "tables", "sitecustomize", "posix", "train"])
@pytest.mark.parametrize("flags", [(), ("-S",)])
def test_no_file_of_the_repository_is_run_before_its_turn(
    tmp_path: Path, name: str, flags: tuple[str, ...]
) -> None:
    bench = Ahead(tmp_path, "import tables" if name == "tables" else "")
    stranger = "raise ValueError('of the repository')"
    (tmp_path / f"{name}.py").write_text(stranger)
    job = bench.job(stranger, (sys.executable, *flags, "train.py"))
    command = waiting_command(job.argv, "train.py", [("heavy", ())], [])
    assert command is not None
    ran = subprocess.run(
        command, cwd=tmp_path, env=job.env, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


async def test_where_its_turn_comes_early_it_goes_on(tmp_path: Path, pipes: toys.Pipes) -> None:
    bench = Ahead(tmp_path, pipes.report() + pipes.hold())
    job = bench.job("import sys\nprint('heavy' in sys.modules)")
    bench.wait(job)
    await pipes.pids()
    training = bench.go(job)
    await until((tmp_path / "0-1" / program.STARTED).exists)
    pipes.release()
    assert (await training.wait()).exit_code == 0
    assert bench.kept == "True\n"


@pytest.mark.parametrize("goes", [True, False])
async def test_one_that_has_died_is_made_good(tmp_path: Path, pipes: toys.Pipes, goes: bool) -> None:
    bench = Ahead(tmp_path, "print('of heavy', flush=True)\n" + pipes.report() + pipes.hold())
    job = bench.job("import sys\nprint('heavy' in sys.modules)\n" + DONE)
    bench.wait(job)
    (pid,) = await pipes.pids()
    if goes:
        training = bench.go(job)
        await until((tmp_path / "0-1" / program.STARTED).exists)
        os.kill(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
        await until(lambda: start_time(pid) is None)
        training = bench.go(job)
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code) == (Ending.EXITED, 0)
    assert bench.kept == "of heavy\n" * goes + f"False\n{toys.summary()}"


@pytest.mark.parametrize(
    "ends", ["sys.exit(1)", "os._exit(0)", "os.kill(os.getpid(), 11)", "1 / 0", "import tables"]
)
async def test_one_that_ends_at_an_import_is_made_good(tmp_path: Path, ends: str) -> None:
    bench = Ahead(tmp_path, f"import os, sys\n{ends}")
    (tmp_path / "tables.py").write_text("print('of the repository')")  # the command would find it first
    job = bench.job(DONE)
    bench.wait(job)
    assert (await bench.go(job).wait()).exit_code == 0
    assert bench.kept.endswith(toys.summary())
    assert "of the repository" not in bench.kept


async def test_one_that_is_not_to_go_is_ended_and_leaves_nothing(tmp_path: Path, pipes: toys.Pipes) -> None:
    bench = Ahead(tmp_path, "print('of heavy', flush=True)\n" + pipes.report())
    job = bench.job("import sys\nprint('heavy' in sys.modules)\n" + pipes.report() + pipes.hold())
    bench.wait(job)
    (waited,) = await pipes.pids()
    training = bench.trainer.start(bench.supervisor, job)  # type: ignore[arg-type]
    (pid,) = await pipes.pids()
    assert pid != waited
    assert start_time(waited) is None
    pipes.release()
    assert (await training.wait()).exit_code == 0
    assert bench.kept == "False\n"


async def test_a_request_ends_it_also_while_it_still_imports(tmp_path: Path, pipes: toys.Pipes) -> None:
    bench = Ahead(tmp_path, pipes.report() + pipes.hold())
    job = bench.job("print('trained')")
    bench.wait(job)
    await pipes.pids()
    training = bench.go(job)
    await until((tmp_path / "0-1" / program.STARTED).exists)
    await training.end(Ending.INTERRUPTED)
    assert (await training.wait()).ending is Ending.INTERRUPTED
    assert bench.kept == ""


async def test_a_dismissed_one_ends_and_has_written_nothing(tmp_path: Path, pipes: toys.Pipes) -> None:
    bench = Ahead(tmp_path, pipes.report())
    bench.wait(bench.job("print('trained')"))
    (pid,) = await pipes.pids()
    assert bench.supervisor is not None
    bench.supervisor.dismiss()
    await until(lambda: start_time(pid) is None)
    assert not [*(tmp_path / "0-1").iterdir()]


async def test_what_it_becomes_is_found_where_its_supervisor_was_killed(
    tmp_path: Path, pipes: toys.Pipes
) -> None:
    bench = Ahead(tmp_path)
    job = bench.job(toys.hanging(pipes))
    bench.wait(job)
    bench.go(job)
    pids = await pipes.pids()
    bench.kill_supervisor()
    assert (await bench.reattach().wait()).ending is Ending.VANISHED
    assert [start_time(pid) for pid in pids] == [None, None]


BOT = """
import json, os, signal, sys
from pathlib import Path
from loop.process.trainer import Job, Trainer
argv, cwd, env = json.loads(sys.argv[1])
job = Job(argv, Path(cwd), env, Path(cwd, "run.log"), Path(cwd, "0-1"), 100.0, waits=True)
Trainer.start_ahead(Trainer.arm(), job)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_one_that_waits_ends_with_its_bot(tmp_path: Path, pipes: toys.Pipes) -> None:
    bench = Ahead(tmp_path, pipes.report())
    job = bench.job("print('trained')")
    command = waiting_command(job.argv, "train.py", [("heavy", ())], [])
    told = json.dumps([command, str(job.cwd), dict(job.env)])
    bot = await asyncio.create_subprocess_exec(sys.executable, "-c", BOT, told, stdin=subprocess.PIPE)
    (pid,) = await pipes.pids()
    await bot.communicate(b"\n")
    await until(lambda: start_time(pid) is None)
    assert not [*(tmp_path / "0-1").iterdir()]


@pytest.mark.parametrize(
    "argv",
    [
        ("sh", "train.py"),
        ("torchrun", "train.py"),
        ("python", "-m", "train"),
        ("python", "-X", "importtime", "train.py"),
        ("python", "other.py"),
        ("uv", "run", "train.py"),
        ("train.py",),
    ],
)
def test_only_a_python_that_runs_the_program_can_wait(argv: tuple[str, ...]) -> None:
    assert waiting_command(argv, "train.py", [("torch", ())], []) is None


# In a run


def wait_always(_: object) -> bool:
    return True


class Patient(Trainer):
    """Lets what waits begin to: where its folder gets another name before, it dies and is made good."""

    @staticmethod
    def start_ahead(supervisor: Supervisor, job: Job) -> None:
        Trainer.start_ahead(supervisor, job)
        give_up = time.monotonic() + 60
        while not any(_waits(_command(pid)) for pid in program.descendants(supervisor.pid)):
            assert time.monotonic() < give_up
            time.sleep(0.01)


def _waits(command: bytes) -> bool:
    """Tell the Python from bwrap, which has its words too, and from a supervisor that has just forked."""
    return command.startswith(os.fsencode(sys.executable)) and b"_wait(" in command


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_trainings_of_a_run_start_ahead_where_it_changes_nothing(bwrap: Sandbox) -> None:
    tells = (
        "first = 'heavy' in sys.modules\n"
        "try:\n    import heavy\nexcept ImportError:\n    pass\n"
        "cache = os.environ['TRITON_CACHE_DIR']\n"
        "found = sorted(os.listdir(cache)) if os.path.isdir(cache) else []\n"
        "print('told', first, os.path.basename(os.path.dirname(os.getcwd())), found)\n"
    )

    def trains(number: int, *lines: str) -> str:
        ours = f"os.makedirs(cache, exist_ok=True)\nopen(cache + '/of-{number}', 'w').close()\n"
        return toy(
            "\n".join(lines)
            + "\n"
            + tells
            + ours
            + "open('model', 'w').close()\n"
            + f"summary({2 - number / 10})"
        )

    sets = "os.environ['OMP_NUM_THREADS'] = '1'"
    without = trains(5, sets).replace("    import heavy\n", "    pass\n")
    programs = [trains(1), trains(2, sets), trains(3, sets), trains(4, sets), without, trains(6, "1 / 0")]
    with TemporaryDirectory(dir="/var/tmp") as folder:
        packages = Path(folder) / "packages"
        packages.mkdir()
        (packages / "heavy.py").touch()
        lab = Lab(Path(folder) / "lab", trains(0))
        engine = lab.engine(
            *programs,
            sandbox=bwrap,
            readable=(packages,),
            environ={"PYTHONPATH": str(packages)},
            starts_ahead=wait_always,
        )
        engine._trainings._trainer = Patient()
        await engine.conduct(len(programs))
        told = [
            line.removeprefix("told ")
            for number in range(len(programs) + 1)
            for line in lab.folders.log(number).read_text().splitlines()
            if line.startswith("told ")
        ]
        errors = [each.error for each in lab.experiments()]
        lab.close()
    kept = [f"of-{number}" for number in range(6)]
    assert (
        told
        == [
            "False 0-1 []",
            f"True ahead-0 {kept[:1]}",
            f"False 2-1 {kept[:2]}",  # the best program sets no variable
            f"False 3-1 {kept[:3]}",  # the same: what waits was started while #2 trained
            f"True ahead-0 {kept[:4]}",
            f"False 5-1 {kept[:5]}",  # it does not import all
        ]
    )
    assert errors[6] == "ZeroDivisionError: division by zero"


async def test_what_a_training_lacked_is_found_by_the_path_at_which_it_saw_its_folder(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(toy("summary(1.5)"))
    (lab.repository / "data").mkdir()
    (lab.repository / "data/train.bin").touch()
    engine = lab.engine(toy("summary(1.4)"))
    await engine.conduct(1)
    (lab.folders.attempt(0, 1) / "work").mkdir(parents=True)
    path = lab.folders.trainings / "ahead-0" / "work" / "data" / "train.bin"
    baseline = lab.experiments()[0]
    error = f"FileNotFoundError: [Errno 2] No such file or directory: '{path}'"
    crashed = replace(baseline, training=replace(baseline.last_training, error=error))
    assert engine._trainings.lacks(crashed).startswith("set LINK_PATHS=data: ")


def test_it_is_worthwhile_on_a_gpu_beside_four_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "cores", lambda: 4.0)
    gpu = FakeGpu(tmp_path / "gpu", monkeypatch)
    assert waiting.is_worthwhile({})
    assert waiting.is_worthwhile({"CUDA_VISIBLE_DEVICES": "0"})
    assert not waiting.is_worthwhile({"CUDA_VISIBLE_DEVICES": ""})
    monkeypatch.setattr(waiting, "cores", lambda: 3.5)
    assert not waiting.is_worthwhile({})
    monkeypatch.setattr(waiting, "cores", lambda: 4.0)
    gpu.lose()
    assert not waiting.is_worthwhile({})
    (gpu.folder / "nvidia-smi").unlink()
    assert not waiting.is_worthwhile({})
