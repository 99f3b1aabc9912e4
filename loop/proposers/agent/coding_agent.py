"""The proposer that lets a coding agent edit the program: `claude -p`, `codex exec`, or any other command.

The agent works in a throw-away checkout. What it leaves in the editable file is its proposal, its last
message says what that is, and everything else that it does there is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import stat
import sys
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from loop.errors import UserError
from loop.experiment import Family, Proposal
from loop.files import place, remove
from loop.git.commands import Git, locate
from loop.git.workspace import AUTHOR
from loop.process.environment import PROXIES, training_environment
from loop.process.programs import Program, Result, run_together
from loop.process.supervisor import end_marked
from loop.process.trainer import Limits
from loop.process.worker import in_thread
from loop.program.edits import LIMIT, EditError, check_program
from loop.proposers.agent.presets import PROMPT, AgentOutput, Preset
from loop.proposers.prompt.briefing import brief, brief_repair
from loop.proposers.prompt.history import LINE, PROSE, SAID
from loop.proposers.protocol import Context, Failure, NoProgramError, RepairGivenUpError, UnavailableError
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
class AgentMessage:
    """What the last message says, in plain lines; empty where it says nothing of the kind."""

    description: str = ""
    rationale: str = ""
    expected: str = ""
    family: Family | None = None


def task(brief: str, editable: str, *, may_give_up: bool = False) -> str:
    give_up = _GIVE_UP if may_give_up else ""
    return _TASK.format(brief=brief.strip(), editable=editable, give_up=give_up, families=", ".join(Family))


def read_message(text: str) -> AgentMessage:
    """Read what follows each label; without a description, the first line is taken for one."""
    labels = list(_LABEL.finditer(text))
    ends = [*(label.start() for label in labels), len(text)][1:]
    labelled = {label[1].lower(): text[label.end() : end] for label, end in zip(labels, ends, strict=False)}
    description = labelled.get("description", "" if labels else text)
    family = undressed(labelled.get("family", ""), LINE).lower().replace("_", " ").replace("-", " ")
    return AgentMessage(
        description=next((said for each in description.splitlines() if (said := undressed(each, LINE))), ""),
        rationale=undressed(labelled.get("rationale", ""), PROSE),
        expected=undressed(labelled.get("expected", ""), LINE),
        family=next((known for known in Family if family.startswith(known)), None),
    )


def undressed(text: str, limit: int) -> str:
    """Return untrusted text as one line of at most `limit` characters, without Markdown around it."""
    return one_line(_DRESS.sub("", one_line(text)), limit)


MARK = "AUTORESEARCH_AGENT"
"""Environment variable that names the folder of a call in every process of its agent."""

PROMPT_FILE = "prompt.md"
NICE = 10  # a training that needs the processor goes first
_NETWORK = (*PROXIES, "NODE_EXTRA_CA_CERTS")
_FIXED = {
    "CUDA_VISIBLE_DEVICES": "-1",  # the accelerator is for the training under way
    "HIP_VISIBLE_DEVICES": "-1",
    "NO_COLOR": "1",
}


def agent_environment(environ: Mapping[str, str], preset: Preset) -> dict[str, str]:
    """Return what a training may know of `environ`, with HOME, and what this agent needs for its provider."""
    chosen = training_environment(environ, {})
    chosen |= {name: environ[name] for name in (*_NETWORK, *preset.keys) if environ.get(name)}
    renamed = {new: chosen[old] for new, old in preset.renamed.items() if old in chosen}
    return renamed | chosen | dict(preset.settings) | _FIXED


def make_checkout(repository: Path, commit: str, checkout: Path, *, editable: str, source: str) -> None:
    """Make the folder `checkout`: the files of `commit`, with `source` as the editable one, committed once.

    It has a git of its own: in a linked worktree an agent's git commands would reach the branches, the
    configuration and the hooks of the user's repository.
    """
    own = checkout / ".git"
    own.mkdir(parents=True)
    git = Git(locate(repository).common)
    with TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git("read-tree", commit, index=index)
        git("checkout-index", "--all", index=index, work_tree=checkout)
    executable = os.access(checkout / editable, os.X_OK)
    place(checkout, editable, source.encode(), executable=executable)
    message = f"--message=autoresearch: the program at {commit[:7]}"
    git = Git(own)
    git("init", "--quiet", "--template=", "--initial-branch=main", work_tree=checkout)
    git("add", "--all", "--force", work_tree=checkout)
    git("commit", "--quiet", "--allow-empty", message, environment=AUTHOR, work_tree=checkout)


def read_program(checkout: Path, editable: str) -> str:
    """Return the editable file as an agent left it. Its processes must be gone."""
    path = checkout / editable
    try:
        if path.resolve() != checkout.resolve() / editable:
            raise EditError(f"A link is in the place of {editable}.")
        if not stat.S_ISREG(path.lstat().st_mode):
            raise EditError(f"Something else is in the place of {editable}.")
        with path.open("rb") as file:
            content = file.read(LIMIT + 1)
    except OSError as error:
        raise EditError(f"{editable} cannot be read: {error.strerror or error}.") from error
    if len(content) > LIMIT:
        raise EditError(f"{editable} has more than {LIMIT:,} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise EditError(f"{editable} is not UTF-8 text (byte {error.start}).") from error


def clear(folder: Path) -> None:
    """End the agents that earlier calls left behind in `folder`, and remove their checkouts."""
    for left in sorted(folder.glob("*")):
        end_marked(str(left), variable=MARK)
        remove(left)


_LIMIT = re.compile(
    r"(rate|usage|spend\w*|your) ?limit|quota|too many requests|overloaded|\b(429|529)\b", re.IGNORECASE
)
_LOGIN = re.compile(
    r"log(ged)? ?in\b|\bauth(entication|orization)?\b|api.?key|unauthori[sz]ed|\b401\b|credentials",
    re.IGNORECASE,
)
_MONEY = re.compile(r"credit balance|billing|payment|insufficient.quota", re.IGNORECASE)


@dataclass(eq=False)
class CodingAgent:
    """Calls one coding agent, once at a time. It runs as the user and may read the user's files.

    `folder` is for its throw-away checkouts alone: what an earlier agent left there is ended and removed
    first. The agent's environment is taken from `environ` by an allow list. `secrets` are kept out of its
    prompt, its message and its program. What it is told of the run has at most `budget` tokens, by a careful
    estimate; `limit` is in seconds.
    """

    preset: Preset
    _: KW_ONLY
    repository: Path
    folder: InitVar[Path]
    environ: InitVar[Mapping[str, str]]
    secrets: Collection[str]
    limit: float
    budget: int = 60_000
    editable: str = "train.py"

    def __post_init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.name = self.preset.name
        self._folder = folder.absolute()
        self._environment = agent_environment(environ, self.preset)
        self._turn = asyncio.Lock()

    async def propose(self, context: Context) -> Proposal:
        """Return the program as the agent left it. When cancelled, all its processes are ended first."""
        briefing = await in_thread(brief, context, self.budget, answer="")
        prompt = task(self._shown(briefing.text), self.editable)
        return await self._ask(context, context.source, prompt)

    async def repair(self, context: Context, failure: Failure) -> Proposal:
        """Let the agent repair the crash; it gives up by leaving the program, or going back to the best."""
        briefing = await in_thread(brief_repair, context, failure, self.budget, answer="")
        prompt = task(self._shown(briefing.text), self.editable, may_give_up=True)
        return await self._ask(context, failure.source, prompt, hopeless=(failure.source, context.source))

    async def _ask(
        self, context: Context, given: str, prompt: str, *, hopeless: Collection[str] = ()
    ) -> Proposal:
        """Let the agent edit `given`; it gives up by leaving one of the `hopeless` programs."""
        async with self._turn:
            program = shutil.which(self.preset.command[0], path=self._environment.get("PATH"))
            if program is None:
                install = f": {self.preset.install}" if self.preset.install else ""
                raise UnavailableError(f"{self.name} is not installed{install}", needs_person=True)
            folder = self._folder / uuid4().hex
            try:
                run = await in_thread(self._prepare, folder, program, context, given, prompt)
                ended = await self._run(run, folder)
                answer = await in_thread(self.preset.read, ended.printed, *ended.said)
                if ended.exit_codes != (0,) or (answer.error and not answer.message):
                    raise self._failure(ended, answer)
                return await in_thread(self._read, run.cwd, context.parent, given, answer, hopeless)
            finally:
                await in_thread(remove, folder)

    def _prepare(self, folder: Path, program: str, context: Context, given: str, prompt: str) -> Program:
        checkout, file = folder / "checkout", folder / PROMPT_FILE
        clear(self._folder)
        try:
            folder.mkdir(mode=0o700, parents=True)
            file.write_text(prompt, encoding="utf-8", errors="replace")
            make_checkout(self.repository, context.parent, checkout, editable=self.editable, source=given)
        except OSError as error:
            raise UserError(
                f"{error.filename or folder} cannot be used: {error.strerror or error}."
            ) from error
        _, *arguments = self.preset.command
        return Program(
            argv=(str(Path(program).absolute()), *(part.replace(PROMPT, str(file)) for part in arguments)),
            cwd=checkout,
            # git looks for no repository above the checkout, should the agent delete that one's.
            env={**self._environment, "GIT_CEILING_DIRECTORIES": str(folder)},
        )

    async def _run(self, agent: Program, folder: Path) -> Result:
        """Run the agent until it ends or its time is over, and end whatever it started, also when cancelled.

        `folder` is all its own, with the prompt.
        """
        mark, prompt, limits = str(folder), folder / PROMPT_FILE, Limits(file_size=sys.maxsize)
        try:
            result = await run_together(
                [agent], self.limit, limits, mark=mark, variable=MARK, stdin=prompt, nice=NICE
            )
        except OSError as error:
            reason = f"cannot be started with {sys.executable}: {error.strerror}"
            raise UnavailableError(f"{self.name} {reason}") from error
        finally:
            # Where the process beside it was killed; else there is nothing left.
            await in_thread(end_marked, mark, variable=MARK)
        (said,) = result.said
        match result.ending:
            case "exited" | "deadline":
                return result
            case "absent":
                reason = said.strip()
            case "memory" | "processes":
                reason = f"used more {result.ending} than is allowed and was ended"
            case _:
                log.error("the process beside a coding agent failed: %s", said)
                reason = "was killed together with the process that runs it"
        raise UnavailableError(f"{self.name} {reason}")

    def _read(
        self, checkout: Path, parent: str, given: str, answer: AgentOutput, hopeless: Collection[str]
    ) -> Proposal:
        message = read_message(self._shown(answer.message))
        try:
            source = read_program(checkout, self.editable)
            if source in hopeless:
                raise RepairGivenUpError(
                    f"{self.name} gives the repair up: {message.description}", cost=answer.cost
                )
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

    def _failure(self, ended: Result, answer: AgentOutput) -> UnavailableError:
        if ended.ending == "deadline":
            reason = f"{self.name} did not finish within {self.limit:g} s."
            return UnavailableError(reason, cost=answer.cost, cut_off=True)
        printed = next((text for text in (*ended.said, ended.printed) if text.strip()), "nothing")
        said = undressed(self._shown(answer.error or printed.strip().splitlines()[-1]), SAID)
        reason, needs_person = f"failed with exit status {ended.exit_codes[0]}", False
        if _MONEY.search(said):
            reason, needs_person = "is out of credit", True
        elif _LIMIT.search(said):
            reason = "is rate-limited"
        elif _LOGIN.search(said):
            login = f" ({self.preset.login})" if self.preset.login else ""
            reason, needs_person = f"is not logged in{login}", True
        return UnavailableError(f"{self.name} {reason}: {said}", cost=answer.cost, needs_person=needs_person)

    def _check(self, before: str, after: str) -> None:
        check_program(before, after)
        if self._secrets_in(after) > self._secrets_in(before):
            raise EditError("The program would contain a secret.")

    def _secrets_in(self, program: str) -> int:
        """Count what would be hidden of a program, were it shown."""
        long = [secret for secret in self.secrets if len(secret) >= LONG]
        return without_secrets(program, long).count(HIDDEN) - program.count(HIDDEN)

    def _shown(self, text: str) -> str:
        return without_secrets(text, self.secrets)
