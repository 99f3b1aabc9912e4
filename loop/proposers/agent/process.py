"""Runs a coding agent beside the event loop: with what environment, for how long, and what it printed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from loop.errors import LoopError
from loop.process.environment import PROXIES, training_environment
from loop.process.threads import in_thread
from loop.process.worker import start_worker
from loop.proposers.agent.keeper import sweep
from loop.proposers.agent.presets import Preset

log = logging.getLogger(__name__)

_KEEPER = "loop.proposers.agent.keeper"
_NETWORK = (*PROXIES, "NODE_EXTRA_CA_CERTS")
_FIXED = {
    "CUDA_VISIBLE_DEVICES": "-1",  # the accelerator is for the training under way
    "HIP_VISIBLE_DEVICES": "-1",
    "NO_COLOR": "1",
}


class AgentError(LoopError):
    """Why an agent did not run, as a clause that goes on from its name: `cannot be started: …`."""


@dataclass(frozen=True, slots=True)
class AgentRun:
    """One asking of an agent. `folder` is all its own, with `cwd` and `prompt`; `limit` is in seconds."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    prompt: Path
    folder: Path
    limit: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How an agent ended, and the ends of what it printed; `exit_code` is None where its time was over."""

    exit_code: int | None
    output: str
    errors: str


def agent_environment(environ: Mapping[str, str], preset: Preset) -> dict[str, str]:
    """Choose from `environ` what a training may know, and what this agent needs to reach its provider.

    HOME is among it, because there the agent finds its login. No accelerator is visible to it.
    """
    chosen = training_environment(environ, {})
    chosen |= {name: environ[name] for name in (*_NETWORK, *preset.keys) if environ.get(name)}
    renamed = {new: chosen[old] for new, old in preset.renamed.items() if old in chosen}
    return renamed | chosen | dict(preset.settings) | _FIXED


async def run_agent(run: AgentRun) -> Ended:
    """Run the agent to its end, and end whatever it started. When cancelled, that is done first.

    Raises:
        AgentError: it cannot be started, or its keeper was killed.
    """
    environment = training_environment(os.environ, {})
    try:
        keeper = await start_worker(_KEEPER, python=sys.executable, environment=environment)
    except OSError as error:
        raise AgentError(f"cannot be started with {sys.executable}: {error.strerror}") from error
    assert keeper.stdin is not None
    job = {**asdict(run), "cwd": str(run.cwd), "prompt": str(run.prompt), "folder": str(run.folder)}
    keeper.stdin.write(json.dumps(job).encode() + b"\n")
    answering = asyncio.ensure_future(_answer(keeper))
    try:
        answer = await asyncio.shield(answering)
    except asyncio.CancelledError:
        keeper.stdin.close()  # dismisses the agent
        await asyncio.wait({answering})
        raise
    finally:
        await in_thread(sweep, str(run.folder))  # for a keeper that was killed; else there is nothing left
    match json.loads(answer or "{}"):
        case {"ending": "absent", "errors": str(reason)}:
            raise AgentError(f"cannot be started: {reason}")
        case {"exit_code": int() | None as code, "output": str(output), "errors": str(errors)}:
            return Ended(code, output, errors)
    raise AgentError("was ended: the process beside it was killed")


async def _answer(keeper: asyncio.subprocess.Process) -> bytes:
    """Return what the keeper writes, once it has ended."""
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    assert keeper.stderr is not None
    answer, errors = await asyncio.gather(keeper.stdout.read(), keeper.stderr.read())
    keeper.stdin.close()
    if await keeper.wait() != 0:
        log.error("the process beside a coding agent failed: %s", errors.decode(errors="replace"))
        return b""
    return answer
