from __future__ import annotations

import pytest

from loop.experiment import Cost, EventKind
from loop.proposers.asking import BudgetWatch
from tests.loop.proposers.oracles import Institute


def test_people_are_told_at_four_fifths_and_at_the_end_also_after_a_restart(institute: Institute) -> None:
    def budget() -> BudgetWatch:
        return BudgetWatch(institute.purse(a_run=10.0), institute.notes)

    for _ in range(12):
        if budget().allows(1, "oracle"):
            budget().pay(1, "oracle", Cost(dollars=1.0))
        budget().close(1, ["oracle"], pauses=False)
    assert institute.told(EventKind.NOTED) == [
        "$8.00 of the $10.00 for models in this run are spent",
        "$10.00 of the $10.00 for models in this run are spent; the run goes on with search",
    ]


def test_too_little_for_a_call_is_nothing(institute: Institute) -> None:
    budget = BudgetWatch(institute.purse(a_run=1.0), institute.notes)
    budget.pay(1, "oracle", Cost(dollars=0.4))
    assert budget.close(1, ["oracle"], pauses=False) is None
    budget.pay(1, "oracle", Cost(dollars=0.4))
    assert not budget.allows(1, "oracle")
    assert budget.allows(1, "a cheaper one")
    assert budget.close(1, ["oracle", "a cheaper one"], pauses=False) is None
    assert budget.close(1, ["oracle"], pauses=True) == "LLM_BUDGET_USD"
    (reason,) = institute.told(EventKind.NEEDS_ATTENTION)
    assert reason.startswith("$0.80 of the $1.00 for models in this run are spent, and another call costs")
    assert "LLM_BUDGET_USD" in reason
    assert budget.close(1, ["oracle"], pauses=True) is None
    assert institute.told(EventKind.NEEDS_ATTENTION) == [reason]


def test_a_day_that_begins_is_told_of_anew(institute: Institute) -> None:
    budget = BudgetWatch(institute.purse(a_day=1.0), institute.notes)
    for _ in range(2):
        budget.pay(1, "oracle", Cost(dollars=1.0))
        assert not budget.allows(1, "oracle")
        assert budget.close(1, ["oracle"], pauses=False) is not None
        institute.now += 86400
        assert budget.allows(1, "oracle")


def test_a_larger_limit_is_told_of_anew(institute: Institute) -> None:
    institute.purse().pay(1, "oracle", Cost(dollars=9.0))
    assert BudgetWatch(institute.purse(a_run=9.0), institute.notes).close(1, ["oracle"], pauses=False)
    assert (
        BudgetWatch(institute.purse(a_run=18.0), institute.notes).close(1, ["oracle"], pauses=False) is None
    )
    institute.purse().pay(1, "oracle", Cost(dollars=9.0))
    assert BudgetWatch(institute.purse(a_run=18.0), institute.notes).close(1, ["oracle"], pauses=False)


def test_a_call_that_was_cut_off_costs_what_the_last_ones_did_at_least(institute: Institute) -> None:
    def spent() -> Cost:
        return institute.purse().of_run(1)

    budget = BudgetWatch(institute.purse(a_run=9.0), institute.notes)
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
    BudgetWatch(institute.purse(), institute.notes).pay(1, "agent", Cost(10, 0, 10, None))
    assert institute.told() == []
    budget = BudgetWatch(institute.purse(a_run=1.0), institute.notes)
    budget.pay(1, "agent", Cost(10, 0, 10, None))
    budget.pay(1, "agent", Cost(10, 0, 10, None))
    (told,) = institute.told()
    assert told.startswith("nobody knows the price of agent")
    assert budget.allows(1, "agent")
