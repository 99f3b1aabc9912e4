"""What is tried before any idea: an edit once more, or the best program without keeps, as it was ordered."""

from __future__ import annotations

from loop.errors import UserError
from loop.evidence import Invalidated
from loop.experiment import Experiment, Family, Proposal, Status
from loop.gain import beats
from loop.git.commands import GitError, merge_texts
from loop.git.workspace import Workspace
from loop.process.worker import in_thread
from loop.program.constants import find_constants
from loop.program.edits import undefined_names
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context, Proposer
from loop.store.evidence.certifications import Prunes, left_out_of
from loop.store.evidence.verdicts import Retry, give_up_retry, waiting_retries
from loop.store.experiments import Idea, IdeaBox, with_program
from loop.store.journal import Journal


class OrdersFirst:
    """Proposes what was ordered, and else what `proposer` does.

    That is first what a person wants removed, then an edit that a decision took from the best program, or
    another lane's keep passed, and what a prune leaves out.
    """

    def __init__(self, proposer: Proposer, *, journal: Journal, workspace: Workspace) -> None:
        self.name = proposer.name
        self._proposer = proposer
        self._journal = journal
        self._workspace = workspace

    async def propose(self, context: Context) -> Proposal:
        return await in_thread(self._ordered, context) or await self._proposer.propose(context)

    def _ordered(self, context: Context) -> Proposal | None:
        return self._removal(context) or self._retry(context) or self._left_out(context)

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

    def _removal(self, context: Context) -> Proposal | None:
        ideas = IdeaBox(self._journal)
        for idea in ideas.waiting(context.run.id):
            if idea.removes:
                try:
                    return self._without_all(context, idea)
                except GitError:
                    raise  # as above
                except UserError as error:
                    ideas.give_up(idea, str(error))
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

    def _without_all(self, context: Context, idea: Idea) -> Proposal:
        keeps = [kept(self._journal, context.run.id, number) for number in idea.removes]
        source = context.source
        for keep in reversed(keeps):
            source = without(self._workspace, source, keep)
        return Proposal(
            source,
            idea.text,
            f"Asked for by {idea.author}: {'; '.join(keep.description for keep in keeps)}"[:500],
            idea.author,
            context.parent,
            idea=idea.id,
            family=Family.SIMPLIFICATION,
        )

    def _left_out(self, context: Context) -> Proposal | None:
        prune = Prunes(self._journal).under_way(context.run.id)
        best = self._journal.best(context.run.id)
        if prune is None or best is None or prune.head != best.number or best.commit != context.parent:
            return None
        tried = left_out_of(self._journal, context.run.id, best.commit)
        for number in prune.keeps:
            if number not in tried:
                keep = kept(self._journal, context.run.id, number)
                return Proposal(
                    without(self._workspace, context.source, keep),
                    f"without #{number}: {keep.description}",
                    f"Measures what #{number} brings to the best program.",
                    "prune",
                    context.parent,
                    without=number,
                )
        return None


def without(workspace: Workspace, source: str, keep: Experiment) -> str:
    """Return a program without the change of a keep.

    Raises:
        UserError: it cannot be taken out.
    """
    merged = merge_texts(workspace.source(keep.commit), source, workspace.source(keep.parent))
    if merged is None:
        raise UserError(f"#{keep.number} cannot be taken out: later keeps changed the same lines")
    if merged == source:
        raise UserError(f"the best program has nothing of #{keep.number} any more")
    find_constants(merged)  # what does not parse is not trained
    if missing := sorted(undefined_names(merged) - undefined_names(source)):
        raise UserError(f"#{keep.number} cannot be taken out: later keeps use {', '.join(missing)}")
    return merged


def kept(journal: Journal, run_id: int, number: int) -> Experiment:
    """Return a kept experiment.

    Raises:
        UserError: it is none that can be taken out.
    """
    found = journal.experiment(run_id, number)
    if found is None or found.status is not Status.KEEP:
        raise UserError(f"#{number} is no keep")
    if number == 0 or not found.parent:
        raise UserError(f"#{number} is the baseline")
    return found
