"""The types of the settings: each with the function that reads it from text.

They raise ValueError with a clause that follows the setting's name: `must be a path`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from dotenv.parser import parse_stream
from pydantic import BeforeValidator, FiniteFloat, SecretStr
from pydantic_core import ErrorDetails

from bot.commands.access import Role
from bot.heartbeat.cron import read_cron
from bot.setup.sources import SourceChoice, read_model, read_sources
from loop.errors import UserError
from loop.files import check_path
from loop.text import is_secret
from notifiers.delivery.preferences import QuietHours, read_hours

_T = TypeVar("_T")

_LONGEST_PATTERN = 300  # characters


def _optional(read: Callable[[str], _T]) -> Callable[[str], _T | None]:
    return lambda text: read(text) if text else None


def _or_empty(read: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: text and read(text)


def _each(read: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    return lambda text: tuple(map(read, _items(text)))


def _path(text: str) -> Path:
    with suppress(RuntimeError):  # from ~name of an unknown user
        if text and "\0" not in text:
            return Path(text).expanduser().absolute()
    raise ValueError("must be a path")


def _new_folder(text: str) -> Path:
    path = _path(text)
    try:
        nearest = next(place for place in (path, *path.parents) if place.exists())
    except OSError as error:
        raise ValueError(f"must be a folder that can be opened ({error.strerror})") from None
    if not nearest.is_dir():
        raise ValueError(f"must be a folder, but {nearest} is a file")
    if not os.access(nearest, os.X_OK):
        raise ValueError(f"must be a folder that can be opened, but {nearest} denies access")
    return path


def _folder(text: str) -> Path:
    path = _path(text)
    with suppress(OSError):
        if path.is_dir():
            return path
    raise ValueError("must be an existing folder")


def _items(text: str) -> tuple[str, ...]:
    items = tuple(item.strip() for item in text.split(",")) if text.strip() else ()
    if "" in items:
        raise ValueError("must be a list separated by commas, without an empty item")
    return items


def _file(text: str) -> str:
    path = PurePosixPath(text)
    with suppress(UserError):
        check_path(str(path))
        if path.parts:
            return str(path)
    raise ValueError("must be a path inside the repository")


def _lanes(text: str) -> str | None:
    if text.strip() in ("", "auto"):
        return None
    if text.strip().isdecimal() and int(text) >= 1:
        return text.strip()
    raise ValueError("must be auto or a whole number from 1 on")


def _names(text: str) -> tuple[str, ...]:
    names = _items(text)
    if not all(re.fullmatch(r"-{0,2}[^\W\d][\w.-]*", name) for name in names):  # --lr, Config.lr
        raise ValueError("must be names separated by commas")
    return names


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise ValueError("must be a command line with closed quotation marks") from None


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


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("must be an address such as 127.0.0.1:8443")
    return host, int(port)


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, KeyError):
        raise ValueError("must be a time zone such as Europe/Berlin") from None


def _tracker(text: str) -> tuple[str, str]:
    from notifiers.channels.tracker import SERVICES

    service, _, project = text.partition(":")
    if service not in SERVICES or not re.fullmatch(r"[\w.-]+", project):
        raise ValueError("must be trackio:PROJECT or wandb:PROJECT")
    return service, project


def _url(text: str) -> str:
    if re.fullmatch(r"https?://[^\s/]\S*", text):
        return text
    raise ValueError("must be a web address that begins with https:// or http://")


def _pattern(text: str) -> str:
    if len(text) > _LONGEST_PATTERN:
        raise ValueError(f"must be {_LONGEST_PATTERN} characters at most, but it has {len(text)}")
    try:
        groups = re.compile(text).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression, but {error}") from None
    if not groups.keys() >= {"key", "value"}:
        raise ValueError("must have the groups (?P<key>…) and (?P<value>…)")
    return text


# Variables of other programs that resemble a setting.
_OF_OTHERS = frozenset(
    {"DATA_PATH", "METRICS", "TIMEZONE", "MAX_CONTEXT_TOKENS", "OPENAPI_KEY", "OPENAPI_API_KEY"}
    | {"GENAI_API_KEY", "GOOGLE_AI_API_KEY", "GOOGLE_CSE_API_KEY", "GOOGLE_API_KEY_2"}
    | {"OPENAI_API_KEY_2", "OPENAI_API_BASE_URL"}
)

_ELSEWHERE = {"GEMINI_API_KEY": "GOOGLE_API_KEY"}  # as other programs call it

_OF_TRAINING = frozenset({"AUTORESEARCH_CACHE", "AUTORESEARCH_CLIMBMIX_URL"})


def bad_lines(env_file: Path) -> list[str]:
    """Return a sentence for each line of the file that sets nothing, without its text: it may be a secret."""
    try:
        with env_file.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{env_file} cannot be read: {error.strerror}."]
    except UnicodeDecodeError:
        return [f"{env_file} cannot be read: it is not UTF-8 text."]
    bad = []
    for binding in bindings:
        nameless = binding.key is not None and not (binding.key.isidentifier() and binding.value is not None)
        if binding.error or nameless:
            text = binding.original.string
            line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            bad.append(f"Line {line} of {env_file} is not NAME=value.")
    return bad


def near_miss(name: str, names: list[str]) -> str | None:
    """Return the setting that an environment variable was probably meant to be."""
    if name in names or name in _OF_OTHERS:
        return None
    plain = name.upper().removeprefix("AUTORESEARCH_")
    of_a_chat = plain.startswith(("TELEGRAM_", "SLACK_"))  # which few programs have variables of
    matches = get_close_matches(name.upper(), names, n=1, cutoff=0.82 if of_a_chat else 0.86)
    return plain if plain in names else next(iter(matches), None)


def sentence(error: ErrorDetails, subjects: Mapping[str, str], env_file: Path, names: list[str]) -> str:
    """Return one problem as a sentence: `TIME_BUDGET in .env must be more than 0, not '-5'.`"""
    context = error.get("ctx", {})
    if not error["loc"]:
        return str(context["error"])
    name = str(error["loc"][0])
    subject = subjects.get(name, f"{name} in {env_file}")
    if error["type"] == "extra_forbidden":
        return f"{subject} is not a setting. {_hint(name, names)}"
    match error["type"]:
        case "value_error":
            rule = str(context["error"])
        case "int_parsing" | "int_from_float":
            rule = "must be a whole number"
        case "float_parsing" | "finite_number":
            rule = "must be a number"
        case "greater_than":
            rule = f"must be more than {context['gt']:g}"
        case "greater_than_equal":
            rule = f"must be {context['ge']:g} or more"
        case "enum" | "literal_error":
            rule = f"must be {context['expected']}"
        case "string_pattern_mismatch":
            rule = "must be one word"
        case _:
            rule = f"is not accepted ({error['msg']})"
    secret = is_secret(name) or "URL" in name  # which may hold a login
    value = "" if secret or ", but " in rule else f", not {str(error['input'])[:60]!r}"
    return f"{subject} {rule}{value}."


def _hint(name: str, names: list[str]) -> str:
    if name in _OF_TRAINING:
        return "The training repository reads it from the environment: set it there."
    meant = _ELSEWHERE.get(name) or next(iter(get_close_matches(name.upper(), names, n=1)), None)
    return f"Did you mean {meant}?" if meant else f"{_all_settings()} lists all of them."


def _all_settings() -> Path:
    """Return the file that explains every setting: in the package, or beside it in a checkout."""
    packaged = Path(__file__).parents[1] / ".env.example"
    return packaged if packaged.exists() else packaged.parents[1] / packaged.name


NewFolder: TypeAlias = Annotated[Path, BeforeValidator(_new_folder)]
OptionalFolder: TypeAlias = Annotated[Path | None, BeforeValidator(_optional(_folder))]
Paths: TypeAlias = Annotated[tuple[Path, ...], BeforeValidator(_each(_path))]
RepositoryFile: TypeAlias = Annotated[str, BeforeValidator(_file)]
RepositoryFiles: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_each(_file))]
Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_names)]
CommandLine: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_words)]
OptionalCount: TypeAlias = Annotated[int | None, BeforeValidator(_optional(str))]
Lanes: TypeAlias = Annotated[int | None, BeforeValidator(_lanes)]
OptionalNumber: TypeAlias = Annotated[FiniteFloat | None, BeforeValidator(_optional(str))]
Url: TypeAlias = Annotated[str, BeforeValidator(_url)]
OptionalUrl: TypeAlias = Annotated[str, BeforeValidator(_or_empty(_url))]
OptionalSecretUrl: TypeAlias = Annotated[SecretStr, BeforeValidator(_or_empty(_url))]
Sources: TypeAlias = Annotated[tuple[SourceChoice, ...], BeforeValidator(read_sources)]
OptionalModel: TypeAlias = Annotated[SourceChoice | None, BeforeValidator(_optional(read_model))]
OptionalTracker: TypeAlias = Annotated[tuple[str, str] | None, BeforeValidator(_optional(_tracker))]
OptionalWakeUp: TypeAlias = Annotated[str, BeforeValidator(_or_empty(read_cron))]
OptionalZone: TypeAlias = Annotated[ZoneInfo | None, BeforeValidator(_optional(_zone))]
Members: TypeAlias = Annotated[Mapping[str, Role | None], BeforeValidator(_members)]
Chats: TypeAlias = Annotated[Mapping[str, Role | None], BeforeValidator(_chats)]
OptionalPattern: TypeAlias = Annotated[str, BeforeValidator(_or_empty(_pattern))]
OptionalHours: TypeAlias = Annotated[QuietHours | None, BeforeValidator(_optional(read_hours))]
OptionalAddress: TypeAlias = Annotated[tuple[str, int] | None, BeforeValidator(_optional(_address))]
