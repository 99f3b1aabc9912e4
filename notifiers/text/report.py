"""The wake-up report, for one phone screen, and the description of a bundle for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import assert_never

from loop.experiment import Cost, Experiment, Goal, Run, RunState
from loop.gain import change, is_visible, number, signed, step
from loop.git.bundle import TidyBranch
from loop.proposers.protocol import SearchMode
from loop.results.export import Provenance
from loop.results.ledger import Ledger, Spent
from loop.results.report import Bill, Report, WakeUpReport
from loop.text import one_line
from notifiers.message import Message
from notifiers.text.certainty import certified_line, doubtful_lines
from notifiers.text.words import (
    capital,
    duration,
    evaluator_text,
    look_at,
    money,
    period,
    plural,
    state_text,
)

WIDTH = 44
"""Characters of a line on a phone; a screen has about 25 of them."""

CHART = "progress.png"
"""The name of the picture that the text refers to."""

_GAINS = 5
_LOST = {
    Spent.PROPOSING: "proposing",
    Spent.CRASHED: "crashed",
    Spent.INTERRUPTED: "interrupted",
    Spent.WAITING: "paused",
    Spent.BOT_DOWN: "bot down",
    Spent.MACHINE_DOWN: "machine down",
}
_SEARCH_MODES = {
    SearchMode.COMBINATION: "combining near misses",
    SearchMode.REREADING: "rereading the fixed files",
    SearchMode.RADICAL: "a radical change",
    SearchMode.SIMPLIFICATION: "less code",
}


def report_message(night: WakeUpReport, *, zone: tzinfo = UTC, heading: str = "", state: str = "") -> Message:
    """Return the report in words; `zone` is for the times shown.

    A `heading` says what the run does now in the place of the last lines, `state` in the last line.
    """
    report = night.report
    now = [] if heading else [*_look_at(night, state), *_state(night.run, state)]
    spent = ledger_lines(night.ledger, on_gpu=night.bill.gpu_seconds is not None) if night.ledger else []
    parts = (
        [_long(heading)] if heading else [],
        [_title(night, zone), *_headline(report), *_whole(night), *_unchecked(night)],
        _certain(night),
        _gains(report),
        [*spent, *_pace(night, zone, with_share=not spent), *flow(bill_phrases(night.bill, report.spent))],
        [*_next(night), *_calls(night), *now],
    )
    return Message("\n\n".join("\n".join(part) for part in parts if part))


def _title(night: WakeUpReport, zone: tzinfo) -> str:
    report = night.report
    if not report.experiments:
        if night.since is None:
            return _title_of(report, "no results yet")
        return _title_of(report, f"no result since {_moment(night.since, night.ledger, zone)}")
    count = plural(report.experiments, "experiment")
    start, end = _span(night)
    if start is None or end is None:
        return _title_of(report, count)
    if report.taken_over:
        count = plural(report.experiments - report.taken_over, "experiment")
        return _title_of(report, f"{count} in {_hours(end - start)}, {report.taken_over:,} taken over")
    return _title_of(report, f"{count} in {_hours(end - start)}")


def _title_of(report: Report, text: str) -> str:
    return f"{report.tag}: {text}" if report.tag else capital(text)


def _unchecked(night: WakeUpReport) -> list[str]:
    return [evaluator_text("")] if night.evaluated is False and night.report.best is not None else []


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
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    tally = [told] if told else []
    tally += [f"{report.quarantine:,} in quarantine"] if report.quarantine else []
    if report.best is not None:
        alone = report.experiments == 1 and not report.skipped and report.before is None
        return [_best(report)] if alone else [_best(report), *tally]
    before = [] if report.before is None else [_metric(report, report.before, ", unchanged")]
    if report.experiments == 0:
        return [*before, *tally]
    if report.crash == report.experiments:
        crashed = {1: "It crashed", 2: "Both crashed"}.get(report.crash, f"All {report.crash:,} crashed")
        lines = [crashed, *before] if before else [_fit(f"{crashed}: no {report.metric} yet")]
        return lines + (tally if report.skipped else [])
    nothing = _fit(f"Kept without a {report.metric}") if report.keep else "Nothing was kept"
    return [*(before or [nothing]), *tally]


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
    told = ", the baseline" if report.experiments == 1 else "; nothing beat the baseline"
    return _metric(report, report.best, told)


def _whole(night: WakeUpReport) -> list[str]:
    whole = night.whole
    if whole is None:
        return []
    line = f"Whole run: {plural(whole.experiments, 'experiment')}"
    if whole.baseline is not None and whole.best is not None and whole.gain:
        line += f", {change(whole.baseline, whole.best)}"
    return [line]


def _certain(night: WakeUpReport) -> list[str]:
    if night.certainty is None:
        return []
    line = certified_line(night.certainty)
    return [*([_long(line)] if line else []), *map(_long, doubtful_lines(night.certainty))]


def _gains(report: Report) -> list[str]:
    gains = [gain for gain in report.gains if is_visible(gain.gain, report.like)][:_GAINS]
    if not gains:
        return []
    sign = -1 if report.goal is Goal.MINIMIZE else 1
    lines = [f"#{gain.number} {signed(sign * gain.gain, report.like)} {gain.description}" for gain in gains]
    return ["Largest gains" if len(gains) > 1 else "Gain", *map(_fit, lines)]


def _pace(night: WakeUpReport, zone: tzinfo, *, with_share: bool) -> list[str]:
    phrases = []
    own = night.report.experiments - night.report.taken_over
    night = replace(night, report=replace(night.report, experiments=own))
    report, (start, end) = night.report, _span(night)
    rate, share = 0.0, report.training_share
    if report.experiments and start is not None and end is not None:
        phrases.append(period(start, end, zone))
        rate = 3600 * report.experiments / (end - start) if end > start else 0.0
    if rate >= 1 and report.experiments > 1:
        phrases.append(f"{rate:.1f} per hour" if rate < 100 else f"{rate:,.0f} per hour")
    if share is not None and with_share:
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


def _state(run: Run | None, told: str) -> list[str]:
    if told or run is None:
        return [told] if told else []
    state = _state_word(run.state)
    if run.state is RunState.RUNNING:
        return [state]
    return [_long(state_text(state, run.reason))]


def _look_at(night: WakeUpReport, told: str) -> list[str]:
    """Return how to look at the best program of a run that does not train now."""
    run, best = night.run, night.whole or night.report
    goes_on = run is None or (run.state in (RunState.RUNNING, RunState.PAUSING) and not told)
    return [] if run is None or goes_on or best.best is None else [f"Best: {look_at(run.tag)}"]


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


def ledger_lines(ledger: Ledger, *, on_gpu: bool = True) -> list[str]:
    """Return how the time was spent and, if whole minutes were lost, on what.

    A run that has just begun gives none.
    """
    share = ledger.busy_share
    if share is None or ledger.total < 60:
        return []
    lost = {_LOST[cause]: round(spent / 60) for cause, spent in ledger.lost if round(spent / 60)}
    overhead = ledger.seconds[Spent.OVERHEAD] / ledger.total
    phrases = [f"{'GPU busy' if on_gpu else 'Training'} {_percent(share)}"]
    if overhead >= 0.005:
        phrases.append(f"overhead {_percent(overhead)}")
    phrases.append(f"lost {_clock(sum(lost.values()))}" if lost else "nothing lost")
    return [*flow(phrases), *([_causes(lost)] if lost else [])]


def _percent(share: float) -> str:
    if 0 < share < 0.005:
        return "<1 %"
    return f"{round(100 * share) if share == 1 else min(99, round(100 * share))} %"


def _causes(minutes: dict[str, int]) -> str:
    """Name the largest causes, as many as one line holds beside the sum of the others."""
    named = [f"{word} {_clock(spent)}" for word, spent in minutes.items()]
    for count in range(len(named), 0, -1):
        others = sum([*minutes.values()][count:])
        line = ", ".join([*named[:count], *([f"other {_clock(others)}"] if others else [])])
        if len(line) <= WIDTH:
            break
    return capital(line)


def _clock(minutes: int) -> str:
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


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


# The bundle of a run


def pull_request(
    run: Run,
    keeps: Sequence[Experiment],
    report: Report,
    tidy: TidyBranch,
    provenance: Provenance,
    *,
    charted: bool = True,
) -> str:
    """Return the description of branch `tidy`: the gain, the kept changes, and how to see it again.

    `charted` tells whether there is a picture to refer to.
    What experiments are called is untrusted and stands in code spans, where no link or mention counts.
    """
    commits = f"{plural(tidy.commits, 'commit')} on top of `{run.base_commit[:7]}`"
    parts = [
        f"# {_result(run, report)}",
        f"{_trained(report)} `{tidy.name}` has {commits}.",
        f"<!-- Replace the next line: drag {CHART} here. -->\n![Progress of {run.tag}]({CHART})"
        if charted
        else "",
        "## What was kept",
        _kept_table(run, keeps, report.like),
        "## How to reproduce",
        _steps(run, tidy, provenance),
        _surroundings(provenance),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _result(run: Run, report: Report) -> str:
    if report.baseline is None or report.best is None:
        return f"Results of run {run.tag}"
    return (
        f"{run.metric} {number(report.baseline)} → {number(report.best, report.baseline)} "
        f"({change(report.baseline, report.best)})"
    )


def _trained(report: Report) -> str:
    time = f" in {duration(3600 * report.hours)}" if report.hours else ""
    return f"{plural(report.experiments, 'experiment')}{time}: {report.keep} kept, the baseline included."


def _kept_table(run: Run, keeps: Sequence[Experiment], like: float | None) -> str:
    lines = [f"| no. | change | {run.metric} | Δ | lines |", "|---:|---|---:|---:|---:|"]
    for keep in keeps:
        value = "" if keep.value is None else number(keep.value, like)
        delta = "" if keep.value is None or keep.best_before is None else change(keep.best_before, keep.value)
        lines.append(
            f"| {keep.number} | {_code_span(keep.description)} | {value} | {delta} "
            f"| +{keep.lines_added} −{keep.lines_removed} |"
        )
    return "\n".join(lines)


def _steps(run: Run, tidy: TidyBranch, provenance: Provenance) -> str:
    seeds = ", ".join(f"{name} = {value}" for name, value in provenance.seeds.items())
    seeded = f" Seeds: {seeds}." if seeds else ""
    return (
        f"```\ngit switch --detach {tidy.head}\n{provenance.command}\n```\n\n"
        f"It trains for {provenance.time_budget:g} seconds and prints `{run.metric}`.{seeded} "
        "Another machine or seed gives slightly different numbers."
    )


def _surroundings(provenance: Provenance) -> str:
    facts = {
        "system": provenance.system,
        "processor": provenance.processor,
        "GPU": "; ".join(provenance.accelerators),
        "packages": ", ".join(f"{name} {version}" for name, version in provenance.packages.items()),
    }
    return "\n".join(f"- {name}: {_code_span(value)}" for name, value in facts.items() if value)


def _code_span(text: str) -> str:
    """Return `text` as a code span of one line that is fit for a table."""
    line = one_line(text, 200).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{fence}{' ' if fence != '`' else ''}{line}{' ' if fence != '`' else ''}{fence}"
