from __future__ import annotations

import io
import os
import pty
import re
import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bot.cli.report import show_in_colour as show
from notifiers.text.report import report_message
from tests.bot.real_bot import RealBot
from tests.notifiers.mornings import fruitful, odd_texts, open_recorder

GAIN = "abc1235\t0.5\t2.0\tkeep\tLEARNING_RATE 0.03 → 0.025, DEPTH 8 → 9, WIDTH 512 → 640\n"
NIGHT = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\nabc1234\t1.5\t2.0\tkeep\tbaseline\n"


def test_the_words_are_those_of_every_other_place(tmp_path: Path) -> None:
    for number, morning in enumerate((fruitful, odd_texts)):
        with open_recorder(tmp_path / str(number)) as recorder:
            night = morning(recorder)
        message = report_message(night)
        printed = io.StringIO()
        show(night, message, console=Console(file=printed, width=80, force_terminal=True, highlight=False))
        inside = Text.from_ansi(printed.getvalue()).plain
        lines = [line.strip("│╭╮╰╯─ ") for line in inside.splitlines()]
        *words, _, line, _ = lines
        assert "\n".join(words).strip() == message.text
        assert set(line) <= set("▁▂▃▄▅▆▇█")
        assert (line[0], line[-1]) == ("█", "▁")  # the best fell over the night


def test_the_gain_is_green_and_untrusted_text_is_no_markup(tmp_path: Path) -> None:
    with open_recorder(tmp_path) as recorder:
        recorder.begin()
        recorder.experiment("baseline", 0.9)
        recorder.experiment("[red]markup[/red] [link=https://evil.example]x[/link]", 0.8)
        night = recorder.night()
    printed = io.StringIO()
    show(
        night,
        report_message(night),
        console=Console(file=printed, width=80, force_terminal=True, highlight=False),
    )
    assert "[red]markup" in printed.getvalue()
    assert "\x1b[1;32m(-0.100000)\x1b[0m" in printed.getvalue()


def printed_in_a_terminal(bot: RealBot, **environment: str) -> str:
    """Return what the report of a file looks like to somebody at a terminal."""
    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            bot.command("report", "--results", "night.tsv"),
            cwd=bot.folder,
            env={**bot.environment, "TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
    finally:
        os.close(slave)
    with os.fdopen(master, "rb", buffering=0) as output:
        return output.read(10_000).decode()


def test_colours_only_where_somebody_looks_and_wants_them(tmp_path: Path) -> None:
    bot = RealBot(tmp_path)
    (bot.folder / "night.tsv").write_text(NIGHT)
    plain = bot.run("report", "--results", "night.tsv").stdout
    assert plain == "1 experiment\nval_bpb 1.500000, the baseline\n"
    assert printed_in_a_terminal(bot, NO_COLOR="1").replace("\r\n", "\n") == plain
    (bot.folder / "night.tsv").write_text(NIGHT + GAIN)
    coloured = printed_in_a_terminal(bot)
    assert re.search(r"\x1b\[\d", coloured)
    assert "█▁" in coloured
    assert "DEPTH 8 → 9, WIDTH 512 → 640" in coloured  # a terminal has room for all of it
    without = printed_in_a_terminal(bot, NO_COLOR="1")
    assert "\x1b" not in without
    assert without.endswith("\n█▁\r\n")
