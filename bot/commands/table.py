"""The commands: one table of what there is, and parsing against it. `handlers.py` does what they say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum

from bot.commands.access import Role
from loop.errors import UserError
from notifiers.message import Button, Message


class Kind(StrEnum):
    """What an argument is made of."""

    WORD = "word"
    COUNT = "count"  # a whole number, 0 or more
    CHOICE = "choice"  # one fixed word, there or not
    TEXT = "text"  # all that follows
    OPTION = "option"  # NAME=VALUE, anywhere


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument that a command takes; a `CHOICE` is named after its word."""

    name: str
    kind: Kind
    required: bool = False

    def __str__(self) -> str:
        shown = self.name if self.kind is Kind.CHOICE else self.name.upper()
        shown = f"{self.name}=…" if self.kind is Kind.OPTION else shown
        return shown if self.required else f"[{shown}]"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, arguments, help in one line, and an example that works.

    `role` is what it takes to give it. `question`, with the run's tag, is asked in a chat before it is
    obeyed. A `perishable` one is not obeyed when it comes late, a `hidden` one stands only behind buttons.
    One not `about_run` names its run, or needs none.
    """

    name: str
    help: str
    example: str
    parameters: tuple[Parameter, ...] = ()
    role: Role = Role.VIEWER
    question: str = ""
    perishable: bool = False
    hidden: bool = False
    about_run: bool = True

    @property
    def usage(self) -> str:
        return " ".join((f"/{self.name}", *map(str, self.parameters)))


@dataclass(frozen=True, slots=True)
class Call:
    """A command with its arguments by name, as the text of a person was understood."""

    command: Command
    arguments: Mapping[str, str]

    def text(self, name: str) -> str | None:
        return self.arguments.get(name)

    def count(self, name: str, default: int = 0) -> int:
        given = self.arguments.get(name)
        return default if given is None else int(given)

    def has(self, name: str) -> bool:
        return name in self.arguments

    @property
    def names_experiment(self) -> bool:
        return self.command.parameters[:1] == (_NUMBER,)

    @property
    def perishable(self) -> bool:
        """Tell whether it does harm when it comes late: it ends what trains at this moment."""
        return self.command.perishable or self.has("now")


_NUMBER = Parameter("n", Kind.COUNT, required=True)
_COUNT = (Parameter("n", Kind.COUNT),)
_NONCE = Parameter("nonce", Kind.WORD, required=True)
_OFF = Parameter("off", Kind.CHOICE)
_STEERS = Role.OPERATOR

COMMANDS = (
    Command(
        "start_run",
        "Preview a new run; `go` starts it, `lanes=0,1` picks GPUs",
        "/start_run mar12 hourly go",
        (
            Parameter("tag", Kind.WORD),
            Parameter("mode", Kind.WORD),
            Parameter("go", Kind.CHOICE),
            Parameter("lanes", Kind.OPTION),
        ),
        _STEERS,
        about_run=False,
    ),
    Command("status", "Current experiment and best result", "/status"),
    Command(
        "pause",
        "Pause after this experiment; `now` interrupts it",
        "/pause now",
        (Parameter("now", Kind.CHOICE),),
        _STEERS,
    ),
    Command("resume", "Continue after a pause", "/resume", (), _STEERS),
    Command(
        "stop",
        "End the run; its branch and results stay",
        "/stop",
        (),
        _STEERS,
        question="Stop run {} for good? Its branch and all results stay.",
        perishable=True,
    ),
    Command(
        "retag",
        "Rename a run, its branch and its refs",
        "/retag mar12 wide",
        (Parameter("old", Kind.WORD, required=True), Parameter("new", Kind.WORD, required=True)),
        _STEERS,
        about_run=False,
    ),
    Command("skip", "Give up this experiment and start the next", "/skip", (), _STEERS, perishable=True),
    Command(
        "rerun", "Repeat an experiment K times", "/rerun 12 3", (_NUMBER, Parameter("k", Kind.COUNT)), _STEERS
    ),
    Command("accept", "Believe a result in quarantine", "/accept 12", (_NUMBER,), _STEERS),
    Command(
        "reject",
        "Discard a result; what was built on it is tried again without it",
        "/reject 12",
        (_NUMBER,),
        _STEERS,
    ),
    Command("certify", "Train best and baseline again: how sure is the gain?", "/certify", (), _STEERS),
    Command(
        "prune",
        "Measure what each keep brings; with numbers, remove these",
        "/prune 3 9",
        (Parameter("numbers", Kind.TEXT),),
        _STEERS,
    ),
    Command("summary", "Report on the run so far", "/summary"),
    Command("results", "Latest results as a table", "/results 20", _COUNT),
    Command("best", "Best experiment so far", "/best"),
    Command(
        "diff",
        "What an experiment changed, or from one to another",
        "/diff 0 12",
        (_NUMBER, Parameter("to", Kind.COUNT)),
    ),
    Command("log", "End of an experiment's log", "/log 12", (_NUMBER,)),
    Command("plot", "Progress chart", "/plot"),
    Command("bundle", "Make a clean branch of what was kept", "/bundle", (), _STEERS),
    Command(
        "idea",
        "Queue an idea; `drop N` takes it back",
        "/idea EMBEDDING_LR 0.8",
        (Parameter("text", Kind.TEXT, required=True),),
        _STEERS,
    ),
    Command("more", "Try more like it; `off` takes it back", "/more 12", (_NUMBER, _OFF), _STEERS),
    Command("never", "Try nothing like it; `off` takes it back", "/never 12", (_NUMBER, _OFF), _STEERS),
    Command("ideas", "Queued ideas, and lessons so far", "/ideas 10", _COUNT),
    Command("runs", "All runs", "/runs", about_run=False),
    Command(
        "notify",
        "Which messages this chat gets",
        "/notify keeps",
        (Parameter("text", Kind.TEXT),),
        _STEERS,
        about_run=False,
    ),
    Command(
        "health",
        "Problems found; `all` lists every check",
        "/health all",
        (Parameter("all", Kind.CHOICE),),
        about_run=False,
    ),
    Command("id", "Your id and the id of this chat", "/id", about_run=False),
    Command(
        "help",
        "All commands, or one of them",
        "/help retag",
        (Parameter("command", Kind.WORD),),
        about_run=False,
    ),
    # With what a link to the bot brings along.
    Command(
        "start", "The usual commands", "/start", (Parameter("text", Kind.TEXT),), hidden=True, about_run=False
    ),
    Command("confirm", "Answer yes", "/confirm a1b2c3", (_NONCE,), _STEERS, hidden=True, about_run=False),
    Command("cancel", "Answer no", "/cancel", (), _STEERS, hidden=True, about_run=False),
    Command("card", "The card of the run as it is now", "/card", hidden=True),
    Command("new_idea", "Whether an idea can be queued", "/new_idea", (), _STEERS, hidden=True),
)

VISIBLE = tuple(command for command in COMMANDS if not command.hidden)  # the others stand behind buttons
USUAL = ("start_run", "status", "results", "plot", "pause", "resume")  # what most people need most


def find_command(name: str) -> Command:
    plain = name.lower().removeprefix("/")
    for command in COMMANDS:
        if command.name == plain:
            return command
    near = get_close_matches(plain, [command.name for command in VISIBLE], n=1)
    hint = f"did you mean /{near[0]}?" if near else "/help lists the commands."
    raise UserError(f"There is no command /{plain[:40]}: {hint}")


def pressable(message: Message, role: Role) -> Message:
    """Return the message without the buttons that nobody of this role may press."""
    rows = (tuple(each for each in row if _role_of(each) <= role) for row in message.buttons)
    return replace(message, buttons=tuple(filter(None, rows)))


def _role_of(button: Button) -> Role:
    return find_command(button.command.split(maxsplit=1)[0]).role


_RUN = re.compile(r" @(\d+)$")


def with_run(command: str, run: int) -> str:
    """Return the command of a button that says which run it is about, whichever is the current one then."""
    return f"{command} @{run}" if find_command(command.split(maxsplit=1)[0]).about_run else command


def without_run(pressed: str) -> tuple[str, int | None]:
    """Return the command of a pressed button, and the run that it is about where it says so."""
    found = _RUN.search(pressed)
    return (pressed[: found.start()], int(found[1])) if found else (pressed, None)


_KEYS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")  # what was pasted along with a text, and nobody sees


def parse(text: str) -> Call:
    name, *rest = _KEYS.sub("", text).split(maxsplit=1) or [""]
    if not name:
        raise UserError("No command given: /help lists the commands.")
    command = find_command(name)
    return Call(command, _match(command, "".join(rest).strip()))


_ALIASES = {"again": "rerun"}


def parse_reply(text: str, number: int) -> Call:
    """Return what a reply to a message about an experiment asks: `diff`, `again x3`, or an idea in words.

    A command that takes the number of an experiment takes this one. Where words that begin like a command
    are no such command they are an idea: `skip connections between layers`.
    """
    text = text.strip().removeprefix("/")
    name, *rest = text.lower().split() or [""]
    name = _ALIASES.get(name, name)
    if any(each.name == name and each.parameters[:1] == (_NUMBER,) for each in COMMANDS):
        rest = [word.removeprefix("x") for word in rest]  # three times: x3
        counts = sum(map(is_count, rest))
        own = [] if counts > (name == "rerun") else [str(number)]
        text_meant = " ".join((name, *own, *rest))
    else:
        text_meant = text
    try:
        return parse(text_meant)
    except UserError:
        if " " not in text:
            raise
    return Call(find_command("idea"), {"text": text, "n": str(number)})


def _match(command: Command, text: str) -> Mapping[str, str]:
    arguments = {}
    words = text.split()
    order = [Kind.OPTION, Kind.CHOICE]
    for parameter in sorted(
        command.parameters, key=lambda each: order.index(each.kind) if each.kind in order else len(order)
    ):
        match parameter.kind:
            case Kind.OPTION:
                given = next((word for word in words if word.startswith(f"{parameter.name}=")), None)
                if given is not None:
                    words.remove(given)
                    arguments[parameter.name] = given.partition("=")[2]
            case Kind.TEXT if text:
                arguments[parameter.name], words = text, []
            case Kind.CHOICE if words and words[-1].lower() == parameter.name:
                arguments[parameter.name] = words.pop()
            case Kind.WORD if words:
                arguments[parameter.name] = words.pop(0)
            case Kind.COUNT if words and is_count(words[0]):
                arguments[parameter.name] = words.pop(0)
    required = {parameter.name for parameter in command.parameters if parameter.required}
    if words or not required <= arguments.keys():
        raise UserError(f"Usage: {command.usage}, for example {command.example}")
    return arguments


def is_count(word: str) -> bool:
    """Tell whether a word is a whole number that can be an experiment's."""
    return word.isascii() and word.isdigit() and len(word) < 10
