"""The proposer that lets a coding agent edit the program: `claude -p`, `codex exec`, or any other command.

The agent works in a throw-away checkout. What it leaves in the editable file is its proposal, its last
message says what that is, and everything else that it does there is thrown away.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

from loop.errors import LoopError
from loop.experiment import Cost, Proposal
from loop.proposers.agent_checkout import clear, make_checkout, read_answer, remove
from loop.proposers.agent_message import PROSE, plain, read_message, task
from loop.proposers.agent_presets import PROMPT, Answer, Preset
from loop.proposers.agent_process import AgentError, AgentRun, Ended, agent_environment, run_agent
from loop.proposers.edits import EditError, check_program
from loop.proposers.protocol import Context, Failure, OutOfReachError
from loop.redaction import HIDDEN, secrets_in, without_secrets
from loop.threads import in_thread

_SECRET = 16  # characters; a shorter value may stand in a program by chance

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
    allow list, HOME among it for the agent's own login. Its other secrets are kept out of what the agent
    says. `brief` and `brief_repair` give the state of the run as text and may block; `limit` is in seconds.

    The agent runs as the user: it is not kept from files that the user may read.
    """

    def __init__(
        self,
        preset: Preset,
        *,
        repository: Path,
        folder: Path,
        environ: Mapping[str, str],
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
        self._secrets = secrets_in(environ)
        self._brief = brief
        self._brief_repair = brief_repair
        self._limit = limit
        self._editable = editable
        self._turn = asyncio.Lock()

    async def propose(self, context: Context) -> Proposal:
        """Return what the agent makes of `context.source`. When cancelled, all its processes are ended first.

        Raises:
            OutOfReachError: it cannot be asked, or leaves nothing that could be trained.
            LoopError: there is no checkout for it: git or the disk refuses.
        """
        prompt = task(await in_thread(self._brief, context), self._editable)
        source, answer = await self._ask(context, context.source, prompt)
        return self._proposal(context, source, answer, before=context.source)

    async def repair(self, context: Context, failure: Failure) -> Proposal | None:
        """Return the crashed program as the agent mends it; None where it leaves it as it is.

        Raises:
            OutOfReachError: it cannot be asked, or leaves nothing that could be trained.
            LoopError: there is no checkout for it: git or the disk refuses.
        """
        brief = await in_thread(self._brief_repair, context, failure)
        prompt = task(brief, self._editable, may_give_up=True)
        source, answer = await self._ask(context, failure.source, prompt)
        if source in (failure.source, context.source):
            return None
        return self._proposal(
            context, source, answer, before=failure.source, repairs=failure.experiment.number
        )

    async def _ask(self, context: Context, given: str, prompt: str) -> tuple[str, Answer]:
        """Return the editable file as the agent left it, and what its output says."""
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
                if ended.exit_code != 0:
                    raise self._failure(ended, answer)
                return await in_thread(self._read, run.cwd, given, answer.cost), answer
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
            raise LoopError(
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

    def _read(self, checkout: Path, given: str, cost: Cost | None) -> str:
        try:
            source = read_answer(checkout, self._editable)
        except LoopError as error:
            raise OutOfReachError(f"{self.name} left no program: {error}", cost=cost) from error
        if self._secrets_in(source) > self._secrets_in(given):
            raise OutOfReachError(f"{self.name} wrote a secret into {self._editable}.", cost=cost)
        return source

    def _proposal(
        self, context: Context, source: str, answer: Answer, *, before: str, repairs: int | None = None
    ) -> Proposal:
        message = read_message(self._shown(answer.message))
        try:
            check_program(before, source)
        except EditError as error:
            said = f" It said: {message.description}" if message.description else ""
            raise OutOfReachError(
                f"{self.name} is of no use just now. {error}{said}", cost=answer.cost
            ) from error
        return Proposal(
            source=source,
            description=message.description or f"edit by {self.name}",
            rationale=message.rationale,
            proposer=self.name,
            parent=context.parent,
            expected=message.expected,
            family=message.family,
            repairs=repairs,
            cost=answer.cost,
        )

    def _failure(self, ended: Ended, answer: Answer) -> OutOfReachError:
        """Say for people why the agent did not end well."""
        if ended.exit_code is None:
            return OutOfReachError(
                f"{self.name} gave no answer within {self._limit:g} s and was ended.", cost=answer.cost
            )
        printed = next((text for text in (ended.errors, ended.output) if text.strip()), "nothing")
        said = plain(self._shown(answer.error or printed.strip().splitlines()[-1]), PROSE)
        reason, needs_person = f"ended with status {ended.exit_code}", False
        if _MONEY.search(said):
            reason, needs_person = "has no money left", True
        elif _LIMIT.search(said):
            reason = "has reached its limit"
        elif _LOGIN.search(said):
            mend = f" ({self._preset.login})" if self._preset.login else ""
            reason, needs_person = f"is not logged in{mend}", True
        return OutOfReachError(f"{self.name} {reason}: {said}", cost=answer.cost, needs_person=needs_person)

    def _secrets_in(self, program: str) -> int:
        """Count what would be hidden of a program, were it shown."""
        long = [secret for secret in self._secrets if len(secret) >= _SECRET]
        return without_secrets(program, long).count(HIDDEN) - program.count(HIDDEN)

    def _shown(self, text: str) -> str:
        return without_secrets(text, self._secrets)
