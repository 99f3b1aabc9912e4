"""A night in a minute, in the terminal: `make demo`. It needs no GPU, no torch and no chat.

The numbers are made up, the same each time. Everything that is shown is what the bot itself shows: its
digests, card, report, chart and page, made from a journal as a real night leaves it.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bot.cli.report import FullReport
from bot.setup.settings import load_settings
from loop.experiment import EventKind
from loop.results.report import read_wakeup_report
from tests.gallery.night import Night, open_night
from tests.gallery.platforms import on_terminal
from tests.gallery.screen import Shown, Way

FOLDER = Path(__file__).parents[1] / "build" / "demo"
SEED = 12
BASELINE = 0.9979
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
CONSTANTS = {
    "EMBEDDING_LR": 0.6,
    "UNEMBEDDING_LR": 0.004,
    "MATRIX_LR": 0.04,
    "SCALAR_LR": 0.5,
    "WEIGHT_DECAY": 0.2,
    "WARMDOWN_RATIO": 0.5,
    "DEPTH": 8,
    "ASPECT_RATIO": 64,
    "SHORT_WINDOW": 1024,
    "TOTAL_BATCH_SIZE": 524288,
}
TOO_LARGE = {"DEPTH": 12, "ASPECT_RATIO": 128, "TOTAL_BATCH_SIZE": 2**20}  # for the memory of the GPU


@dataclass(frozen=True, slots=True)
class Step:
    """An experiment of the night; without a `value` it crashed."""

    description: str
    value: float | None


def steps() -> Iterator[Step]:
    """Yield what is tried, no program twice: changes of one constant each, of which fewer and fewer help."""
    chance, constants, best = random.Random(SEED), dict(CONSTANTS), BASELINE
    too_large = {"SHORT_WINDOW": 4096, "WARMDOWN_RATIO": 1.1}
    tried: set[tuple[float, ...]] = set()
    yield Step("baseline", best)
    while True:
        name, factor = chance.choice([*constants]), chance.choice((0.5, 0.75, 1.25, 1.5, 2.0))
        before = constants[name]
        after = max(1, round(before * factor)) if isinstance(before, int) else float(f"{before * factor:.2g}")
        program = tuple((constants | {name: after}).values())
        if program in tried or after >= too_large.get(name, math.inf):
            continue
        tried.add(program)
        description = f"{name} {before:g} → {after:g}" if before < 10_000 else f"{name} {before} → {after}"
        if after >= TOO_LARGE.get(name, math.inf):
            too_large[name] = after  # a crash is not tried again
            yield Step(description, None)
            continue
        gain = chance.gauss(-0.5, 1) * 0.012 / (1 + len(tried) / 8) - 0.0003
        if gain > 0:
            best, constants[name] = round(best - gain, 6), after
        yield Step(description, best if gain > 0 else round(best - gain, 6))


class Player:
    """Prints what a chat and a terminal are shown; `pause` takes the seconds to look at it."""

    def __init__(self, night: Night, pause: Callable[[float], None]) -> None:
        self._night = night
        self._pause = pause
        self._seen = 0
        self.chart = b""

    def show(self, seconds: float) -> None:
        """Print what was shown since the last time, as the terminal has it; the card is the chat's."""
        for section in self._night.sections[self._seen :]:
            for shown in section.shown:
                if text := _as_text(shown):
                    asked = f"  {shown.asked.partition(': ')[2]}" if shown.asked else ""
                    _print(f"{section.clock}{asked}\n{text}\n")
                    self._pause(seconds)
                for file in shown.message.attachments:
                    self.chart = file.content
        self._seen = len(self._night.sections)


def _as_text(shown: Shown) -> str:
    if shown.way in (Way.CARD, Way.EDIT):
        buttons = "  ".join(f"[{button.label}]" for row in shown.message.buttons for button in row)
        return f"The card that is pinned in the chat:\n{shown.message.text}\n{buttons}"
    return on_terminal(shown)


async def play(night: Night, player: Player) -> None:
    night.journal.execute("PRAGMA synchronous = OFF")  # nobody cuts the power here
    night.at("22:58")
    await night.start("mar12")
    await night.tell("It starts")
    for number, step in enumerate(steps()):
        night.train(step.description, added=1, removed=1)
        if number == 3:
            night.reach(46.2, step=431)
            await night.look("The card")
            await night.ask("A question from bed", "/status")
            player.show(3)
        if number == 20:
            night.vanish()
            night.note(EventKind.RUN_RECOVERED, "the machine had been switched off")
            await night.tell("The machine is back")
        night.end(step.value, error="" if step.value else OUT_OF_MEMORY, minutes=5.45 if step.value else 0.7)
        await night.tell("A result")
        player.show(2 if number < 8 else 0.25)
        if night.now > _LAST:
            break
    night.at("07:00")
    night.wake_up()
    await night.tell("The morning")
    player.show(0)


def main(folder: Path = FOLDER, pause: Callable[[float], None] = time.sleep) -> None:
    _print(
        "A night of experiments, in a minute. The numbers are made up; messages, report, chart and page are "
        "what the bot makes.\n"
    )
    pause(3)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as state, open_night(Path(state), begins=_EVENING) as night:
        player = Player(night, pause)
        asyncio.run(play(night, player))
        found = read_wakeup_report(night.journal, night.run, until=night.now)
        _print("07:00  Good morning\n")
        FullReport(found).show(UTC)
        picture, page = folder / "mar12.png", folder / "mar12.html"
        picture.write_bytes(player.chart)
        settings = load_settings(Path(state) / ".env", {}, Path(state))
        report = FullReport(replace(found, run=None), title=night.run.tag)  # no repository is behind it
        report.write_page(page, settings, UTC)
    _print(f"\nThe chart: {picture}\nThe page: {page} (open it in a browser)\n")
    _print("Next, the bot itself on a small model: make run")


_EVENING = datetime(2026, 3, 12, 22, 50, tzinfo=UTC)
_LAST = datetime(2026, 3, 13, 6, 54, tzinfo=UTC).timestamp()  # begins the last training


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(pause=time.sleep if sys.stdout.isatty() else lambda _: None)
