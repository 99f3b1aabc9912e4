"""The next candidate compiles what it needs while another one trains, and nothing else comes of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import psutil
import pytest

from loop.engine.ahead import precompile
from loop.engine.ahead.prefetch import make_ready
from loop.engine.run import Engine
from loop.engine.stages import Ready
from loop.experiment import Proposal, Training
from loop.git.workspace import Commit
from loop.sandbox.sandbox import Sandbox
from tests.loop.fake_gpu import FakeGpu
from tests.loop.lab import Ideas, Lab
from tests.loop.lab import program as toy
from tests.loop.training_bench import until

PREPARE = "TIME_BUDGET = 300\n# It knows AUTORESEARCH_COMPILE_ONLY.\n"
MEMORY = "0, GPU-a, 81920, {free}, 0"  # MiB; the toys say that they need 512


class Site:
    """A run whose trainings end when they are let go; they have a text to read."""

    def __init__(self, folder: Path) -> None:
        self.shared, self.text = folder / "shared", folder / "text"
        self.shared.mkdir(exist_ok=True)
        self.text.mkdir(exist_ok=True)
        (self.text / "train.npy").touch()
        made = folder / "lab"
        self.lab = Lab(made, self.trains("0"), prepare=PREPARE)
        self.folder = self.lab.folders.trainings / precompile.COMPILING
        self.ideas = Ideas()

    def trains(self, name: str, *, rate: int = 0, hangs: bool = False) -> str:
        """Return a program with one kernel, which it compiles or finds; one with a rate is kept."""
        return toy(f"""\
RATE = {rate}

kernels, text = os.environ["TORCHINDUCTOR_CACHE_DIR"], {str(self.text)!r}
text = os.listdir(text) if os.path.exists(text) else "no text"
os.makedirs(kernels, exist_ok=True)
found = {{each: open(f"{{kernels}}/{{each}}").read() for each in sorted(os.listdir(kernels))}}
if os.environ.get("AUTORESEARCH_COMPILE_ONLY"):
    again = " again" if "of-{name}" in found else ""
    open(kernels + "/of-{name}", "w").write(f"{{text}} {{os.nice(0)}}{{again}}")
    print(text, file=sys.stderr)
    while {hangs}:
        time.sleep(60)
    sys.exit()
print("told", found, text)
open(kernels + "/of-{name}", "a").write("" if found else "trained")
print("step 1 (0.0%)\\nstep 2 (0.4%)", flush=True)
while not os.path.exists({str(self.shared)!r} + f"/{name}-{{RATE}}"):
    time.sleep(0.005)
summary(2.1 - RATE / 10)
""")

    def engine(self, bwrap: Sandbox) -> Engine:
        return self.lab.engine(
            ideas=self.ideas,
            sandbox=bwrap,
            data=(self.text,),
            readable=(self.shared,),
            starts_ahead=lambda _: True,
        )

    def let_go(self, name: str, rate: int = 0) -> None:
        (self.shared / f"{name}-{rate}").touch()

    async def compiles(self, name: str) -> None:
        kernel = self.folder / "cache/inductor" / f"of-{name}"
        await until(lambda: kernel.exists() and kernel.read_text() != "")

    def told(self, number: int) -> str:
        lines = self.lab.folders.log(number).read_text().splitlines()
        return next(line.removeprefix("told ") for line in lines if line.startswith("told "))


def in_folder(folder: Path) -> list[int]:
    found = psutil.process_iter(["cwd"])
    return [each.pid for each in found if Path(each.info["cwd"] or "/").is_relative_to(folder)]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(precompile, "POLL", 0.02)
    with TemporaryDirectory(dir="/var/tmp") as folder:  # a sandbox has a /tmp of its own
        made = Site(Path(folder))
        yield made
        made.lab.close()


async def test_a_training_finds_what_its_program_compiled_beside_the_one_before(
    site: Site,
    bwrap: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, precompile.__name__)
    gpu = FakeGpu(tmp_path / "gpu", monkeypatch)
    hanging = [site.trains(name, hangs=True) for name in ("3", "4", "5", "6")]
    site.ideas = Ideas(site.trains("0", rate=1), site.trains("2"), *hanging)
    engine = site.engine(bwrap)
    conducting = asyncio.create_task(engine.conduct(6))

    def logged(words: str, times: int = 1) -> bool:
        return sum(words in record.getMessage() for record in caplog.records) == times

    await until(lambda: logged("was compiled ahead in"))  # #1, beside the baseline
    assert not in_folder(site.folder)
    assert sorted(path.name for path in (site.folder / "work").iterdir()) == ["prepare.py", "train.py"]
    site.let_go("0")
    await until(lambda: logged("was compiled ahead in", 2))  # #2, beside #1, which is kept
    site.let_go("0", rate=1)

    await site.compiles("3")  # beside #2; then people want another one
    site.ideas.replace(3, site.trains("3b", rate=1, hangs=True))
    engine.prefetch.withdraw(lambda _: True)
    await site.compiles("3b")
    assert in_folder(site.folder)
    site.let_go("2", rate=1)

    await site.compiles("4")  # beside #3
    monkeypatch.setattr(precompile, "MOST_SECONDS", 0.1)  # perhaps too short for a kernel
    site.let_go("3b", rate=1)

    await until(lambda: logged("deadline"))  # of #5, beside #4
    gpu.show(MEMORY.format(free=6000))
    site.let_go("4")
    await until(lambda: logged("6,000 MiB of the GPU are free"))  # for #6, beside #5
    assert not site.folder.exists()
    site.let_go("5")
    site.let_go("6")
    await conducting

    shown = " ['train.npy']"
    kept, nice = "'of-0': 'trained'", min(19, os.nice(0) + 19)
    assert [site.told(number) for number in (0, 1, 6)] == [
        "{}" + shown,
        f"{{{kept}}}{shown}",
        f"{{{kept}}}{shown}",
    ]
    assert [site.told(number) for number in (2, 3, 4)] == [
        f"{{{kept}, 'of-{name}': 'no text {nice}{again}'}}{shown}"
        for name, again in (("2", " again"), ("3b", ""), ("4", ""))  # those that hang do so the first time
    ]
    assert not in_folder(site.lab.home)


async def test_lanes_compile_one_candidate_at_a_time_for_whichever_takes_it(
    site: Site, bwrap: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, begun, ended = site.engine(bwrap), asyncio.Queue[int](), asyncio.Event()

    async def compile_for_ever(_: object, __: Ready, ___: object, lane: int) -> None:
        begun.put_nowait(lane)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(precompile.Precompiler, "_compile", compile_for_ever)
    site.lab.folders.printed(0, 1).parent.mkdir(parents=True)
    site.lab.folders.printed(0, 1).write_text("step 3 (1.0%)\n")
    training = engine._trainings.attach(0, 0, Training(1))
    proposal = Proposal(site.trains("1"), "one", "", "ideas", site.lab.base)
    first, second = (make_ready(proposal, Commit(sha * 40, 1, 1)) for sha in "ab")
    candidate: Ready | None = first
    monkeypatch.setattr(engine._trainings, "_prepared", SimpleNamespace(starts_ahead=True))
    tested = precompile.Precompiler(engine._trainings, lambda: candidate)
    lanes = [asyncio.create_task(tested.beside(training, lane, site.lab.base)) for lane in (0, 1)]
    await begun.get()
    await tested.give(1, "c" * 40)  # tried again
    assert not ended.is_set()
    candidate = None  # the other lane takes it
    await tested.give(1, first.commit.sha)
    assert ended.is_set()
    candidate = second
    await begun.get()
    assert begun.empty()
    for lane in lanes:
        assert not lane.done()
        lane.cancel()
    await asyncio.wait(lanes)


BOT = """
import asyncio, sys
from pathlib import Path
from loop.engine.ahead import precompile
from loop.sandbox.sandbox import SandboxKind, find_sandbox
from tests.loop.engine.test_precompile import Site
from tests.loop.lab import Ideas
precompile.POLL = 0.02
site = Site(Path(sys.argv[1]))
site.ideas = Ideas(site.trains("1", hangs=True))
asyncio.run(site.engine(find_sandbox(SandboxKind.BWRAP)).conduct(1))
"""


async def test_it_ends_with_a_bot_that_is_killed(
    bwrap: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGpu(tmp_path / "gpu", monkeypatch)
    with TemporaryDirectory(dir="/var/tmp") as folder:
        home = Path(folder) / "lab" / "home"
        kernel = home / "trainings/1/compiling/cache/inductor/of-1"
        bot = await asyncio.create_subprocess_exec(sys.executable, "-c", BOT, folder)
        await until(kernel.exists)
        assert in_folder(kernel.parents[2])
        bot.send_signal(signal.SIGKILL)
        await bot.wait()
        await until(lambda: not in_folder(kernel.parents[2]))
        (Path(folder) / "shared" / "0-0").touch()
        await until(lambda: not in_folder(home))
