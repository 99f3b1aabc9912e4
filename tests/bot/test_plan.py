"""Each setting of the loop reaches what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.plan import make_plan
from bot.proposers import guard_of
from bot.setup.settings import load_settings
from loop.engine.plan import NO_SANDBOX
from loop.engine.stages import KeepRule
from loop.experiment import Proposal
from loop.git.workspace import Workspace
from tests.loop.lab import Lab, value
from tests.loop.proposers.contexts import context_of

SETTINGS = {
    "EQUAL_WITHIN": "0.004",
    "SIMPLICITY_GAIN": "0.002",
    "SIMPLICITY_LINES": "7",
    "SUMMARY_PATTERN": r"(?P<key>\w+)=(?P<value>\S+)",
    "CERTIFY_REPEATS": "5",
    "NOISE_RUNS": "4",
    "CRASH_STREAK": "9",
    "EVALUATE": "python judge.py",
    "ALLOW_NETWORK": "1",
    "DEADLINE_MINUTES": "7",
}


def test_the_settings_are_in_the_plan_of_a_run(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", value(1.5))
    settings = load_settings(Path("/no/such/.env"), SETTINGS, home=lab.home)
    plan = make_plan(settings, lab.run, launcher=lab.launcher({}), environ={}, sandbox=NO_SANDBOX)
    pattern = SETTINGS["SUMMARY_PATTERN"]
    assert plan.rule == KeepRule(
        simplicity_gain=0.002, simplicity_lines=7, pattern=pattern, equal_within=0.004
    )
    assert (plan.certify_repeats, plan.noise_runs, plan.crash_streak) == (5, 4, 9)
    assert (plan.evaluate, plan.network, plan.deadline) == (("python", "judge.py"), True, 420.0)
    assert plan.hidden == (lab.home,)
    lab.close()


@pytest.mark.parametrize("guard", ["flag", "strict"])
def test_only_a_strict_guard_refuses_what_is_flagged(tmp_path: Path, guard: str) -> None:
    lab = Lab(tmp_path / "lab", value(1.5))
    settings = load_settings(Path("/no/such/.env"), {"GUARD": guard}, home=lab.home)
    workspace = Workspace(repository=lab.repository, path=lab.worktree, tag=lab.run.tag)
    made = guard_of(settings, lab.run, lab.journal, workspace)
    flagged = Proposal("import subprocess\nsubprocess.run(['true'])\n" + value(1.4), "a shell")
    assert made.flags(flagged.source, context_of(value(1.5)))
    assert (made(flagged, context_of(value(1.5))) is not None) == (guard == "strict")
    lab.close()
