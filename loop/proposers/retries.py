"""Edits that a decision of a person took from the best program, proposed again on what is the best now."""

from __future__ import annotations

from loop.errors import UserError
from loop.evidence import Invalidated
from loop.experiment import Proposal
from loop.gain import beats
from loop.git.commands import GitError
from loop.git.workspace import Workspace
from loop.process.worker import in_thread
from loop.program.constants import find_constants
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context, Proposer
from loop.store.evidence.verdicts import Retry, give_up_retry, waiting_retries
from loop.store.experiments import with_program
from loop.store.journal import Journal


class RetriesFirst:
    """Proposes what is to be tried again, and else what `proposer` does."""

    def __init__(self, proposer: Proposer, *, journal: Journal, workspace: Workspace) -> None:
        self._proposer = proposer
        self._journal = journal
        self._workspace = workspace

    @property
    def name(self) -> str:
        return self._proposer.name

    async def propose(self, context: Context) -> Proposal:
        return await in_thread(self._retry, context) or await self._proposer.propose(context)

    def _retry(self, context: Context) -> Proposal | None:
        """Return the first edit that makes a new program; the others are given up with the reason."""
        for retry in waiting_retries(self._journal, context.run.id):
            try:
                return self._again(retry, context)
            except GitError:
                raise  # it fails now, and may work later
            except UserError as error:
                give_up_retry(self._journal, retry, str(error))
        return None

    def _again(self, retry: Retry, context: Context) -> Proposal:
        experiment = self._journal.experiment(retry.run_id, retry.number)
        assert experiment is not None
        source = self._workspace.source(experiment.commit)
        best = self._journal.best(retry.run_id)
        # Another lane kept something that changed the same lines, and this one is better than that.
        ahead = beats(experiment.value, best.value if best else None, context.goal)
        wins = ahead and experiment.invalidated is Invalidated.BEHIND
        merged = self._workspace.carry_over(source, experiment.parent, context.parent, wins=wins)
        if merged is None:
            raise UserError("it conflicts with the best program")
        if merged == context.source:
            raise UserError("the best program has it already")
        find_constants(merged)  # what does not parse is not trained
        if earlier := with_program(self._journal, retry.run_id, fingerprint(merged)):
            raise UserError(f"it makes the program of #{earlier.number}")
        return Proposal(
            merged,
            experiment.description,
            f"#{retry.number} again, on the best program of now. {experiment.rationale}".rstrip(),
            experiment.proposer,
            context.parent,
            idea=experiment.idea,
            expected=experiment.expected,
            family=experiment.family,
            findings=experiment.findings,
            retry=retry.id,
            without=experiment.without,
        )
