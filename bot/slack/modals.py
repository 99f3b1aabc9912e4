"""Modals: a form for a new run and one for an idea. A form that is refused says so at its field."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, TypeAlias

from slack_bolt.async_app import AsyncAck
from slack_sdk.web.async_client import AsyncWebClient

from bot.commands.access import Request, Sender
from bot.commands.inbox import FAILED
from bot.commands.table import find_command
from bot.front import Answer
from bot.slack.requests import HOME, NAME, VERBS, AskedOnSlack, person
from loop.proposers.people import IDEA_CHARACTERS
from loop.text import one_line
from notifiers.channels.slack import SlackRefusedError, slack_errors
from notifiers.channels.slack_blocks import Block, as_typed, cut, render
from notifiers.message import ChannelError, Message, Reply

log = logging.getLogger(__name__)

FIELD = "field"  # the block of a form's text, at which a refusal is shown
CHOICE = "choice"  # the block of what a new run can be started with
_LOOK_SECONDS = 1.0  # for what says whether a form makes sense
_ERROR = 300
_TAG = 80
_TITLES = {"start_run": "Start a run", "idea": "New idea"}
_ONE_WORD = "A tag is one word, without spaces."
_LOOKING = "Looking at the repository…"
_WORKING = "Working on it. You can close this."

View: TypeAlias = dict[str, Any]
Begin: TypeAlias = Callable[[Coroutine[Any, Any, Reply | None]], "asyncio.Task[Reply | None]"]


@dataclass(frozen=True, slots=True, eq=False)
class Modals:
    """Opens the forms and takes what is filled in.

    `answer` obeys, `begin` starts something in the background, `show` shows what came of it where the form
    was asked for. A form that takes longer than `ack_seconds` is acknowledged before it is obeyed.
    """

    client: AsyncWebClient
    _: KW_ONLY
    answer: Answer
    begin: Begin
    show: Callable[[AskedOnSlack, Reply], Awaitable[None]]
    ack_seconds: float

    async def open(self, asked: AskedOnSlack) -> bool:
        """Open the form of a command within the three seconds that Slack gives; False where it does not.

        None is opened, and that is shown, where a run takes no ideas.
        """
        about = _metadata(asked)
        if asked.verb == "idea":
            asking = self.begin(self.answer(replace(asked.request, text="/new_idea", key="")))
            in_time, _ = await asyncio.wait({asking}, timeout=_LOOK_SECONDS)
            if in_time and (answer := _result(asking)) and answer.refused:
                await self.show(asked, answer)
                return True
            view = idea_form(about, asked.request.text.partition(" ")[2])
        else:
            view = _view("start_run", [*_words(_LOOKING)])
        try:
            with slack_errors():
                opened = await self.client.views_open(trigger_id=asked.trigger, view=view)
        except ChannelError as error:
            if isinstance(error, SlackRefusedError) and error.word == "exchanged_trigger_id":
                return True  # it is open: Slack has sent the request again
            log.info("Slack does not open a form: %s", error)
            return False
        if asked.verb == "start_run":
            task = self.begin(self.answer(asked.request))
            await asyncio.wait({task})
            if (reply := _result(task)) is not None:
                shown = replace(reply, message=as_typed(reply.message, VERBS))
                await self._update(str(opened["view"]["id"]), start_form(about, shown))
        return True

    async def submit(self, ack: AsyncAck, body: Mapping[str, Any], *, now: float) -> None:
        """Obey a form that was filled in, and acknowledge it in time whatever that takes."""
        asked, view_id = from_submission(body, now=now), str(body["view"]["id"])
        verb = asked.verb
        if verb == "start_run" and len(_typed_in(body).split()) != 1:
            await ack(response_action="errors", errors={FIELD: _ONE_WORD})
            return
        task = self.begin(self.answer(asked.request))
        in_time, _ = await asyncio.wait({task}, timeout=self.ack_seconds)
        if not in_time:
            await ack(response_action="update", view=_view(verb, _words(_WORKING)))
            await asyncio.wait({task})
        reply = _result(task)
        if not in_time and reply is not None:
            await self._update(view_id, _view(verb, _words(_typed(reply))))
        elif reply is not None and reply.refused:
            await ack(response_action="errors", errors={FIELD: one_line(_typed(reply), _ERROR)})
        elif in_time:
            await ack()
        if reply is not None and not reply.refused:
            await self.show(asked, reply)

    async def _update(self, view_id: str, view: View) -> None:
        try:
            with slack_errors():
                await self.client.views_update(view_id=view_id, view=view)
        except ChannelError as error:  # it was closed meanwhile
            log.info("a form was not brought up to date: %s", error)


def _typed(reply: Reply) -> str:
    return as_typed(reply.message, VERBS).text


def _result(task: asyncio.Task[Reply | None]) -> Reply | None:
    """Return what came of a form; its error is logged where it was begun."""
    if task.cancelled() or task.exception() is not None:
        return Reply(Message(FAILED), refused=True)
    return task.result()


def from_submission(body: Mapping[str, Any], *, now: float) -> AskedOnSlack:
    """Return the command that a form stands for, asked where the form was asked for."""
    view = body["view"]
    about = json.loads(view["private_metadata"])
    user, name, team = person(body)
    value = " ".join(_typed_in(body).split())
    chosen = view["state"]["values"].get(CHOICE, {}).get(CHOICE, {}).get("selected_option") or {}
    rest = " ".join(filter(None, (value, chosen.get("value"), "go")))
    text = f"/idea {value}" if view["callback_id"] == "idea" else f"/start_run {rest}"
    sender = Sender(NAME, user, about["place"], name, topic=about["topic"])
    return AskedOnSlack(
        Request(sender, text.strip(), f"slack:{body['trigger_id']}", now, about["message"]),
        thread=about["thread"],
        note=f"{name}: {text}",
        response_url=about["url"],
        team=team,
    )


def _typed_in(body: Mapping[str, Any]) -> str:
    return str(body["view"]["state"]["values"][FIELD][FIELD].get("value") or "")


def _metadata(asked: AskedOnSlack) -> str:
    sender = asked.request.sender
    about = {
        "place": sender.place,
        "topic": HOME if asked.at_home else "",
        "message": asked.request.message_id,
        "thread": asked.thread,
        "url": asked.response_url,
    }
    return json.dumps(about)


def idea_form(about: str, text: str = "") -> View:
    """Return the form for an idea, with a text to begin with; `about` is where it was asked for."""
    example = find_command("idea").example.partition(" ")[2]
    field = _field("Idea", f"For example {example}", cut(text, IDEA_CHARACTERS), most=IDEA_CHARACTERS)
    field["element"]["multiline"] = True
    return _view("idea", [field], submit="Queue", about=about)


def start_form(about: str, plan: Reply) -> View:
    """Return the form for a new run, as the bot's plan has it; only text where it cannot be started."""
    text = _words(plan.message.text)
    starts = [
        (button.label, command)
        for row in plan.message.buttons
        for button in row
        if (command := button.command.split())[0] == "/start_run" and command[-1] == "go"
    ]
    if not starts:
        return _view("start_run", text)
    tag = starts[0][1][1]
    fields = [_field("Tag", "The name of the run and of its branch", tag, most=_TAG)]
    modes = [(label.removeprefix("Start: "), command[2]) for label, command in starts if len(command) == 4]
    if modes:
        fields.append(_choice("Messages here", modes))
    return _view("start_run", [*text, *fields], submit="Start", about=about)


def _view(verb: str, blocks: list[Block], *, submit: str = "", about: str = "") -> View:
    view = {
        "type": "modal",
        "callback_id": verb,
        "title": _label(_TITLES[verb]),
        "close": _label("Cancel" if submit else "Close"),
        "blocks": blocks,
        "private_metadata": about,
    }
    return {**view, "submit": _label(submit)} if submit else view


def _field(label: str, hint: str, value: str, *, most: int) -> Block:
    element = {"type": "plain_text_input", "action_id": FIELD, "max_length": most}
    if value:
        element["initial_value"] = value
    return {
        "type": "input",
        "block_id": FIELD,
        "label": _label(label),
        "hint": _label(hint),
        "element": element,
    }


def _choice(label: str, choices: Sequence[tuple[str, str]]) -> Block:
    options = [{"text": _label(name), "value": value} for name, value in choices]
    element = {"type": "radio_buttons", "action_id": CHOICE, "options": options, "initial_option": options[0]}
    return {"type": "input", "block_id": CHOICE, "label": _label(label), "element": element}


def _words(text: str) -> list[Block]:
    return render(Message(text)).blocks or render(Message("…")).blocks


def _label(text: str) -> Block:
    return {"type": "plain_text", "text": text}
