from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.experiment import (
    Actor,
    Cause,
    Cost,
    EventKind,
    Experiment,
    Family,
    Goal,
    Reason,
    RunState,
    Stage,
    Status,
    Training,
)
from loop.proposers.protocol import SearchMode
from loop.results.gains import FamilyRate, rates_of
from loop.results.ledger import Bill, Spent
from loop.results.report import Report, WakeUpReport, make_report, read_wakeup_report, to_json
from loop.results.table import parse_results
from loop.store.experiments import Row, row_of
from tests.notifiers.mornings import IDEAS, Recorder, fruitful, open_recorder, second_night

# A published night: the kept changes of karpathy/autoresearch, branch exp/H100/mar8. Where the log gives one
# value for several rows (the init scales, the decays of the value embeddings) those between are filled in.
PUBLISHED_KEEPS = (
    (0.997900, "baseline"),
    (0.986041, "total batch 2^19 -> 2^18"),
    (0.981773, "depth 8 -> 9, aspect ratio 64 -> 57"),
    (0.981201, "warmdown ratio 0.5 -> 0.7"),
    (0.980903, "window pattern SSSL -> SSSSL"),
    (0.979969, "short window T/2 -> T/8"),
    (0.978784, "rotary base 10K -> 200K"),
    (0.975524, "embedding lr 0.6 -> 0.8"),
    (0.974729, "x0 lambda init 0.1 -> 0.05"),
    (0.974119, "final lr fraction 0 -> 0.05"),
    (0.973104, "unembedding lr 0.004 -> 0.006"),
    (0.972849, "Muon momentum warm-up 300 -> 200 steps"),
    (0.972779, "unembedding lr 0.006 -> 0.005"),
    (0.972694, "weight decay 0.01 on lm_head"),
    (0.972500, "init scale x0.8"),
    (0.972300, "init scale x0.7"),
    (0.972097, "init scale x0.68"),
    (0.972009, "weight decay 0.001 on embeddings"),
    (0.971500, "weight decay 0.001 on value embeddings"),
    (0.970900, "weight decay 0.002 on value embeddings"),
    (0.970433, "weight decay 0.003 on value embeddings"),
    (0.969952, "embedding lr 0.8 -> 0.9"),
    (0.969686, "warmdown ratio 0.7 -> 0.75"),
)


def published_night() -> str:
    """The 126 rows: the keeps, spread among 102 discards and a crash."""
    lines = ["commit\tval_bpb\tmemory_gb\tstatus\tdescription"]
    for number, (value, description) in enumerate(PUBLISHED_KEEPS):
        lines.append(f"{number:07x}\t{value:.6f}\t44.0\tkeep\t{description}")
        discards = 5 if number < 14 else 4 if number < 22 else 0
        lines += [f"{number:05x}d{i}\t{value + 0.001:.6f}\t44.0\tdiscard\tidea {i}" for i in range(discards)]
        lines += ["0000c0c\t0.000000\t0.0\tcrash\tdouble model width (OOM)"] * (number == 3)
    return "\n".join(lines)


def row(number: int, value: float | None, status: Status = Status.KEEP, description: str = "idea") -> Row:
    return Row(number, f"c{number}", value, 44.0, status, description)


def report_on(*rows: Row, goal: Goal = Goal.MINIMIZE) -> Report:
    return make_report(rows, metric="val_bpb", goal=goal, tag="mar12")


def test_the_published_night_has_its_published_numbers() -> None:
    results = parse_results(published_night())
    report = make_report(results.rows, metric=results.metric, goal=Goal.MINIMIZE)
    assert (report.experiments, report.keep, report.discard, report.crash) == (126, 23, 102, 1)
    assert (report.baseline, report.best, report.gain) == (0.9979, 0.969686, 0.028214)
    assert report.best_description == "warmdown ratio 0.7 -> 0.75"
    assert len(report.gains) == 22
    assert (report.gains[0].gain, report.gains[0].description) == (0.011859, "total batch 2^19 -> 2^18")
    assert [gain.gain for gain in report.gains[1:4]] == [0.004268, 0.00326, 0.001185]
    assert sum(gain.gain for gain in report.gains) == pytest.approx(0.028214)
    assert report.keep_rate == pytest.approx(22 / 125)


def test_the_json_has_every_number_and_no_nan() -> None:
    rows = parse_results(published_night()).rows
    read = json.loads(
        json.dumps(to_json(make_report(rows, metric="val_bpb", goal=Goal.MINIMIZE)), allow_nan=False)
    )
    wanted = "tag experiments keep discard crash skipped baseline best best_commit gain gains metric hours"
    assert set(wanted.split()) <= set(read)
    assert read["tag"] is None
    assert read["goal"] == "minimize"
    assert read["gains"][0] == {
        "number": 6,
        "commit": "0000001",
        "description": "total batch 2^19 -> 2^18",
        "gain": 0.011859,
    }


def test_times_of_the_journal_give_hours_rate_and_share() -> None:
    experiments = [
        Experiment(
            run_id=1,
            number=number,
            stage=Stage.DECIDED,
            description="idea",
            rationale="",
            proposer="search",
            parent="",
            training=Training(
                1,
                started_at=1000.0 + 360 * number,
                ended_at=1000.0 + 360 * number + 330,
                numbers={} if number == 4 else {"training_seconds": 300.0},
            ),
            value=None if number == 4 else 1.0 - number / 1000,
            status=Status.CRASH if number == 4 else Status.KEEP,
        )
        for number in range(10)
    ]
    report = report_on(*map(row_of, experiments))
    assert (report.started_at, report.ended_at) == (1000.0, 4570.0)
    assert report.hours == pytest.approx(3570 / 3600)
    assert report.experiments_per_hour == pytest.approx(10 * 3600 / 3570)
    assert report.training_seconds == 2700.0
    assert report.training_share == pytest.approx(2700 / 3570)
    assert (report.last_keep_number, report.last_keep_at) == (9, 4570.0)


def test_nothing_at_all_is_a_report() -> None:
    report = report_on()
    assert (report.experiments, report.keep, report.gains) == (0, 0, ())
    assert report.tag == "mar12"
    wanted = {
        "baseline",
        "best",
        "best_number",
        "best_commit",
        "gain",
        "hours",
        "keep_rate",
        "last_keep_number",
    }
    assert {to_json(report)[name] for name in wanted} == {None}


def test_when_all_crashed_there_is_no_best() -> None:
    report = report_on(row(0, None, Status.CRASH, "baseline"), row(1, None, Status.CRASH))
    assert (report.experiments, report.crash) == (2, 2)
    assert (report.baseline, report.best, report.gain) == (None, None, None)
    assert report.keep_rate == 0.0


def test_the_baseline_alone_is_the_best_and_no_gain() -> None:
    report = report_on(row(0, 0.9979, description="baseline"))
    assert (report.baseline, report.best, report.best_number, report.gain) == (0.9979, 0.9979, 0, 0.0)
    assert (report.gains, report.keep_rate) == ((), None)


def test_skipped_experiments_are_counted_apart() -> None:
    report = report_on(row(0, 0.9979), row(1, None, Status.SKIP), row(2, 0.999, Status.DISCARD))
    assert (report.experiments, report.skipped, report.keep_rate) == (2, 1, 0.0)


def test_what_is_in_quarantine_was_trained_and_is_not_the_best() -> None:
    report = report_on(row(0, 0.9979), row(1, 0.9, Status.QUARANTINE))
    assert (report.experiments, report.quarantine, report.best, report.gains) == (2, 1, 0.9979, ())


def test_a_first_row_that_crashed_means_no_baseline() -> None:
    report = report_on(row(0, None, Status.CRASH, "baseline"), row(1, 0.99), row(2, 0.98))
    assert (report.baseline, report.gain) == (None, None)
    assert (report.best, report.best_number) == (0.98, 2)
    assert [gain.number for gain in report.gains] == [2]


@pytest.mark.parametrize("described", ["baseline", "Baseline, as published"])
def test_a_later_row_is_the_baseline_when_it_is_called_so(described: str) -> None:
    report = report_on(row(0, None, Status.CRASH), row(1, 0.99, description=described), row(2, 0.98))
    assert (report.baseline, report.gain) == (0.99, 0.01)


def test_a_better_number_that_was_discarded_is_not_the_best() -> None:
    report = report_on(row(0, 0.99), row(1, 0.9899, Status.DISCARD), row(2, 0.98))
    assert (report.best_number, report.gains[0].gain) == (2, 0.01)


def test_an_equal_result_kept_for_its_simplicity_is_the_best_and_a_gain_of_nothing() -> None:
    report = report_on(row(0, 0.99), row(1, 0.98), row(2, 0.98))
    assert report.best_number == 2
    assert [(gain.number, gain.gain) for gain in report.gains] == [(1, 0.01), (2, 0.0)]


def test_a_kept_row_without_a_number_is_counted_and_no_more() -> None:
    report = report_on(row(0, None, description="baseline"), row(1, 0.99))
    assert (report.keep, report.baseline, report.best) == (2, None, 0.99)


def test_more_can_be_better() -> None:
    report = report_on(row(0, 0.5), row(1, 0.7), row(2, 0.6, Status.DISCARD), goal=Goal.MAXIMIZE)
    assert (report.best, report.gain, report.gains[0].gain) == (0.7, 0.2, 0.2)


def test_a_clock_that_went_back_gives_no_rate() -> None:
    moved = Row(0, "c0", 0.99, 0.0, Status.KEEP, "", started_at=100.0, ended_at=40.0, training_seconds=30.0)
    report = report_on(moved)
    assert (report.hours, report.experiments_per_hour, report.training_share) == (0.0, None, None)


def of_family(number: int, family: Family | None, value: float | None, status: Status) -> Row:
    return replace(row(number, value, status), family=family)


FAMILIES = (
    of_family(0, None, 0.99, Status.KEEP),
    of_family(1, Family.BATCH, 0.98, Status.KEEP),
    of_family(2, Family.OPTIMIZER, 0.985, Status.DISCARD),
    of_family(3, Family.OPTIMIZER, 0.97, Status.KEEP),
    of_family(4, Family.PRECISION, None, Status.CRASH),
    of_family(5, Family.PRECISION, None, Status.SKIP),
    of_family(6, Family.OPTIMIZER, 0.965, Status.KEEP),
    of_family(7, None, 0.96, Status.KEEP),
)


def test_the_hit_rate_of_each_family() -> None:
    assert rates_of(FAMILIES, Goal.MINIMIZE) == (
        FamilyRate(Family.OPTIMIZER, tried=3, kept=2, best_gain=0.01),
        FamilyRate(Family.BATCH, tried=1, kept=1, best_gain=0.01),
        FamilyRate(Family.PRECISION, tried=1, kept=0, best_gain=None),
    )
    read = json.loads(json.dumps(to_json(report_on(*FAMILIES))))
    assert read["families"][2] == {"family": "precision", "tried": 1, "kept": 0, "best_gain": None}


def test_the_first_number_is_no_gain_of_its_family() -> None:
    rows = (row(0, None, Status.CRASH), of_family(1, Family.BATCH, 0.99, Status.KEEP))
    assert rates_of(rows, Goal.MINIMIZE) == (FamilyRate(Family.BATCH, 1, 1, None),)


rows_of_families = st.lists(
    st.builds(
        of_family,
        st.just(0),
        st.none() | st.sampled_from(Family),
        st.floats(-2, 2),
        st.sampled_from(Status),
    )
)


@settings(deadline=None)
@given(rows_of_families, st.sampled_from(Goal))
def test_families_share_the_experiments_among_them(rows: list[Row], goal: Goal) -> None:
    rates = rates_of(rows, goal)
    told = [row for row in rows if row.family and row.status is not Status.SKIP]
    assert sum(rate.tried for rate in rates) == len(told)
    assert sum(rate.kept for rate in rates) == sum(row.status is Status.KEEP for row in told)
    assert len({rate.family for rate in rates}) == len(rates)
    assert all(first.kept >= second.kept for first, second in pairwise(rates))
    assert all(rate.kept <= rate.tried for rate in rates)


def test_the_times_that_no_proposal_was_ready() -> None:
    waits = (0.0, 0.04, 0.06, 3.0)
    report = report_on(*(replace(row(number, 0.99), waited=wait) for number, wait in enumerate(waits)))
    assert report.queue_empty == 2
    assert report.waited_seconds == pytest.approx(3.1)
    assert (report_on(row(0, 0.99)).queue_empty, report_on(row(0, 0.99)).waited_seconds) == (None, None)


def test_dollars_for_each_thousandth_of_gain() -> None:
    rows = (row(0, 0.99), row(1, 0.985))
    report = make_report(
        rows, metric="val_bpb", goal=Goal.MINIMIZE, spent=Cost(900_000, 500_000, 20_000, 1.85)
    )
    assert (report.tokens, report.dollars) == (920_000, 1.85)
    assert report.dollars_per_thousandth == pytest.approx(0.37)
    read = json.loads(json.dumps(to_json(report)))
    assert read["spent"]["cached_tokens"] == 500_000
    assert read["tokens"] == 920_000


@pytest.mark.parametrize(
    ("spent", "tokens", "dollars"),
    [
        (None, None, None),
        (Cost(), None, None),
        (Cost(10, 0, 1, None), 11, None),
        (Cost(10, 0, 1, 0.0), 11, 0.0),
        (Cost(dollars=None), 0, None),
    ],
)
def test_money_is_none_where_no_model_was_asked_or_nobody_knows(
    spent: Cost | None, tokens: int | None, dollars: float | None
) -> None:
    report = make_report([row(0, 0.99)], metric="val_bpb", goal=Goal.MINIMIZE, spent=spent)
    assert (report.tokens, report.dollars, report.dollars_per_thousandth) == (tokens, dollars, None)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with open_recorder(tmp_path) as recorder:
        yield recorder


@pytest.fixture
def begun(recorder: Recorder) -> Recorder:
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    return recorder


def test_the_first_night_is_the_whole_run(recorder: Recorder) -> None:
    night = fruitful(recorder)
    assert (night.whole, night.since, night.start) == (None, None, 0)
    assert (night.report.baseline, night.report.before, night.report.gain) == (0.9979, None, 0.026316)
    assert [row.number for row in night.rows] == list(range(1 + len(IDEAS) + 76))


def test_a_later_night_is_measured_against_the_best_before_it(recorder: Recorder) -> None:
    night = second_night(recorder)
    assert night.whole is not None
    assert (night.report.experiments, night.whole.experiments, len(night.rows)) == (90, 171, 171)
    assert (night.report.baseline, night.report.before) == (None, 0.9706)
    assert night.report.gain == pytest.approx(0.0012)
    assert night.whole.gain == pytest.approx(0.0285)
    assert sum(gain.gain for gain in night.report.gains) == pytest.approx(0.0012)
    assert night.start == max(gain.number for gain in night.whole.gains if gain.number <= 80)
    assert (night.report.dollars, night.whole.dollars) == (0.5, 3.5)
    assert night.ledger is not None
    assert night.ledger.started_at == night.since
    assert night.ledger.total == 86400


def test_what_comes_after_its_end_is_no_part_of_a_night(begun: Recorder) -> None:
    begun.experiment("halve batch size", 0.98)
    begun.pay(1.0)
    end = begun.now
    before = begun.night()
    begun.experiment("wider", 0.97)
    begun.pay(1.0)
    begun.call("the disk is full")
    begun.state(RunState.DONE, Reason(Actor.LOOP, facts={"made": 2}))
    later = read_wakeup_report(begun.journal, begun.run, until=end)
    assert later.to_json() == before.to_json()


def test_hours_of_the_gpu_are_those_in_which_something_trained(begun: Recorder) -> None:
    begun.experiment("crashes", None)
    begun.state(RunState.PAUSED)
    begun.at("13 07:00")
    night = begun.night(price=3.6)
    assert night.bill.gpu_seconds == 330 + 40
    assert night.bill.gpu_dollars == pytest.approx(0.37)
    assert night.ledger is not None
    assert night.ledger.seconds[Spent.WAITING] > 7 * 3600


def test_the_bill_adds_up_what_is_known() -> None:
    assert Bill().dollars is None
    assert Bill(model_dollars=1.5).dollars == 1.5
    whole = Bill(gain=0.01, model_dollars=1.5, gpu_seconds=7200, gpu_price=2.0)
    assert (whole.gpu_dollars, whole.dollars) == (4.0, 5.5)
    assert whole.dollars_per_thousandth == pytest.approx(0.55)
    assert whole.gpu_seconds_per_thousandth == pytest.approx(720)
    for gain in (None, 0.0, -0.1):
        bill = Bill(gain=gain, model_dollars=1.0, gpu_seconds=60, gpu_price=1.0)
        assert (bill.dollars_per_thousandth, bill.gpu_seconds_per_thousandth) == (None, None)


def test_a_long_time_without_a_keep_is_told_whole(begun: Recorder) -> None:
    begun.experiments(205)
    begun.train("GELU")
    begun.skip()
    assert begun.night().outlook.idle == 205


def test_what_is_next_and_what_a_stuck_run_asks_for(begun: Recorder) -> None:
    begun.experiments(15)
    outlook = begun.night(ready="EMBEDDING_LR 0.9").outlook
    assert (outlook.ready, outlook.idle, outlook.search_mode) == (
        "EMBEDDING_LR 0.9",
        15,
        SearchMode.COMBINATION,
    )
    begun.wish("a cosine schedule")
    assert begun.night().outlook.idea is not None
    assert begun.night().outlook.under_way == ""
    begun.train("GELU")
    assert begun.night().outlook.under_way == f"#{begun.night().report.experiments} GELU"
    begun.state(RunState.STOPPED)
    assert begun.night().outlook.idea is None


def calls(recorder: Recorder) -> tuple[str, ...]:
    return recorder.night().calls


def test_a_call_is_over_with_the_next_number(begun: Recorder) -> None:
    begun.call("5 experiments crashed in a row", cause=Cause.CRASHES)
    begun.experiment("crashes too", None)
    assert calls(begun) == ("5 experiments crashed in a row",)
    begun.call("10 experiments crashed in a row", cause=Cause.CRASHES)
    assert calls(begun) == ("10 experiments crashed in a row",)
    begun.experiment("works", 0.999)
    assert calls(begun) == ()


def test_a_call_is_over_when_it_is_mended_or_the_run_goes_on(begun: Recorder) -> None:
    begun.call("the disk is full")
    begun.state(RunState.PAUSED)
    assert calls(begun) == ("the disk is full",)
    begun.state(RunState.RUNNING)
    assert calls(begun) == ()
    begun.call("its loop has ended")
    begun.journal.note(begun.run.id, EventKind.RUN_RECOVERED, reason="started again")
    assert calls(begun) == ()
    begun.call("its loop has ended")
    begun.state(RunState.STOPPED)
    assert calls(begun) == ()


def test_a_call_about_what_has_states_is_over_with_another_one(begun: Recorder) -> None:
    begun.call("the key is refused", cause=Cause.PROPOSER, key="anthropic", state="lost")
    begun.call("the money is spent", cause=Cause.BUDGET, key="LLM_BUDGET_USD", state="spent 1")
    begun.experiment("works", 0.999)
    begun.state(RunState.RUNNING)
    assert calls(begun) == ("the key is refused", "the money is spent")
    back = {"cause": Cause.PROPOSER, "key": "anthropic", "state": "back", "reason": "it is back"}
    begun.journal.note(begun.run.id, EventKind.NOTED, **back)
    assert calls(begun) == ("the money is spent",)


def test_a_call_of_the_heartbeat_is_over_when_that_says_so(begun: Recorder) -> None:
    for folder in ("/a", "/b", "/a"):
        begun.call(f"no room in {folder}", cause=Cause.DISK_SHORT, key=folder)
    begun.experiment("works", 0.999)
    begun.state(RunState.RUNNING)
    begun.journal.note(begun.run.id, EventKind.RUN_RECOVERED, reason="started again")
    assert calls(begun) == ("no room in /a", "no room in /b")
    begun.journal.note(begun.run.id, EventKind.RESOLVED, cause=Cause.DISK_SHORT, key="/a")
    assert calls(begun) == ("no room in /b",)
    begun.state(RunState.DONE)
    assert calls(begun) == ()


def test_a_call_about_another_repository_is_over_when_the_run_goes_on(begun: Recorder) -> None:
    begun.call("/resume goes on with it", cause=Cause.REPOSITORY, key="", state="/other")
    begun.state(RunState.PAUSED)
    begun.experiment("what was under way", 0.999)
    assert calls(begun) == ("/resume goes on with it",)
    begun.state(RunState.RUNNING)
    assert calls(begun) == ()


def test_the_json_has_the_contract_s_keys_and_more(recorder: Recorder) -> None:
    read = json.loads(json.dumps(fruitful(recorder).to_json(), allow_nan=False))
    wanted = "tag experiments keep discard crash skipped baseline best best_commit gain gains ledger"
    assert set(wanted.split()) <= set(read)
    assert set(read["gains"][0]) == {"number", "commit", "description", "gain"}
    assert read["bill"]["gpu_dollars"] == pytest.approx(15.79, abs=0.01)
    assert read["calls"] == []


def test_a_bare_file_has_no_ledger_and_no_bill() -> None:
    read = WakeUpReport(report=make_report([], metric="val_bpb", goal=Goal.MINIMIZE)).to_json()
    assert "ledger" not in read
    assert read["bill"] == dict.fromkeys(to_json(Bill()))
