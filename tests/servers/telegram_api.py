"""The Bot API's methods over chats kept in memory: what each call does, and what people see of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from tests.servers import telegram_rules as rules
from tests.servers.telegram_rules import ApiError, bad_request

TOKEN = "4242:AAH-loopback_token_that_must_stay_secret"  # not a real one
BOT = {"id": 4242, "is_bot": True, "first_name": "Lab", "username": "lab_bot"}
DATE = 1_750_000_000  # of every message

Params: TypeAlias = Mapping[str, str]
Files: TypeAlias = Mapping[str, tuple[str, bytes]]
T = TypeVar("T")


@dataclass(slots=True)
class Post:
    """A message in a chat, as people see it."""

    id: int
    chat: int
    text: str
    file: tuple[str, bytes] | None = None
    photo: bool = False
    keyboard: list[list[dict[str, str]]] = field(default_factory=list)
    keys: list[list[str]] | None = None  # below the text field; an empty list takes them away
    html: bool = False
    reply_to: int = 0
    topic: int = 0
    silent: bool = False
    preview: bool = True
    pinned: bool = False
    edits: int = 0

    @property
    def buttons(self) -> list[list[str]]:
        return [[button["callback_data"] for button in row] for row in self.keyboard]


@dataclass(slots=True)
class Chat:
    """A chat, and what may go wrong with it."""

    id: int
    kind: str = "private"
    forum: bool = False  # topics may be made in it
    topics: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)  # of the topics
    titles: dict[int, str] = field(default_factory=dict)  # of those that the bot made
    may_manage: bool = False  # topics: the bot makes them, and writes to closed ones
    moved_to: int = 0
    blocked: bool = False
    may_pin: bool = True


class BotApi:
    """The state of one bot: `posts` is what its chats hold, in order of sending."""

    def __init__(self) -> None:
        self.token = TOKEN
        self.chats = {7: Chat(7)}
        self.posts: list[Post] = []
        self.commands: list[dict[str, str]] = []
        self.webhook: dict[str, str] = {}
        self.deleted: set[int] = set()  # ids of messages that somebody deleted
        self.answered: dict[str, str] = {}  # the text shown for each press that was answered
        self.alerts: set[str] = set()  # of those, the presses whose text has to be closed by a tap
        self.actions: list[tuple[int, int, str]] = []  # chat, topic, and what is shown there for a moment
        self._presses: set[str] = set()
        self._updates: list[dict[str, Any]] = []
        self._last_update = 1000
        self._last_message = 100
        self._poller = 0
        self._changed = asyncio.Event()
        self.methods: Mapping[str, Callable[[Params, Files], Awaitable[Any]]] = {
            "getMe": self._get_me,
            "getUpdates": self._get_updates,
            "sendMessage": self._send_message,
            "sendPhoto": self._send_photo,
            "sendDocument": self._send_document,
            "editMessageText": self._edit_text,
            "editMessageCaption": self._edit_caption,
            "pinChatMessage": self._pin,
            "sendChatAction": self._send_action,
            "createForumTopic": self._create_topic,
            "editForumTopic": self._edit_topic,
            "answerCallbackQuery": self._answer_press,
            "setMyCommands": self._set_commands,
            "setWebhook": self._set_webhook,
            "deleteWebhook": self._delete_webhook,
            "getWebhookInfo": self._webhook_info,
        }

    # -- What tests do and wait for

    async def until(self, found: Callable[[], T]) -> T:
        """Wait until something is true of the server, and return it."""
        while not (result := found()):
            await self._changed.wait()
        return result

    def notify(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def posted(self, number: int = 1) -> list[Post]:
        """Wait until the chats hold so many messages."""
        await self.until(lambda: len(self.posts) >= number)
        return self.posts

    def texts(self, chat: int = 7) -> list[str]:
        return [post.text for post in self.posts if post.chat == chat]

    def say(self, text: str, *, chat: int = 7, user: int = 7, **more: Any) -> dict[str, Any]:
        """Let somebody write; returns the update."""
        self._last_message += 1
        message = {**self._message(self._last_message, chat), "from": _user(user), "text": text, **more}
        return self.update(message=message)

    def press(self, post: Post, *, user: int = 7, old: bool = False, data: str = "") -> str:
        """Let somebody press the first button of a message; returns the id of the press."""
        query = f"query-{self._last_update + 1}"
        if not old:
            self._presses.add(query)
        message = {**self._message(post.id, post.chat), "text": post.text, "edit_date": DATE + 60}
        if post.topic:
            message |= {"message_thread_id": post.topic, "is_topic_message": True}
        content = {"id": query, "from": _user(user), "chat_instance": "1", "message": message}
        self.update(callback_query={**content, "data": data or post.buttons[0][0]})
        return query

    def update(self, **content: Any) -> dict[str, Any]:
        """Put an update into the queue and return it."""
        self._last_update += 1
        update = {"update_id": self._last_update, **content}
        self.deliver(update)
        return update

    def deliver(self, update: dict[str, Any]) -> None:
        """Put an update with its id into the queue, perhaps once more."""
        self._updates.append(update)
        self.notify()

    @property
    def waiting(self) -> int:
        """How many updates nobody has confirmed."""
        return len(self._updates)

    # -- Updates

    async def _get_me(self, params: Params, files: Files) -> Any:
        return BOT

    async def _get_updates(self, params: Params, files: Files) -> Any:
        if self.webhook:
            raise ApiError(
                409,
                "Conflict: can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first",
            )
        self._poller += 1
        poller = self._poller
        self.notify()
        offset = int(params.get("offset", 0))
        self._updates = [update for update in self._updates if update["update_id"] >= offset]
        try:
            async with asyncio.timeout(float(params.get("timeout", 0))):
                await self.until(lambda: self._updates or self._poller != poller)
        except TimeoutError:
            return []
        if self._poller != poller:
            raise ApiError(
                409,
                "Conflict: terminated by other getUpdates request; "
                "make sure that only one bot instance is running",
            )
        return self._updates[: int(params.get("limit", 100))]

    async def _set_webhook(self, params: Params, files: Files) -> Any:
        rules.check_webhook(params["url"], params.get("secret_token", ""))
        self.webhook = dict(params)
        return True

    async def _delete_webhook(self, params: Params, files: Files) -> Any:
        self.webhook = {}
        if rules.truth(params.get("drop_pending_updates")):
            self._updates.clear()
        return True

    async def _webhook_info(self, params: Params, files: Files) -> Any:
        return {
            "url": self.webhook.get("url", ""),
            "has_custom_certificate": False,
            "pending_update_count": len(self._updates),
        }

    async def _answer_press(self, params: Params, files: Files) -> Any:
        query = params["callback_query_id"]
        if query not in self._presses:
            raise bad_request("query is too old and response timeout expired or query ID is invalid")
        if len(params.get("text", "")) > 200:
            raise bad_request("MESSAGE_TOO_LONG")
        self._presses.remove(query)
        self.answered[query] = params.get("text", "")
        if rules.truth(params.get("show_alert")):
            self.alerts.add(query)
        return True

    async def _set_commands(self, params: Params, files: Files) -> Any:
        self.commands = rules.check_commands(params["commands"])
        return True

    # -- Messages

    async def _send_message(self, params: Params, files: Files) -> Any:
        text = rules.check_text(params.get("text", ""), params.get("parse_mode"))
        preview = not json.loads(params.get("link_preview_options", "{}")).get("is_disabled", False)
        return self._send(params, text=text, preview=preview)

    async def _send_photo(self, params: Params, files: Files) -> Any:
        rules.check_photo(files["photo"][1])
        return self._send(params, text=_caption(params), file=files["photo"], photo=True)

    async def _send_document(self, params: Params, files: Files) -> Any:
        rules.check_file(files["document"][1])
        return self._send(params, text=_caption(params), file=files["document"])

    def _send(self, params: Params, **content: Any) -> Any:
        chat = self._chat(params)
        topic = self._topic(chat, params)
        reply = json.loads(params.get("reply_parameters", "{}"))
        reply_to = reply.get("message_id", 0)
        if reply_to in self.deleted:
            if not reply.get("allow_sending_without_reply"):
                raise bad_request("message to be replied not found")
            reply_to = 0
        self._last_message += 1
        post = Post(
            self._last_message,
            chat.id,
            keyboard=rules.check_keyboard(params.get("reply_markup")),
            keys=rules.check_keys(params.get("reply_markup")),
            html=params.get("parse_mode") == "HTML",
            reply_to=reply_to,
            topic=topic,
            silent=rules.truth(params.get("disable_notification")),
            **content,
        )
        self.posts.append(post)
        in_topic = {"message_thread_id": topic, "is_topic_message": True} if topic else {}
        return {**self._message(post.id, chat.id), "text": post.text, **in_topic}

    async def _edit_text(self, params: Params, files: Files) -> Any:
        post = self._post(params, "message to edit not found")
        if post.file is not None:
            raise bad_request("there is no text in the message to edit")
        text = rules.check_text(params.get("text", ""), params.get("parse_mode"))
        return self._edit(post, text, params)

    async def _edit_caption(self, params: Params, files: Files) -> Any:
        post = self._post(params, "message to edit not found")
        return self._edit(post, _caption(params), params)

    def _edit(self, post: Post, text: str, params: Params) -> Any:
        self._check_open(self.chats[post.chat], post.topic)
        keyboard = rules.check_keyboard(params.get("reply_markup"))
        if (post.text, post.keyboard) == (text, keyboard):
            raise bad_request(
                "message is not modified: specified new message content and reply markup are exactly the "
                "same as a current content and reply markup of the message"
            )
        post.text, post.keyboard, post.edits = text, keyboard, post.edits + 1
        return {**self._message(post.id, post.chat), "text": text}

    async def _pin(self, params: Params, files: Files) -> Any:
        post = self._post(params, "message to pin not found")
        if not self.chats[post.chat].may_pin:
            raise bad_request("not enough rights to manage pinned messages in the chat")
        post.pinned = True
        post.silent = post.silent or rules.truth(params.get("disable_notification"))
        return True

    async def _send_action(self, params: Params, files: Files) -> Any:
        chat = self._chat(params)
        action = rules.check_action(params["action"])
        self.actions.append((chat.id, self._topic(chat, params), action))
        return True

    # -- Forums

    async def _create_topic(self, params: Params, files: Files) -> Any:
        chat = self._chat(params)
        if not chat.forum:
            raise bad_request("the chat is not a forum")
        if not chat.may_manage:
            raise bad_request("not enough rights to create a topic")
        self._last_message += 1  # the message that says so
        chat.topics.add(self._last_message)
        chat.titles[self._last_message] = rules.check_title(params["name"])
        return {"message_thread_id": self._last_message, "name": params["name"], "icon_color": 7322096}

    async def _edit_topic(self, params: Params, files: Files) -> Any:
        chat, topic = self._chat(params), int(params["message_thread_id"])
        if not chat.may_manage:
            raise bad_request("not enough rights to edit the topic")
        if topic not in chat.topics:
            raise bad_request("TOPIC_ID_INVALID")
        if chat.titles.get(topic) == params["name"]:
            raise bad_request("TOPIC_NOT_MODIFIED")
        chat.titles[topic] = rules.check_title(params["name"])
        return True

    def _topic(self, chat: Chat, params: Params) -> int:
        topic = int(params.get("message_thread_id", 0))
        if topic and topic not in chat.topics:
            raise bad_request("message thread not found")
        self._check_open(chat, topic)
        return topic

    def _check_open(self, chat: Chat, topic: int) -> None:
        if topic in chat.closed and not chat.may_manage:
            raise bad_request("TOPIC_CLOSED")

    def _chat(self, params: Params) -> Chat:
        chat = self.chats.get(int(params["chat_id"]))
        if chat is None:
            raise bad_request("chat not found")
        if chat.blocked:
            raise ApiError(403, "Forbidden: bot was blocked by the user")
        if chat.moved_to:
            raise ApiError(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=chat.moved_to,
            )
        return chat

    def _post(self, params: Params, missing: str) -> Post:
        chat, wanted = self._chat(params), int(params["message_id"])
        for post in self.posts:
            if (post.chat, post.id) == (chat.id, wanted) and wanted not in self.deleted:
                return post
        raise bad_request(missing)

    def _message(self, number: int, chat: int) -> dict[str, Any]:
        return {"message_id": number, "date": DATE, "chat": {"id": chat, "type": self.chats[chat].kind}}


def _caption(params: Params) -> str:
    return rules.check_text(params.get("caption", ""), params.get("parse_mode"), limit=rules.CAPTION_LIMIT)


def _user(number: int) -> dict[str, Any]:
    return {"id": number, "is_bot": False, "first_name": "Ada", "last_name": f"No. {number}"}
