from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.experiment import Actor, Cause, EventKind, Goal, Reason, RunState
from loop.proposers.protocol import SearchMode
from loop.results.ledger import Spent
from loop.results.report import make_report
from loop.results.wakeup_report import Bill, WakeUpReport, read_wakeup_report
from tests.notifiers.mornings import IDEAS, Recorder, fruitful, open_recorder, second_night


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
    assert Bill(models=1.5).dollars == 1.5
    whole = Bill(gain=0.01, models=1.5, gpu_seconds=7200, gpu_price=2.0)
    assert (whole.gpu_dollars, whole.dollars) == (4.0, 5.5)
    assert whole.dollars_per_thousandth == pytest.approx(0.55)
    assert whole.gpu_seconds_per_thousandth == pytest.approx(720)
    for gain in (None, 0.0, -0.1):
        bill = Bill(gain=gain, models=1.0, gpu_seconds=60, gpu_price=1.0)
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
    assert read["bill"] == dict.fromkeys(Bill().to_json())
