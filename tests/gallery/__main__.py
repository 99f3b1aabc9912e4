"""Print the gallery; with a folder named, write the page and the charts there."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from loop.results.report import read_wakeup_report
from loop.store.journal import Journal
from notifiers.charts import draw
from notifiers.charts.scene import make_scene
from notifiers.page import Content, page
from tests.gallery.night import Section
from tests.gallery.platforms import describe
from tests.gallery.story import record


def lines(sections: Sequence[Section]) -> Iterator[str]:
    """Yield the gallery, line by line."""
    for section in sections:
        yield f"━━━ {section.clock}  {section.title} {'━' * max(3, 60 - len(section.title))}"
        for shown in section.shown:
            yield from describe(shown)
        yield ""


def write_pictures(state: Path, folder: Path) -> None:
    """Write the page of the night in a state file, and its chart by number and by time, to `folder`."""
    journal = Journal(state, read_only=True)
    run = journal.runs()[-1]
    night = read_wakeup_report(journal, run, until=run.created_at + 86400)
    journal.close()
    content = Content(night.report, night.rows, {}, run.tag, night.ledger, certainty=night.certainty)
    (folder / "page.html").write_text(page(content, made_at=datetime.now(UTC)), encoding="utf-8")
    for name, by_time in (("chart.png", False), ("chart-by-time.png", True)):
        scene = make_scene(night.rows, metric=run.metric, goal=run.goal, title=run.tag, by_time=by_time)
        (folder / name).write_bytes(asyncio.run(draw(scene)))


def main(folder: Path | None = None) -> None:
    """Live through the night, print what was shown, and write the pictures where a folder is named."""
    with tempfile.TemporaryDirectory() as state:
        sections = asyncio.run(record(Path(state)))
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            write_pictures(Path(state) / "state.db", folder)
    sys.stdout.writelines(f"{line}\n" for line in lines(sections))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
