from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.results.ledger import Ledger, Spent
from notifiers.text.report import WIDTH, ledger_lines
from tests.notifiers.golden import check

HOUR = 3600.0


def spent(hours: float = 8, **minutes: float) -> Ledger:
    """A ledger over so many hours, all training but the minutes given."""
    seconds = dict.fromkeys(Spent, 0.0) | {Spent(cause): 60 * spent for cause, spent in minutes.items()}
    seconds[Spent.TRAINING] = hours * HOUR - sum(seconds.values())
    return Ledger(0.0, hours * HOUR, seconds)


def test_the_lines_read_as_they_did() -> None:
    ledgers = {
        "a night with losses": spent(overhead=38, crashed=20, bot_down=15, proposing=7),
        "nothing was lost": spent(overhead=38, proposing=0.4),
        "a program that does not print its overhead": spent(),
        "one cause": spent(waiting=72),
        "hardly busy": spent(waiting=478),
        "not busy at all": spent(waiting=480),
        "busy but for a minute": spent(machine_down=1),
        "a night of crashes": spent(1, crashed=58, proposing=2),
        "days": spent(100, interrupted=1830, machine_down=1510, proposing=61),
        "with all that a line can hold": spent(100, overhead=600, interrupted=1830, machine_down=1510),
    }
    check("ledger", {title: "\n".join(ledger_lines(ledger)) for title, ledger in ledgers.items()})


@pytest.mark.parametrize("hours", [0, 0.01])
def test_a_run_that_just_began_says_nothing(hours: float) -> None:
    assert ledger_lines(spent(hours)) == []


@given(st.fixed_dictionaries({cause: st.integers(0, 60 * 60 * 1000) for cause in Spent}))
def test_every_line_fits_a_phone_and_the_minutes_add_up(seconds: dict[Spent, int]) -> None:
    ledger = Ledger(0.0, float(sum(seconds.values())), seconds)
    lines = ledger_lines(ledger)
    assert len(lines) <= (2 if ledger.total < 99 * HOUR else 3)
    assert all(len(line) <= WIDTH for line in lines)
    *head, causes = lines or [""]
    if head:
        assert minutes_in(" ".join(head).lower().partition("lost")[2]) == minutes_in(causes)


def minutes_in(text: str) -> int:
    found = re.findall(r"(?:(\d+):)?(\d+) (?:h|min)", text)
    return sum(60 * int(hours or 0) + int(minutes) for hours, minutes in found)
