"""A night of a real engine with a model that goes down and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.evidence import NO_DOUBT
from loop.experiment import Actor, Cause, Cost, EventKind, Proposal, Reason, Run, RunState, Status
from loop.proposers.calling import available_again, unavailable
from loop.proposers.protocol import Context, Failure, UnavailableError
from loop.store.experiments import IdeaBox
from tests.loop.lab import Lab, program, value
from tests.loop.proposers.oracles import Institute

CRASHES, DOWN, BACK = 2, 5, 8
"""Numbers of the experiments for which the model writes a bug, is first down, is up again."""


class Model:
    """Finds something better each time, when it can be asked."""

    name = "model"

    def __init__(self) -> None:
        self.asked = 0
        self.failures: list[Failure] = []

    async def propose(self, context: Context) -> Proposal:
        self.asked += 1
        number = context.experiments[-1].number + 1
        if DOWN <= number < BACK:
            raise UnavailableError("It is down.", cost=Cost(10, 0, 0, 0.5))
        body = "raise RuntimeError('no such luck')" if number == CRASHES else f"summary({1 - number / 100})"
        return self._proposal(context, program(body), f"idea {number}")

    async def repair(self, context: Context, failure: Failure) -> Proposal:
        self.asked += 1
        self.failures.append(failure)
        return self._proposal(context, value(0.5), "without the bug")

    def _proposal(self, context: Context, source: str, description: str) -> Proposal:
        return Proposal(source, description, "", self.name, context.parent, cost=Cost(10, 0, 5, 0.5))


class Search:
    """Finds nothing better."""

    name = "search"

    async def propose(self, context: Context) -> Proposal:
        number = context.experiments[-1].number + 1
        return Proposal(value(2 + number), f"search {number}", "", self.name, context.parent)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path / "lab", value(1.5))
    yield made
    made.close()


async def test_a_night_in_which_the_model_goes_down_and_comes_back(lab: Lab, tmp_path: Path) -> None:
    institute = Institute(tmp_path, lab.journal, lab.run)
    institute.search = Search()
    model = Model()
    lab.journal.listeners.append(lambda: setattr(institute, "now", institute.now + 10))  # time passes
    (lab.repository / ".git/info/exclude").write_text("ideas.md\n")
    (lab.repository / "ideas.md").write_text("- try it the other way round\n")
    await lab.engine(ideas=institute.researcher(model), doubt=lambda _: NO_DOUBT).conduct(6)
    after_restart = lab.engine(ideas=institute.researcher(model), doubt=lambda _: NO_DOUBT)
    await after_restart.resume()
    await after_restart.conduct(6)

    experiments = lab.experiments()
    makers = [experiment.proposer for experiment in experiments[1:]]
    assert set(makers[: DOWN - 1]) == {"model"}
    assert set(makers[DOWN - 1 : BACK - 1]) == {"search"}
    assert makers[-1] == "model"
    crashed = next(e for e in experiments if e.status is Status.CRASH)
    repaired = next(e for e in experiments if e.repairs == crashed.number)
    assert (repaired.description, repaired.status) == ("without the bug", Status.KEEP)
    assert {failure.experiment.number for failure in model.failures} == {crashed.number}
    (idea,) = [e.idea for e in experiments if e.idea is not None]
    assert IdeaBox(lab.journal).get(idea).author == "ideas.md"
    assert institute.told() == [
        unavailable("some:model", "It is down."),
        available_again("some:model"),
    ]
    assert institute.books().of_run(lab.run.id).dollars == model.asked / 2
    lab.check_invariants()


async def test_a_run_whose_money_is_spent_is_paused_and_goes_on_with_search_when_a_person_wants_it(
    lab: Lab, tmp_path: Path
) -> None:
    institute = Institute(tmp_path, lab.journal, lab.run)
    institute.search = Search()

    async def pause(run: Run, reason: Reason) -> None:
        await engine.pause(reason=reason)

    institute.pause = pause
    engine = lab.engine(ideas=institute.researcher(Model(), a_run=1.0, pauses=True), doubt=lambda _: NO_DOUBT)
    night = asyncio.create_task(engine.conduct(6))
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    assert lab.now().reason == Reason(Actor.BUDGET, cause=Cause.BUDGET, facts={"setting": "LLM_BUDGET_USD"})
    assert not night.done()
    await engine.resume()
    await night
    makers = [experiment.proposer for experiment in lab.experiments()[1:]]
    assert sorted(makers) == ["model"] * makers.count("model") + ["search"] * makers.count("search")
    assert makers.count("search") >= 4
    assert institute.told(EventKind.NEEDS_ATTENTION)[0].startswith("$1.00 of the $1.00 for models")
    lab.check_invariants()
