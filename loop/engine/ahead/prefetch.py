"""The next experiment, made ready while the present one trains.

A proposal is asked for, checked and committed as a git object against the best commit of the moment, which
is right unless the running experiment is kept. Then the edit is carried over to the new best by a three-way
merge, and only where that fails is a new one asked for. So the GPU waits for a proposer only when nothing is
ready.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from loop.engine.stages import BASELINE, Ready
from loop.errors import UserError, backoff
from loop.experiment import Proposal
from loop.git.workspace import Commit, Workspace
from loop.process.worker import in_thread
from loop.program.constants import find_constants
from loop.program.edits import undefined_names
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context, ExhaustedError, Proposer, Rejection

log = logging.getLogger(__name__)

RETRY_SECONDS = (5.0, 15.0, 60.0, 300.0)  # waits of a proposer that fails; the last one for ever

_CONFLICT = "it does not fit what was kept meanwhile: make it anew for the program shown"


def make_ready(proposal: Proposal, commit: Commit) -> Ready:
    constants = {constant.name: constant.value for constant in find_constants(proposal.source)}
    return Ready(proposal, commit, constants, fingerprint(proposal.source))


def baseline(workspace: Workspace, base: str) -> Ready:
    return make_ready(replace(BASELINE, source=workspace.source(base), parent=base), Commit(base, 0, 0))


@dataclass(frozen=True, slots=True)
class ProposerFailure:
    """That a proposer fails: since when, by a timer, and why it did the last time."""

    since: float
    reason: str


@dataclass(eq=False, kw_only=True)
class Prefetch:
    """Holds at most one proposal in the making, for whichever lane takes it first.

    `context` reads the state of the run and `is_trained` looks for a program by its fingerprint (both in a
    worker thread). `failure` is None unless the proposer has failed since its last proposal.
    """

    proposer: Proposer
    workspace: Workspace
    context: Callable[[], Context]
    is_trained: Callable[[str], bool]
    retry_seconds: tuple[float, ...]
    timer: Callable[[], float]

    def __post_init__(self) -> None:
        self.failure: ProposerFailure | None = None
        self.unattended = False  # nobody is there to help: what waiting does not help is raised by `take`
        self._refusals: tuple[Rejection, ...] = ()  # proposals that did not fit a new best
        self._news = asyncio.Event()  # people want something that was not looked at
        self._makes_way = False  # a free proposal does, for what they want
        self._unwanted: list[Callable[[Proposal], bool]] = []
        self._task: asyncio.Task[Ready] | None = None
        self._recorded = asyncio.Event()  # what was taken is in the journal, so the next one differs
        self._recorded.set()

    @property
    def candidate(self) -> Ready | None:
        """What is ready; the same object until it is taken or another one is made."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    @property
    def ready(self) -> Proposal | None:
        return self.candidate.proposal if self.candidate else None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._make(), name="next proposal")

    def look_again(self, *, at_once: bool) -> None:
        """Take notice of a new idea of a person: a proposer that waits after a failure is asked now.

        If `at_once` the idea is a program, a proposal that cost nothing and is no person's makes way for it.
        """
        self._news.set()
        self._makes_way |= at_once
        if self.ready is not None and self._has_to_make_way(self.ready):
            self._task = None
            self.start()

    def withdraw(self, unwanted: Callable[[Proposal], bool]) -> None:
        """Make another proposal in the place of one, ready or in the making, that people no longer want."""
        self._unwanted.append(unwanted)
        if self.ready is not None and unwanted(self.ready):
            self._task = None
            self.start()

    async def take(self, head: Callable[[], str], wake: asyncio.Event) -> Ready | None:
        """Return a proposal made for, or carried over to, the `head` of now; None if `wake` is set first.

        `head` reads it, in a worker thread.
        """
        waited = 0.0
        while True:
            self.start()
            task = self._task
            assert task is not None
            if not task.done():
                asked = self.timer()
                waker = asyncio.create_task(wake.wait())
                try:
                    await asyncio.wait({task, waker}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waker.cancel()
                    waited += self.timer() - asked
            if self._task is not task or not task.done():
                if wake.is_set():
                    return None
                continue  # it was for another lane, or another one is made, for an idea that came
            self._task = None
            ready: Ready | None = task.result()
            self._recorded.clear()  # while this one is carried over, another lane may ask for the next
            while ready is not None and ready.proposal.parent != (best := await in_thread(head)):
                description = ready.proposal.description
                ready = await in_thread(self._carry_over, ready, best)
                if ready is None:
                    log.info("%r does not fit the new best: asking for another", description)
                    self._refusals = (Rejection(description, _CONFLICT),)
            if ready is not None:
                self._refusals = ()
                return replace(ready, waited=waited)
            self._recorded.set()

    def recorded(self) -> None:
        """Let the next proposal be made, which knows of the one that was taken."""
        self._recorded.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._recorded.set()

    async def _make(self) -> Ready:
        failures = 0
        await self._recorded.wait()
        while True:
            self._news.clear()
            self._makes_way, self._unwanted = False, []
            try:
                context = replace(await in_thread(self.context), rejections=self._refusals)
                proposal = await self.proposer.propose(context)
                ready = await in_thread(self._commit, proposal)
            except UserError as error:
                if self.unattended and isinstance(error, ExhaustedError):
                    raise
                failures += 1
                self.failure = ProposerFailure(
                    self.failure.since if self.failure else self.timer(), str(error)
                )
                log.warning("no proposal from %s (try %d): %s", self.proposer.name, failures, error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff(self.retry_seconds, failures)):
                        await self._news.wait()
            else:
                self.failure = None
                if not self._has_to_make_way(proposal):
                    return ready

    def _has_to_make_way(self, proposal: Proposal) -> bool:
        if any(unwanted(proposal) for unwanted in self._unwanted):
            return True
        return self._makes_way and (proposal.cost, proposal.idea, proposal.repairs) == (None, None, None)

    def _commit(self, proposal: Proposal) -> Ready:
        find_constants(proposal.source)  # what does not parse is not committed
        commit = self.workspace.commit(proposal.parent, proposal.source, proposal.description)
        return make_ready(proposal, commit)

    def _carry_over(self, ready: Ready, best: str) -> Ready | None:
        proposal = ready.proposal
        source = self.workspace.carry_over(proposal.source, proposal.parent, best)
        if source is None or undefined_names(source) - undefined_names(proposal.source):
            return None
        if self.is_trained(fingerprint(source)):  # merged, it is what was trained before
            return None
        try:
            carried = self._commit(replace(proposal, source=source, parent=best))
        except UserError:  # merged, it changes nothing, or no longer parses
            return None
        return replace(carried, made_as=ready.made_as or ready.commit.sha)
