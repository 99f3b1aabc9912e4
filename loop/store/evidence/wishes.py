"""What people said of experiments: more like this, never again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from loop.evidence import Wish
from loop.experiment import EventKind, Experiment, Family
from loop.store.journal import Journal
from loop.store.tables.schema import decode


@dataclass(frozen=True, slots=True)
class Wished:
    """What the person `name` wants of experiments like this one.

    `changed` are the constants that it changed, from which value to which.
    """

    wish: Wish
    number: int
    name: str
    description: str
    family: Family | None
    changed: Mapping[str, tuple[object, object]]


class Wishes:
    """What people want of experiments like one, in the journal: one wish an experiment."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def put(
        self, experiment: Experiment, wish: Wish | None, *, name: str = "", answered_in: str = ""
    ) -> bool:
        """Note a wish, or with None that it is taken back; False where it changes nothing."""
        whose = experiment.run_id, experiment.number
        with self._journal.transaction() as append:
            rows = self._journal.query("SELECT wish FROM wishes WHERE run_id = ? AND number = ?", *whose)
            if (Wish(rows[0]["wish"]) if rows else None) is wish:
                return False
            if wish is None:
                self._journal.execute("DELETE FROM wishes WHERE run_id = ? AND number = ?", *whose)
            else:
                row = dict(zip(("run_id", "number"), whose, strict=True), wish=wish, name=name)
                self._journal.insert("wishes", unique=("run_id", "number"), **row)
            data = {"wish": wish, "name": name, "answered_in": answered_in}
            append(experiment.run_id, EventKind.WISHED, number=experiment.number, **data)
        return True

    def read(self, run_id: int) -> tuple[Wished, ...]:
        rows = self._journal.query(
            "SELECT wish, number, name, description, family, experiments.constants, "
            "(SELECT constants FROM experiments AS before WHERE before.run_id = wishes.run_id "
            'AND before."commit" = experiments.parent ORDER BY number LIMIT 1) AS before '
            "FROM wishes JOIN experiments USING (run_id, number) WHERE run_id = ? ORDER BY number",
            run_id,
        )
        found = []
        for row in map(decode, rows):
            after, before = row.pop("constants"), json.loads(row.pop("before") or "{}")
            moved = {name: (before[name], after[name]) for name in after.keys() & before.keys()}
            changed = {name: moved[name] for name in sorted(moved) if moved[name][0] != moved[name][1]}
            found.append(Wished(**row, changed=changed))
        return tuple(found)
