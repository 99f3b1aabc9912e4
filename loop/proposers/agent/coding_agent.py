"""The proposer that lets a coding agent edit the program: `claude -p`, `codex exec`, or any other command.

The agent works in a throw-away checkout. What it leaves in the editable file is its proposal, its last
message says what that is, and everything else that it does there is thrown away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import uuid4

from loop.errors import UserError
from loop.experiment import Family, Proposal
from loop.process.trainer import PROXIES, training_environment
from loop.process.worker import in_thread, start_worker
from loop.program.edits import EditError, check_program
from loop.proposers.agent.checkout import clear, make_checkout, read_answer, remove
from loop.proposers.agent.keeper import sweep
from loop.proposers.agent.presets import PROMPT, Answer, Preset
from loop.proposers.prompt.history import LINE, PROSE, SAID
from loop.proposers.protocol import Context, Failure, HopelessError, NoProgramError, OutOfReachError
from loop.text import HIDDEN, LONG, one_line, without_secrets

log = logging.getLogger(__name__)

_TASK = """\
{brief}

---
You are in a throw-away copy of the repository. Do what is asked above, but by editing the file `{editable}`
there, and that file only: whatever else you change is thrown away. Do not train and do not install anything;
the program is trained when you have ended. Nobody will answer a question.{give_up}

End with a message of these lines and no others:

Description: what you changed, in at most 80 characters
Rationale: why it should help, in one or two sentences
Expected: the effect that you hope for
Family: one of {families}
"""

_GIVE_UP = " To give the idea up, leave the file as it is."

_LABEL = re.compile(
    r"^[^\w\n]{0,8}(description|rationale|expected|family)[^\w\n]{0,8}:", re.IGNORECASE | re.MULTILINE
)
_DRESS = re.compile(r"^(?:[*#> ]|- )+|(?<!\*)\*\*$")  # of Markdown


@dataclass(frozen=True, slots=True)
class Message:
    """What the last message says, in plain lines; empty where it says nothing of the kind."""

    description: str = ""
    rationale: str = ""
    expected: str = ""
    family: Family | None = None


def task(brief: str, editable: str, *, may_give_up: bool = False) -> str:
    """Return the whole prompt: the brief, how to work and how to end."""
    give_up = _GIVE_UP if may_give_up else ""
    return _TASK.format(brief=brief.strip(), editable=editable, give_up=give_up, families=", ".join(Family))


def read_message(text: str) -> Message:
    """Read what follows each label; without a description, the first line is taken for one."""
    labels = list(_LABEL.finditer(text))
    ends = [*(label.start() for label in labels), len(text)][1:]
    labelled = {label[1].lower(): text[label.end() : end] for label, end in zip(labels, ends, strict=False)}
    description = labelled.get("description", "" if labels else text)
    family = undressed(labelled.get("family", ""), LINE).lower().replace("_", " ").replace("-", " ")
    return Message(
        description=next((said for each in description.splitlines() if (said := undressed(each, LINE))), ""),
        rationale=undressed(labelled.get("rationale", ""), PROSE),
        expected=undressed(labelled.get("expected", ""), LINE),
        family=next((known for known in Family if family.startswith(known)), None),
    )


def undressed(text: str, limit: int) -> str:
    """Return untrusted text as one line of at most `limit` characters, without Markdown around it."""
    return one_line(_DRESS.sub("", one_line(text)), limit)


_KEEPER = "loop.proposers.agent.keeper"
_NETWORK = (*PROXIES, "NODE_EXTRA_CA_CERTS")
_FIXED = {
    "CUDA_VISIBLE_DEVICES": "-1",  # the accelerator is for the training under way
    "HIP_VISIBLE_DEVICES": "-1",
    "NO_COLOR": "1",
}


class AgentError(UserError):
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


_LIMIT = re.compile(
    r"(rate|usage|spend\w*|your) ?limit|quota|too many requests|overloaded|\b(429|529)\b", re.IGNORECASE
)
_LOGIN = re.compile(
    r"log(ged)? ?in\b|\bauth(entication|orization)?\b|api.?key|unauthori[sz]ed|\b401\b|credentials",
    re.IGNORECASE,
)
_MONEY = re.compile(r"credit balance|billing|payment|insufficient.quota", re.IGNORECASE)


class CodingAgent:
    """Asks one coding agent, one question at a time.

    `folder` is for its throw-away checkouts and for nothing else; what an agent before this one left there is
    ended and removed before the next is started. `environ` is what the agent's environment is taken from: an
    allow list, HOME among it for the agent's own login. `secrets` are kept out of what the agent is told,
    says and writes. `brief` and `brief_repair` give the state of the run as text and may block; `limit` is
    in seconds.

    The agent runs as the user: it is not kept from files that the user may read.
    """

    def __init__(
        self,
        preset: Preset,
        *,
        repository: Path,
        folder: Path,
        environ: Mapping[str, str],
        secrets: Collection[str],
        brief: Callable[[Context], str],
        brief_repair: Callable[[Context, Failure], str],
        limit: float,
        editable: str = "train.py",
    ) -> None:
        self.name = preset.name
        self._preset = preset
        self._repository = repository
        self._folder = folder.absolute()
        self._environment = agent_environment(environ, preset)
        self._secrets = secrets
        self._brief = brief
        self._brief_repair = brief_repair
        self._limit = limit
        self._editable = editable
        self._turn = asyncio.Lock()

    async def propose(self, context: Context) -> Proposal:
        """Return what the agent makes of `context.source`. When cancelled, all its processes are ended first.

        Raises:
            NoProgramError: it leaves nothing that could be trained.
            OutOfReachError: it cannot be asked.
            UserError: there is no checkout for it: git or the disk refuses.
        """
        prompt = task(self._shown(await in_thread(self._brief, context)), self._editable)
        return await self._ask(context, context.source, prompt)

    async def repair(self, context: Context, failure: Failure) -> Proposal:
        """Return the crashed program as the agent mends it.

        Raises:
            HopelessError: it leaves the program as it is, or goes back to the best one.
            UserError: as for `propose`.
        """
        brief = self._shown(await in_thread(self._brief_repair, context, failure))
        prompt = task(brief, self._editable, may_give_up=True)
        mended = await self._ask(context, failure.source, prompt, hopeless=(failure.source, context.source))
        return replace(mended, repairs=failure.experiment.number)

    async def _ask(
        self, context: Context, given: str, prompt: str, *, hopeless: Collection[str] = ()
    ) -> Proposal:
        """Let the agent edit `given`; it gives up by leaving one of the `hopeless` programs."""
        async with self._turn:
            program = shutil.which(self._preset.command[0], path=self._environment.get("PATH"))
            if program is None:
                install = f": {self._preset.install}" if self._preset.install else ""
                raise OutOfReachError(f"{self.name} is not installed{install}", needs_person=True)
            folder = self._folder / uuid4().hex
            try:
                run = await in_thread(self._prepare, folder, program, context, given, prompt)
                ended = await run_agent(run)
                answer = await in_thread(self._preset.read, ended.output, ended.errors)
                if ended.exit_code != 0 or (answer.error and not answer.message):
                    raise self._failure(ended, answer)
                return await in_thread(self._read, run.cwd, context.parent, given, answer, hopeless)
            except AgentError as error:
                raise OutOfReachError(f"{self.name} {error}") from error
            finally:
                await in_thread(remove, folder)

    def _prepare(self, folder: Path, program: str, context: Context, given: str, prompt: str) -> AgentRun:
        checkout, file = folder / "checkout", folder / "prompt.md"
        clear(self._folder)
        try:
            folder.mkdir(mode=0o700, parents=True)
            file.write_text(prompt, encoding="utf-8", errors="replace")
            make_checkout(self._repository, context.parent, checkout, editable=self._editable, source=given)
        except OSError as error:
            raise UserError(
                f"{error.filename or folder} cannot be used: {error.strerror or error}."
            ) from error
        _, *arguments = self._preset.command
        return AgentRun(
            argv=(str(Path(program).absolute()), *(part.replace(PROMPT, str(file)) for part in arguments)),
            cwd=checkout,
            # git looks for no repository above the checkout, should the agent delete that one's.
            env={**self._environment, "GIT_CEILING_DIRECTORIES": str(folder)},
            prompt=file,
            folder=folder,
            limit=self._limit,
        )

    def _read(
        self, checkout: Path, parent: str, given: str, answer: Answer, hopeless: Collection[str]
    ) -> Proposal:
        message = read_message(self._shown(answer.message))
        try:
            source = read_answer(checkout, self._editable)
            if source in hopeless:
                raise HopelessError(f"{self.name} gives it up: {message.description}", cost=answer.cost)
            self._check(given, source)
        except EditError as error:
            raise NoProgramError(str(error), cost=answer.cost, description=message.description) from error
        return Proposal(
            source=source,
            description=message.description or f"edit by {self.name}",
            rationale=message.rationale,
            proposer=self.name,
            parent=parent,
            expected=message.expected,
            family=message.family,
            cost=answer.cost,
        )

    def _failure(self, ended: Ended, answer: Answer) -> OutOfReachError:
        """Say for people why the agent did not end well."""
        if ended.exit_code is None:
            reason = f"{self.name} gave no answer within {self._limit:g} s and was ended."
            return OutOfReachError(reason, cost=answer.cost, cut_off=True)
        printed = next((text for text in (ended.errors, ended.output) if text.strip()), "nothing")
        said = undressed(self._shown(answer.error or printed.strip().splitlines()[-1]), SAID)
        reason, needs_person = f"ended with status {ended.exit_code}", False
        if _MONEY.search(said):
            reason, needs_person = "has no money left", True
        elif _LIMIT.search(said):
            reason = "has reached its limit"
        elif _LOGIN.search(said):
            mend = f" ({self._preset.login})" if self._preset.login else ""
            reason, needs_person = f"is not logged in{mend}", True
        return OutOfReachError(f"{self.name} {reason}: {said}", cost=answer.cost, needs_person=needs_person)

    def _check(self, before: str, after: str) -> None:
        check_program(before, after)
        if self._secrets_in(after) > self._secrets_in(before):
            raise EditError("The program would hold a secret.")

    def _secrets_in(self, program: str) -> int:
        """Count what would be hidden of a program, were it shown."""
        long = [secret for secret in self._secrets if len(secret) >= LONG]
        return without_secrets(program, long).count(HIDDEN) - program.count(HIDDEN)

    def _shown(self, text: str) -> str:
        return without_secrets(text, self._secrets)
