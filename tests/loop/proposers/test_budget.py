from __future__ import annotations

import pytest

from loop.experiment import Cost, EventKind
from loop.proposers.calling import BudgetGuard, budget_spent, price_unknown
from loop.store.spending import Account
from tests.loop.proposers.oracles import Institute


def test_people_are_told_at_four_fifths_and_at_the_end_also_after_a_restart(institute: Institute) -> None:
    def budget() -> BudgetGuard:
        return BudgetGuard(institute.books(a_run=10.0), institute.notes)

    for _ in range(12):
        if budget().allows(1, "oracle"):
            budget().pay(1, "oracle", Cost(dollars=1.0))
        budget().spent_setting(1, ["oracle"], pauses=False)
    assert institute.told(EventKind.NOTED) == [
        str(Account("LLM_BUDGET_USD", "in this run", "", 10.0, 8.0)),
        budget_spent(Account("LLM_BUDGET_USD", "in this run", "", 10.0, 10.0), 1.0, pauses=False),
    ]


def test_too_little_for_a_call_is_nothing(institute: Institute) -> None:
    budget = BudgetGuard(institute.books(a_run=1.0), institute.notes)
    budget.pay(1, "oracle", Cost(dollars=0.4))
    assert budget.spent_setting(1, ["oracle"], pauses=False) is None
    budget.pay(1, "oracle", Cost(dollars=0.4))
    assert not budget.allows(1, "oracle")
    assert budget.allows(1, "a cheaper one")
    assert budget.spent_setting(1, ["oracle", "a cheaper one"], pauses=False) is None
    assert budget.spent_setting(1, ["oracle"], pauses=True) == "LLM_BUDGET_USD"
    (reason,) = institute.told(EventKind.NEEDS_ATTENTION)
    spent = Account("LLM_BUDGET_USD", "in this run", "", 1.0, 0.8)
    assert reason == budget_spent(spent, 0.4, pauses=True)
    assert reason.startswith("$0.80 of the $1.00")
    assert "$0.40" in reason
    assert "a larger LLM_BUDGET_USD" in reason
    assert budget.spent_setting(1, ["oracle"], pauses=True) is None
    assert institute.told(EventKind.NEEDS_ATTENTION) == [reason]


def test_a_day_that_begins_is_told_of_anew(institute: Institute) -> None:
    budget = BudgetGuard(institute.books(a_day=1.0), institute.notes)
    for _ in range(2):
        budget.pay(1, "oracle", Cost(dollars=1.0))
        assert not budget.allows(1, "oracle")
        assert budget.spent_setting(1, ["oracle"], pauses=False) is not None
        institute.now += 86400
        assert budget.allows(1, "oracle")


def test_a_larger_limit_is_told_of_anew(institute: Institute) -> None:
    def spent(limit: float) -> str | None:
        budget = BudgetGuard(institute.books(a_run=limit), institute.notes)
        return budget.spent_setting(1, ["oracle"], pauses=False)

    institute.books().pay(1, "oracle", Cost(dollars=9.0))
    assert spent(9.0)
    assert spent(18.0) is None
    institute.books().pay(1, "oracle", Cost(dollars=9.0))
    assert spent(18.0)


def test_a_call_that_was_cut_off_costs_what_the_last_ones_did_at_least(institute: Institute) -> None:
    def spent() -> Cost:
        return institute.books().of_run(1)

    budget = BudgetGuard(institute.books(a_run=9.0), institute.notes)
    budget.pay_for_cut_off(1, "agent", None)
    assert spent() == Cost()  # nobody can know
    assert institute.told() == []
    for dollars in (1.0, 2.0):
        budget.pay(1, "agent", Cost(10, 0, 10, dollars))
    budget.pay_for_cut_off(1, "agent", None)
    assert spent() == Cost(20, 0, 20, 4.5)
    budget.pay_for_cut_off(1, "agent", Cost(5, 0, 5, 2.0))
    assert spent() == Cost(25, 0, 25, 6.5)
    budget.pay_for_cut_off(1, "agent", Cost(5, 0, 5, None))
    assert spent().dollars == pytest.approx(6.5 + 1.625)
    assert not budget.allows(1, "agent")


def test_an_unknown_price_is_told_of_once_where_it_matters(institute: Institute) -> None:
    BudgetGuard(institute.books(), institute.notes).pay(1, "agent", Cost(10, 0, 10, None))
    assert institute.told() == []
    budget = BudgetGuard(institute.books(a_run=1.0), institute.notes)
    budget.pay(1, "agent", Cost(10, 0, 10, None))
    budget.pay(1, "agent", Cost(10, 0, 10, None))
    (told,) = institute.told()
    assert told == price_unknown("agent")
    assert budget.allows(1, "agent")
