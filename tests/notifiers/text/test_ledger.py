from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.results.ledger import Ledger, Spent
from notifiers.text.report import ledger_lines

HOUR = 3600.0


def spent(hours: float = 8, **minutes: float) -> Ledger:
    """A ledger over so many hours, all training but the minutes given."""
    seconds = dict.fromkeys(Spent, 0.0) | {Spent(cause): 60 * spent for cause, spent in minutes.items()}
    seconds[Spent.TRAINING] = hours * HOUR - sum(seconds.values())
    return Ledger(0.0, hours * HOUR, seconds)


def test_a_night_with_losses() -> None:
    assert ledger_lines(spent(overhead=38, crashed=20, bot_down=15, proposing=7)) == [
        "GPU busy 83 % · overhead 8 % · lost 0:42",
        "Crashed work 0:20, bot down 0:15, other 0:07",
    ]


def test_a_night_in_which_nothing_was_lost() -> None:
    assert ledger_lines(spent(overhead=38, proposing=0.4)) == ["GPU busy 92 % · overhead 8 % · nothing lost"]


def test_a_program_that_does_not_tell_its_overhead() -> None:
    assert ledger_lines(spent()) == ["GPU busy 100 % · nothing lost"]


def test_one_cause_needs_no_other() -> None:
    assert ledger_lines(spent(waiting=72)) == ["GPU busy 85 % · lost 1:12", "On hold 1:12"]


def test_a_gpu_that_was_hardly_busy_is_not_called_idle() -> None:
    assert ledger_lines(spent(waiting=478))[0] == "GPU busy <1 % · lost 7:58"
    assert ledger_lines(spent(waiting=480))[0] == "GPU busy 0 % · lost 8:00"


def test_a_gpu_that_was_not_always_busy_is_not_called_so() -> None:
    assert ledger_lines(spent(machine_down=1)) == ["GPU busy 99 % · lost 0:01", "Machine down 0:01"]


def test_a_night_of_crashes() -> None:
    assert ledger_lines(spent(1, crashed=58, proposing=2)) == [
        "GPU busy 0 % · lost 1:00",
        "Crashed work 0:58, proposing 0:02",
    ]


@pytest.mark.parametrize("hours", [0, 0.01])
def test_a_run_that_just_began_says_nothing(hours: float) -> None:
    assert ledger_lines(spent(hours)) == []


def test_days_are_told_in_hours() -> None:
    assert ledger_lines(spent(100, interrupted=1830, machine_down=1510, proposing=61)) == [
        "GPU busy 43 % · lost 56:41",
        "Interrupted work 30:30, other 26:11",
    ]


@given(st.fixed_dictionaries({cause: st.integers(0, 60 * 60 * 1000) for cause in Spent}))
def test_every_line_fits_a_phone_and_the_minutes_add_up(seconds: dict[Spent, int]) -> None:
    ledger = Ledger(0.0, float(sum(seconds.values())), seconds)
    lines = ledger_lines(ledger)
    assert len(lines) <= 2
    assert all(len(line) <= 44 for line in lines)
    clocks = [[word for word in line.replace(",", "").split() if ":" in word] for line in lines]
    minutes = [[60 * int(h) + int(m) for h, m in (clock.split(":") for clock in line)] for line in clocks]
    if len(lines) == 2:
        assert minutes[0] == [sum(minutes[1])]
