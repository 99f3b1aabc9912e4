"""Verdicts and what takes them back, each in one transaction; what evaluations found before; edits to retry.

The branch in git follows: until it has, the run's `moves_head_from` is where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from loop.evidence import AGAIN, Belief, Evaluation, Invalidated, RepeatFor
from loop.experiment import Asker, Cause, EventKind, Experiment, Run, Status
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal
from loop.store.tables.schema import decode, values_of


@dataclass(frozen=True, slots=True)
class Retry:
    """That the edit of experiment `number` is to be tried again on the present head.

    It waits until an experiment refers to it or it is given up, for the reason given.
    """

    id: int
    run_id: int
    number: int
    given_up: str = ""


def record_verdict(
    journal: Journal, run: Run, decided: Experiment, *, repeats: Repeats, **facts: object
) -> Run:
    """Write a verdict, `facts` with its event; a result in quarantine is to be trained once more."""
    with journal.transaction() as append:
        _write(journal, decided)
        if decided.status is Status.KEEP and decided.commit != decided.parent:
            _move_head(journal, run, decided.parent)
        append(run.id, EventKind.DECIDED, number=decided.number, **facts)
        if decided.status is Status.QUARANTINE:
            repeats.ask(run.id, decided.number, RepeatFor.DOUBT, append=append)
        return journal.run_by_id(run.id)


def record_correction(
    journal: Journal,
    run: Run,
    changed: Sequence[Experiment],
    by: Asker,
    *,
    head: tuple[str, str],
    kind: EventKind,
) -> Run:
    """Write other verdicts that follow from one command; `head` is the commit of the branch before and after.

    The call for a person is over, and no repeat is wanted any more for the doubt.
    """
    first = changed[0]
    with journal.transaction() as append:
        for experiment in changed:
            _write(journal, experiment)
        if head[0] != head[1]:
            _move_head(journal, run, head[0])
        retried = [each.number for each in changed if each.invalidated is Invalidated.TRIED_AGAIN]
        append(run.id, kind, number=first.number, **asdict(by), retried=retried)
        append(run.id, EventKind.RESOLVED, cause=Cause.QUARANTINE, key=str(first.number))
        journal.execute(
            "UPDATE repeats SET given_up = 'decided by a person' "
            "WHERE run_id = ? AND number = ? AND why = ? AND k IS NULL AND given_up = ''",
            run.id,
            first.number,
            RepeatFor.DOUBT.value,
        )
        return journal.run_by_id(run.id)


def head_has_moved(journal: Journal, run: Run) -> Run:
    with journal.transaction():
        _move_head(journal, run, "")
        return journal.run_by_id(run.id)


def in_quarantine(journal: Journal, run_id: int) -> list[Experiment]:
    return journal.find("status = 'quarantine' ORDER BY number", run_id)


def keeps_after(journal: Journal, run_id: int, number: int) -> list[Experiment]:
    return journal.find("status = 'keep' AND number > ? ORDER BY number", run_id, number)


def with_commit(journal: Journal, run_id: int, commit: str) -> Experiment | None:
    return next(iter(journal.find('"commit" = ? ORDER BY number LIMIT 1', run_id, commit)), None)


def waiting_retries(journal: Journal, run_id: int) -> tuple[Retry, ...]:
    rows = journal.query(
        "SELECT * FROM retries WHERE run_id = ? AND given_up = '' "
        "AND id NOT IN (SELECT retry FROM experiments WHERE retry IS NOT NULL) ORDER BY id",
        run_id,
    )
    return tuple(Retry(*row) for row in rows)


def give_up_retry(journal: Journal, retry: Retry, reason: str) -> None:
    """Note that the edit is not tried again, and notify people why, as a clause."""
    notice = f"the edit of #{retry.number} is not tried again: {reason}"
    with journal.transaction() as append:
        journal.execute("UPDATE retries SET given_up = ? WHERE id = ?", reason, retry.id)
        append(retry.run_id, EventKind.NOTED, reason=notice)


def _write(journal: Journal, decided: Experiment) -> None:
    journal.write(decided)
    if decided.invalidated in AGAIN:
        journal.insert("retries", run_id=decided.run_id, number=decided.number, given_up="")


def _move_head(journal: Journal, run: Run, old: str) -> None:
    journal.execute("UPDATE runs SET moves_head_from = ? WHERE id = ?", old, run.id)


def record_evaluated(
    journal: Journal, evaluated: Experiment, evaluation: Evaluation | None, *, notice: str = ""
) -> None:
    """Record that all is known for a verdict, and what was found, if it was looked for.

    People are notified of `notice`.
    """
    facts: dict[str, object] = {}
    with journal.transaction() as append:
        journal.write(evaluated)
        if evaluation is not None:
            key = ("run_id", "number", "k")
            journal.insert("evaluations", unique=key, **values_of(evaluation))
            facts = {"belief": evaluation.belief, "reason": evaluation.reason}
        append(evaluated.run_id, EventKind.EVALUATED, number=evaluated.number, **facts)
        if notice:
            append(evaluated.run_id, EventKind.NOTED, reason=notice)


def read_evaluation(journal: Journal, run_id: int, number: int, k: int | None = None) -> Evaluation | None:
    """Return that of training `k`, else the last one of the experiment."""
    rows = journal.query(
        "SELECT * FROM evaluations WHERE run_id = ?1 AND number = ?2 AND (?3 IS NULL OR k = ?3) "
        "ORDER BY k DESC LIMIT 1",
        run_id,
        number,
        k,
    )
    return Evaluation(**decode(rows[0])) if rows else None


def are_evaluated(journal: Journal, run_id: int) -> bool:
    """Tell whether the numbers of a run are checked: where the baseline was not believed, no other one is."""
    baseline = read_evaluation(journal, run_id, 0)
    if baseline is not None:
        return baseline.belief is Belief.BELIEVED
    sql = "SELECT count(*) FROM evaluations WHERE run_id = ? AND numbers != '{}'"
    return bool(journal.query(sql, run_id)[0][0])
