"""`up` starts a run exactly where no check of `doctor` that is about trainings fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from bot.runs import Runs
from bot.setup.doctor import Check, brief, failures
from bot.setup.settings import load_settings
from bot.setup.trainings import start_checks
from loop.errors import UserError
from loop.experiment import EventKind
from loop.shell import own_command
from loop.store.events import last_event_of
from loop.store.journal import Journal
from notifiers.text.digest import message_of
from tests.bot.real_bot import TOY, RealBot
from tests.loop.lab import git


class Machine:
    def __init__(self, folder: Path) -> None:
        self.bot = RealBot(folder)
        self.journal = Journal(self.bot.home / "state.db")

    def commit(self, train: str) -> None:
        (self.bot.repository / "train.py").write_text(train)
        git(self.bot.repository, "commit", "--quiet", "--all", "--message=more")

    def doctor(self) -> tuple[Check, ...]:
        return start_checks(load_settings(Path("no.env"), self.bot.environment), self.bot.environment)

    def runs(self) -> Runs:
        environ = self.bot.environment
        settings = load_settings(Path("no.env"), environ)
        return Runs(
            settings,
            repository=self.bot.repository,
            journal=self.journal,
            environ=environ,
            today=lambda: date(2026, 3, 12),
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.journal.close()


def test_where_nothing_fails_a_run_starts(machine: Machine) -> None:
    assert failures(machine.doctor()) == ()
    assert machine.runs().start_run("mar12").tag == "mar12"


def test_what_a_run_does_not_see_and_does_not_use_is_told_with_its_start(machine: Machine) -> None:
    (machine.bot.repository / "train.py").write_text("WIDTH = 1\n")
    machine.bot.environment |= {"TIME_BUDGET": "90", "METRIC": "f1"}
    run = machine.runs().start_run("mar12")
    started = last_event_of(machine.journal, run.id, (EventKind.RUN_STARTED,))
    assert started is not None
    assert message_of(started, run).text.splitlines()[-3:] == [
        "Uncommitted, so not part of a run: changes of train.py",
        "TIME_BUDGET=90 is not used: the repository fixes 60 s",
        "Lower f1 counts as better: if higher is, set METRIC_GOAL=maximize",
    ]


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("data", {"DATA_PATHS": "/no/such/data"}),
        ("training", {"TRAIN_COMMAND": "no-such-program train.py"}),
        ("anthropic:claude-sonnet-4-5", {"PROPOSER": "anthropic:claude-sonnet-4-5"}),
        ("agent", {"PROPOSER": "agent", "AGENT_COMMAND": "no-such-agent"}),
        ("deadline", {"DEADLINE_MINUTES": "0.5"}),
        ("repository", {"EDITABLE": "model.py"}),
        ("sandbox", {"SANDBOX": "auto", "SANDBOX_READ": "/no/such/folder"}),
    ],
)
def test_what_a_setting_breaks_is_refused_by_both(
    machine: Machine, name: str, broken: dict[str, str]
) -> None:
    machine.bot.environment |= broken
    _refused_by_both(machine, name)


def test_a_module_that_is_missing_is_refused_by_both(machine: Machine) -> None:
    machine.commit("import no_such_module\n" + TOY)
    _refused_by_both(machine, "training")


def test_a_full_disk_is_refused_by_both(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loop.machine.PAUSE_BYTES", math.inf)
    monkeypatch.setattr("loop.machine.PAUSE_SHARE", 2.0)
    _refused_by_both(machine, "state directory")


def _refused_by_both(machine: Machine, name: str) -> None:
    failed = [check for check in machine.doctor() if check.ok is False]
    assert [check.name for check in failed] == [name]
    with pytest.raises(UserError) as refusal:
        machine.runs().start_run("mar12")
    assert failed[0].detail.rstrip(".") in str(refusal.value)
    assert failed[0].fix in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert git(machine.bot.repository, "branch", "--list", "autoresearch/*") == ""
    assert machine.journal.runs() == []


HOME = Path("/state")
FINE = Check("git", True, "2.39.5")
WARNING = Check("uv", None, "not installed", "Run: pip install uv.")
FAILURE = Check("data", False, "missing: /data", "Run: python prepare.py.")


def test_what_is_well_is_one_line() -> None:
    assert (
        brief([FINE, FINE], HOME) == f"All well (2 checks; `{own_command('doctor --all', HOME)}` lists them)."
    )


def test_of_what_is_not_only_that_is_listed() -> None:
    assert brief([FINE, WARNING, FAILURE], HOME).splitlines() == [
        "warn  uv: not installed",
        "      Run: pip install uv.",
        "FAIL  data: missing: /data",
        "      Run: python prepare.py.",
        f"1 other check passed: `{own_command('doctor --all', HOME)}` lists all.",
    ]
    assert failures([FINE, WARNING, FAILURE]) == ("Data: missing: /data. Run: python prepare.py.",)
