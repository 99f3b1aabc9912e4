"""A wake-up report for one phone screen, and the table of results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo

from loop.experiment import Goal, Run, RunState
from loop.ledger import Ledger
from loop.report import Report, bests_before
from loop.results import Row
from notifiers.ledger_text import ledger_lines
from notifiers.message import Message
from notifiers.words import change, duration, money, number, one_line, period, plural, signed

_WIDTH = 44  # characters of a line on a phone
_GAINS = 5
_STATES = {
    RunState.RUNNING: "Still running",
    RunState.PAUSING: "Pausing after this experiment",
    RunState.PAUSED: "Paused",
    RunState.DONE: "Done",
    RunState.STOPPED: "Stopped",
}


def report_message(
    report: Report, run: Run | None = None, *, ledger: Ledger | None = None, zone: tzinfo = UTC
) -> Message:
    """Return the report in words.

    `run` adds what it is doing now and `ledger` what the time went to; `zone` is for the times shown.
    """
    spent = ledger_lines(ledger) if ledger else []
    pace = _pace(report, zone, with_share=not spent)
    last = [*pace, *spent, *_money(report), *_state(run)]
    parts = ([_title(report), *_headline(report)], _gains(report), last)
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


def _title(report: Report) -> str:
    name = f"{report.tag}: " if report.tag else ""
    if not report.experiments:
        return f"{name}no experiment has a result yet"
    count = plural(report.experiments, "experiment")
    return f"{name}{count}" if report.hours is None else f"{name}{count} in {duration(report.hours * 3600)}"


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
        return [tally] if tally else []
    alone = report.experiments == 1 and not report.skipped
    if report.best is not None:
        return [_best(report)] if alone else [_best(report), tally]
    if report.crash == report.experiments:
        crashed = "It crashed" if report.crash == 1 else f"All {report.crash:,} crashed"
        return [f"{crashed}: no {report.metric} yet", *([tally] if report.skipped else [])]
    return ["Nothing was kept", tally]


def _best(report: Report) -> str:
    assert report.best is not None
    best = f"{report.metric} {number(report.best)}"
    if report.baseline is None:
        return f"{best} at #{report.best_number}, no baseline"
    if not report.gain:
        return f"{best}, the baseline" if report.experiments == 1 else f"{best}; nothing beat the baseline"
    before, after = report.baseline, report.best
    return f"{report.metric} {number(before)} → {number(after)} ({change(before, after)})"


def _gains(report: Report) -> list[str]:
    """Return the largest gains, each as the change of the metric that it was."""
    gains = [gain for gain in report.gains if round(gain.gain, 6) > 0][:_GAINS]
    if not gains:
        return []
    sign = -1 if report.goal is Goal.MINIMIZE else 1
    lines = [f"#{gain.number} {signed(sign * gain.gain)} {gain.description}" for gain in gains]
    heading = "Largest gains" if len(gains) > 1 else "The one gain"
    return [heading, *(one_line(line, _WIDTH) for line in lines)]


def _pace(report: Report, zone: tzinfo, *, with_share: bool) -> list[str]:
    """Return when and how fast it went, the phrases set into as few lines as hold them."""
    phrases = []
    if report.experiments and report.started_at is not None and report.ended_at is not None:
        phrases.append(period(report.started_at, report.ended_at, zone))
    rate, share = report.experiments_per_hour, report.training_share
    if rate is not None and rate >= 1 and report.experiments > 1:
        phrases.append(f"{rate:.1f} an hour" if rate < 100 else f"{rate:,.0f} an hour")
    if share is not None and with_share:
        phrases.append(f"{100 * share:.0f} % training")
    if report.gains:
        phrases.append(f"last keep #{report.last_keep_number}")
    lines: list[str] = []
    for phrase in phrases:
        if lines and len(f"{lines[-1]} · {phrase}") <= _WIDTH:
            lines[-1] += f" · {phrase}"
        else:
            lines.append(phrase)
    return [line[0].upper() + line[1:] for line in lines]


def _money(report: Report) -> list[str]:
    """Return what the models cost, as far as anybody knows, and what the gain did."""
    if report.spent is None:
        return []
    if report.dollars is None:
        return [f"{report.spent.tokens:,} tokens, price unknown"]
    if report.dollars == 0:
        return []
    cost, each = f"{money(report.dollars)} for models", report.dollars_per_thousandth
    if each is None:
        return [cost]
    share = f"{money(each)} per 0.001 {report.metric}"
    return [f"{cost}, {share}"] if len(cost) + len(share) + 2 <= _WIDTH else [cost, one_line(share, _WIDTH)]


def _state(run: Run | None) -> list[str]:
    if run is None:
        return []
    reason = "" if run.state is RunState.RUNNING else one_line(run.state_reason, 2 * _WIDTH)
    return [f"{_STATES[run.state]}: {reason}" if reason else _STATES[run.state]]
