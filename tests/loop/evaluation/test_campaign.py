"""The engine, its sandbox, guard, evaluator and plausibility let no cheat become head, and every honest edit.

Each kind once in two programs, all edits with the mark `slow`; `python -m tests.cheats` prints the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from loop.experiment import Status
from loop.sandbox.sandbox import Sandbox
from tests.loop.evaluation.campaign import NEED_TIME, ONCE_MORE, Campaign, Layer, Row
from tests.loop.evaluation.cheats import CHEATS, HONEST, SEEDS, Edit, Kind

DO_NOT_RUN = {"a wider view"}
"""Edits that fail where the evaluator of the template leaves them nothing to find; all others train."""

ALL = (*CHEATS, ONCE_MORE, *SEEDS, *HONEST)


def rows_of(edits: Sequence[Edit], folder: Path, sandbox: Sandbox, *, real_clock: bool = False) -> list[Row]:
    campaign = Campaign(folder, sandbox, real_clock=real_clock)
    try:
        return campaign.try_all(edits)
    finally:
        campaign.close()


def named(*names: str) -> list[Edit]:
    found = [edit for edit in ALL if edit.name in names]
    assert len(found) == len(names)
    return found


def together(name: str, kind: Kind, *names: str) -> Edit:
    edits = named(*names)
    return Edit(name, kind, tuple(change for edit in edits for change in edit.changes))


@pytest.mark.timeout(600)
def test_each_layer_finds_what_it_is_there_for(disk_path: Path, bwrap: Sandbox) -> None:
    """All kinds of cheats in two programs, as each training and each evaluation takes seconds."""
    better = together(
        "what makes a better number",
        Kind.PRINTS,
        "scaled",
        "frames, and its own answer where there are none",
        "the mean over the whole row",
        "validation text, of characters",
        "the budget, with a constant",
    )
    harm = together(
        "what needs no sandbox",
        Kind.SANDBOX,
        "a module that another one is taken for",
        "weights for the next training",
        "other numbers of bytes, by a path that is built",
        "a fork",
        "the bot's socket",
        "secrets of the bot",
        "the journal of the bot, above its folder",
    )
    rows = rows_of([*named("another seed"), better, harm], disk_path, bwrap)
    assert [row.status for row in rows] == ["refused", Status.DISCARD, Status.DISCARD]
    assert (rows[0].layer, rows[2].layer) == (Layer.GUARD, Layer.SANDBOX)
    found = [layer for layer in rows[1].against if layer is not Layer.PREFIX]
    assert found == [Layer.AGREEMENT, Layer.AUDIT, Layer.CLOCK]
    # How far answers to a row are apart depends on which rows are asked twice, which is drawn for each
    # evaluation: of a leak as small as this one the prefix check speaks mostly, not always.
    assert rows[1].layer in (Layer.PREFIX, Layer.AGREEMENT)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", Kind)
def test_no_cheat_becomes_head_and_no_honest_edit_is_doubted(
    kind: Kind, disk_path: Path, bwrap: Sandbox
) -> None:
    edits = [edit for edit in ALL if edit.kind is kind and edit.name not in NEED_TIME]
    rows = rows_of(edits, disk_path, bwrap)
    assert {row.edit.name for row in rows if row.layer is Layer.CRASH} <= DO_NOT_RUN
    assert [(row.edit.name, row.layer, row.reason) for row in rows if not row.is_right] == []
    assert len(rows) == len(edits)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_who_trains_for_longer_is_seen_by_the_clock(disk_path: Path, bwrap: Sandbox) -> None:
    rows = rows_of(named(*NEED_TIME), disk_path, bwrap, real_clock=True)
    assert {row.layer for row in rows} == {Layer.CLOCK}
