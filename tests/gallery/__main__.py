"""Print the gallery."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

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


def main() -> None:
    """Live through the night and print what was shown."""
    with tempfile.TemporaryDirectory() as folder:
        sections = asyncio.run(record(Path(folder)))
    sys.stdout.writelines(f"{line}\n" for line in lines(sections))


if __name__ == "__main__":
    main()
