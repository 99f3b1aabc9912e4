"""The data that must be there before a run: named by DATA_PATHS, or read from the repository itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.setup.settings import Settings
from loop.files import has_something
from loop.git.repository import read_programs
from loop.process.environment import PREPARE, prepare_line
from loop.program.data_paths import find_data

_USUAL = ".cache/autoresearch"  # what a program of the practice mentions, where its paths cannot be read


@dataclass(frozen=True, slots=True)
class NeededData:
    """Paths that must exist, and what names them: a setting or a file. `fix` makes those that do not."""

    paths: tuple[Path, ...]
    named_by: str
    fix: str

    @property
    def missing(self) -> tuple[Path, ...]:
        """Those that are not there, or are folders with nothing in them."""
        return tuple(path for path in self.paths if not has_something(path))


def needed_data(
    settings: Settings, repository: Path | None, commit: str, environ: Mapping[str, str]
) -> NeededData:
    """Return the data that the trainings of `commit` need, which see the variables `environ`.

    Without a `repository` they are those of the embedded template.

    DATA_PATHS says it where it is not the default. Else the fixed files do; where they name no path nothing
    is checked, unless they mention the folder that the practice uses.
    """
    if repository is None:
        return NeededData(settings.data_paths, "DATA_PATHS", "The bot prepares it at its first start.")
    programs = read_programs(repository, commit, settings.frozen)
    made = prepare_line(repository, settings.train_command, settings.editable)
    first = f"Run: {made}; or set" if PREPARE in programs else "Set"
    fix = f"{first} DATA_PATHS to where the data is."
    if settings.names_data:
        return NeededData(settings.data_paths, "DATA_PATHS", fix)
    homes = (Path.home().resolve(), settings.home.resolve())
    closed = {
        place for home in homes for place in (home, *home.parents)
    }  # as trainings may read what is named
    for name, source in programs.items():
        paths = find_data(source, environ, Path.home())
        if found := tuple(path for path in paths if path.resolve() not in closed):
            return NeededData(found, name, fix)
    usual = any(_USUAL in source for source in programs.values())
    return NeededData(settings.data_paths if usual else (), "DATA_PATHS", fix)
