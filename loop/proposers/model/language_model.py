"""A language model as a proposer: it reads the state of the run and answers with an edit.

It is called in a process of its own, because the libraries for it are large; only that process has the keys.
`ask` is what runs there.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from loop.experiment import Cost, Family, Proposal
from loop.process.environment import PROXIES
from loop.process.worker import WorkerError, in_thread, run_worker
from loop.program.edits import Edit, EditError, apply_edits, check_program, whole_file
from loop.proposers.model.providers import (
    EXTRA,
    explained,
    failures,
    http_client,
    is_own_server,
    model_name,
    open_model,
)
from loop.proposers.prompt.briefing import Briefing, brief, brief_repair, hide_secrets
from loop.proposers.prompt.history import LINE, PROSE, SEPARATOR
from loop.proposers.protocol import Context, Failure, ProposalError, RepairGivenUpError, UnavailableError
from loop.shell import install_line
from loop.text import holds_secret, one_line, without_secrets

if TYPE_CHECKING:
    from pydantic_ai import ModelSettings, UserContent
    from pydantic_ai.models import Model
    from pydantic_ai.usage import RunUsage

_START = 120.0  # seconds that the worker has beyond its limit: it starts slowly beside a training
_NETWORK = (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR")
_CORRECTIONS = 3  # how often an answer that makes no program goes back to the model
_OUTPUT_TOKENS = 100_000  # of all answers to one request together, thinking included


@dataclass(eq=False)
class LanguageModel:
    """Asks a model by its name in pydantic-ai (`anthropic:…`, `openai:…`, `google:…`).

    `settings` are keys and base URLs as the providers name them (`ANTHROPIC_API_KEY`, `OPENAI_BASE_URL`, …);
    a server of one's own with OpenAI's interface is `openai:NAME` with `OPENAI_BASE_URL`. `secrets` are
    neither sent to a model nor repeated from what a provider says. `python` is the interpreter for the
    worker. A prompt has at most `budget` tokens, by a careful estimate, an answer `limit` seconds.
    """

    model: str
    _: KW_ONLY
    settings: InitVar[Mapping[str, str]]
    secrets: Collection[str]
    budget: int = 60_000
    limit: float = 300.0
    python: str = sys.executable

    def __post_init__(self, settings: Mapping[str, str]) -> None:
        network = {name: os.environ[name] for name in _NETWORK if name in os.environ}
        self._settings = network | {name: value for name, value in settings.items() if value}

    @property
    def name(self) -> str:
        return model_name(self.model)

    async def propose(self, context: Context) -> Proposal:
        briefing = await in_thread(brief, context, self.budget)
        return await self._ask(briefing, context, context.source)

    async def repair(self, context: Context, failure: Failure) -> Proposal:
        briefing = await in_thread(brief_repair, context, failure, self.budget)
        return await self._ask(briefing, context, failure.source, best=context.source)

    async def _ask(self, briefing: Briefing, context: Context, source: str, *, best: str = "") -> Proposal:
        if holds_secret(briefing.program, self.secrets):
            raise UnavailableError(
                f"the program contains a secret; remove it, {self.name} gets none", needs_person=True
            )
        request = ModelRequest(
            model=self.model,
            briefing=await in_thread(hide_secrets, briefing, self.secrets),
            source=source,
            best=best,
            parent=context.parent,
            limit=self.limit,
        )
        try:
            return await run_worker(
                "loop.proposers.model.language_model:ask",
                request,
                returns=Proposal,
                name=f"The worker for {self.name}",
                python=self.python,
                limit=self.limit + _START,
                settings=self._settings,
            )
        except WorkerError as error:
            reason = without_secrets(str(error), self.secrets)
            raise UnavailableError(reason, cut_off=True) from None
        except ProposalError as error:  # which repeats what the provider says
            error.args = (without_secrets(str(error), self.secrets),)
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """`model` is to edit `source` within `limit` seconds.

    `best` is the best program where a crash is to be repaired, since an edit that comes back to it repairs
    nothing; else empty.
    """

    model: str
    briefing: Briefing
    source: str
    best: str
    parent: str
    limit: float


async def ask(request: ModelRequest, environ: Mapping[str, str] = os.environ) -> Proposal:
    """Call the model with the keys in `environ`. This runs in the worker."""
    name, limit = request.model, request.limit
    try:
        from pydantic_ai.usage import RunUsage

        usage = RunUsage()
        async with http_client(limit) as client:
            model = open_model(name, environ, client)  # which imports the SDK: seconds, beside a training
            async with asyncio.timeout(limit):
                answer = await _converse(request, model, usage, own=is_own_server(name, environ))
    except ImportError:
        reason = f"Packages for {model_name(name)} are missing. Run: {install_line(EXTRA)}"
        raise UnavailableError(reason, needs_person=True) from None
    except failures() as error:
        raise explained(error, name, limit=limit, cost=_cost(usage)) from error
    cost = _cost(usage) or Cost()
    if isinstance(answer, ProposedRepair) and answer.hopeless:
        reason = f"{model_name(name)} gives the repair up: {answer.rationale}"
        raise RepairGivenUpError(reason, cost=cost)
    return Proposal(
        source=program_of(answer, request.source, whole=request.briefing.whole),
        description=answer.description,
        rationale=answer.rationale,
        proposer=model_name(name),
        parent=request.parent,
        expected=answer.expected,
        family=answer.family,
        cost=cost,
    )


async def _converse(request: ModelRequest, model: Model, usage: RunUsage, *, own: bool) -> ProposedEdit:
    """Ask until the answer makes a program, and count in `usage` what it takes."""
    from pydantic_ai import Agent, ModelRetry, PromptedOutput
    from pydantic_ai.usage import UsageLimits

    wanted: type[ProposedEdit] = ProposedRepair if request.best else ProposedEdit
    agent = Agent(
        model,
        output_type=PromptedOutput(wanted) if own else wanted,  # any server can be asked in words
        instructions=request.briefing.fixed,
        retries={"output": _CORRECTIONS},
    )

    @agent.output_validator
    def makes_a_program(answer: ProposedEdit) -> ProposedEdit:
        if isinstance(answer, ProposedRepair) and answer.hopeless:
            return answer
        try:
            program = program_of(answer, request.source, whole=request.briefing.whole)
        except EditError as error:
            raise ModelRetry(str(error)) from None
        if program == request.best:
            raise ModelRetry("That is the best program, without the idea: repair it, or set `hopeless`.")
        return answer

    result = await agent.run(
        _content(request.briefing, own=own),
        model_settings=_settings(own=own),
        usage_limits=UsageLimits(request_limit=1 + _CORRECTIONS, output_tokens_limit=_OUTPUT_TOKENS),
        usage=usage,
    )
    return result.output


def _settings(*, own: bool) -> ModelSettings:
    """Let the SDK try once more, and the provider keep what it will see again within the hour."""
    from pydantic_ai import ModelSettings

    if own:
        return ModelSettings(max_retries=1)
    return ModelSettings(max_retries=1, cache={"retention": "1h", "messages": False})


def _content(briefing: Briefing, *, own: bool) -> str | Sequence[UserContent]:
    """Return the briefing without its fixed part, in pieces that providers keep in their caches.

    An hour, because a training is longer than the five minutes that Anthropic keeps them otherwise.
    """
    from pydantic_ai import CachePoint

    if own:
        return SEPARATOR.join([*briefing.history, briefing.program, briefing.now])
    kept = CachePoint(ttl="1h")
    pieces: list[UserContent] = [*briefing.history]
    if briefing.history:
        pieces.append(kept)
    if briefing.program:
        pieces += [briefing.program, kept]
    return [*pieces, briefing.now]


def _cost(usage: RunUsage) -> Cost | None:
    if not usage.requests:
        return None
    dollars = None if usage.cost is None else float(usage.cost)
    return Cost(usage.input_tokens, usage.cache_read_tokens, usage.output_tokens, dollars)


def _family(value: object) -> object:
    """Read what a model calls a family; another word than ours is no reason to ask again."""
    word = value.strip().lower().replace("_", " ") if isinstance(value, str) else value
    return word if word in set(Family) else None


def _all_required(schema: dict[str, Any]) -> None:
    """Let a model fill in every field; an answer that leaves one out is taken all the same."""
    schema["required"] = list(schema["properties"])
    for field in schema["properties"].values():
        field.pop("default", None)


_Line: TypeAlias = Annotated[str, AfterValidator(partial(one_line, limit=LINE))]
_Prose: TypeAlias = Annotated[str, AfterValidator(partial(one_line, limit=PROSE))]


class EditBlock(BaseModel):
    """A piece of the program, and what takes its place."""

    search: str = Field(description="Lines of the program, letter by letter, that are there exactly once.")
    replace: str = Field(description="What takes their place.")


class ProposedEdit(BaseModel):
    """The next experiment."""

    model_config = ConfigDict(json_schema_extra=_all_required)

    rationale: _Prose = Field(default="", description="Why it should help, in at most three sentences.")
    family: Annotated[Family | None, BeforeValidator(_family)] = Field(
        default=None, description="The kind of change."
    )
    expected: _Line = Field(default="", description='The effect that you hope for, like "-0.002".')
    description: _Line = Field(description="What changes, in one line of at most 80 letters.")
    edits: list[EditBlock] = Field(default=[], description="What is changed in the program.")
    source: str | None = Field(default=None, description="Instead of edits: the whole new program.")

    @field_validator("description")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text:
            raise ValueError("Say in one line what changes.")
        return text


class ProposedRepair(ProposedEdit):
    """The crashed experiment repaired, or given up."""

    hopeless: bool = Field(
        default=False, description="The idea is given up: it is not worth another training. No edits then."
    )


def program_of(answer: ProposedEdit, before: str, *, whole: bool) -> str:
    """Return the program that the answer makes of `before`.

    `whole` says that the model was shown all of `before`: otherwise it cannot give back a whole program.
    """
    if answer.source and answer.edits:
        raise EditError("ProposedEdit with `edits` or with `source`, not with both.")
    if answer.source and not whole:
        raise EditError("The program was not shown to its end: answer with `edits`.")
    if answer.source:
        after = whole_file(before, answer.source)
    else:
        after = apply_edits(before, [Edit(block.search, block.replace) for block in answer.edits])
    check_program(before, after)
    return after
