"""The report in a terminal, by rich. Only the command line imports this, and late."""

from __future__ import annotations

import re

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from bot.local.terminal import render
from loop.results.report import WakeUpReport
from notifiers.message import Message

_GAIN = re.compile(r"^(#\d+) ([+-][\d.]+)", re.MULTILINE)
_STYLES = (
    (r"^(Largest gains|Gain)$", "bold"),
    (r"→ [\d.]+(?= \()", "bold"),
    (r"\([+-][\d.]+\)", "bold green"),
    (r"\d[\d,]* keep\b", "green"),
    (r"\d[\d,]* crash\b", "red"),
    (r"^GPU busy <?\d+ %", "bold"),
    (r"^Needs you:.*", "bold yellow"),
    (r"^(Next|Now):", "cyan"),
)


def show(night: WakeUpReport, message: Message, *, console: Console | None = None) -> None:
    """Print the report: the same words as everywhere, with colours."""
    first, _, rest = render(message).partition("\n")
    text = Text(rest)
    for pattern, style in _STYLES:
        text.highlight_regex(re.compile(pattern, re.MULTILINE), style)
    for found in _GAIN.finditer(rest):
        text.stylize("dim", *found.span(1))
        text.stylize("green", *found.span(2))
    crashed = night.report.best is None and night.report.crash > 0
    colour = "red" if crashed else "green" if night.report.gain else "blue"
    panel = Panel(text, title=Text(first, "bold"), title_align="left", border_style=colour, expand=False)
    (console or Console(highlight=False)).print(panel)
