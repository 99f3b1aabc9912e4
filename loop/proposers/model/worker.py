"""Asks a language model, in a worker that has the keys in its environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from loop.experiment import Cost, Family
from loop.program.edits import Edit, EditError, apply_edits, check_program, whole_file
from loop.proposers.model.providers import MEND, explained, failures, http_client, is_own_server, open_model
from loop.proposers.prompt.briefing import Briefing
from loop.proposers.prompt.history import LINE, PROSE, SEPARATOR
from loop.proposers.protocol import NoProgramError, NoProposalError, OutOfReachError
from loop.text import one_line

if TYPE_CHECKING:
    from pydantic_ai import ModelSettings, UserContent
    from pydantic_ai.models import Model
    from pydantic_ai.usage import RunUsage


_CORRECTIONS = 3  # how often an answer that makes no program goes back to the model
_OUTPUT_TOKENS = 100_000  # of all answers to one request together, thinking included


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a model is asked: by name, with a second one that is asked where the first cannot be.

    The answer edits `source`. `best` is the best program where a crash is to be mended, since an edit that
    comes back to it mends nothing; else empty. `limit` is in seconds, for both models together.
    """

    model: str
    fallback: str
    briefing: Briefing
    source: str
    best: str
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A program and what its model says of it; `source` is None where a crash is not worth mending.

    `model` is the name of the model that answered, `cost` that of all that was asked.
    """

    source: str | None
    description: str
    rationale: str
    expected: str
    family: Family | None
    model: str
    cost: Cost


async def ask(request: Request, environ: Mapping[str, str] = os.environ) -> Reply:
    """Ask the model, and where it cannot be asked the second one, with the keys in `environ`.

    Raises:
        NoProgramError: the model can be asked, but neither gives an answer of use.
        OutOfReachError: the model cannot be asked, and the second one is of no help.
    """
    try:
        import pydantic_ai  # noqa: F401 - all that follows needs it
    except ImportError:
        raise OutOfReachError(f"A language model needs more packages: {MEND}.", needs_person=True) from None
    names = [name for name in (request.model, request.fallback) if name]
    failed: list[NoProposalError] = []
    for name in names:
        try:
            reply = await _ask_one(request, name, environ, request.limit / len(names))
        except NoProposalError as error:
            failed.append(error)
        else:
            return replace(reply, cost=_sum([*(error.cost for error in failed), reply.cost]) or Cost())
    reason, cost = " ".join(map(str, failed)), _sum([error.cost for error in failed])
    if not isinstance(failed[0], OutOfReachError):
        raise NoProgramError(reason, cost=cost)
    outages = [error for error in failed if isinstance(error, OutOfReachError)]
    waits = [outage.retry_after for outage in outages if outage.retry_after is not None]
    raise OutOfReachError(
        reason,
        cost=cost,
        retry_after=min(waits, default=None),
        needs_person=len(outages) == len(failed) and all(outage.needs_person for outage in outages),
        cut_off=any(outage.cut_off for outage in outages),
    )


async def _ask_one(request: Request, name: str, environ: Mapping[str, str], limit: float) -> Reply:
    from pydantic_ai.usage import RunUsage

    from loop.proposers.model.worker import Mended, program_of

    usage = RunUsage()
    try:
        async with http_client(limit) as client:
            model = open_model(name, environ, client)  # which imports the SDK: seconds, beside a training
            async with asyncio.timeout(limit):
                answer = await _converse(request, model, usage, own=is_own_server(name, environ))
    except failures() as error:
        raise explained(error, name, limit=limit, cost=_cost(usage)) from error
    hopeless = isinstance(answer, Mended) and answer.hopeless
    return Reply(
        source=None if hopeless else program_of(answer, request.source, whole=request.briefing.whole),
        description=answer.description,
        rationale=answer.rationale,
        expected=answer.expected,
        family=answer.family,
        model=name.partition(":")[2],
        cost=_cost(usage) or Cost(),
    )


async def _converse(request: Request, model: Model, usage: RunUsage, *, own: bool) -> Answer:
    """Ask until the answer makes a program, and count in `usage` what it takes."""
    from pydantic_ai import Agent, ModelRetry, PromptedOutput
    from pydantic_ai.usage import UsageLimits

    wanted: type[Answer] = Mended if request.best else Answer
    agent = Agent(
        model,
        output_type=PromptedOutput(wanted) if own else wanted,  # any server can be asked in words
        instructions=request.briefing.fixed,
        retries={"output": _CORRECTIONS},
    )

    @agent.output_validator
    def makes_a_program(answer: Answer) -> Answer:
        if isinstance(answer, Mended) and answer.hopeless:
            return answer
        try:
            program = program_of(answer, request.source, whole=request.briefing.whole)
        except EditError as error:
            raise ModelRetry(str(error)) from None
        if program == request.best:
            raise ModelRetry("That is the best program, without the idea: mend it, or set `hopeless`.")
        return answer

    result = await agent.run(
        _content(request.briefing, own=own),
        model_settings=_settings(own=own, retries=0 if request.fallback else 1),
        usage_limits=UsageLimits(request_limit=1 + _CORRECTIONS, output_tokens_limit=_OUTPUT_TOKENS),
        usage=usage,
    )
    return result.output


def _settings(*, own: bool, retries: int) -> ModelSettings:
    """Let the SDK try again so often, and the provider keep what it will see again within the hour."""
    from pydantic_ai import ModelSettings

    if own:
        return ModelSettings(max_retries=retries)
    return ModelSettings(max_retries=retries, cache={"retention": "1h", "messages": False})


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
    """Return what was used; None if nothing was."""
    if not usage.requests:
        return None
    dollars = None if usage.cost is None else float(usage.cost)
    return Cost(usage.input_tokens, usage.cache_read_tokens, usage.output_tokens, dollars)


def _sum(costs: Sequence[Cost | None]) -> Cost | None:
    known = [cost for cost in costs if cost is not None]
    return reduce(add, known) if known else None


def _family(value: object) -> object:
    """Read what a model calls a family; another word than ours is no reason to ask again."""
    word = value.strip().lower().replace("_", " ") if isinstance(value, str) else value
    return word if word in set(Family) else None


def _all_required(schema: dict[str, Any]) -> None:
    """Let a model fill in every field; an answer that leaves one out is taken all the same."""
    schema["required"] = list(schema["properties"])
    for field in schema["properties"].values():
        field.pop("default", None)


class Block(BaseModel):
    """A piece of the program, and what takes its place."""

    search: str = Field(description="Lines of the program, letter by letter, that are there exactly once.")
    replace: str = Field(description="What takes their place.")


class Answer(BaseModel):
    """The next experiment."""

    model_config = ConfigDict(json_schema_extra=_all_required)

    rationale: str = Field(default="", description="Why it should help, in at most three sentences.")
    family: Annotated[Family | None, BeforeValidator(_family)] = Field(
        default=None, description="The kind of change."
    )
    expected: str = Field(default="", description='The effect that you hope for, like "-0.002".')
    description: str = Field(description="What changes, in one line of at most 80 letters.")
    edits: list[Block] = Field(default=[], description="What is changed in the program.")
    source: str | None = Field(default=None, description="Instead of edits: the whole new program.")

    @field_validator("description", "expected")
    @classmethod
    def _line(cls, text: str) -> str:
        return one_line(text, LINE)

    @field_validator("rationale")
    @classmethod
    def _short(cls, text: str) -> str:
        return one_line(text, PROSE)

    @field_validator("description")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text:
            raise ValueError("Say in one line what changes.")
        return text


class Mended(Answer):
    """The crashed experiment mended, or given up."""

    hopeless: bool = Field(
        default=False, description="The idea is given up: it is not worth another training. No edits then."
    )


def program_of(answer: Answer, before: str, *, whole: bool) -> str:
    """Return the program that the answer makes of `before`.

    `whole` says that the model was shown all of `before`: otherwise it cannot give back a whole program.

    Raises:
        EditError: it makes none, or one that is no other Python program.
    """
    if answer.source and answer.edits:
        raise EditError("Answer with `edits` or with `source`, not with both.")
    if answer.source and not whole:
        raise EditError("The program was not shown to its end: answer with `edits`.")
    if answer.source:
        after = whole_file(before, answer.source)
    else:
        after = apply_edits(before, [Edit(block.search, block.replace) for block in answer.edits])
    check_program(before, after)
    return after
