"""What of the machine a failed training did not have, though a setting would give it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

_NETWORK = re.compile(
    r"[Nn]ame ?[Rr]esolution|Name or service not known|Network is unreachable|Max retries exceeded"
    r"|Could ?n.t (?:reach|connect to)|Could not resolve host"
)
_VARIABLE = re.compile(r"KeyError: ['\"](\w+)['\"]")
_MISSING = re.compile(
    r"No such file|not a directory|not ?found|No module named|not exist|(?:can(?:no|')t|unable to|failed to)"
    r" (?:open|find|load|read)|Permission denied|Read-only",
    re.IGNORECASE,
)
_MODULE = re.compile(r"No module named '(\w+)")
_QUOTED = re.compile(r"(['\"`])(.+?)\1")


def what_lacks(
    error: str,
    work: Path,
    *,
    checkout: Path | None,
    hidden: Collection[Path] = (),
    withheld: Collection[str] = (),
    sandboxed: bool = True,
    network: bool = False,
) -> str:
    """Say which setting gives a training what it lacked by its error, and why; empty where none would.

    `work` is its folder, filled from the `checkout`. `withheld` are variables of the bot that it did not get.
    """
    if sandboxed and not network and _NETWORK.search(error):
        return "set ALLOW_NETWORK=1 or fetch the data before: trainings have no network"
    if (variable := _VARIABLE.fullmatch(error)) and variable[1] in withheld:
        return f"set TRAIN_ENV={variable[1]}: the bot has this variable, trainings do not get it"
    if not _MISSING.search(error):
        return ""
    for name in _names(error):
        path = Path(os.path.normpath(work / name))
        if not path.is_relative_to(work):
            if sandboxed and (setting := _outside(path, hidden)):
                return setting
        elif checkout and work.is_dir() and (link := _not_in(work, checkout, path.relative_to(work))):
            return f"set LINK_PATHS={link}: {checkout / path.relative_to(work)} is not in a training's folder"
    return ""


def _names(error: str) -> Iterator[str]:
    """Yield what may be paths: what is quoted, and words with a slash or a dot."""
    if module := _MODULE.search(error):
        yield from (f"{module[1]}.py", module[1])
    yield from (quoted[2] for quoted in _QUOTED.finditer(error))
    words = (word.strip("'\"`.,:;()[]<>") for word in error.split())
    yield from (word for word in words if "/" in word or "." in word)


def _outside(path: Path, hidden: Collection[Path]) -> str:
    if not _exists(path) or any(path.is_relative_to(folder) for folder in hidden):
        return ""
    place = path if path.is_dir() or path.parent == Path("/") else path.parent
    return f"set SANDBOX_READ={place}, or SANDBOX_WRITE to write there: trainings do not have {path}"


def _not_in(work: Path, checkout: Path, path: Path) -> str:
    """Return how the checkout's `path` begins up to what `work` does not have; empty where it has all of it."""
    if not _exists(checkout / path):
        return ""
    beginnings = (*reversed(path.parents[:-1]), path)
    return next((str(part) for part in beginnings if not os.path.lexists(work / part)), "")


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where a folder above may not be entered
