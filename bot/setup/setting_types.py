"""The types of the settings: each with the function that reads it from text.

These functions raise ValueError with a clause that goes on from the setting's name: `must be a path`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, FiniteFloat, SecretStr
from pydantic_settings import NoDecode

from bot.access import Role
from bot.setup.sources import SourceChoice, read_model, read_sources
from loop.errors import LoopError
from loop.git.repository import check_path
from notifiers.channels.tracker import SERVICES
from notifiers.delivery.preferences import QuietHours, read_hours


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
    if not os.access(nearest, os.X_OK):
        raise ValueError(f"must be a folder within reach, but {nearest} may not be entered")
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


def _members(text: str) -> Mapping[str, Role | None]:
    """Read ids that may carry a role: `12345,67890:viewer`."""
    members: dict[str, Role | None] = {}
    for item in _items(text):
        name, _, role = item.partition(":")
        if role and role.upper() not in Role.__members__:
            raise ValueError(f"must give a role as in {name}:viewer or {name}:operator")
        members[name] = Role[role.upper()] if role else None
    return members


def _chats(text: str) -> Mapping[str, Role | None]:
    members = _members(text)
    if not all(re.fullmatch(r"-?\d+(/\d+)?", name) for name in members):
        raise ValueError("must be numbers, for a forum with its topic as in -1001234/15; /id shows them")
    return members


def _hours(text: str) -> QuietHours | None:
    return read_hours(text) if text else None


def _address(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    if not text:
        return None
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must be an address such as 127.0.0.1:8443")
    return host, int(port)


def _zone(text: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(text) if text else None
    except (OSError, ValueError, KeyError):
        raise ValueError("must be a time zone such as Europe/Berlin") from None


def _tracker(text: str) -> tuple[str, str] | None:
    service, _, project = text.partition(":")
    if not text:
        return None
    if service not in SERVICES or not re.fullmatch(r"[\w.-]+", project):
        raise ValueError("must be trackio:PROJECT or wandb:PROJECT")
    return service, project


def _wake_up(text: str) -> str:
    from bot.setup.cron import read_cron

    return read_cron(text) if text else ""


def _url(text: str) -> str:
    if re.fullmatch(r"https?://[^\s/]\S*", text):
        return text
    raise ValueError("must be a web address that begins with https:// or http://")


def _optional_url(text: str) -> str:
    return _url(text) if text else ""


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
OptionalMinutes: TypeAlias = Annotated[FiniteFloat | None, BeforeValidator(_or_none)]
OptionalDollars: TypeAlias = Annotated[FiniteFloat | None, BeforeValidator(_or_none)]
Url: TypeAlias = Annotated[str, BeforeValidator(_url)]
OptionalUrl: TypeAlias = Annotated[str, BeforeValidator(_optional_url)]
OptionalSecretUrl: TypeAlias = Annotated[SecretStr, BeforeValidator(_optional_url)]
Sources: TypeAlias = Annotated[tuple[SourceChoice, ...], NoDecode, BeforeValidator(read_sources)]
OptionalModel: TypeAlias = Annotated[SourceChoice | None, NoDecode, BeforeValidator(read_model)]
OptionalTracker: TypeAlias = Annotated[tuple[str, str] | None, NoDecode, BeforeValidator(_tracker)]
OptionalWakeUp: TypeAlias = Annotated[str, BeforeValidator(_wake_up)]
OptionalZone: TypeAlias = Annotated[ZoneInfo | None, BeforeValidator(_zone)]
Members: TypeAlias = Annotated[Mapping[str, Role | None], NoDecode, BeforeValidator(_members)]
Chats: TypeAlias = Annotated[Mapping[str, Role | None], NoDecode, BeforeValidator(_chats)]
OptionalHours: TypeAlias = Annotated[QuietHours | None, BeforeValidator(_hours)]
OptionalAddress: TypeAlias = Annotated[tuple[str, int] | None, NoDecode, BeforeValidator(_address)]
