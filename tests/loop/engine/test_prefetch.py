"""The next proposal, made while the present one trains: by quick proposers, by slow ones, for a new best."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from loop.engine.ahead.prefetch import Prefetch
from loop.engine.run import Engine
from loop.errors import UserError
from loop.experiment import Cost, Family, Proposal, Status
from loop.git.workspace import Workspace
from loop.process.worker import in_thread
from loop.proposers.protocol import Context, Proposer
from loop.results.report import run_status
from loop.store.experiments import IdeaBox
from tests.loop.lab import Ideas, Lab, git, program, value
from tests.loop.proposers.contexts import context_of

MakeLab = Callable[[str], Lab]

APART = "A = 1\n\n\n\n\nB = 1\n"
THINKING = 20.0  # seconds that a proposer takes


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    labs: list[Lab] = []

    def make(baseline: str) -> Lab:
        labs.append(Lab(tmp_path, baseline))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()


class Watch:
    """A timer that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self._looks = 0
        self._looked = asyncio.Event()

    def __call__(self) -> float:
        self._looks += 1
        self._looked.set()
        return self.now

    async def looks(self, times: int) -> None:
        """Wait until somebody has looked at it so often."""
        while self._looks < times:
            self._looked.clear()
            await self._looked.wait()


class Thinker(Ideas):
    """Takes its time by the watch, for the second idea only after the engine has begun to wait for it."""

    def __init__(self, watch: Watch, *programs: str) -> None:
        super().__init__(*programs)
        self._watch = watch

    async def propose(self, context: Context) -> Proposal:
        proposal = await super().propose(context)
        if len(context.experiments) == 2:
            await self._watch.looks(1)  # which is done for the second one alone
        self._watch.now += THINKING
        return proposal


class Talker(Ideas):
    """Says all that can be said of its proposals, the second of which is made of a person's idea."""

    def __init__(self, *programs: str, idea: int) -> None:
        super().__init__(*programs)
        self._idea = idea

    async def propose(self, context: Context) -> Proposal:
        proposal = await super().propose(context)
        idea = self._idea if len(context.experiments) == 2 else None
        return replace(proposal, idea=idea, expected="-0.1", family=Family.BATCH, cost=Cost(10, 5, 1, 0.5))


async def conduct(lab: Lab, engine: Engine, *, ready_while: int) -> None:
    """Make two experiments; one of that number trains until the next proposal is ready."""
    conducting = asyncio.create_task(engine.conduct(2))
    await lab.until_training(ready_while)
    while engine.prefetch.ready is None:  # noqa: ASYNC110 - a task of the engine tells nobody
        await asyncio.sleep(0)
    lab.open_gate()
    await conducting


def parents(contexts: Sequence[Context]) -> list[tuple[int, str]]:
    """Return for which experiment each proposal was asked, and on which commit."""
    return [(len(context.experiments), context.parent) for context in contexts]


async def test_only_a_slow_proposer_lets_the_machine_wait(make_lab: MakeLab) -> None:
    lab, watch = make_lab(program("wait()\nsummary(1.5)")), Watch()
    ideas = Thinker(watch, value(1.6), value(1.7))
    await conduct(lab, lab.engine(ideas=ideas, timer=watch), ready_while=0)
    assert [experiment.waited for experiment in lab.experiments()] == [0.0, 0.0, THINKING]
    assert run_status(lab.journal, lab.now(), worktree=lab.worktree).queue_empty == 1


async def test_the_next_idea_is_made_while_the_present_one_trains(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    ideas = Ideas(value(1.4))
    conducting = asyncio.create_task(lab.engine(ideas=ideas).conduct(1))
    await lab.until_training(0)
    await ideas.asked.wait()
    assert [trial.status for trial in ideas.contexts[0].experiments] == [None]
    lab.open_gate()
    await conducting
    assert len(ideas.contexts) == 1


async def test_an_idea_made_for_the_old_best_is_carried_over_to_the_new_with_all_that_is_said_of_it(
    make_lab: MakeLab,
) -> None:
    text = APART + program("if A == 2 and B == 1: wait()\nsummary(1.5 - A / 10)")
    lab = make_lab(text)
    idea = IdeaBox(lab.journal).add(lab.run.id, "B 2", author="ann")
    ideas = Talker(text.replace("A = 1", "A = 2"), text.replace("B = 1", "B = 2"), idea=idea.id)
    await conduct(lab, lab.engine(ideas=ideas), ready_while=1)
    _, better, carried = lab.experiments()
    assert parents(ideas.contexts) == [(1, lab.base), (2, lab.base)]
    assert carried.parent == better.commit
    merged = git(lab.repository, "show", "refs/autoresearch/mar12/2:train.py")
    assert merged.startswith(APART.replace("1", "2"))
    assert (carried.lines_added, carried.lines_removed) == (1, 1)
    assert (carried.description, carried.rationale, carried.proposer) == ("idea 2", "because", "ideas")
    assert (carried.idea, carried.expected, carried.family) == (idea.id, "-0.1", Family.BATCH)
    assert carried.cost == Cost(10, 5, 1, 0.5)
    lab.check_invariants()


async def test_an_idea_that_does_not_fit_the_new_best_is_asked_for_anew(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    better = program("wait()\nsummary(1.4)")
    ideas = Ideas(better, value(1.3))
    await conduct(lab, lab.engine(ideas=ideas), ready_while=1)
    _, kept, last = lab.experiments()
    assert parents(ideas.contexts) == [(1, lab.base), (2, lab.base), (2, kept.commit)]
    assert (last.parent, last.value, last.status) == (kept.commit, 1.3, Status.KEEP)
    (handed_back,) = ideas.contexts[-1].rejections
    assert handed_back.description == "idea 2"
    assert ideas.contexts[1].rejections == ()


async def test_an_idea_that_uses_what_the_new_best_has_no_more_is_asked_for_anew(make_lab: MakeLab) -> None:
    lab = make_lab(APART + value(1.5))
    renamed = APART.replace("A = 1", "C = 1") + program("wait()\nsummary(1.4)")
    ideas = Ideas(renamed, APART.replace("B = 1", "B = A") + value(1.5))
    await conduct(lab, lab.engine(ideas=ideas), ready_while=1)
    kept = lab.experiments()[1]
    assert parents(ideas.contexts) == [(1, lab.base), (2, lab.base), (2, kept.commit)]


async def test_what_fits_the_new_best_is_not_waited_for(make_lab: MakeLab) -> None:
    text = APART + program("if A == 2 and B == 1: wait()\nsummary(1.5 - A / 10)")
    lab, watch = make_lab(text), Watch()
    engine = lab.engine(text.replace("A = 1", "A = 2"), text.replace("B = 1", "B = 2"), timer=watch)
    carry_over = Workspace.carry_over

    def slow(self: Workspace, source: str, parent: str, best: str) -> str | None:
        watch.now += THINKING
        return carry_over(self, source, parent, best)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "carry_over", slow)
        await conduct(lab, engine, ready_while=1)
    assert watch.now == 100.0 + THINKING
    assert lab.experiments()[2].waited == 0.0


async def test_an_idea_that_makes_an_old_program_of_the_new_best_is_asked_for_anew(make_lab: MakeLab) -> None:
    text = APART + program("if (A, B) == (2, 1): wait()\nsummary(1.6 if B == 2 and A == 2 else 1.5 - A / 10)")
    lab = make_lab(text)
    deeper, wider = text.replace("A = 1", "A = 2"), text.replace("B = 1", "B = 2")
    both = wider.replace("A = 1", "A = 2")
    ideas = Ideas(both, deeper, wider)
    conducting = asyncio.create_task(lab.engine(ideas=ideas).conduct(3))
    await lab.until_training(2)
    while len(ideas.contexts) < 3:  # noqa: ASYNC110 - a proposer tells nobody
        await asyncio.sleep(0)
    ideas.replace(3, deeper.replace("B = 1", "B = 3"))
    lab.open_gate()
    await conducting
    programs = [experiment.program for experiment in lab.experiments()]
    assert len(set(programs)) == len(programs) == 4


async def test_a_proposer_that_fails_is_asked_again(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    ideas = Ideas(value(1.4))
    ideas.failures.append(UserError("unavailable"))
    engine = lab.engine(ideas=ideas)
    failing: list[bool] = []
    conducting = asyncio.create_task(engine.conduct(1))
    while engine.prefetch.ready is None:
        failing.append(
            engine.prefetch.failure is not None and engine.prefetch.failure.reason == "unavailable"
        )
        await asyncio.sleep(0)
    assert failing[-1]
    assert engine.prefetch.failure is None  # it has an idea, though nothing can be begun yet
    lab.open_gate()
    await conducting
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.KEEP]


# People have an idea while the next experiment is made ready


class Scripted:
    """A proposer that answers as it was told, one after the other; then it thinks for ever."""

    name = "scripted"

    def __init__(self, *answers: Proposal | UserError) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def propose(self, context: Context) -> Proposal:
        self.asked += 1
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, UserError):
            raise answer
        return replace(answer, parent=context.parent)


@pytest.fixture
async def make_ahead(make_lab: MakeLab) -> AsyncIterator[Callable[[Proposer], Prefetch]]:
    lab = make_lab(value(1.5))
    workspace = Workspace(repository=lab.repository, path=lab.worktree, tag="mar12")
    made: list[Prefetch] = []

    def make(proposer: Proposer) -> Prefetch:
        context = context_of(value(1.5))
        made.append(
            Prefetch(
                proposer=proposer,
                workspace=workspace,
                context=lambda: replace(context, parent=lab.base),
                is_trained=lambda program: False,
                retry_seconds=(3600.0,),
                timer=lambda: 0.0,
            )
        )
        return made[-1]

    yield make
    for ahead in made:
        await ahead.close()


FREE = Proposal(value(1.4), "a free one")
IDEA = Proposal(value(1.3), "DEPTH 9", idea=1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


async def parent_of_ready(ahead: Prefetch) -> str:
    """Begin to make a proposal, and return what it stands on once it is ready."""
    ahead.start()
    await until(lambda: ahead.ready is not None)
    assert ahead.ready is not None
    return ahead.ready.parent


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_proposer_that_rests_is_asked_when_somebody_has_an_idea(
    make_ahead: Callable[[Proposer], Prefetch], at_once: bool
) -> None:
    ahead = make_ahead(Scripted(UserError("It has no idea."), IDEA))
    ahead.start()
    await until(lambda: ahead.failure is not None)
    ahead.look_again(at_once=at_once)
    await until(lambda: ahead.ready is not None)
    assert ahead.ready is not None
    assert ahead.ready.description == "DEPTH 9"


@pytest.mark.parametrize(
    ("first", "at_once", "asked"),
    [
        (FREE, True, 2),
        (FREE, False, 1),  # a model needs time for it
        (replace(FREE, cost=Cost(dollars=None)), True, 1),  # it was paid for
        (IDEA, True, 1),
        (replace(FREE, repairs=3), True, 1),
    ],
)
async def test_what_is_ready_makes_way_for_an_idea_where_nothing_is_lost(
    make_ahead: Callable[[Proposer], Prefetch], first: Proposal, at_once: bool, asked: int
) -> None:
    proposer = Scripted(first, IDEA)
    ahead = make_ahead(proposer)
    parent = await parent_of_ready(ahead)
    ahead.look_again(at_once=at_once)
    ready = await ahead.take(lambda: parent, asyncio.Event())
    assert proposer.asked == asked
    assert ready is not None
    assert ready.proposal.description == ("DEPTH 9" if asked == 2 else first.description)


async def test_what_is_in_the_making_makes_way_too(make_ahead: Callable[[Proposer], Prefetch]) -> None:
    proposer = Scripted(FREE, IDEA)
    ahead = make_ahead(proposer)
    ahead.start()
    await until(lambda: proposer.asked == 1)
    ahead.look_again(at_once=True)
    await until(lambda: ahead.ready is not None)
    assert ahead.ready is not None
    assert ahead.ready.description == "DEPTH 9"
    assert proposer.asked == 2


@pytest.mark.parametrize("made", [True, False])
async def test_what_people_no_longer_want_is_withdrawn(
    make_ahead: Callable[[Proposer], Prefetch], made: bool
) -> None:
    proposer = Scripted(replace(FREE, cost=Cost(dollars=None)), IDEA)
    ahead = make_ahead(proposer)
    ahead.start()
    await until(lambda: ahead.ready is not None if made else proposer.asked == 1)
    ahead.withdraw(lambda proposal: proposal.cost is not None)
    ahead.withdraw(lambda proposal: proposal.description == "another")
    await until(lambda: ahead.ready is not None)
    assert ahead.ready is not None
    assert ahead.ready.description == "DEPTH 9"


async def test_who_waits_for_a_proposal_is_given_the_one_for_the_idea(
    make_ahead: Callable[[Proposer], Prefetch],
) -> None:
    """The proposal and the idea come in the same turn of the event loop."""
    proposer = Scripted(FREE, IDEA)
    ahead = make_ahead(proposer)
    parent = await parent_of_ready(ahead)
    taking = asyncio.create_task(ahead.take(lambda: parent, asyncio.Event()))
    ahead.look_again(at_once=True)
    ready = await taking
    assert ready is not None
    assert ready.proposal.description == "DEPTH 9"


@pytest.mark.parametrize("carried_over", [False, True])
async def test_each_lane_that_waits_is_given_a_proposal_of_its_own(
    make_ahead: Callable[[Proposer], Prefetch], carried_over: bool
) -> None:
    proposer = Scripted(FREE, IDEA)
    ahead = make_ahead(proposer)
    head = await parent_of_ready(ahead)
    if carried_over:
        git(ahead.workspace.repository, "commit", "--quiet", "--allow-empty", "-m", "x")
        head = git(ahead.workspace.repository, "rev-parse", "HEAD")
    journal: list[str] = []

    async def take() -> None:
        ready = await ahead.take(lambda: head, asyncio.Event())
        assert ready is not None
        for _ in range(20):
            await in_thread(ahead.context)  # as a proposal that is made begins
        assert proposer.asked == len(journal) + 1, "it was made without knowledge of the one just taken"
        journal.append(ready.proposal.description)
        ahead.recorded()

    await asyncio.gather(take(), take())
    assert sorted(journal) == ["DEPTH 9", "a free one"]
