"""What is counted in a storm, and how it is told."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Figures:
    """The deeds of the storm by their kinds, and when something was done (seconds since the epoch).

    `blows` are the moments from which a training is missing: of a kill or, where the bot was among the
    killed, of its next start; `survived` counts those at which one went on all the same. `deeds` are all
    moments at which anything was done.
    """

    kills: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)  # of the bot, which nobody had ordered
    stops: list[float] = field(default_factory=list)  # seconds from SIGTERM to the bot's end
    survived: int = 0
    blows: list[float] = field(default_factory=list)
    deeds: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # what could not be done here, and why

    def recoveries(self, begins: Sequence[float]) -> list[float]:
        """Return the seconds from each blow to the next training, where nothing was done in between."""
        found = []
        for blow in self.blows:
            after = bisect_right(begins, blow)
            if after < len(begins) and not any(blow < deed < begins[after] for deed in self.deeds):
                found.append(begins[after] - blow)
        return found

    def tell(self, recoveries: Sequence[float], found: Counter[str]) -> str:
        """Return all of it as lines."""
        lines = [
            f"kills            {self.kills.total():4d}   {_counts(self.kills)}",
            f"other deeds      {self.others.total():4d}   {_counts(self.others)}",
            f"found afterwards        {_counts(found)}",
        ]
        if recoveries:
            median, worst = statistics.median(recoveries), max(recoveries)
            lines.append(
                f"from kill to the next training: median {median:.1f} s, worst {worst:.1f} s "
                f"({len(recoveries)} undisturbed); {self.survived} times a training went on untouched"
            )
        if self.stops:
            lines.append(f"from SIGTERM to a clean end: worst {max(self.stops):.1f} s of {len(self.stops)}")
        lines += [f"the bot ended by itself ({count}): {words}" for words, count in self.ends.items()]
        return "\n".join((*lines, *self.skipped))


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())
