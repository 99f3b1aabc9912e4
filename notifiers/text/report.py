"""A wake-up report for one phone screen, and the table of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import assert_never

from loop.experiment import Cost, Goal, Run, RunState
from loop.proposers.protocol import SearchMode
from loop.results.gains import bests_before
from loop.results.ledger import Ledger, Spent
from loop.results.report import Gain, Report
from loop.results.wakeup_report import Bill, WakeUpReport
from loop.store.experiments import Row
from loop.text import one_line
from notifiers.message import Message
from notifiers.text.reasons import state_text
from notifiers.text.words import change, duration, money, number, period, plural, signed

_WIDTH = 44  # characters of a line on a phone
_WORDS = {
    Spent.PROPOSING: "proposing",
    Spent.CRASHED: "crashed work",
    Spent.INTERRUPTED: "interrupted work",
    Spent.WAITING: "on hold",
    Spent.BOT_DOWN: "bot down",
    Spent.MACHINE_DOWN: "machine down",
}


def ledger_lines(ledger: Ledger) -> list[str]:
    """Return one line on how the time was spent and one on what was lost, if whole minutes were.

    A run that has just begun gives none.
    """
    share = ledger.busy_share
    if share is None or ledger.total < 60:
        return []
    minutes = {_WORDS[cause]: round(spent / 60) for cause, spent in ledger.lost if round(spent / 60)}
    overhead = ledger.seconds[Spent.OVERHEAD] / ledger.total
    phrases = [
        f"GPU busy {_percent(share)}",
        *([f"overhead {_percent(overhead)}"] if overhead >= 0.005 else []),
        f"lost {_clock(sum(minutes.values()))}" if minutes else "nothing lost",
    ]
    return [" · ".join(phrases), *([_causes(minutes)] if minutes else [])]


def _percent(share: float) -> str:
    """Return a share rounded, but never as all or nothing where it is neither."""
    if 0 < share < 0.005:
        return "<1 %"
    return f"{round(100 * share) if share == 1 else min(99, round(100 * share))} %"


def _causes(minutes: dict[str, int]) -> str:
    """Name the largest causes, as many as one line holds beside the sum of the others."""
    named = [f"{word} {_clock(spent)}" for word, spent in minutes.items()]
    for count in range(len(named), 0, -1):
        others = sum([*minutes.values()][count:])
        line = ", ".join([*named[:count], *([f"other {_clock(others)}"] if others else [])])
        if len(line) <= _WIDTH:
            break
    return line[0].upper() + line[1:]


def _clock(minutes: int) -> str:
    """Return hours and minutes: `0:42`."""
    return f"{minutes // 60}:{minutes % 60:02}"


def bill_phrases(bill: Bill, spent: Cost | None) -> list[str]:
    """Return what the GPU and the models cost as far as anybody knows, and what the gain did.

    `spent` is what the models were asked, None where none was. Less than a minute of the GPU is not told.
    """
    phrases = []
    if bill.gpu_seconds is not None and bill.gpu_seconds < 60:
        bill = replace(bill, gpu_seconds=None)
    if bill.gpu_seconds is not None:
        time, price = _gpu_time(bill.gpu_seconds), bill.gpu_dollars
        phrases.append(time if price is None else f"{money(price)} for {time}")
    if spent is not None and spent.dollars is None:
        what = f"{spent.tokens:,} tokens" if spent.tokens else "models"
        phrases.append(f"{what}, price unknown")
    elif bill.models:
        phrases.append(f"{money(bill.models)} for models")
    return phrases + _each(bill)


def _each(bill: Bill) -> list[str]:
    """Return what 0.001 of the metric cost, by both measures."""
    seconds, dollars = bill.gpu_seconds_per_thousandth, bill.dollars_per_thousandth
    parts = []
    if seconds is not None:
        parts.append(f"{duration(seconds)} of GPU")
    if dollars:
        parts.append(money(dollars))
    return [f"Each 0.001 took {' and '.join(parts)}"] if parts else []


def _gpu_time(seconds: float) -> str:
    if seconds < 3600:
        return plural(round(seconds / 60), "GPU minute")
    return f"{seconds / 3600:,.1f} GPU hours"


WIDTH = 44
"""Characters of a line on a phone; a screen has about 25 of them."""

_GAINS = 5
_URGES = {
    SearchMode.COMBINATION: "a combination of near misses",
    SearchMode.REREADING: "another look at the fixed files",
    SearchMode.RADICAL: "a radical change",
    SearchMode.SIMPLIFICATION: "less code",
}


def report_message(night: WakeUpReport, *, zone: tzinfo = UTC, heading: str = "", state: str = "") -> Message:
    """Return the report in words; `zone` is for the times shown.

    A `heading` says what the run does now in the place of the last lines, `state` in the last line.
    """
    report = night.report
    spent = ledger_lines(night.ledger) if night.ledger else []
    parts = (
        [_long(heading)] if heading else [],
        [_title(night, zone), *_headline(report), *_whole(night)],
        _gains(report),
        [*spent, *_pace(night, zone, with_share=not spent), *flow(bill_phrases(night.bill, report.spent))],
        [*_next(night), *_calls(night), *([] if heading else [state] if state else _state(night.run))],
    )
    return Message("\n\n".join("\n".join(part) for part in parts if part))


def results_message(
    rows: Sequence[Row],
    *,
    metric: str,
    goal: Goal,
    total: int,
    before: float | None = None,
    tag: str | None = None,
    width: int = 60,
) -> Message:
    """Return `rows`, the last of `total` results, as a table `width` columns wide.

    Δ is to the best value so far, which is `before` in the first row.
    """
    title = f"{tag}: " if tag else ""
    if not rows:
        return Message(f"{title}no results yet")
    count = plural(total, "result")
    if len(rows) < total:
        count = f"the last {len(rows)} of {count}" if len(rows) > 1 else f"the last of {count}"
    cells = [("#", metric, "Δ", "status", "description")]
    for row, best in zip(rows, bests_before(rows, goal, before), strict=True):
        value = "-" if row.value is None else number(row.value)
        delta = "" if row.value is None or best is None else change(best, row.value)
        cells.append((str(row.number), value, delta, row.status, row.description))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = width - sum(widths[:4]) - 4  # four gaps of one space
    table = [
        f"{index:>{widths[0]}} {value:>{widths[1]}} {delta:>{widths[2]}} {status:<{widths[3]}} "
        f"{one_line(description, max(1, left))}".rstrip()
        for index, value, delta, status, description in cells
    ]
    return Message(f"{title}{count}", "\n".join(table))


def _title(night: WakeUpReport, zone: tzinfo) -> str:
    report = night.report
    if not report.experiments:
        if night.since is None:
            return _title_of(report, "no experiment has a result yet")
        return _title_of(report, f"no result since {_moment(night.since, night.ledger, zone)}")
    count = plural(report.experiments, "experiment")
    start, end = _span(night)
    if start is None or end is None:
        return _title_of(report, count)
    return _title_of(report, f"{count} in {_hours(end - start)}")


def _title_of(report: Report, text: str) -> str:
    return f"{report.tag}: {text}" if report.tag else text[0].upper() + text[1:]


def _hours(seconds: float) -> str:
    """Return a span by its hours while there are less than two days of them: a night has no days."""
    if not 23 * 3600 <= seconds < 48 * 3600 - 30:
        return duration(seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _span(night: WakeUpReport) -> tuple[float | None, float | None]:
    """Return when the night began and ended: as told, whatever was done in it; a bare file knows less."""
    ledger = night.ledger
    if ledger is not None and ledger.total >= 60:
        return ledger.started_at, ledger.ended_at
    return night.report.started_at, night.report.ended_at


def _moment(at: float, ledger: Ledger | None, zone: tzinfo) -> str:
    """Return a time of the last day by the clock alone, an earlier one with its date."""
    recent = ledger is not None and ledger.ended_at - at < 86400
    return f"{datetime.fromtimestamp(at, zone):{'%H:%M' if recent else '%Y-%m-%d %H:%M'}}"


def _headline(report: Report) -> list[str]:
    """Return what the metric did, then how the experiments ended where that is not plain from it."""
    counts = {
        "keep": report.keep,
        "discard": report.discard,
        "crash": report.crash,
        "skipped": report.skipped,
    }
    tally = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    if report.experiments == 0:
        best = [_metric(report, report.before, ", as before")] if report.before is not None else []
        return best + ([tally] if tally else [])
    if report.best is not None:
        alone = report.experiments == 1 and not report.skipped and report.before is None
        return [_best(report)] if alone else [_best(report), tally]
    if report.crash == report.experiments:
        crashed = {1: "It crashed", 2: "Both crashed"}.get(report.crash, f"All {report.crash:,} crashed")
        lines = [_fit(f"{crashed}: no {report.metric} yet")]
        if report.before is not None:
            lines = [crashed, _metric(report, report.before, ", as before")]
        return lines + ([tally] if report.skipped else [])
    if report.before is None:
        return [_fit(f"What was kept has no {report.metric}") if report.keep else "Nothing was kept", tally]
    return [_metric(report, report.before, ", as before"), tally]


def _metric(report: Report, value: float, rest: str) -> str:
    """Return the metric's name, its value and the rest of the line; of these only the name may be cut."""
    known = f"{number(value)}{rest}"
    return f"{one_line(report.metric, max(8, WIDTH - 1 - len(known)))} {known}"


def _best(report: Report) -> str:
    assert report.best is not None
    before = report.baseline if report.before is None else report.before
    if before is None:
        return _metric(report, report.best, f" at #{report.best_number}, no baseline")
    if report.gain:
        return _metric(report, before, f" → {number(report.best)} ({change(before, report.best)})")
    if report.before is not None:
        return _metric(report, before, ", as before")
    told = ", the baseline" if report.experiments == 1 else "; nothing beat the baseline"
    return _metric(report, report.best, told)


def _whole(night: WakeUpReport) -> list[str]:
    """Return the line about the whole run, where it is older than the night."""
    whole = night.whole
    if whole is None:
        return []
    line = f"In all {plural(whole.experiments, 'experiment')}"
    if whole.baseline is not None and whole.best is not None and whole.gain:
        line += f", {change(whole.baseline, whole.best)}"
    return [line]


def _gains(report: Report) -> list[str]:
    """Return the largest gains, each as the change of the metric that it was."""
    gains = [gain for gain in report.gains if round(gain.gain, 6) > 0][:_GAINS]
    if not gains:
        return []
    sign = -1 if report.goal is Goal.MINIMIZE else 1
    lines = [f"#{gain.number} {signed(sign * gain.gain)}{_size(gain)} {gain.description}" for gain in gains]
    heading = "Largest gains" if len(gains) > 1 else "The one gain"
    return [heading, *map(_fit, lines)]


def _size(gain: Gain) -> str:
    """Return how many lines it added and removed, where they are known and any."""
    added, removed = gain.lines_added, gain.lines_removed
    return f" +{added} −{removed}" if added is not None and removed is not None and added + removed else ""


def _pace(night: WakeUpReport, zone: tzinfo, *, with_share: bool) -> list[str]:
    """Return when and how fast it went."""
    phrases = []
    report, (start, end) = night.report, _span(night)
    rate, share = 0.0, report.training_share
    if report.experiments and start is not None and end is not None:
        phrases.append(period(start, end, zone))
        rate = 3600 * report.experiments / (end - start) if end > start else 0.0
    if rate >= 1 and report.experiments > 1:
        phrases.append(f"{rate:.1f} an hour" if rate < 100 else f"{rate:,.0f} an hour")
    if share is not None and with_share:
        phrases.append(f"{100 * min(1.0, share):.0f} % training")
    if report.gains:
        phrases.append(f"last keep #{report.last_keep_number}")
    return flow(phrases)


def flow(phrases: Sequence[str]) -> list[str]:
    """Return the phrases in as few lines as hold them."""
    lines: list[str] = []
    for phrase in phrases:
        if lines and len(f"{lines[-1]} · {phrase}") <= WIDTH:
            lines[-1] += f" · {phrase}"
        else:
            lines.append(phrase)
    return [line[0].upper() + line[1:] for line in lines]


def _next(night: WakeUpReport) -> list[str]:
    """Return what is tried next, as far as anybody knows."""
    outlook = night.outlook
    if night.run is None or night.run.state is RunState.STOPPED:
        return []
    if outlook.idea is not None:
        coming = f"{outlook.idea.text} (idea of {outlook.idea.author})"
    else:
        coming = outlook.ready
    stuck = []
    if outlook.search_mode and (night.report.best is not None or night.report.before is not None):
        stuck = [f"No keep for {plural(outlook.idle, 'experiment')}"]
        coming = coming or _URGES[outlook.search_mode]
    if coming:
        return [*stuck, _long(f"Next: {coming}")]
    if not outlook.under_way:
        return stuck
    trains = night.run.state in (RunState.RUNNING, RunState.PAUSING)
    return [*stuck, _long(f"{'Now' if trains else 'Next'}: {outlook.under_way}")]


def _calls(night: WakeUpReport) -> list[str]:
    """Return why a person is needed, the last reason whole and of the others their number."""
    if not night.calls:
        return []
    *others, last = night.calls
    more = f" (and {len(others)} more)" if others else ""
    return [f"Needs you: {one_line(last, 2 * WIDTH - 11 - len(more))}{more}"]


def _state(run: Run | None) -> list[str]:
    if run is None:
        return []
    state = _state_word(run.state)
    if run.state is RunState.RUNNING:
        return [state]
    return [_long(state_text(state, run.reason))]


def _fit(line: str) -> str:
    return one_line(line, WIDTH)


def _long(line: str) -> str:
    """Return a line that a phone may break once."""
    return one_line(line, 2 * WIDTH)


def _state_word(state: RunState) -> str:
    match state:
        case RunState.RUNNING:
            return "Still running"
        case RunState.PAUSING:
            return "Pausing after this experiment"
        case RunState.PAUSED:
            return "Paused"
        case RunState.DONE:
            return "Done"
        case RunState.STOPPED:
            return "Stopped"
        case _:
            assert_never(state)
