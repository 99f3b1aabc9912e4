"""The one way in for requests: access, no request twice, none too late, questions first."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bot.commands.access import Access, Request, Role, has_own_chat
from bot.commands.handlers import CommandHandlers
from bot.commands.table import Call, parse, parse_reply, pressable, with_run
from loop.errors import UserError
from loop.experiment import RunState
from loop.process.worker import in_thread
from loop.store.journal import Journal
from loop.store.outbox import remember_request, told_experiment, told_run
from loop.store.patience import Blocked
from notifiers.message import Button, Buttons, Message, Reply
from notifiers.text.words import duration

log = logging.getLogger(__name__)

FRESH_SECONDS = 600.0  # after which a command that ends a training is refused
QUESTION_SECONDS = 120.0  # after which a question has expired

FAILED = "That failed. The reason is in bot.log."
REMEMBERED_SECONDS = 30 * 86400.0  # in which none is obeyed again; platforms redeliver within a day


@dataclass(frozen=True, slots=True)
class _Question:
    """A command that waits to be confirmed where it was given."""

    request: Request
    call: Call
    asked_at: float


@dataclass(eq=False, kw_only=True)
class Inbox:
    """Answers requests from every front end; `now` gives seconds since the epoch."""

    handlers: CommandHandlers
    access: Access
    journal: Journal
    now: Callable[[], float]

    def __post_init__(self) -> None:
        self._questions: dict[str, _Question] = {}

    async def answer(self, request: Request) -> Reply | None:
        """Return the answer; None means no answer, as to strangers and to what was answered before."""
        sender = request.sender
        role = self.access.role_of(sender)
        if role is None and not (self.access.may_ask_id(sender) and _asks_for_ids(request.text)):
            log.warning("a stranger on %s: user %s in %s", sender.platform, sender.user, sender.place)
            return None
        run, number = await in_thread(self._told, request) if request.message_id else (None, None)
        request = replace(request, run=request.run or run)
        if number is None and _is_talk(request):
            return None
        blocked = self.journal.blocked
        if request.key and blocked is None and not await in_thread(self._is_new, request.key):
            return None
        try:
            call = parse(request.text) if number is None else parse_reply(request.text, number)
            _require_role(call, role)
            _require_writable(call, blocked)
            self._require_fresh(call, request)
            _require_run(call, request)
            if call.command.name == "id" or role is None:
                return Reply(Message(self.access.ids_of(sender)))
            return await self._obey(call, request)
        except UserError as error:
            return _refusal(request, error)
        except Exception:  # a fault of ours is logged and answered, and ends nothing else
            log.exception("failed to obey %r", request.text[:200])
            return Reply(Message(FAILED), refused=True)

    async def _obey(self, call: Call, request: Request) -> Reply:
        if call.command.name == "confirm":
            try:
                return await self._confirmed(call, request)
            except UserError as error:  # no second press would do better
                return replace(_refusal(request, error), replaces=True)
        if call.command.about_run:
            request = replace(request, run=(await self.handlers.asked_run(request)).id)
        is_local = request.sender.is_local
        if call.command.question and not is_local and (question := await self._ask(call, request)):
            return question
        reply = await self.handlers.obey(call, request)
        message = pressable(reply.message, self.access.highest_role(request.sender.channel))
        if request.run is not None:
            message = replace(message, buttons=_about(message.buttons, request.run))
        return replace(reply, message=message, run=request.run)

    def _require_fresh(self, call: Call, request: Request) -> None:
        age = self.now() - request.sent_at
        if call.perishable and age > FRESH_SECONDS:
            raise UserError(f"/{call.command.name} is too old and was ignored: sent {duration(age)} ago.")

    async def _ask(self, call: Call, request: Request) -> Reply | None:
        """Return the question whether to obey; None where there is nothing to obey any more."""
        run = await self.handlers.meant_run(request)
        if run.state is RunState.STOPPED:
            return None
        nonce = secrets.token_hex(4)
        self._questions = {key: one for key, one in self._questions.items() if not self._expired(one)}
        self._questions[nonce] = _Question(request, call, self.now())
        buttons = (Button("Yes", f"/confirm {nonce}"), Button("No", "/cancel"))
        return Reply(Message(call.command.question.format(run.tag), buttons=(buttons,)))

    async def _confirmed(self, call: Call, request: Request) -> Reply:
        question = self._questions.pop(call.arguments["nonce"], None)
        if question is None or self._expired(question):
            raise UserError("That question has expired: send the command again.")
        if question.request.sender.place != request.sender.place:
            raise UserError("That question was asked in another chat.")
        asked = question.request  # it is about the run of that moment
        asked = replace(request, sent_at=asked.sent_at, run=asked.run)
        reply = await self.handlers.obey(question.call, asked)
        text = f"{reply.message.text} ({request.sender.name})"
        return Reply(replace(reply.message, text=text), replaces=True)

    def _expired(self, question: _Question) -> bool:
        return self.now() - question.asked_at > QUESTION_SECONDS

    def _told(self, request: Request) -> tuple[int | None, int | None]:
        """Return the run that the message or its topic is about, and the experiment that it replies to."""
        journal, channel, replied_to = self.journal, request.sender.channel, request.replied_to
        if replied_to and (found := told_experiment(journal, channel, replied_to, at=request.sent_at)):
            return found
        return told_run(journal, channel, replied_to or request.message_id), None

    def _is_new(self, key: str) -> bool:
        """Remember the request before it is obeyed: a command that ends the bot must not come again."""
        return remember_request(self.journal, key, now=self.now(), seconds=REMEMBERED_SECONDS)


def _require_writable(call: Call, blocked: Blocked | None) -> None:
    if blocked is not None and call.command.role > Role.VIEWER:
        raise UserError(f"Not now: the state file cannot be written, as {blocked}.")


def _require_role(call: Call, role: Role | None) -> None:
    if role is not None and role < call.command.role:
        raise UserError(f"/{call.command.name} is for operators; you have read-only access.")


def _require_run(call: Call, request: Request) -> None:
    """Refuse a press that names an experiment of a run that nothing tells."""
    if request.pressed and request.run is None and call.names_experiment:
        again = f"/{call.command.name} {call.count('n')}"
        raise UserError(f"Not done: the message does not say which run it is about. Send {again} instead.")


def _refusal(request: Request, error: UserError) -> Reply:
    log.info("refused %r: %s", request.text[:200], error)
    return Reply(Message(str(error)), refused=True)


def _about(rows: Sequence[Buttons], run: int) -> tuple[Buttons, ...]:
    return tuple(tuple(replace(each, command=with_run(each.command, run)) for each in row) for row in rows)


def _is_talk(request: Request) -> bool:
    """Tell whether people in a group answer a message that commands are not about."""
    is_reply = bool(request.replied_to) and not request.text.startswith("/")
    return is_reply and not has_own_chat(request.sender)


def _asks_for_ids(text: str) -> bool:
    return text.strip().lower() in ("/id", "id", "/start")
