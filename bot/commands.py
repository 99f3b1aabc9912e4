"""The commands: one table of what there is, and parsing against it. What they do is in `bot.desk`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from bot.errors import BotError


class Kind(StrEnum):
    """What an argument is made of."""

    WORD = "word"
    COUNT = "count"  # a whole number, 0 or more
    CHOICE = "choice"  # one fixed word, there or not


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument that a command takes; a `CHOICE` is named after its word."""

    name: str
    kind: Kind
    required: bool = False

    def __str__(self) -> str:
        shown = self.name if self.kind is Kind.CHOICE else self.name.upper()
        return shown if self.required else f"[{shown}]"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, arguments, help in one line, and an example that works."""

    name: str
    help: str
    example: str
    parameters: tuple[Parameter, ...] = ()

    @property
    def usage(self) -> str:
        """The command as it is typed."""
        return " ".join((f"/{self.name}", *map(str, self.parameters)))


@dataclass(frozen=True, slots=True)
class Call:
    """A command with its arguments by name, as the text of a person was understood."""

    command: Command
    arguments: Mapping[str, str]

    def text(self, name: str) -> str | None:
        """Return a word, None where it was not given."""
        return self.arguments.get(name)

    def count(self, name: str, default: int = 0) -> int:
        """Return a number."""
        given = self.arguments.get(name)
        return default if given is None else int(given)

    def has(self, name: str) -> bool:
        """Say whether an argument was given."""
        return name in self.arguments


_NUMBER = Parameter("n", Kind.COUNT, required=True)

COMMANDS = (
    Command("start_run", "Start a new run", "/start_run mar12", (Parameter("tag", Kind.WORD),)),
    Command("status", "What is going on, and the best so far", "/status"),
    Command(
        "pause",
        "Pause after this experiment; `now` ends it, to be run again",
        "/pause now",
        (Parameter("now", Kind.CHOICE),),
    ),
    Command("resume", "Go on after a pause", "/resume"),
    Command("stop", "End the run; its branch and results stay", "/stop"),
    Command(
        "retag",
        "Rename a run, its branch and its refs",
        "/retag mar12 wide",
        (Parameter("old", Kind.WORD, required=True), Parameter("new", Kind.WORD, required=True)),
    ),
    Command("skip", "Give up this experiment and go on to the next", "/skip"),
    Command("summary", "What the run has brought so far", "/summary"),
    Command("results", "The last results as a table", "/results 20", (Parameter("n", Kind.COUNT),)),
    Command("best", "The best experiment so far", "/best"),
    Command("diff", "What an experiment changed", "/diff 12", (_NUMBER,)),
    Command("log", "The end of an experiment's log", "/log 12", (_NUMBER,)),
    Command("runs", "All runs", "/runs"),
    Command("health", "Whether everything works", "/health"),
    Command("help", "The commands, or one of them", "/help retag", (Parameter("command", Kind.WORD),)),
)


def find_command(name: str) -> Command:
    """Return the command of that name, in any case and with or without its slash.

    Raises:
        BotError: there is none; the sentence names the nearest.
    """
    plain = name.lower().removeprefix("/")
    names = [command.name for command in COMMANDS]
    for command in COMMANDS:
        if command.name == plain:
            return command
    near = get_close_matches(plain, names, n=1)
    hint = f"did you mean /{near[0]}?" if near else "/help lists the commands."
    raise BotError(f"There is no command /{plain[:40]}: {hint}")


def parse(text: str) -> Call:
    """Understand what a person typed.

    Raises:
        BotError: no such command, or its arguments are off; the sentence shows how it is used.
    """
    words = text.split()
    if not words:
        raise BotError("That is no command: /help lists the commands.")
    command = find_command(words[0])
    return Call(command, _match(command, words[1:]))


def _match(command: Command, words: Sequence[str]) -> Mapping[str, str]:
    waiting = list(words)
    arguments = {}
    for parameter in command.parameters:
        if waiting and _fits(parameter, waiting[0]):
            arguments[parameter.name] = waiting.pop(0)
        elif parameter.required or (waiting and parameter is command.parameters[-1]):
            break
    required = [parameter.name for parameter in command.parameters if parameter.required]
    if waiting or not all(name in arguments for name in required):
        raise BotError(f"Use it so: {command.usage}, for example {command.example}")
    return arguments


def _fits(parameter: Parameter, word: str) -> bool:
    match parameter.kind:
        case Kind.CHOICE:
            return word.lower() == parameter.name
        case Kind.COUNT:
            return word.isascii() and word.isdigit() and len(word) < 10
        case Kind.WORD:
            return True
