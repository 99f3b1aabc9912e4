"""How the time of a run was spent, in words for a report."""

from __future__ import annotations

from loop.results.ledger import Ledger, Spent

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
