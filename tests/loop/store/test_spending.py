from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.experiment import Cost
from loop.store.journal import Journal
from loop.store.spending import Account, Budget
from tests.loop.store.test_journal import make_run

BERLIN = ZoneInfo("Europe/Berlin")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 12, 22, 30, tzinfo=BERLIN).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    made = Journal(tmp_path / "state.db", clock=clock)
    yield made
    made.close()


def test_costs_are_summed_for_a_run(journal: Journal) -> None:
    books = Budget(journal)
    run, other = make_run(journal).id, make_run(journal, "other").id
    assert books.of_run(run) == Cost()
    books.pay(run, "oracle", Cost(100, 20, 7, 0.5))
    books.pay(run, "agent", Cost(10, 0, 3, None))
    books.pay(other, "oracle", Cost(1, 1, 1, 4.0))
    assert books.of_run(run) == Cost(110, 20, 10, 0.5)


def test_a_run_of_unknown_prices_has_no_dollars(journal: Journal) -> None:
    run = make_run(journal).id
    Budget(journal).pay(run, "agent", Cost(10, 0, 3, None))
    assert Budget(journal).of_run(run) == Cost(10, 0, 3, None)


def test_a_day_begins_at_midnight_and_is_shared_by_all_runs(journal: Journal, clock: Clock) -> None:
    books = Budget(journal, a_day=5.0, zone=BERLIN)
    run, other = make_run(journal).id, make_run(journal, "other").id
    books.pay(run, "oracle", Cost(dollars=2.0))
    books.pay(other, "oracle", Cost(dollars=3.0))
    (before,) = books.accounts(run)
    assert not before.pays(0.0)
    assert str(before) == "$5.00 of the $5.00 for models today are spent"
    clock.now += 2 * 3600
    (after,) = books.accounts(run)
    assert after.spent == 0
    assert before.period != after.period
    assert books.of_run(run).dollars == 2.0


def test_a_call_that_what_is_left_does_not_pay_is_not_made() -> None:
    account = Account("LLM_BUDGET_USD", "in this run", "", limit=1.0, spent=0.9)
    assert account.pays(0.1)
    assert not account.pays(0.11)
    assert account.is_nearly_spent
    assert not Account("", "", "", limit=0.0, spent=0.0).pays(0.0)


def test_the_last_known_prices_tell_the_next(journal: Journal) -> None:
    books, run = Budget(journal), make_run(journal).id
    assert books.price("oracle") == 0.0
    for dollars in (9.0, None, 1.0, 1.0, 1.0, 1.0, 2.0):
        books.pay(run, "oracle", Cost(dollars=dollars))
    assert books.price("oracle") == pytest.approx(1.2)
    assert books.price("another") == 0.0


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 1.0), max_size=15), st.floats(0.1, 10.0))
def test_no_limit_is_passed_by_more_than_a_call(
    tmp_path_factory: pytest.TempPathFactory, prices: list[float], limit: float
) -> None:
    journal = Journal(tmp_path_factory.mktemp("spending") / "state.db")
    books, run = Budget(journal, a_run=limit), make_run(journal).id
    asked = [0.0]
    for price in prices:
        (account,) = books.accounts(run)
        if account.pays(books.price("oracle")):
            books.pay(run, "oracle", Cost(dollars=price))
            asked.append(price)
    spent = books.of_run(run).dollars
    assert spent is not None
    assert spent <= limit + max(asked)
    if len(set(asked[1:])) == 1 and len(asked) > 2:  # prices that are all alike are foreseen
        assert spent <= max(limit, asked[1]) * (1 + 1e-9)
    journal.close()
