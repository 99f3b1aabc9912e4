"""What independent evaluations found, in the journal: one a training of a candidate for a keep."""

from __future__ import annotations

from loop.evidence import Belief, Evaluation
from loop.experiment import EventKind, Experiment
from loop.store.journal import Journal
from loop.store.tables.schema import decode, values_of


def record_evaluated(
    journal: Journal,
    evaluated: Experiment,
    evaluation: Evaluation | None,
    *,
    notice: str = "",
    **facts: object,
) -> None:
    """Record that all is known for a verdict, and what was found, if it was looked for.

    The event has `facts`; people are notified of `notice`.
    """
    with journal.transaction() as append:
        journal.write(evaluated)
        if evaluation is not None:
            key = ("run_id", "number", "k")
            journal.insert("evaluations", unique=key, **values_of(evaluation))
            facts |= {"belief": evaluation.belief, "reason": evaluation.reason}
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
