"""The types of the settings: each with the function that reads it from text.

These functions raise ValueError with a clause that goes on from the setting's name: `must be a path`.
"""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from loop.errors import LoopError
from loop.repository import check_path


def _path(text: str) -> Path:
    try:
        if text and "\0" not in text:
            return Path(text).expanduser().absolute()
    except RuntimeError:  # ~somebody, whom the machine does not know
        pass
    raise ValueError("must be a path")


def _new_folder(text: str) -> Path:
    path = _path(text)
    try:
        nearest = next(place for place in (path, *path.parents) if place.exists())
    except OSError as error:
        raise ValueError(f"must be a folder within reach ({error.strerror})") from None
    if not nearest.is_dir():
        raise ValueError(f"must be a folder, but {nearest} is a file")
    return path


def _folder(text: str) -> Path | None:
    if not text:
        return None
    path = _path(text)
    try:
        if path.is_dir():
            return path
    except OSError:
        pass
    raise ValueError("must be an existing folder")


def _items(text: str) -> tuple[str, ...]:
    items = tuple(item.strip() for item in text.split(",")) if text.strip() else ()
    if "" in items:
        raise ValueError("must be a list separated by commas, without an empty item")
    return items


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(_path(item) for item in _items(text))


def _file(text: str) -> str:
    path = PurePosixPath(text)
    try:
        check_path(str(path))
    except LoopError:
        path = PurePosixPath()
    if not path.parts:
        raise ValueError("must be a path inside the repository")
    return str(path)


def _files(text: str) -> tuple[str, ...]:
    return tuple(_file(item) for item in _items(text))


def _names(text: str) -> tuple[str, ...]:
    names = _items(text)
    if not all(name.isidentifier() for name in names):
        raise ValueError("must be names separated by commas")
    return names


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise ValueError("must be a command line that closes its quotation marks") from None


def _zone(text: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(text) if text else None
    except (OSError, ValueError, KeyError):
        raise ValueError("must be a time zone such as Europe/Berlin") from None


def _or_none(text: str) -> str | None:
    return text or None


# NoDecode: lists are separated by commas, and are not JSON.
NewFolder: TypeAlias = Annotated[Path, BeforeValidator(_new_folder)]
OptionalFolder: TypeAlias = Annotated[Path | None, BeforeValidator(_folder)]
Paths: TypeAlias = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_paths)]
RepositoryFile: TypeAlias = Annotated[str, BeforeValidator(_file)]
RepositoryFiles: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_files)]
Names: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
CommandLine: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
OptionalCount: TypeAlias = Annotated[int | None, BeforeValidator(_or_none)]
OptionalZone: TypeAlias = Annotated[ZoneInfo | None, BeforeValidator(_zone)]
