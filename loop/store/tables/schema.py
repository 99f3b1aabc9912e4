"""How the loop's dataclasses map onto the rows of the journal. The tables are in `migrations.py`.

An experiment is a row of `experiments` and its trainings are rows of `trainings`; the view `experiment_rows`
shows each experiment with the one training that decides it, which is how experiments are read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.errors import UserError
from loop.evidence import Belief, Finding, Invalidated, RepeatFor, Rule, Severity, Wish
from loop.experiment import (
    Actor,
    Cause,
    Cost,
    Ending,
    EventKind,
    Experiment,
    Family,
    Goal,
    Purpose,
    RunState,
    Stage,
    Status,
    Training,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def _member(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    """Return what gives a member by its value; to call the enum takes five times as long."""
    return {member.value: member for member in kind}.__getitem__


def _object(text: str) -> Any:
    return {} if text == "{}" else json.loads(text)  # most are empty


def _tuple(text: str) -> tuple[Any, ...]:
    return () if text == "[]" else tuple(json.loads(text))


_DECODERS: Mapping[str, Callable[[Any], object]] = {
    "repository": Path,
    "goal": _member(Goal),
    "state": _member(RunState),
    "state_by": _member(Actor),
    "state_cause": _member(Cause),
    "cause": _member(Cause),
    "stage": _member(Stage),
    "ending": _member(Ending),
    "purpose": _member(Purpose),
    "status": _member(Status),
    "skip_requested": bool,
    "family": _member(Family),
    "cost": lambda text: Cost(**json.loads(text)),
    "findings": lambda text: tuple(
        Finding(Rule(rule), line, message, Severity(severity))
        for rule, line, message, severity in _tuple(text)
    ),
    **dict.fromkeys(("state_facts", "constants", "numbers", "data"), _object),
    **dict.fromkeys(("lanes", "doubts", "removes", "keeps", "blocked"), _tuple),
    "invalidated": _member(Invalidated),
    "why": _member(RepeatFor),
    "belief": _member(Belief),
    "wish": _member(Wish),
    "kind": _member(EventKind),
}


@cache
def _to_decode(names: tuple[str, ...]) -> tuple[tuple[str, Callable[[Any], object]], ...]:
    return tuple((name, _DECODERS[name]) for name in names if name in _DECODERS)


def values_of(record: DataclassInstance, *, but: str = "") -> dict[str, object]:
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name != but}


def read_experiment(row: sqlite3.Row | dict[str, Any]) -> Experiment:
    values = decode(row)
    k = values.pop("attempt")
    of_training = {name: values.pop(name) for name in OF_TRAINING}
    return Experiment(**values, training=None if k is None else Training(k, **of_training))


OF_TRAINING = tuple(field.name for field in fields(Training) if field.name != "k")


def insertion(table: str, names: Sequence[str], *, unique: tuple[str, ...]) -> str:
    """Return the statement that adds a row or, given `unique` columns, changes the one alike in these.

    `REPLACE` would also drop another row that a unique index does not allow beside the new one.
    """
    insert = f"INSERT INTO {table} ({quoted(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in unique)
    return f"{insert} ON CONFLICT ({quoted(unique)}) DO UPDATE SET {changes}" if unique else insert


def quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def encode(value: object) -> object:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    if isinstance(value, Cost):
        return json.dumps(asdict(value))
    if isinstance(value, tuple):  # of findings or sentences
        return json.dumps([[*asdict(each).values()] if isinstance(each, Finding) else each for each in value])
    return str(value) if isinstance(value, Path) else value


def decode(row: sqlite3.Row | dict[str, Any]) -> dict[str, Any]:
    """Return a row as the arguments of its dataclass; a damaged value is a `UserError` that names it."""
    # A row looks up every name anew when it is made a dict of.
    fields = dict(row) if isinstance(row, dict) else dict(zip(row.keys(), row, strict=True))
    for name, decoder in _to_decode(tuple(fields)):
        value = fields[name]
        if value is not None:
            try:
                fields[name] = decoder(value)
            except (ValueError, TypeError, LookupError) as error:
                keys = [key for key in ("run_id", "id", "number") if fields.get(key) is not None]
                whose = " ".join(f"{key} {fields[key]}" for key in keys)
                raise UserError(
                    f"The journal is damaged: {name} of {whose} is {value!r}. Nothing was changed: "
                    "correct it in state.db with the sqlite3 program, or bring back a copy of that file."
                ) from error
    return fields
