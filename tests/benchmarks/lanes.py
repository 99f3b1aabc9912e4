"""What lanes bring: how many experiments an hour, and what the search loses by trying several at once.

Run it with `.venv/bin/python -m tests.benchmarks.lanes pace [--lanes 1 2 4 8] [--seconds 10]`, or with `ray`,
`bot` or `search [--landscape NAME ...] [--seeds N] [--experiments 100]` in the place of `pace`.

`pace` conducts sleeping toys by a real engine; its goal is 95 % of linear. `ray` does so on a Ray cluster on
this machine, with GPUs that are not there, and `bot` looks at a real bot meanwhile. `search` conducts nights
on made-up landscapes; its goal is at most 15 % less true gain after as many trainings than with one lane.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import os
import random
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bot.local.wire import send
from loop.evaluation.noise import Noise, noise_of
from loop.evidence import Invalidated
from loop.experiment import Experiment, Proposal, Run, Stage, Status
from loop.lanes.cluster import Cluster
from loop.lanes.node import Recipe
from loop.lanes.protocol import Slot
from loop.process.trainer import Trainer
from loop.program.constants import Literal, find_constants, replace_constants
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context, search_mode
from tests.benchmarks.discovery import by_search, judged
from tests.benchmarks.landscape import DEVICE, FILES, NAMES, Landscape
from tests.benchmarks.scale import Times, memory_mb, times, until
from tests.benchmarks.toy_run import conduct_toys, make_repository
from tests.bot.real_bot import RealBot
from tests.loop.proposers.contexts import run_of
from tests.ray_cluster.nodes import cluster as ray_cluster
from tests.ray_cluster.nodes import enter_network

TOY = """\
date +%s%N >> "$TIMES"
sleep {seconds}
printf -- '---\\nval_bpb: 1.0\\ntraining_seconds: 1.0\\ntotal_seconds: 1.0\\npeak_vram_mb: 512.0\\n'
date +%s%N >> "$TIMES"
"""

CONSTANTS = "".join(f"CONSTANT_{number} = {number}.5\n" for number in range(1, 21))  # so that ideas last

RECIPE = Recipe(
    editable="train.py",
    frozen=("prepare.py",),
    command=("sh", "toy.sh"),
    variables=("TIMES",),
    deadline=1200.0,
    sandbox="none",
    needs_sandbox=False,
    network=False,
)


class Numbers:
    """Proposes something new each time."""

    name = "numbers"

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def propose(self, context: Context) -> Proposal:
        number = next(self._numbers)
        return Proposal(f"VALUE = {number}\n", f"VALUE {number}", "", self.name, context.parent)


@dataclass(frozen=True, slots=True)
class Pace:
    """Experiments an hour with so many lanes, and the seconds that a lane waits between two trainings."""

    lanes: int
    an_hour: float
    delay: float

    def share(self, one: Pace) -> float:
        return self.an_hour / (one.an_hour / one.lanes * self.lanes)


def measure_pace(lanes: int, *, seconds: float, each: int, on_ray: bool = False) -> Pace:
    """Conduct `each` toys for every lane; the baseline, for which lanes wait, does not count."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = make_repository(folder / "toy", train="VALUE = 0\n", toy=TOY.format(seconds=seconds))
        slots, cluster = tuple(map(Slot, range(lanes))), None
        if on_ray:
            os.environ["TIMES"] = str(folder / "times")
            nodes = stack.enter_context(ray_cluster())
            nodes.start_head()
            nodes.start("node", gpus=lanes)
            cluster = Cluster(nodes.address, home=folder, wanted=lanes, trainer=Trainer())
            stack.callback(cluster.close)
            slots = cluster.slots()
            assert len(slots) == lanes
        work = conduct_toys(
            folder,
            repository,
            proposer=Numbers(),
            settings={},
            experiments=each * lanes,
            slots=slots,
            cluster=cluster,
            recipe=RECIPE,
        )
        asyncio.run(work)
        stamps = sorted(int(line) / 1e9 for line in (folder / "times").read_text().split())
    took = stamps[-1] - stamps[2]  # the baseline's two come first
    return Pace(lanes, 3600 * each * lanes / took, took / each - seconds)


@dataclass(frozen=True, slots=True)
class BotFigures:
    """A bot with so many lanes that train: its memory, and how long `/status` and a verdict take it."""

    lanes: int
    memory_mb: float
    status: Times
    delay: float  # seconds that a lane waits between two trainings

    def __str__(self) -> str:
        return f"{self.lanes:6}{self.memory_mb:10.0f} MB{self.status!s:>28}{self.delay:9.2f} s"


async def measure_bot(lanes: int, *, seconds: float, each: int) -> BotFigures:
    """Let a bot make `each` toys for every lane, and ask it while all of them train."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stamps, toy = folder / "times", folder / "toy.sh"
        toy.write_text(TOY.format(seconds=seconds))
        bot = RealBot(
            folder,
            train=CONSTANTS,
            TRAIN_COMMAND=f"sh {toy}",
            LANES=str(lanes),
            TRAIN_ENV="TIMES",
            TIMES=str(stamps),
        )
        up = bot.command("up", "--tag", "toy", "--experiments", str(each * lanes))
        null = subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *up, cwd=folder, env=bot.environment, stdin=null, stdout=null, stderr=null
        )
        try:
            await until(lambda: stamps.exists() and _running(stamps) >= lanes)
            asked = []
            for _ in range(30):
                began = time.perf_counter()
                await send(bot.home / "bot.sock", "/status")
                asked.append((time.perf_counter() - began) * 1e3)
            memory, _ = memory_mb(process.pid)
            made = 2 * (each * lanes + 1)
            await until(lambda: len(stamps.read_text().split()) >= made)
            found = sorted(int(line) / 1e9 for line in stamps.read_text().split())
        finally:
            process.kill()
            await process.wait()
    return BotFigures(lanes, memory, times(asked), (found[-1] - found[2]) / each - seconds)


def _running(stamps: Path) -> int:
    """Return how many toys are under way after the baseline: the longer ones began in one go."""
    count = len(stamps.read_text().split())
    return count - 2 if count > 2 else 0


@dataclass(slots=True)
class Night:
    """A run of several lanes on a landscape: what was made, what trains, and what waits to be tried again."""

    made: list[Experiment]
    sources: dict[str, str]
    under_way: dict[int, Experiment]
    retries: list[Experiment]

    @property
    def head(self) -> Experiment:
        return next(each for each in reversed(self.made) if each.status is Status.KEEP)


def conduct(score: Landscape, *, lanes: int, experiments: int, seed: int) -> float:
    """Make so many experiments after the baseline; return what the best program truly gains."""
    run = replace(run_of(), tag=f"night{seed}")
    chance = random.Random(f"ends {seed}")
    noise = noise_of([[v for _ in range(3) if (v := score.measure(score.program)) is not None]])
    first = judged(0, "", score.program, score.program, score, None)
    night = Night([first], {first.commit: score.program}, {}, [])
    ends: list[tuple[float, int]] = []
    now = 0.0
    for number in range(1, experiments + 1):
        if len(ends) == lanes:
            now, ended = heapq.heappop(ends)
            decide(night, night.under_way.pop(ended), score)
        begin(night, number, replace(run, created_at=0.0), noise)
        heapq.heappush(ends, (now + chance.uniform(0.95, 1.05), number))
    for _, ended in sorted(ends):
        decide(night, night.under_way.pop(ended), score)
    return score.true(score.program) - score.true(night.sources[night.head.commit])


def begin(night: Night, number: int, run: Run, noise: Noise | None) -> None:
    """Begin what a retry or the search makes of the head of now, knowing of all that is under way."""
    head = night.head
    known = sorted((*night.made, *night.under_way.values()), key=lambda each: each.number)
    mode = search_mode([each for each in known if each.status is not None])
    context = Context(
        run,
        night.sources[head.commit],
        head.commit,
        tuple(known),
        files=FILES,
        device=DEVICE,
        noise=noise,
        search_mode=mode,
    )
    source = combined(night, head) or by_search(context)
    commit = f"{number:07x}"
    night.sources[commit] = source
    night.under_way[number] = Experiment(
        run_id=1,
        number=number,
        stage=Stage.TRAINING,
        description=f"experiment {number}",
        rationale="",
        proposer="",
        parent=head.commit,
        commit=commit,
        constants={constant.name: constant.value for constant in find_constants(source)},
        program=fingerprint(source),
    )


def decide(night: Night, begun: Experiment, score: Landscape) -> None:
    """Judge what has ended against the head of now; built on another one it can only be tried again."""
    head, source = night.head, night.sources[begun.commit]
    before = night.sources[begun.parent]
    found = judged(begun.number, begun.parent, before, source, score, head.value)
    if begun.parent != head.commit and found.status is Status.KEEP:
        found = replace(found, status=Status.DISCARD, invalidated=Invalidated.BEHIND)
        night.retries.append(found)
    night.made.append(found)
    night.made.sort(key=lambda each: each.number)


def combined(night: Night, head: Experiment) -> str | None:
    """Return the next program that is to be tried again, on the head of now, if it is better than that."""
    while night.retries:
        late = night.retries.pop(0)
        before = next(each for each in night.made if each.commit == late.parent).constants
        moved = {name: value for name, value in late.constants.items() if before[name] != value}
        assert late.value is not None
        assert head.value is not None
        if late.value >= head.value:
            continue
        found = find_constants(night.sources[late.commit])
        changes = {each.name: Literal(each.text) for each in found if each.name in moved}
        source = replace_constants(night.sources[head.commit], changes)
        if source not in night.sources.values():
            return source
    return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("pace", "ray", "bot", "search"))
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=10.0, help="of a toy")
    parser.add_argument("--each", type=int, default=4, help="toys for each lane")
    parser.add_argument("--landscape", nargs="+", choices=NAMES, default=["published", "jittered"])
    parser.add_argument("--noise", type=float, default=0.0005)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--experiments", type=int, default=100)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.what == "bot":
        print(f"{'lanes':>6}{'memory':>13}{'/status':>28}{'delay':>11}")
        for lanes in arguments.lanes:
            print(asyncio.run(measure_bot(lanes, seconds=arguments.seconds, each=arguments.each)), flush=True)
        return
    if arguments.what in ("pace", "ray"):
        on_ray = arguments.what == "ray"
        if on_ray:
            enter_network()
        paces = [
            measure_pace(lanes, seconds=arguments.seconds, each=arguments.each, on_ray=on_ray)
            for lanes in arguments.lanes
        ]
        print(f"{'lanes':>6}{'an hour':>10}{'of linear':>11}{'delay':>9}")
        for pace in paces:
            print(f"{pace.lanes:6}{pace.an_hour:10.0f}{pace.share(paces[0]):11.1%}{pace.delay:8.2f} s")
        return
    for landscape in arguments.landscape:
        sequential = None
        for lanes in arguments.lanes:
            began = time.monotonic()
            gains = [
                conduct(
                    Landscape(landscape, seed=seed, noise=arguments.noise),
                    lanes=lanes,
                    experiments=arguments.experiments,
                    seed=seed,
                )
                for seed in range(arguments.seeds)
            ]
            median = statistics.median(gains)
            sequential = sequential or median
            print(
                f"{landscape:11}{lanes:3} lanes  median {median:.4f}  mean {statistics.mean(gains):.4f}  "
                f"worst {min(gains):.4f}  "
                f"{median / sequential - 1:+.1%}  ({time.monotonic() - began:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
