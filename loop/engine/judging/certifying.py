"""The certification of a run: head and baseline are trained again by turns, as repeats.

It is asked for at any time, begins when no experiment is under way, and ends when its repeats are over, or
when there is no time or reason for more. All of that is in the journal.
"""

from __future__ import annotations

from itertools import count

from loop.engine.judging.repeats import MOST_SEED
from loop.engine.stages import RUN_STOPPED
from loop.engine.trainings import Trainings
from loop.errors import UserError
from loop.evaluation.certification import Side, certified, pairs_that_fit, seconds_for, turns
from loop.evidence import Certification, Repeat
from loop.experiment import UNASKED, Asker, Experiment, Run, RunState
from loop.gain import gain
from loop.program.seed import seed_of
from loop.store.evidence.certifications import Certifications, leaves_no_time, usual_seconds
from loop.store.evidence.repeats import Repeats

NO_TIME = "no time was left"
MOVED = "another program is the best now"


class Certifier:
    """Asks for the certifications of one run, begins and ends them.

    All methods block, and none is called while another one works.
    """

    def __init__(self, trainings: Trainings) -> None:
        self.asked = False  # and not begun: it waits for the experiments under way
        self._pairs = trainings.plan.certify_repeats
        self._lanes = len(trainings.slots)
        self._journal = trainings.journal
        self._workspace = trainings.workspace
        self._store = Certifications(self._journal)
        self._repeats = Repeats(self._journal)

    def ask(self, run: Run, by: Asker = UNASKED, *, until: float | None = None) -> Certification:
        """Want a certification, which ends at `until` at the latest.

        Raises:
            UserError: there is nothing to certify, or it is being done.
        """
        if run.state is RunState.STOPPED:
            raise UserError(f"Run {run.tag} is stopped: nothing is trained for it any more.")
        if begun := self._store.under_way(run.id):
            raise UserError(f"A certification is under way already: {self._progress(begun)}.")
        head, baseline = self._sides(run)
        for side in (head, baseline):
            self._workspace.source(side.commit)  # of an adopted one git may not have the program
        return self._store.ask(run.id, self._pairs, by, until=until)

    def wanted(self, run: Run) -> bool:
        """Tell whether there is a gain that no certification was made or asked for."""
        last = next(iter(self._store.of(run.id)[::-1]), None)
        try:
            head, _ = self._sides(run)
        except UserError:
            return False
        return last is None or (last.ended_at is not None and last.head != head.number)

    def seconds(self, run: Run, pairs: int) -> float:
        return seconds_for(2 * pairs, usual_seconds(self._journal, run), self._lanes)

    def advance(self, run: Run) -> None:
        """Begin what was asked for, or end what is over; called whenever a lane looks what to do."""
        certification = self._store.under_way(run.id)
        self.asked = False
        if certification is None:
            return
        if run.state is RunState.STOPPED:
            self._end(run, certification, RUN_STOPPED)
        elif self._trains(certification):
            pass
        elif certification.started_at is not None and not self._waiting(certification):
            self._end(run, certification, "")
        elif certification.started_at is not None and self._head_moved(run, certification):
            self._end(run, certification, MOVED)
        elif leaves_no_time(self._journal, run, certification.until):
            self._end(run, certification, NO_TIME)
        elif certification.started_at is None and self._may_begin(run):
            self._begin(run, certification)
        else:
            self.asked = certification.started_at is None

    def end_now(self, run: Run, reason: str) -> None:
        if certification := self._store.under_way(run.id):
            self._end(run, certification, reason)

    def under_way(self, run: Run) -> Certification | None:
        return self._store.under_way(run.id)

    def _begin(self, run: Run, asked: Certification) -> None:
        try:
            sides = dict(zip((Side.HEAD, Side.BASELINE), self._sides(run), strict=True))
            sources = {side: self._workspace.source(each.commit) for side, each in sides.items()}
        except UserError as error:
            self._store.end(asked, None, str(error), recorded=None)
            return
        numbers = {side: each.number for side, each in sides.items()}
        pairs = asked.pairs
        if asked.until is not None:
            left = asked.until - self._journal.clock()
            pairs = pairs_that_fit(left, usual_seconds(self._journal, run), self._lanes, least=pairs)
        own = {side: seed_of(source) for side, source in sources.items()}
        seeds = self._seeds(run, [*numbers.values()], max((seed or 0) for seed in own.values()), pairs)
        self._store.begin(
            asked,
            numbers[Side.HEAD],
            numbers[Side.BASELINE],
            [
                (numbers[turn.side], None if own[turn.side] is None else seeds[turn.pair])
                for turn in turns(pairs, self._lanes, seed=asked.id)
            ],
        )

    def _seeds(self, run: Run, numbers: list[int], above: int, pairs: int) -> list[int]:
        """Return a seed for each pair, with which neither program was trained yet."""
        used = {repeat.seed for number in numbers for repeat in self._repeats.of(run.id, number)}
        candidates = count(above + 1 if above + pairs + len(used) < MOST_SEED else 1)
        free = (seed for seed in candidates if seed not in used)
        return [next(free) for _ in range(pairs)]

    def _end(self, run: Run, begun: Certification, reason: str) -> None:
        found = recorded = value = None
        if begun.head is not None and begun.baseline is not None:
            values = self._store.numbers(begun, run.metric)
            sides = values.get(begun.baseline, []), values.get(begun.head, [])
            pairs = [pair for pair in zip(*sides, strict=False) if None not in pair]
            baseline, head = ([float(pair[side] or 0.0) for pair in pairs] for side in (0, 1))
            found, value = certified(baseline, head, run.goal), next(iter(head), None)
            recorded = self._recorded(run, begun.head, begun.baseline)
        self._store.end(begun, found, reason, recorded=recorded, value=value)

    def _recorded(self, run: Run, *numbers: int) -> float | None:
        head, baseline = (self._journal.experiment(run.id, number) for number in numbers)
        if head is None or baseline is None or head.value is None or baseline.value is None:
            return None
        return gain(baseline.value, head.value, run.goal)

    def _sides(self, run: Run) -> tuple[Experiment, Experiment]:
        head, baseline = self._journal.best(run.id), self._journal.baseline(run.id)
        if head is None or baseline is None:
            raise UserError(f"Run {run.tag} has nothing to certify: nothing was kept yet.")
        if head.number == baseline.number:
            raise UserError(f"Run {run.tag} has nothing to certify: its baseline is the best.")
        return head, baseline

    def _may_begin(self, run: Run) -> bool:
        # What trains now may be better than all before it.
        return run.state is RunState.RUNNING and not self._journal.undecided(run.id)

    def _head_moved(self, run: Run, begun: Certification) -> bool:
        best = self._journal.best(run.id)
        return best is None or best.number != begun.head

    def _waiting(self, begun: Certification) -> list[Repeat]:
        wanted = self._repeats.of_certification(begun.id)
        return [repeat for repeat in wanted if repeat.k is None and not repeat.given_up]

    def _trains(self, begun: Certification) -> bool:
        under_way = self._repeats.under_way(begun.run_id)
        return any(each.repeat.certification == begun.id for each in under_way)

    def _progress(self, begun: Certification) -> str:
        if begun.started_at is None:
            return "it begins after the experiment under way"
        wanted = self._repeats.of_certification(begun.id)
        done = len(wanted) - len(self._waiting(begun)) - self._trains(begun)
        return f"{done} of {len(wanted)} trainings are done"
