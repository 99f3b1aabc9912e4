"""The wake-up report, for one phone screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import assert_never

from loop.experiment import Cost, RunState
from loop.gain import change, is_visible, number, signed, step
from loop.proposers.protocol import SearchMode
from loop.results.ledger import Bill, Ledger, Spent
from loop.results.report import Gain, Report, WakeUpReport
from loop.text import one_line
from notifiers.message import Message
from notifiers.text.certainty import certainty_lines
from notifiers.text.words import (
    capital,
    duration,
    evaluator_text,
    look_at,
    money,
    period,
    plural,
    state_text,
    tally,
    whole_changes,
)

WIDTH = 44  # characters of a line on a phone; a screen has about 25 of them
GAINS = 5  # how many of the largest gains are listed with their descriptions
_SMALL = 0.005  # of the time; a smaller share is not worth a word
_ENOUGH = 5  # experiments from which a rate means something
_SEARCH_MODES = {
    SearchMode.COMBINATION: "combining near misses",
    SearchMode.REREADING: "rereading the fixed files",
    SearchMode.RADICAL: "a radical change",
    SearchMode.SIMPLIFICATION: "less code",
}


def report_message(
    night: WakeUpReport, *, zone: tzinfo = UTC, heading: str = "", state: str = "", width: int = WIDTH
) -> Message:
    """Return the report in words; `zone` is for the times shown, `width` what a line of gains may take.

    A `heading` says what the run does now in the place of the last lines, `state` in the last line.
    """
    report = night.report
    unchecked = [evaluator_text("")] if night.evaluated is False and report.best is not None else []
    now = [] if heading else _now(night, state)
    spent = ledger_lines(night.ledger, on_gpu=night.bill.gpu_seconds is not None) if night.ledger else []
    parts = (
        [_long(heading)] if heading else [],
        [_title(night, zone), *_headline(report), *_whole(night), *unchecked],
        [_long(line) for line in certainty_lines(night.certainty)] if night.certainty else [],
        _gains(report, width),
        [*spent, *_pace(night, zone, with_share=not spent), *flow(bill_phrases(night.bill, report.spent))],
        [*_next(night), *_calls(night), *now],
    )
    return Message("\n\n".join("\n".join(part) for part in parts if part))


def _title(night: WakeUpReport, zone: tzinfo) -> str:
    report, (start, end) = night.report, _span(night)
    text = plural(report.made, "experiment")
    if not report.experiments:
        since = None if night.since is None else _moment(night.since, night.ledger, zone)
        text = f"no result since {since}" if since else "no results yet"
    elif start is not None and end is not None:
        if report.taken_over:
            text = plural(report.experiments - report.taken_over, "experiment")
        text += f" in {_hours(end - start)}"
        text += f", {report.taken_over:,} taken over" if report.taken_over else ""
    return f"{report.tag}: {text}" if report.tag else capital(text)


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
    counts = _counts(report)
    if report.best is not None:
        return [_best(report), *counts]
    before = [] if report.before is None else [_metric(report, report.before, ", unchanged")]
    if report.experiments == 0:
        return [*before, *(counts if report.skipped else [])]
    if report.crash == report.experiments:
        crashed = {1: "It crashed", 2: "Both crashed"}.get(report.crash, f"All {report.crash:,} crashed")
        lines = [crashed, *before] if before else [_fit(f"{crashed}: no {report.metric} yet")]
        return lines + (counts if report.made > report.crash else [])
    nothing = _fit(f"Kept without a {report.metric}") if report.keep else "Nothing was kept"
    return [*(before or [nothing]), *counts]


def headline_of(report: Report) -> tuple[str, str]:
    """Return the best before and after, or why there is none; then the change, empty where there is none."""
    if report.experiments == 0:
        return "no results yet", ""
    if report.best is None:
        if report.keep:
            return f"what was kept has no {report.metric}", ""
        return ("nothing was kept" if report.discard else f"no {report.metric} yet"), ""
    best = number(report.best, report.like)
    if report.baseline is None:
        return f"{best} at #{report.best_number}", ""
    if report.gain:
        return f"{number(report.baseline)} → {best}", change(report.baseline, report.best)
    return f"{best}{_unbeaten(report)}", ""


def _counts(report: Report) -> list[str]:
    """Return what became of all that was made; the baseline is no gain."""
    gains = [plural(len(report.gains), "improvement")] if report.gains else []
    return flow([*tally(report), *gains])


def _metric(report: Report, value: float, rest: str) -> str:
    known = f"{number(value, report.like)}{rest}"
    return f"{one_line(report.metric, max(6, WIDTH - 1 - len(known)))} {known}"


def _best(report: Report) -> str:
    assert report.best is not None
    before = report.baseline if report.before is None else report.before
    if before is None:
        return _metric(report, report.best, f" at #{report.best_number}, no baseline")
    if report.gain:
        return _metric(
            report, before, f" → {number(report.best, report.like)} ({change(before, report.best)})"
        )
    if report.before is not None:
        return _metric(report, before, ", unchanged")
    return _metric(report, report.best, _unbeaten(report))


def _unbeaten(report: Report) -> str:
    return ", the baseline" if report.experiments == 1 else "; nothing beat the baseline"


def _whole(night: WakeUpReport) -> list[str]:
    whole = night.whole
    if whole is None:
        return []
    line = f"Whole run: {plural(whole.made, 'experiment')}"
    if whole.baseline is not None and whole.best is not None and whole.gain:
        line += f", {change(whole.baseline, whole.best)}"
    return [line]


def visible_gains(report: Report) -> tuple[Gain, ...]:
    return tuple(gain for gain in report.gains if is_visible(gain.gain, report.like))


def _gains(report: Report, width: int) -> list[str]:
    gains = visible_gains(report)[:GAINS]
    if not gains:
        return []
    lines = []
    for gain in gains:
        head = f"#{gain.number} {signed(-report.goal.sign * gain.gain, report.like)} "
        lines.append(head + whole_changes(gain.description, width - len(head)))
    return ["Largest gains" if len(gains) > 1 else "Gain", *lines]


def _pace(night: WakeUpReport, zone: tzinfo, *, with_share: bool) -> list[str]:
    phrases = []
    report, (start, end) = night.report, _span(night)
    own, share = report.experiments - report.taken_over, report.training_share
    if own and start is not None and end is not None:
        phrases.append(period(start, end, zone))
        running = night.ledger.running if night.ledger else end - start
        rate = 3600 * own / running if running > 0 else 0.0
        if rate >= 1 and own >= _ENOUGH:
            phrases.append(f"{rate:.1f} per hour" if rate < 100 else f"{rate:,.0f} per hour")
    if share is not None and share >= _SMALL and with_share:
        phrases.append(f"{100 * min(1.0, share):.0f} % training")
    if report.gains:
        phrases.append(f"last keep #{report.last_keep_number}")
    return flow(phrases)


def flow(phrases: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for phrase in phrases:
        if lines and len(f"{lines[-1]} · {phrase}") <= WIDTH:
            lines[-1] += f" · {phrase}"
        else:
            lines.append(phrase)
    return list(map(capital, lines))


def _next(night: WakeUpReport) -> list[str]:
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
        coming = coming or _SEARCH_MODES[outlook.search_mode]
    if coming:
        return [*stuck, _long(f"Next: {coming}")]
    if not outlook.under_way:
        return stuck
    trains = night.run.state in (RunState.RUNNING, RunState.PAUSING)
    return [*stuck, _long(f"{'Now' if trains else 'Next'}: {outlook.under_way}")]


def _calls(night: WakeUpReport) -> list[str]:
    if not night.calls:
        return []
    *others, last = night.calls
    more = f" (and {len(others)} more)" if others else ""
    return [f"Needs you: {one_line(last, 2 * WIDTH - 11 - len(more))}{more}"]


def _now(night: WakeUpReport, told: str) -> list[str]:
    """Return what the run does now; of one that does not train also how to look at its best program."""
    run, best = night.run, (night.whole or night.report).best
    if run is None:
        return [told] if told else []
    trains = run.state in (RunState.RUNNING, RunState.PAUSING) and not told
    look = [] if trains or best is None else [f"Best: {look_at(run.tag)}"]
    reason = None if run.state is RunState.RUNNING else run.reason
    return [*look, told or _long(state_text(_state_word(run.state), reason))]


def _fit(line: str) -> str:
    return one_line(line, WIDTH)


def _long(line: str) -> str:
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


# What it cost


def spent_text(cause: Spent) -> str:
    """Return what time went to, in a word or two."""
    match cause:
        case Spent.TRAINING:
            return "training"
        case Spent.OVERHEAD:
            return "start-up and evaluation"
        case Spent.PROPOSING:
            return "gaps"  # between trainings: proposals, scores, git
        case Spent.CRASHED:
            return "crashed"
        case Spent.INTERRUPTED:
            return "interrupted"
        case Spent.WAITING:
            return "paused"
        case Spent.BOT_DOWN:
            return "bot down"
        case Spent.MACHINE_DOWN:
            return "machine down"
        case _:
            assert_never(cause)


def ledger_lines(ledger: Ledger, *, on_gpu: bool = True) -> list[str]:
    """Return how the time was spent and, if whole minutes were lost, on what; of a lane on average.

    A run that has just begun gives none.
    """
    share = ledger.busy_share
    if share is None or ledger.total < 60:
        return []
    minutes = [(cause, round(spent / ledger.lanes / 60)) for cause, spent in ledger.lost]
    lost = {spent_text(cause): spent for cause, spent in minutes if spent}
    overhead = ledger.seconds[Spent.OVERHEAD] / ledger.total
    phrases = [f"{'GPU busy' if on_gpu else 'Training'} {_percent(share)}"] if share >= _SMALL else []
    if overhead >= _SMALL:
        phrases.append(f"overhead {_percent(overhead)}")
    phrases.append(f"lost {_minutes(sum(lost.values()))}" if lost else "nothing lost")
    return [*flow(phrases), *(_causes(lost) if lost else [])]


def _percent(share: float) -> str:
    return f"{round(100 * share) if share == 1 else min(99, round(100 * share))} %"


def _causes(minutes: dict[str, int]) -> list[str]:
    """Name the largest causes, as many as one line holds beside the sum of the others."""
    named = [f"{word} {_minutes(spent)}" for word, spent in minutes.items()]
    for count in range(len(named), 0, -1):
        others = sum([*minutes.values()][count:])
        parts = [*named[:count], *([f"other {_minutes(others)}"] if others else [])]
        if len(line := ", ".join(parts)) <= WIDTH:
            return [capital(line)]
    return list(map(capital, parts))


def _minutes(minutes: int) -> str:
    """Return a time without days: those of several causes add up as they are written."""
    hours, rest = divmod(minutes, 60)
    return " ".join([*([f"{hours} h"] if hours else []), *([f"{rest} min"] if rest or not hours else [])])


def bill_phrases(bill: Bill, spent: Cost | None) -> list[str]:
    """Return what the GPU and the models cost as far as it is known, and what the gain did.

    `spent` is what the models were asked, None where none was. Less than a minute of the GPU is left out.
    """
    phrases = []
    if bill.gpu_seconds is not None and bill.gpu_seconds < 60:
        bill = replace(bill, gpu_seconds=None)
    if bill.gpu_seconds is not None:
        time, price = _gpu_time(bill.gpu_seconds), bill.gpu_dollars
        phrases.append(time if price is None else f"{money(price)} for {time}")
    if spent is not None and spent.dollars is None:
        phrases.append(f"{f'{spent.tokens:,} tokens' if spent.tokens else 'models'}, price unknown")
    elif bill.model_dollars:
        phrases.append(f"{money(bill.model_dollars)} for models")
    seconds, dollars = bill.gpu_seconds_per_thousandth, bill.dollars_per_thousandth
    each = [] if seconds is None else [f"{duration(seconds)} of GPU"]
    each += [money(dollars)] if dollars else []
    return [*phrases, f"Per {step(bill.like):g}: {', '.join(each)}"] if each else phrases


def _gpu_time(seconds: float) -> str:
    if seconds < 3600:
        return plural(round(seconds / 60), "GPU minute")
    return f"{seconds / 3600:,.1f} GPU hours"
