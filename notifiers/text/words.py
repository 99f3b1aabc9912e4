"""Numbers, times and counts as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo


def number(value: float) -> str:
    """Return a value of the metric as `results.tsv` writes it: six digits, never -0.000000."""
    return f"{value:z.6f}"


def signed(value: float) -> str:
    """Return a change of the metric; the sign is always shown."""
    return f"{value:+z.6f}"


def change(before: float, after: float) -> str:
    """Return the signed change between two values as they are shown, so that the line adds up."""
    return signed(round(after, 6) - round(before, 6))


def money(dollars: float) -> str:
    """Return `$1.84`; what is less than a cent is called so."""
    if 0 < dollars < 0.01:
        return "under $0.01"
    return f"${dollars:,.2f}" if dollars < 100 else f"${dollars:,.0f}"


def plural(count: int, one: str, many: str = "") -> str:
    """Return `1 crash`, `2 crashes`; `many` where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """Return a span in its two largest units, rounded: `38 s`, `5 min 26 s`, `4 h 12 min`, `2 d 3 h`.

    From ten minutes on without seconds.
    """
    for name, size, smaller, step in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        steps = round(max(0.0, seconds) / step)
        whole, rest = divmod(steps, size // step)
        if whole:
            return f"{whole} {name} {rest} {smaller}" if rest else f"{whole} {name}"
        if smaller == "min" and seconds >= 600:
            return f"{steps} min"
    return f"{steps} s"


def period(start: float, end: float, zone: tzinfo) -> str:
    """Return `22:58 → 07:01`, with the dates where a day or more lies between."""
    first, last = datetime.fromtimestamp(start, zone), datetime.fromtimestamp(end, zone)
    form = "%H:%M" if last - first < timedelta(days=1) else "%Y-%m-%d %H:%M"
    return f"{first:{form}} → {last:{form}}"
