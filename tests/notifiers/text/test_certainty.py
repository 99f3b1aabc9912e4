from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loop.evaluation.certainty import Certainty, read_certainty
from loop.evaluation.certification import Kept
from loop.evaluation.noise import Noise
from loop.evidence import Certified
from loop.experiment import Event, EventKind, Goal, RunState, Status
from loop.results.report import read_wakeup_report
from loop.store.evidence.certifications import Certifications
from notifiers.text.certainty import certified_line, doubtful_lines, gain_text
from notifiers.text.notification import Notification, Topic, buttons_under
from notifiers.text.report import report_message
from tests.notifiers.golden import check
from tests.notifiers.mornings import open_recorder
from tests.notifiers.text.test_digest import PRUNED, RUN, event

FOUND = Certified(0.0205, 0.0148, 0.0262, 3)
KNOWN = Certainty(Goal.MINIMIZE, 12, 0.0282, FOUND, noise=Noise(0.0005, 4))
OWN = Certified(0.0001, -0.0007, 0.0009, 2)


def test_what_is_certain_reads_as_it_did() -> None:
    keeps = (Kept(1, 0.02), Kept(3, 0.0004), Kept(5, 0.0001))
    told = {
        "certified": KNOWN,
        "higher is better": replace(KNOWN, goal=Goal.MAXIMIZE),
        "no gain is certain": replace(KNOWN, certified=Certified(0.001, -0.002, 0.004, 3)),
        "outdated": replace(KNOWN, outdated=True),
        "under way": Certainty(Goal.MINIMIZE, under_way=True),
        "a hint": replace(KNOWN, keeps=keeps),
        "one left out": replace(KNOWN, keeps=(*keeps[:2], Kept(5, 0.0001, OWN))),
        "each missed": replace(KNOWN, keeps=(Kept(1, 0.02, FOUND),)),
        "nothing known": Certainty(Goal.MINIMIZE),
    }
    texts = {
        title: "\n".join([certified_line(known), *doubtful_lines(known)]).strip() or "(nothing)"
        for title, known in told.items()
    }
    check("certainty", texts)


def test_digits_follow_the_interval_and_equal_numbers_have_none() -> None:
    assert gain_text(Certified(0.05, 0.05, 0.05, 2), None, Goal.MINIMIZE) == (
        "certified -0.050000 (-0.050000 … -0.050000, 2 × 2 repeats)"
    )
    wide = gain_text(Certified(12.0, 8.0, 16.0, 2), 13.0, Goal.MAXIMIZE)
    assert wide == "recorded +13, certified +12 (+8 … +16, 2 × 2 repeats)"


def test_one_button_removes_what_brings_nothing() -> None:
    (row,) = buttons_under(notification(event(EventKind.PRUNED, **PRUNED)))
    assert [(button.label, button.command) for button in row] == [("Remove #9, #3", "/prune 9 3")]
    kept = notification(event(EventKind.PRUNED, **PRUNED | {"removable": []}))
    assert not any("Remove" in button.label for row in buttons_under(kept) for button in row)


def notification(happened: Event) -> Notification:
    return Notification(happened, RUN, None, Topic.RUN)


def test_a_report_tells_what_was_certified_by_then_and_that_it_is_outdated(tmp_path: Path) -> None:
    with open_recorder(tmp_path) as recorder:
        recorder.at("12 22:00")
        recorder.begin()
        for description, value in (("baseline", 1.0), ("deeper", 0.97)):
            recorder.train(description)
            recorder.end(value)
        store = Certifications(recorder.journal)
        store.begin(store.ask(recorder.run.id, 3), 1, 0, [])
        (begun,) = store.of(recorder.run.id)
        recorder.at("13 06:00")
        assert read_certainty(recorder.journal, recorder.run).under_way
        stopped = replace(recorder.run, state=RunState.STOPPED)  # which ends it in a moment
        assert not read_certainty(recorder.journal, stopped).under_way
        store.end(begun, FOUND, "", recorded=0.03)
        night = read_wakeup_report(recorder.journal, recorder.run, until=recorder.now)
        assert night.to_json()["certified"] == {"gain": 0.0205, "low": 0.0148, "high": 0.0262, "repeats": 3}
        line = "Recorded -0.0300, certified -0.0205 (-0.0262 … -0.0148, 2 × 3 repeats)"
        assert line in report_message(night).text.splitlines()
        before = read_wakeup_report(recorder.journal, recorder.run, until=recorder.now - 60)
        assert before.to_json()["certified"] is None
        recorder.train("wider")
        recorder.end(0.96)
        assert recorder.journal.experiments(recorder.run.id)[-1].status is Status.KEEP
        later = read_wakeup_report(recorder.journal, recorder.run, until=recorder.now)
        assert later.to_json()["certified"] is None
        outdated = "Outdated, #1: recorded -0.0300, certified -0.0205"
        assert outdated in report_message(later).text
