"""What of the machine a failed training did not have, though a setting would give it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from loop.sandbox.view import SYSTEM, View

_NETWORK = re.compile(
    r"[Nn]ame ?[Rr]esolution|Name or service not known|Network is unreachable|Max retries exceeded"
    r"|[Cc]ould(?:n't| not) (?:reach|connect to|resolve)"
)
_VARIABLE = re.compile(r"KeyError: ['\"](\w+)['\"]")
_MISSING = re.compile(
    r"No such file|not a directory|not ?found|No module named|not exist|(?:can(?:no|')t|unable to|failed to)"
    r" (?:open|find|load|read)|Permission denied|Read-only",
    re.IGNORECASE,
)
_MODULE = re.compile(r"No module named '(\w+)")
_NO_FILE = re.compile(r"No such file|FileNotFound")
_REFUSED = re.compile(r"Permission denied|Read-only")
_LARGE = ("/", "/tmp", "/etc", "/dev", "/opt", "/proc", "/run", "/var")  # noqa: S108 - never named whole
_QUOTED = re.compile(r"(['\"`])(.+?)\1")


def what_lacks(
    error: str,
    view: View,
    checkout: Path | None,
    *,
    sandboxed: bool,
    withheld: Collection[str],
    lists: Mapping[str, str],
) -> str:
    """Say which setting gives a training what it lacked by its error, and why; empty where none would.

    Its folder was filled from the `checkout`. `withheld` are variables of the bot that it did not get.
    `lists` are the settings to extend, as they are now.
    """
    work = view.work
    if sandboxed and not view.network and _NETWORK.search(error):
        return "set ALLOW_NETWORK=1 or fetch the data before: trainings have no network"
    if (variable := _VARIABLE.fullmatch(error)) and variable[1] in withheld:
        setting = _extended(lists, "TRAIN_ENV", variable[1])
        return f"set {setting}: the bot has this variable, trainings do not get it"
    if not _MISSING.search(error):
        return ""
    for name in _names(error):
        path = Path(os.path.normpath(work / name))
        if not path.is_relative_to(work):
            if sandboxed and (setting := _outside(path, error, view, lists)):
                return setting
        elif checkout and work.is_dir() and (link := _not_in(work, checkout, path.relative_to(work))):
            setting = _extended(lists, "LINK_PATHS", link)
            return f"set {setting}: {checkout / path.relative_to(work)} is not in a training's folder"
    return ""


def misses_a_file(error: str) -> bool:
    return bool(_NO_FILE.search(error))


def _extended(lists: Mapping[str, str], name: str, value: object) -> str:
    return f"{name}={','.join(filter(None, (lists.get(name), str(value))))}"


def _names(error: str) -> Iterator[str]:
    """Yield what may be paths: what is quoted, and words with a slash or a dot."""
    if module := _MODULE.search(error):
        yield from (f"{module[1]}.py", module[1])
    yield from (quoted[2] for quoted in _QUOTED.finditer(error))
    words = (word.strip("'\"`.,:;()[]<>") for word in error.split())
    yield from (word for word in words if "/" in word or "." in word)


def _outside(path: Path, error: str, view: View, lists: Mapping[str, str]) -> str:
    above = [path.parent]  # a file that is to be written is not there yet
    if path.parent.name == "bin":  # a program needs what it is installed with
        above.insert(0, path.parent.parent)
    few = (folder for folder in above if str(folder) not in _LARGE and not Path.home().is_relative_to(folder))
    place = path if path.is_dir() else next(few, path)
    if not _exists(place) or _holds((*view.hidden, *view.writable, *map(Path, SYSTEM)), place):
        return ""
    if _holds(view.readable, place):
        setting = _extended(lists, "SANDBOX_WRITE", place)
        return f"set {setting}: trainings may only read it" if _REFUSED.search(error) else ""
    setting = _extended(lists, "SANDBOX_READ", place)
    return f"set {setting}, or SANDBOX_WRITE to write there: trainings do not have it"


def _holds(folders: Iterable[Path], path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _not_in(work: Path, checkout: Path, path: Path) -> str:
    """Return the shortest beginning of the checkout's `path` that `work` does not have; or nothing."""
    if not _exists(checkout / path):
        return ""
    beginnings = (*reversed(path.parents[:-1]), path)
    return next((str(part) for part in beginnings if not os.path.lexists(work / part)), "")


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where a folder above may not be entered
