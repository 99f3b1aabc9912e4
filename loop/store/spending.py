"""What models cost, written down call by call, and what may be spent on them."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass
from datetime import datetime, tzinfo
from math import inf

from loop.experiment import Cost
from loop.store.journal import Journal

NEARLY = 0.8  # the share of a limit at which people are notified
_RECENT = 5  # calls whose mean another one will cost


@dataclass(frozen=True, slots=True)
class Account:
    """A limit in dollars, named after its setting, and what was spent of it.

    `span` says since when, as a clause; `period` is the day of a daily limit, else empty.
    """

    setting: str
    span: str
    period: str
    limit: float
    spent: float

    @property
    def is_nearly_spent(self) -> bool:
        return self.spent >= NEARLY * self.limit

    def pays(self, price: float) -> bool:
        return self.spent < self.limit and self.spent + price <= self.limit

    def __str__(self) -> str:
        return f"${self.spent:.2f} of the ${self.limit:.2f} for models {self.span} are spent"


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """Pays for models: keeps every cost in the journal and the limits, in dollars, of a run and of a day.

    A day begins at midnight in `zone` (None: the machine's) and is shared by all runs.
    """

    journal: Journal
    _: KW_ONLY
    a_run: float | None = None
    a_day: float | None = None
    zone: tzinfo | None = None

    @property
    def has_limit(self) -> bool:
        return self.a_run is not None or self.a_day is not None

    def pay(self, run_id: int, proposer: str, cost: Cost) -> None:
        with self.journal.transaction():
            paid = asdict(cost)
            self.journal.insert("spends", at=self.journal.clock(), run_id=run_id, proposer=proposer, **paid)

    def of_run(self, run_id: int, *, since: float = 0.0, until: float = inf) -> Cost:
        return self._sum("run_id = ? AND at >= ? AND at <= ?", run_id, since, until)

    def accounts(self, run_id: int) -> tuple[Account, ...]:
        found = []
        if self.a_run is not None:
            spent = self.of_run(run_id).dollars or 0.0
            found.append(Account("LLM_BUDGET_USD", "in this run", "", self.a_run, spent))
        if self.a_day is not None:
            midnight = self._midnight()
            spent = self._sum("at >= ?", midnight.timestamp()).dollars or 0.0
            found.append(Account("LLM_BUDGET_USD_A_DAY", "today", f"{midnight:%Y-%m-%d}", self.a_day, spent))
        return tuple(found)

    def price(self, proposer: str) -> float:
        """Return the mean price of the proposer's last calls in dollars, zero where none is known."""
        (row,) = self.journal.query(
            "SELECT coalesce(avg(dollars), 0.0) FROM (SELECT dollars FROM spends "
            "WHERE proposer = ? AND dollars IS NOT NULL ORDER BY id DESC LIMIT ?)",
            proposer,
            _RECENT,
        )
        return float(row[0])

    def _sum(self, condition: str, *values: float) -> Cost:
        (row,) = self.journal.query(
            "SELECT coalesce(sum(input_tokens), 0), coalesce(sum(cached_tokens), 0), "  # noqa: S608
            "coalesce(sum(output_tokens), 0), sum(dollars), count(*) "
            f"FROM spends WHERE {condition}",
            *values,
        )
        dollars = row[3] if row[4] else 0.0
        return Cost(row[0], row[1], row[2], dollars)

    def _midnight(self) -> datetime:
        now = datetime.fromtimestamp(self.journal.clock(), self.zone)
        return now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
