"""Whether a run may still ask its models, and what people are told of the money."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum

from loop.experiment import Cause, Cost
from loop.store.notes import Notes
from loop.store.spending import Account, Purse


class Level(StrEnum):
    """How much of a limit is gone."""

    NEARLY_SPENT = "nearly_spent"
    SPENT = "spent"


class Budget:
    """Pays for models out of `purse` and tells people once as a limit comes near and once when it is reached.

    Blocks for SQLite: use it in a worker thread.
    """

    def __init__(self, purse: Purse, notes: Notes) -> None:
        self._purse = purse
        self._notes = notes

    def pay(self, run_id: int, name: str, cost: Cost) -> None:
        """Pay for a call of the model of that name, whatever came of it."""
        self._purse.pay(run_id, name, cost)
        if cost.dollars is None and self._purse.has_limit:
            reason = f"nobody knows the price of {name}: its dollars cannot be counted or limited"
            self._notes.tell(run_id, Cause.PRICE, "unknown", reason, key=name)
        for account in self._purse.accounts(run_id):
            if account.is_nearly_spent and not self._is_told(run_id, account):
                state = _state(Level.NEARLY_SPENT, account)
                self._notes.tell(run_id, Cause.BUDGET, state, str(account), key=account.setting)

    def pay_for_cut_off(self, run_id: int, name: str, known: Cost | None) -> None:
        """Pay for a call that was ended at work: at least what is known, and as much as its last ones cost.

        A provider charges for what was done, even where nobody is left to hear what that was.
        """
        known = known or Cost()
        dollars = max(known.dollars or 0.0, self._purse.price(name))
        if known.tokens or dollars:
            self.pay(run_id, name, replace(known, dollars=dollars or known.dollars))

    def allows(self, run_id: int, name: str) -> bool:
        """Say whether every limit has room for another call of that model."""
        price = self._purse.price(name)
        return all(account.pays(price) for account in self._purse.accounts(run_id))

    def close(self, run_id: int, names: Collection[str], *, pauses: bool) -> str | None:
        """Tell people if there is no room for a call of any of the models.

        Return the setting that is spent where they had not been told yet. `pauses` says that a person is
        needed then.
        """
        cheapest = min(map(self._purse.price, names), default=0.0)
        for account in self._purse.accounts(run_id):
            if names and not account.pays(cheapest):
                state, reason = _state(Level.SPENT, account), _reason(account, cheapest, pauses=pauses)
                if self._notes.tell(run_id, Cause.BUDGET, state, reason, key=account.setting, urgent=pauses):
                    return account.setting
        return None

    def _is_told(self, run_id: int, account: Account) -> bool:
        """Say whether people know already that nothing is left."""
        told = self._notes.state(run_id, Cause.BUDGET, account.setting)
        return told == _state(Level.SPENT, account)


def _state(level: Level, account: Account) -> str:
    """Return what a limit's note is told once of: a changed limit and another day are new."""
    return f"{level} {account.limit:g} {account.period}".strip()


def _reason(account: Account, price: float, *, pauses: bool) -> str:
    rest = f", and another call costs about ${price:.2f}" if account.spent < account.limit else ""
    if pauses:
        return f"{account}{rest}; /resume goes on with search, a larger {account.setting} with models"
    return f"{account}{rest}; the run goes on with search"
