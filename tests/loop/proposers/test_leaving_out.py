from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from loop.errors import UserError
from loop.experiment import Status
from loop.git.workspace import Workspace
from loop.proposers.orders import without
from tests.loop.proposers.contexts import trial

BASE = "DEPTH = 8\n\n\nWIDTH = 64\n"
KEPT = f"GATE = 0.5\n{BASE}"


class Texts:
    """Stands in for a workspace that has these two programs."""

    def source(self, commit: str) -> str:
        return {"base": BASE, "kept": KEPT}[commit]


def taken_out(source: str) -> str:
    keep = replace(trial(3, "", {}, 0.9, Status.KEEP), commit="kept", parent="base")
    return without(cast(Workspace, Texts()), source, keep)


def test_a_keep_that_later_ones_left_alone_can_be_taken_out() -> None:
    assert taken_out(KEPT.replace("64", "96")) == BASE.replace("64", "96")


def test_a_keep_whose_names_later_ones_use_cannot() -> None:
    with pytest.raises(UserError, match="#3 cannot be taken out: later keeps use GATE"):
        taken_out(KEPT.replace("64", "int(64 * GATE)"))
