"""What a night cost, in words for a report."""

from __future__ import annotations

from dataclasses import replace

from loop.experiment import Cost
from loop.results.wakeup_report import Bill
from notifiers.text.words import duration, money, plural


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
