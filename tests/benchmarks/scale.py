"""How the bot carries its history: memory, answers, starts and gaps with few experiments behind it and many.

Run it with `.venv/bin/python -m tests.benchmarks.scale [--experiments 100 10000] [--json]`. Each history is
written into the journal; then a bot is started on it, asked while a toy trains, killed, started again and let
go on for some experiments. With `--real` one bot makes all of the experiments itself, and is looked at when
it has made each number of them; a thousand take minutes. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bot.local.wire import send
from loop.errors import UserError
from loop.experiment import Run, RunState
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal
from tests.benchmarks.history import make_history
from tests.bot.real_bot import RealBot

TRAIN = "VALUE = 0  # of nothing\n"
TOY = """\
date +%s%N >> "$TORCH_TIMES"
echo 'step 00001 (50.0%) | loss: 2.5 | remaining: 1s'
while [ ! -e "$TORCH_GATE" ]; do sleep 0.01; done
sleep {seconds}
printf -- '---\\nval_bpb: 1.0\\ntraining_seconds: 1.0\\ntotal_seconds: 1.0\\npeak_vram_mb: 512.0\\n'
date +%s%N >> "$TORCH_TIMES"
"""

ASKED = {"/summary": 10, "/results": 10, "/runs": 10, "/status": 50}
"""Which commands are given, and how often."""

AFTERWARDS = 20
"""How many experiments are made on top of a history, to measure the gaps between them."""

AHEAD = 50
"""How many ideas wait for a bot that makes all experiments itself, so that it is never short of one."""

PATIENCE = 600.0
"""Seconds to wait for anything."""


@dataclass(frozen=True, slots=True)
class Times:
    """Some durations of a kind, in milliseconds."""

    median: float
    worst: float

    def __str__(self) -> str:
        return f"{self.median:.1f}, worst {self.worst:.1f} ms"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured with so many experiments behind the bot.

    `answers` has the commands of `ASKED`. Starts count from the command line until the socket answers, and
    until the training that a killed bot left is watched again; None where no bot was started.
    """

    experiments: int
    database_mb: float
    memory_mb: float
    peak_mb: float
    answers: Mapping[str, Times]
    gap: Times
    report_seconds: float | None = None
    page_seconds: float | None = None
    start_seconds: float | None = None
    restart_seconds: float | None = None
    attach_seconds: float | None = None


class Site:
    """A bot on a toy repository in `folder`; the toy takes so many `seconds` once the gate is open."""

    def __init__(self, folder: Path, *, experiments: int, seconds: float) -> None:
        self.gate = folder / "gate"
        self._times = folder / "times"
        toy = folder / "toy.sh"
        self._bot = RealBot(
            folder,
            train=TRAIN,
            time_budget=300,
            TRAIN_COMMAND=f"sh {shlex.quote(str(toy))}",
            TORCH_GATE=str(self.gate),
            TORCH_TIMES=str(self._times),
        )
        toy.write_text(TOY.format(seconds=seconds))
        path = self._bot.home / "state.db"
        make_history(path, self._bot.repository, experiments=experiments, until=time.time())
        self.journal = Journal(path)
        (self._run,) = self.journal.runs()
        self._ideas = 0

    @contextmanager
    def running(self, *arguments: str) -> Iterator[int]:
        """Run a bot and kill it in the end; yields its pid."""
        command, environment = self._bot.command("up", *arguments), self._bot.environment
        null = subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=self._bot.folder, env=environment, stdin=null, stdout=null, stderr=null
        )
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()

    def take(self, *arguments: str) -> float:
        """Return how many seconds a command takes, as a process of its own."""
        began = time.perf_counter()
        command, environment = self._bot.command(*arguments), self._bot.environment
        subprocess.run(command, cwd=self._bot.folder, env=environment, capture_output=True, check=True)
        return time.perf_counter() - began

    def run(self) -> Run:
        """Return the run as it is now."""
        return self.journal.run_by_id(self._run.id)

    def made(self) -> int:
        """Return the number of the newest experiment."""
        return self.journal.experiments(self._run.id, last=1)[0].number

    def add_ideas(self, upto: int) -> None:
        """Have so many ideas noted in all, no two alike."""
        for number in range(self._ideas, upto):
            IdeaBox(self.journal).add(self._run.id, f"VALUE {number + 1}", author="ann")
        self._ideas = max(self._ideas, upto)

    def supervisor(self) -> int | None:
        """Return the pid of the process that owns the training under way."""
        under_way = self.journal.undecided(self._run.id)
        return under_way[0].last_training.supervisor_pid if under_way else None

    def database_mb(self) -> float:
        """Return the size of the journal."""
        return sum(file.stat().st_size for file in self._bot.home.glob("state.db*")) / 1e6

    def gaps(self, *, last: int) -> Times:
        """Return the times between the `last` trainings."""
        stamps = [int(line) / 1e6 for line in self._times.read_text().split()]
        pairs = zip(stamps[1::2], stamps[2::2], strict=False)
        return times([start - end for end, start in pairs][-last:])

    async def answered(self) -> None:
        """Wait until the bot answers."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(UserError):
                    await send(self._bot.home / "bot.sock", "/id")
                    return
                await asyncio.sleep(0.005)

    async def answers(self) -> dict[str, Times]:
        """Return how long the bot takes for each of the commands."""
        return {
            command: times([await self._ask(command) for _ in range(count)])
            for command, count in ASKED.items()
        }

    async def _ask(self, command: str) -> float:
        began = time.perf_counter()
        reply = await send(self._bot.home / "bot.sock", command)
        assert not reply.refused, reply.message.text
        return (time.perf_counter() - began) * 1e3


async def written(folder: Path, experiments: int) -> Figures:
    """Measure a bot that begins with a history of so many experiments."""
    site = Site(folder, experiments=experiments, seconds=0.3)
    site.add_ideas(AFTERWARDS + 1)
    began = time.perf_counter()
    with site.running() as bot:
        await site.answered()
        started = time.perf_counter() - began
        await until(lambda: site.supervisor() is not None)
        answers = await site.answers()
        memory, peak = memory_mb(bot)
    began = time.perf_counter()
    with site.running("--experiments", str(AFTERWARDS)) as bot:
        await site.answered()
        restarted = time.perf_counter() - began
        await until(lambda: is_watched(site.supervisor(), by=bot))
        attached = time.perf_counter() - began
        site.gate.touch()
        await until(lambda: site.run().state is RunState.DONE)
    site.journal.close()
    report, page = site.take("report"), site.take("report", "--html", str(folder / "page.html"))
    return Figures(
        report_seconds=report,
        page_seconds=page,
        experiments=experiments,
        database_mb=site.database_mb(),
        memory_mb=memory,
        peak_mb=peak,
        answers=answers,
        gap=site.gaps(last=AFTERWARDS),
        start_seconds=started,
        restart_seconds=restarted,
        attach_seconds=attached,
    )


async def real(folder: Path, counts: Sequence[int]) -> list[Figures]:
    """Measure one bot that makes all experiments itself, when it has made each of `counts`."""
    site = Site(folder, experiments=1, seconds=0)
    site.gate.touch()
    site.add_ideas(AHEAD)
    found = []
    with site.running() as bot:
        await site.answered()
        for count in sorted(counts):
            while (made := site.made()) < count:
                site.add_ideas(made + AHEAD)
                await asyncio.sleep(0.2)
            answers = await site.answers()
            memory, peak = memory_mb(bot)
            gap = site.gaps(last=min(count, 100))
            found.append(Figures(count, site.database_mb(), memory, peak, answers, gap))
    site.journal.close()
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no other process tells us of, for a minute at most."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def times(milliseconds: Sequence[float]) -> Times:
    """Return the median and the worst."""
    return Times(statistics.median(milliseconds), max(milliseconds))


def memory_mb(pid: int) -> tuple[float, float]:
    """Return the memory that a process has now, and the most that it has had; proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    now, most = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, most


def is_watched(pid: int | None, *, by: int) -> bool:
    """Tell whether process `by` waits for the end of process `pid`, by a pidfd; proc_pid_fdinfo(5)."""
    for info in Path(f"/proc/{by}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            if f"Pid:\t{pid}\n" in info.read_text():
                return True
    return False


def table(found: Sequence[Figures]) -> str:
    """Return the figures as a table for people."""
    lines = [("experiments", *(f"{figures.experiments:,}" for figures in found))]
    lines.append(("state.db", *(f"{figures.database_mb:.1f} MB" for figures in found)))
    lines.append(("memory", *(f"{figures.memory_mb:.1f} MB" for figures in found)))
    lines.append(("at most", *(f"{figures.peak_mb:.1f} MB" for figures in found)))
    lines += [(command, *(str(figures.answers[command]) for figures in found)) for command in ASKED]
    lines.append(("gap", *(str(figures.gap) for figures in found)))
    for name in ("report", "page", "start", "restart", "attach"):
        seconds = [getattr(figures, f"{name}_seconds") for figures in found]
        if None not in seconds:
            lines.append((name, *(f"{value:.2f} s" for value in seconds)))
    return "\n".join("".join(f"{cell:24}" for cell in line).rstrip() for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = []
    if arguments.real:
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(real(Path(folder), arguments.experiments))
    else:
        for experiments in arguments.experiments:
            with tempfile.TemporaryDirectory() as folder:
                found.append(asyncio.run(written(Path(folder), experiments)))
    print(json.dumps([asdict(figures) for figures in found], indent=2) if arguments.json else table(found))


if __name__ == "__main__":
    main()
