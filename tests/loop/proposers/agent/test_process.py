"""How the processes of a coding agent end: by themselves, by the clock, by the bot, and after a kill."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loop.process.supervisor import start_time
from loop.process.together import PRINTED
from loop.process.trainer import Process
from loop.proposers.agent.presets import AgentOutput, own_command, read_text
from loop.proposers.protocol import UnavailableError
from tests.loop.proposers.agent_bench import EDITED, FAKE, Bench, untouched
from tests.loop.toys import Pipes


@pytest.fixture
def bench(repository: Path, base: str, tmp_path: Path) -> Iterator[Bench]:
    with untouched(repository, base, tmp_path) as made:
        yield made


def start_bot(bench: Bench, pipes: Pipes) -> subprocess.Popen[bytes]:
    """Start a process that asks an agent which hangs."""
    program = f"""
import asyncio
from pathlib import Path
from tests.loop.proposers.agent_bench import Bench
bench = Bench(Path({str(bench.repository)!r}), {bench.context.parent!r}, Path({str(bench.folder.parent)!r}))
asyncio.run(bench.agent("hang", {str(pipes.ready)!r}).propose(bench.context))
"""
    return subprocess.Popen([sys.executable, "-c", program])


def is_keeper(process: psutil.Process) -> bool:
    try:
        return "loop.process.together" in process.cmdline()
    except psutil.Error:  # another child, which has ended meanwhile
        return False


async def gone(pids: list[int]) -> None:
    """Wait for the end of processes."""
    for pid in pids:
        await Process(pid, start_time(pid) or 0.0).gone()


async def test_a_daemon_that_it_leaves_is_ended(bench: Bench, pipes: Pipes) -> None:
    proposal = await bench.agent("leave_daemon", pipes.ready).propose(bench.context)
    assert proposal.source == EDITED
    assert [start_time(pid) for pid in await pipes.pids()] == [None, None]


@pytest.mark.parametrize("trait", ["hang", "flood_for_ever"])
async def test_its_time_is_limited(bench: Bench, pipes: Pipes, trait: str) -> None:
    with pytest.raises(UnavailableError, match=r"did not finish within 0\.5 s") as caught:
        await bench.agent(trait, pipes.ready, limit=0.5).propose(bench.context)
    assert caught.value.cut_off


async def test_a_machine_that_can_start_no_process_puts_it_out_of_reach(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = bench.agent("deepen")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(UnavailableError, match="cannot be started with /nowhere/python: No such file"):
        await agent.propose(bench.context)


async def test_only_the_end_of_what_it_prints_is_kept(bench: Bench) -> None:
    printed: list[str] = []

    def read(output: str, errors: str) -> AgentOutput:
        printed.append(output)
        return read_text(output, errors)

    preset = replace(own_command((*FAKE, "flood")), read=read)
    proposal = await bench.of(preset).propose(bench.context)
    assert proposal.description == "a deeper model"
    assert [len(text) for text in printed] == [PRINTED]


async def test_cancelling_ends_its_processes_first(bench: Bench, pipes: Pipes) -> None:
    asking = asyncio.create_task(bench.agent("hang", pipes.ready).propose(bench.context))
    pids = await pipes.pids()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_one_is_asked_at_a_time(bench: Bench) -> None:
    agent = bench.agent("edit")  # an asking removes what it finds in the folder
    proposals = await asyncio.gather(agent.propose(bench.context), agent.propose(bench.context))
    assert [proposal.source for proposal in proposals] == [EDITED, EDITED]


async def test_it_ends_with_its_keeper(bench: Bench, pipes: Pipes) -> None:
    asking = asyncio.create_task(bench.agent("hang", pipes.ready).propose(bench.context))
    pids = await pipes.pids()
    (keeper,) = [p for p in psutil.Process().children() if is_keeper(p)]
    keeper.kill()
    with pytest.raises(UnavailableError, match="was killed together"):
        await asking
    await gone(pids)


async def test_it_ends_with_the_bot_and_the_next_asking_cleans_up(bench: Bench, pipes: Pipes) -> None:
    bot = start_bot(bench, pipes)
    pids = await pipes.pids()
    bot.kill()
    bot.wait()
    await gone(pids)
    assert list(bench.folder.glob("*"))
    await bench.agent("edit").propose(bench.context)


async def test_without_bot_and_keeper_the_next_asking_ends_what_is_left(bench: Bench, pipes: Pipes) -> None:
    bot = start_bot(bench, pipes)
    agent, daemon = await pipes.pids()
    bot.send_signal(signal.SIGSTOP)  # so that it does not see what comes
    (keeper,) = psutil.Process(bot.pid).children()
    keeper.kill()
    await gone([agent])
    bot.kill()
    bot.wait()
    assert start_time(daemon) is not None
    await bench.agent("edit").propose(bench.context)
    assert start_time(daemon) is None
