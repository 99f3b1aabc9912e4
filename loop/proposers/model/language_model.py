"""A language model as a proposer: it is told the state of the run and answers with an edit.

It is asked in a process of its own, because the libraries for it are large; only that process knows the keys.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace

from loop.experiment import Proposal
from loop.process.trainer import PROXIES
from loop.process.worker import WorkerError, in_thread, run_worker
from loop.proposers.model.worker import Reply, Request
from loop.proposers.prompt.briefing import Briefing, brief, brief_repair, hide_secrets
from loop.proposers.protocol import Context, Failure, HopelessError, NoProposalError, OutOfReachError
from loop.text import holds_secret, without_secrets

_START = 120.0  # seconds that the worker has beyond its limit: it starts slowly beside a training
_NETWORK = (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR")


class LanguageModel:
    """Asks a model by its name in pydantic-ai (`anthropic:…`, `openai:…`, `google:…`).

    `fallback` is the name of another one that is asked where the first cannot be; empty for none. `settings`
    are keys and base URLs as the providers name them (`ANTHROPIC_API_KEY`, `OPENAI_BASE_URL`, …); a server
    of one's own that speaks as OpenAI does is `openai:NAME` with `OPENAI_BASE_URL`. `secrets` are never
    told to a model, nor repeated from what a provider says. `python` is the interpreter for the worker. A
    model is told at most `budget` tokens, by a careful estimate, and has `limit` seconds.
    """

    def __init__(
        self,
        model: str,
        *,
        settings: Mapping[str, str],
        secrets: Collection[str],
        python: str,
        fallback: str = "",
        budget: int = 60_000,
        limit: float = 300.0,
    ) -> None:
        self._model = model
        self._fallback = fallback
        network = {name: os.environ[name] for name in _NETWORK if name in os.environ}
        self._settings = network | {name: value for name, value in settings.items() if value}
        self._secrets = secrets
        self._python = python
        self._budget = budget
        self._limit = limit

    @property
    def name(self) -> str:
        """The model's name, without its provider's."""
        return self._model.partition(":")[2] or self._model

    async def propose(self, context: Context) -> Proposal:
        """Return what the model proposes; where people have ideas, a program of the first of them.

        Raises:
            NoProgramError: it gives no answer of use.
            OutOfReachError: it cannot be asked now.
        """
        briefing = await in_thread(brief, context, self._budget)
        reply = await self._ask(briefing, context.source, best="")
        assert reply.source is not None  # only a mended program can be given up
        return _proposal(reply, reply.source, context)

    async def repair(self, context: Context, failure: Failure) -> Proposal:
        """Return the crashed program as the model mends it.

        Raises:
            HopelessError: it gives the idea up.
            NoProgramError: it gives no answer of use.
            OutOfReachError: it cannot be asked now.
        """
        briefing = await in_thread(brief_repair, context, failure, self._budget)
        reply = await self._ask(briefing, failure.source, best=context.source)
        if reply.source is None:
            raise HopelessError(f"{self.name} gives it up: {reply.rationale}", cost=reply.cost)
        return replace(_proposal(reply, reply.source, context), repairs=failure.experiment.number)

    async def _ask(self, briefing: Briefing, source: str, *, best: str) -> Reply:
        if holds_secret(briefing.program, self._secrets):
            raise OutOfReachError(
                f"{self.name} is not shown a program that holds a secret", needs_person=True
            )
        request = Request(
            model=self._model,
            fallback=self._fallback,
            briefing=await in_thread(hide_secrets, briefing, self._secrets),
            source=source,
            best=best,
            limit=self._limit,
        )
        try:
            return await run_worker(
                "loop.proposers.model.worker:ask",
                request,
                returns=Reply,
                name=f"The worker that asks {self.name}",
                python=self._python,
                limit=self._limit + _START,
                settings=self._settings,
            )
        except WorkerError as error:
            reason = without_secrets(str(error), self._secrets)
            raise OutOfReachError(reason, cut_off=True) from None
        except NoProposalError as error:  # which repeats what the provider says
            error.args = (without_secrets(str(error), self._secrets),)
            raise


def _proposal(reply: Reply, source: str, context: Context) -> Proposal:
    return Proposal(
        source=source,
        description=reply.description,
        rationale=reply.rationale,
        proposer=reply.model,
        parent=context.parent,
        expected=reply.expected,
        family=reply.family,
        cost=reply.cost,
    )
