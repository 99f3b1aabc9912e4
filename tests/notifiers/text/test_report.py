from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.experiment import Actor, Cost, Goal, Run, RunState, Status
from loop.results.ledger import Bill, Ledger, Spent
from loop.results.report import Outlook, WakeUpReport, make_report
from loop.store.experiments import Idea, Row
from notifiers.text.report import WIDTH, ledger_lines, report_message
from notifiers.text.results import PHONE, log_message, results_message
from tests.notifiers.golden import check, check_one
from tests.notifiers.text.test_digest import EXPERIMENT

RUN = Run(
    id=1,
    tag="mar12",
    repository=Path("/home/ada/nano"),
    base_branch="main",
    base_commit="228791f0000000000000000000000000000000000",
    metric="val_bpb",
    goal=Goal.MINIMIZE,
    time_budget=300.0,
    state=RunState.RUNNING,
    created_at=0.0,
)
EVENING = datetime(2026, 3, 12, 22, 58, tzinfo=UTC).timestamp()
_EACH = "Per 0.001: 25 min of GPU"
KEEP, DISCARD, CRASH, SKIP = Status.KEEP, Status.DISCARD, Status.CRASH, Status.SKIP


def night(*experiments: tuple[Status, float | None, str], timed: bool = True) -> list[Row]:
    """Rows of trainings that each took 330 s, 300 s of them training, and began every 6 minutes."""
    made = []
    for number, (status, value, description) in enumerate(experiments):
        row = Row(number, f"{number:07x}", value, 44.0, status, description)
        if timed and status is not SKIP:
            start = EVENING + 360 * number
            row = replace(
                row, started_at=start, ended_at=start + 330, training_seconds=300.0 if value else None
            )
        made.append(row)
    return made


def told(rows: list[Row], run: Run | None = None, *, goal: Goal = Goal.MINIMIZE) -> str:
    report = make_report(rows, metric="val_bpb", goal=goal, tag="mar12")
    return report_message(WakeUpReport(report=report, run=run)).text


FRUITFUL = (
    (KEEP, 0.9979, "baseline"),
    (KEEP, 0.986041, "halve batch size"),
    (CRASH, None, "double model width"),
    (KEEP, 0.981773, "depth 8 → 9, aspect ratio 64 → 57, width 640"),
    (DISCARD, 0.99, "GELU"),
    (KEEP, 0.981201, "warmdown ratio 0.5 → 0.7"),
    (SKIP, None, "weight tying"),
    (KEEP, 0.980903, "window SSSL → SSSSL"),
    (KEEP, 0.979969, "short window T/2 → T/8"),
    (KEEP, 0.978784, "rotary base 10K → 200K"),
    (KEEP, 0.978784, "drop an unused helper"),
    (DISCARD, 0.98, "seed 137"),
)


def on_a_file(rows: list[Row]) -> str:
    report = make_report(rows, metric="val_bpb", goal=Goal.MINIMIZE)
    return report_message(WakeUpReport(report=report)).text


def test_reports_read_as_they_did() -> None:
    why = {"text": "the proposer is unavailable"}
    paused = replace(RUN, state=RunState.PAUSED, state_by=Actor.LOOP, state_facts=why)
    stopped = replace(RUN, state=RunState.STOPPED)
    rows = {
        "no gain": ((KEEP, 0.9979, "baseline"), (DISCARD, 0.998, "GELU")),
        "a baseline that crashed": ((CRASH, None, "baseline"), (KEEP, 0.99, "shorter context")),
        "nothing kept in a file of others": ((DISCARD, 0.99, "baseline"), (CRASH, None, "OOM")),
        "a keep without a number": ((KEEP, None, "baseline"), (DISCARD, 0.99, "GELU")),
        "one crash": ((CRASH, None, "baseline"),),
        "two crashes": ((CRASH, None, "idea"),) * 2,
    }
    texts = {
        "a fruitful night": told(night(*FRUITFUL), RUN),
        "a file without times or a run": on_a_file(night(*FRUITFUL[:3], timed=False)),
        "nothing happened": told([]),
        "nothing happened and paused": told([], paused),
        "only a skip": told(night((SKIP, None, "baseline"))),
        "an empty file": on_a_file([]),
        "everything crashed": told(night(*[(CRASH, None, "idea")] * 5), stopped),
        "only the baseline": told(night(FRUITFUL[0])),
    }
    check("reports", texts | {title: told(night(*each, timed=False)) for title, each in rows.items()})


def test_who_paused_is_no_reason() -> None:
    paused = replace(RUN, state=RunState.PAUSED, state_by=Actor.PERSON, state_name="ada")
    assert told([], paused).endswith("\n\nPaused by ada")


def test_what_is_under_way_is_told_where_nothing_waits() -> None:
    outlook = Outlook(under_way="#3 halve batch size")
    report = make_report(night(FRUITFUL[0], timed=False), metric="val_bpb", goal=Goal.MINIMIZE)

    def last(run: Run, outlook: Outlook) -> str:
        return report_message(WakeUpReport(report=report, run=run, outlook=outlook)).text.split("\n\n")[-1]

    assert last(RUN, outlook) == "Now: #3 halve batch size\nStill running"
    assert last(RUN, replace(outlook, ready="GELU")) == "Next: GELU\nStill running"
    paused = replace(RUN, state=RunState.PAUSED)
    look = "Best: git switch --detach autoresearch/mar12"
    assert last(paused, outlook) == f"Next: #3 halve batch size\n{look}\nPaused"
    killed = WakeUpReport(report=make_report(night(*FRUITFUL), metric="val_bpb", goal=Goal.MINIMIZE), run=RUN)
    assert report_message(killed, state="No bot").text.endswith(f"\n{look}\nNo bot")


def test_who_had_the_next_idea_is_told_after_a_long_one() -> None:
    wish = Idea(1, 1, "a cosine schedule with warm restarts, as in the paper", "ada", "", "")
    report = make_report([], metric="val_bpb", goal=Goal.MINIMIZE)
    text = report_message(WakeUpReport(report=report, run=RUN, outlook=Outlook(idea=wish))).text
    assert "\nNext: a cosine schedule with warm restarts, as in the paper (idea of ada)\n" in text


def test_more_can_be_better() -> None:
    text = told(night((KEEP, 0.5, "baseline"), (KEEP, 0.7, "wider"), timed=False), goal=Goal.MAXIMIZE)
    assert "val_bpb 0.500000 → 0.700000 (+0.200000)" in text
    assert "#1 +0.200000 wider" in text


def test_what_is_taken_over_took_none_of_the_time() -> None:
    theirs = [replace(row, proposer="before the bot") for row in night(*FRUITFUL[:3], timed=False)]
    text = told([*theirs, *night(*FRUITFUL[:6])])
    assert text.startswith("mar12: 6 experiments in 36 min, 3 taken over\n")
    assert "10.1 per hour" in text


def test_the_rate_is_of_all_lanes_together_and_a_pause_of_all_is_as_long_as_of_one() -> None:
    report = make_report(night(*FRUITFUL), metric="val_bpb", goal=Goal.MINIMIZE)
    seconds = dict.fromkeys(Spent, 0.0) | {Spent.TRAINING: 4 * 2700.0, Spent.WAITING: 4 * 900.0}
    spent = Ledger(EVENING, EVENING + 3600, seconds, lanes=4)
    text = report_message(WakeUpReport(report=report, ledger=spent)).text
    assert f"{11 * 3600 / 2700:.1f} per hour" in text
    assert "Training 75 % · lost 15 min\nPaused 15 min\n" in text


def test_a_run_over_days_tells_its_dates_in_the_zone_of_the_reader() -> None:
    rows = night(*FRUITFUL[:2])
    rows[1] = replace(rows[1], ended_at=EVENING + 40 * 3600)
    report = make_report(rows, metric="val_bpb", goal=Goal.MINIMIZE, tag="mar12")
    text = report_message(WakeUpReport(report=report), zone=ZoneInfo("America/New_York")).text
    assert text.endswith("\n2026-03-12 18:58 → 2026-03-14 10:58\nLast keep #1")  # and not "0 % training"
    assert text.startswith("mar12: 2 experiments in 40 h\n")


@pytest.mark.parametrize(
    ("hours", "words"),
    [(8, "8 h"), (23.9, "23 h 54 min"), (24, "24 h"), (47.5, "47 h 30 min"), (48, "2 d"), (75, "3 d 3 h")],
)
def test_a_day_and_a_night_are_told_in_hours(hours: float, words: str) -> None:
    rows = night(*FRUITFUL[:2])
    rows[1] = replace(rows[1], ended_at=EVENING + 3600 * hours)
    assert told(rows).startswith(f"mar12: 2 experiments in {words}\n")


@pytest.mark.parametrize(
    ("description", "shown"),
    [
        ("LEARNING_RATE 0.03 → 0.025, DEPTH 8 → 9, WIDTH 512 → 640", "LEARNING_RATE 0.03 → 0.025 and 2 more"),
        (
            "ADAM_BETAS (0.9, 0.95) → (0.8, 0.95), DEPTH 8 → 9",
            "ADAM_BETAS (0.9, 0.95) → (0.8, 0.95) and 1 more",
        ),
        ("UNEMBEDDING_LEARNING_RATE 0.004 → 0.006", "UNEMBEDDING_LEARNING_RATE 0.004 → 0.006"),
        ("replace the two-stage schedule by a single cosine", "replace the two-stage schedule…"),
    ],
)
def test_a_change_among_the_largest_gains_is_whole(description: str, shown: str) -> None:
    text = told(night((KEEP, 0.9, "baseline"), (KEEP, 0.8, description), timed=False))
    assert f"\n#1 -0.100000 {shown}\n" in text
    report = make_report(
        night((KEEP, 0.9, ""), (KEEP, 0.8, description)), metric="val_bpb", goal=Goal.MINIMIZE
    )
    assert description in report_message(WakeUpReport(report=report), width=100).text


def test_more_training_than_time_is_all_of_it() -> None:
    rows = [replace(row, training_seconds=400.0) for row in night(*FRUITFUL[:2])]
    assert "100 % training" in told(rows)


@pytest.mark.parametrize(
    ("spent", "seconds", "price", "lines"),
    [
        (1.84, None, None, ["$1.84 for models", "Per 0.001: $0.10"]),
        (0.01, None, None, ["$0.01 for models", "Per 0.001: under $0.01"]),
        (4321.0, None, None, ["$4,321 for models · Per 0.001: $226"]),
        (1.84, 28_440.0, 2.0, ["$15.80 for 7.9 GPU hours · $1.84 for models", _EACH + ", $0.92"]),
        (None, 28_440.0, 2.0, ["$15.80 for 7.9 GPU hours", _EACH + ", $0.83"]),
        (None, 28_440.0, None, ["7.9 GPU hours", _EACH]),
        (None, 1500.0, 0.0, ["$0.00 for 25 GPU minutes", "Per 0.001: 1 min 18 s of GPU"]),
        (None, 60.0, None, ["1 GPU minute · Per 0.001: 3 s of GPU"]),
        (None, 59.0, 2.0, []),
        (0.0, None, None, []),
        (None, None, None, []),
    ],
)
def test_what_it_cost_as_far_as_anybody_knows(
    spent: float | None, seconds: float | None, price: float | None, lines: list[str]
) -> None:
    cost = None if spent is None else Cost(900_000, 500_000, 20_000, spent)
    report = make_report(night(*FRUITFUL, timed=False), metric="val_bpb", goal=Goal.MINIMIZE, spent=cost)
    bill = Bill(report.gain, report.dollars, seconds, price)
    text = report_message(WakeUpReport(report=report, run=RUN, bill=bill)).text
    told = text.split("\n\n")[-2].split("\n")[1:]
    assert " · ".join(told) == " · ".join(lines)


def test_tokens_of_unknown_price_are_counted() -> None:
    cost = Cost(900_000, 500_000, 20_000, None)
    report = make_report(night(*FRUITFUL, timed=False), metric="val_bpb", goal=Goal.MINIMIZE, spent=cost)
    assert "\n920,000 tokens, price unknown" in report_message(WakeUpReport(report=report)).text


def test_money_without_a_gain_has_no_rate() -> None:
    rows = night(FRUITFUL[0], timed=False)
    report = make_report(rows, metric="val_bpb", goal=Goal.MINIMIZE, spent=Cost(1, 0, 1, 0.5))
    text = report_message(WakeUpReport(report=report, bill=Bill(report.gain, report.dollars))).text
    assert text.endswith("\n\n$0.50 for models")


def test_the_reason_of_a_pause_is_one_line_and_bounded() -> None:
    paused = replace(
        RUN, state=RunState.PAUSED, state_by=Actor.LOOP, state_facts={"text": "CUDA\nerror " * 50}
    )
    last = told(night(FRUITFUL[0]), paused).splitlines()[-1]
    assert last.startswith("Paused: CUDA error CUDA error")
    assert len(last) <= 2 * WIDTH


@st.composite
def nights(draw: st.DrawFn) -> list[Row]:
    experiments = st.tuples(st.sampled_from(Status), st.floats(-2, 2), st.text(max_size=60))
    return [
        Row(
            number=number,
            commit="a1b2c3d",
            value=value if status in (KEEP, DISCARD) else None,
            memory_gb=0.0,
            status=status,
            description=description,
            started_at=EVENING + 100 * number,
            ended_at=EVENING + 100 * number + draw(st.sampled_from([0, 60, 100000])),
            training_seconds=draw(st.sampled_from([None, 50.0])),
        )
        for number, (status, value, description) in enumerate(draw(st.lists(experiments, max_size=12)))
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nights(), st.sampled_from(Goal))
def test_any_night_fits_the_screen(rows: list[Row], goal: Goal) -> None:
    text = told(rows, RUN, goal=goal)
    lines = text.split("\n")
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 44
    assert "-0.000000" not in text
    assert "\n\n\n" not in text
    assert text == text.strip()
    assert "Gain\n\n" not in text
    assert "gains\n\n" not in text


# The table of results


def test_the_last_results_as_a_table() -> None:
    rows = night(*FRUITFUL)[3:]
    rows[0] = replace(rows[0], best_before=0.986041)
    message = results_message(rows, metric="val_bpb", goal=Goal.MINIMIZE, total=12, tag="mar12", width=56)
    check_one("results", "the last of them", f"{message.text}\n{message.block}")


def test_the_table_has_the_mean_of_what_was_repeated() -> None:
    first, second, third = night(*FRUITFUL[:3])
    rows = [replace(first, repeats=(0.9981, 0.9985)), replace(second, repeats=(None,)), third]
    message = results_message(rows, metric="val_bpb", goal=Goal.MINIMIZE, total=3)
    check_one("results", "with repeats", message.block)


@pytest.mark.parametrize(
    ("total", "text"),
    [(3, "3 results"), (4, "the last 3 of 4 results"), (1234, "the last 3 of 1,234 results")],
)
def test_the_table_says_how_many_it_shows(total: int, text: str) -> None:
    message = results_message(night(*FRUITFUL[:3]), metric="val_bpb", goal=Goal.MINIMIZE, total=total)
    assert message.text == text
    one = results_message(night(*FRUITFUL[:1]), metric="val_bpb", goal=Goal.MINIMIZE, total=total)
    assert one.text == f"the last of {total:,} results"


def test_a_table_fits_a_phone() -> None:
    rows = night(*FRUITFUL)
    message = results_message(rows, metric="val_bpb", goal=Goal.MINIMIZE, total=12, tag="mar12", width=PHONE)
    assert max(map(len, message.block.splitlines())) <= PHONE == 36
    check_one("results", "on a phone", f"{message.text}\n{message.block}")


def test_no_results_need_no_table() -> None:
    message = results_message([], metric="val_bpb", goal=Goal.MINIMIZE, total=0, tag="mar12")
    check_one("results", "none", f"{message.text}{message.block}")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nights(), st.integers(44, 100))
def test_no_line_of_the_table_is_wider_than_asked_for(rows: list[Row], width: int) -> None:
    message = results_message(rows, metric="val_bpb", goal=Goal.MINIMIZE, total=len(rows), width=width)
    assert all(len(line) <= width for line in message.block.split("\n"))
    assert len(message.block.split("\n")) == 1 + len(rows)


HOUR = 3600.0


def spent(hours: float = 8, **minutes: float) -> Ledger:
    """A ledger over so many hours, all training but the minutes given."""
    seconds = dict.fromkeys(Spent, 0.0) | {Spent(cause): 60 * spent for cause, spent in minutes.items()}
    seconds[Spent.TRAINING] = hours * HOUR - sum(seconds.values())
    return Ledger(0.0, hours * HOUR, seconds)


def test_the_lines_read_as_they_did() -> None:
    ledgers = {
        "a night with losses": spent(overhead=38, crashed=20, bot_down=15, proposing=7),
        "nothing was lost": spent(overhead=38, proposing=0.4),
        "a program that does not print its overhead": spent(),
        "one cause": spent(waiting=72),
        "hardly busy": spent(waiting=478),
        "not busy at all": spent(waiting=480),
        "busy but for a minute": spent(machine_down=1),
        "a night of crashes": spent(1, crashed=58, proposing=2),
        "days": spent(100, interrupted=1830, machine_down=1510, proposing=61),
        "with all that a line can hold": spent(100, overhead=600, interrupted=1830, machine_down=1510),
    }
    check("ledger", {title: "\n".join(ledger_lines(ledger)) for title, ledger in ledgers.items()})


@pytest.mark.parametrize("hours", [0, 0.01])
def test_a_run_that_just_began_says_nothing(hours: float) -> None:
    assert ledger_lines(spent(hours)) == []


@given(st.fixed_dictionaries({cause: st.integers(0, 60 * 60 * 1000) for cause in Spent}))
def test_every_line_fits_a_phone_and_the_minutes_add_up(seconds: dict[Spent, int]) -> None:
    ledger = Ledger(0.0, float(sum(seconds.values())), seconds)
    lines = ledger_lines(ledger)
    assert len(lines) <= 4
    assert all(len(line) <= WIDTH for line in lines)
    lost, _, causes = "\n".join(lines).lower().partition("lost")[2].partition("\n")
    assert minutes_in(lost) == minutes_in(causes)


def minutes_in(text: str) -> int:
    return sum(int(count) * (60 if unit == "h" else 1) for count, unit in re.findall(r"(\d+) (h|min)", text))


# The end of a log


def test_a_log_is_whole_lines_below_its_numbers() -> None:
    printed = "".join(f"step {step:05} | loss: 3.4{step:04}\n" for step in range(400))
    text = f"{printed}\rprogress 98 %\rprogress 100 %\n\x1b[31mdone\x1b[0m\n"[-3000:]
    block = log_message(EXPERIMENT, text, cut_off=True).block
    numbers, _, lines = block.partition("\n---\n")
    assert numbers.splitlines() == ["val_bpb: 0.986041", "training_seconds: 300.1", "peak_vram_mb: 45060.2"]
    assert lines.splitlines()[-3:] == ["progress 98 %", "progress 100 %", "done"]
    assert len(lines.splitlines()) == 15
    assert all(line.startswith("step ") for line in lines.splitlines()[:-3])
    assert log_message(EXPERIMENT, text, cut_off=True).text == "End of the log of experiment #12 (keep)"


def test_a_log_may_be_empty_and_a_short_one_is_shown_from_its_start() -> None:
    untrained = replace(EXPERIMENT, status=None, training=None)
    assert log_message(untrained, "", cut_off=False).block == "(empty)"
    assert log_message(untrained, "first\nsecond", cut_off=False).block == "first\nsecond"
    assert log_message(untrained, "rst\nsecond", cut_off=True).block == "second"
