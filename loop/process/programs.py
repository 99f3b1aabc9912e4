"""Programs that end with the bot, and all that they started with them: an evaluation's, a coding agent's, …

Each call has a process of its own beside it (`together.py`), which limits them in time, memory and output.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.process import together
from loop.process.supervisor import MARK, PATIENCE
from loop.process.trainer import Limits
from loop.process.worker import last_words, own_environment, start_worker


@dataclass(frozen=True, slots=True)
class Program:
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Result:
    """How programs that ran together ended, with the ends of what they said.

    `ending` is "exited"; "absent" where the first cannot be started; "deadline" or a limit, what they were
    killed for; or "ended", where the process beside them was killed. `printed` is a single program's stdout.
    """

    ending: str
    exit_codes: tuple[int | None, ...]
    said: tuple[str, ...]
    printed: str = ""


async def run_together(
    programs: Sequence[Program],
    seconds: float,
    limits: Limits,
    *,
    mark: str = "",
    variable: str = MARK,
    stdin: Path = Path(os.devnull),
    nice: int = 0,
) -> Result:
    """Run one program, or one that talks to one or two others, until the first has ended; kill what is left.

    All their processes get the `mark` in the environment `variable`. When cancelled, they are ended first.

    Raises:
        OSError: this machine can start no process.
    """
    job = {
        "programs": [{"argv": each.argv, "cwd": str(each.cwd), "env": dict(each.env)} for each in programs],
        "deadline": seconds,
        "limits": {name: getattr(limits, name) for name in ("memory", "processes", "file_size")},
        "mark": (variable, mark),
        "stdin": str(stdin),
        "nice": nice,
    }
    process = await start_worker(together.__name__, python=sys.executable, environment=own_environment())
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with suppress(ConnectionError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            await process.stdin.drain()
        answer, errors = await asyncio.gather(process.stdout.read(), process.stderr.read())
    finally:
        process.stdin.close()  # then it ends all that it has started
        await asyncio.shield(_end(process))
    if answer:
        found: dict[str, Any] = json.loads(answer)
        return Result(found["ending"], tuple(found["exit_codes"]), tuple(found["said"]), found["printed"])
    said = (last_words(process, errors),)
    return Result("ended", (None,) * len(programs), said * len(programs))


async def _end(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(2 * PATIENCE):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
