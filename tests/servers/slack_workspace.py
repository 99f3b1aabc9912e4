"""A Slack workspace: its channels, messages and files, and what the methods of the Web API do to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bot.slack import SCOPES as SCOPES_OF_THE_APP
from tests.servers.slack_payloads import BOT
from tests.servers.slack_rules import SCOPES, pictures, refusal, view_refusal

BOT_TOKEN = "xoxb-1-right"
APP_TOKEN = "xapp-1-right"
CHANNEL, PRIVATE, FOREIGN, CHAT = "C0RESEARCH", "C0PRIVATE", "C0FOREIGN", "D0ALICE"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a method of the Web API (or of `respond` or `upload`), with its arguments."""

    method: str
    arguments: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)


@dataclass(slots=True)
class Room:
    """A channel that the bot is in or not, or a chat with it."""

    member: bool = True
    private: bool = False


class Workspace:
    """What `obey` changes, open to the tests. `origin` is the server's address without a path."""

    def __init__(self) -> None:
        self.origin = ""
        self.rooms = {
            CHANNEL: Room(),
            PRIVATE: Room(member=False, private=True),
            FOREIGN: Room(member=False),
            CHAT: Room(private=True),
        }
        self.messages: dict[tuple[str, str], dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.unread: dict[str, int] = {}  # by file whose upload has ended: for how many looks it stays so
        self.triggers: set[str] = set()  # what people did, not yet used to open a view
        self.views: dict[str, dict[str, Any]] = {}  # modals and Home tabs, by id, as they are now
        self.homes: dict[str, str] = {}  # the view of each user's Home tab
        self.scopes: Sequence[str] = ()
        """What the bot token may do, as answers tell it; empty for an answer that does not."""
        self.granted = frozenset(SCOPES_OF_THE_APP)  # to the bot
        self.reading = 1  # how many looks it takes until a file is read
        self._count = 0

    def obey(self, call: Call, token: str, *, ticket: str) -> dict[str, Any]:
        """Return the answer to a call; `ticket` opens one WebSocket."""
        if word := _forbidden(call.method, token):
            return {"ok": False, "error": word}
        if call.method not in SCOPES:
            return {"ok": False, "error": "unknown_method"}
        if (scope := SCOPES[call.method]) and scope not in self.granted:
            provided = ",".join(sorted(self.granted))
            return {"ok": False, "error": "missing_scope", "needed": scope, "provided": provided}
        if call.method == "apps.connections.open":
            return {"ok": True, "url": f"{self.origin.replace('http', 'ws')}/link/{ticket}"}
        kind, _, _ = call.method.partition(".")
        wrong, done = {
            "auth": (_right, self._done),
            "files": (self._wrong_file, self._file),
            "views": (self._wrong_view, self._view),
        }.get(kind, (self._wrong, self._done))
        if word := wrong(call):
            return {"ok": False, "error": word}
        return {"ok": True, **done(call)}

    def note(self, channel: str, message: dict[str, Any]) -> str:
        """Keep a message and return its `ts`."""
        ts = f"17000{self._next():05d}.000100"
        self.messages[channel, ts] = message
        return ts

    def shown(self, channel: str = CHANNEL) -> list[dict[str, Any]]:
        """Return the messages of the bot in a channel, as they read now, in order."""
        return [
            message for (room, _), message in self.messages.items() if room == channel and "user" in message
        ]

    def _done(self, call: Call) -> dict[str, Any]:
        channel = str(call["channel"])
        match call.method:
            case "auth.test":
                return {
                    "user": "autoresearch",
                    "user_id": BOT,
                    "bot_id": "B0BOT",
                    "team": "Lab",
                    "team_id": "T0TEAM",
                }
            case "chat.postMessage":
                ts = self.note(channel, {**call.arguments, "user": BOT})
                return {"channel": channel, "ts": ts}
            case "chat.update":
                self.messages[channel, call["ts"]].update(call.arguments)
                return {"channel": channel, "ts": call["ts"]}
            case "chat.delete":
                del self.messages[channel, call["ts"]]
                return {"channel": channel, "ts": call["ts"]}
            case "chat.postEphemeral":
                return {"message_ts": f"17000{self._next():05d}.000200"}
            case "conversations.join":
                self.rooms[channel].member = True
                return {"channel": {"id": channel}}
            case _:
                return {}

    def _wrong(self, call: Call) -> str:
        """Return Slack's word for what is wrong with a call, empty where nothing is."""
        if word := self._closed(call, str(call["channel"])):
            return word
        if call.method == "chat.update":
            before = self.messages.get((str(call["channel"]), call["ts"]))
            if before is None:
                return "message_not_found"
            if before.get("user") != BOT:
                return "cant_update_message"
        if call.method == "chat.delete":
            theirs = self.messages.get((str(call["channel"]), call["ts"]), {}).get("user") != BOT
            return "message_not_found" if theirs else ""
        if not call.method.startswith("chat."):
            return ""
        if not {*pictures(call["blocks"] or [])} <= self.readable:
            return "invalid_blocks"  # "invalid slack file"
        return refusal(call.method, call.arguments)

    def _closed(self, call: Call, channel: str) -> str:
        """Return why a channel takes nothing, or not in this thread."""
        room = self.rooms.get(channel)
        if room is None:
            return "channel_not_found"
        if call.method == "conversations.join":
            return "method_not_supported_for_channel_type" if room.private else ""
        if not room.member:
            return "channel_not_found" if room.private else "not_in_channel"
        thread = call["thread_ts"]
        if thread and self.messages.get((channel, thread), {"thread_ts": True}).get("thread_ts"):
            return "thread_not_found"  # no such message, or one that is in a thread itself
        return ""

    # Files: a file can be shown once Slack has read it

    def _wrong_file(self, call: Call) -> str:
        match call.method:
            case "files.getUploadURLExternal":
                return "" if int(call["length"]) > 0 else "invalid_arguments"
            case "files.completeUploadExternal":
                lost = [file["id"] for file in json.loads(call["files"]) if file["id"] not in self.files]
                channel = call["channel_id"]
                return (channel and self._closed(call, channel)) or ("file_not_found" if lost else "")
            case _:
                return "" if call["file"] in self.unread else "file_not_found"

    def _file(self, call: Call) -> dict[str, Any]:
        match call.method:
            case "files.getUploadURLExternal":
                name = f"F{self._next()}"
                return {"upload_url": f"{self.origin}/upload/{name}", "file_id": name}
            case "files.completeUploadExternal":
                files = json.loads(call["files"])
                self.unread.update((file["id"], self.reading) for file in files)
                return {"files": files}
            case "files.info":
                left = self.unread[call["file"]] = max(0, self.unread[call["file"]] - 1)
                return {"file": {"id": call["file"], "mimetype": "" if left else "image/png"}}
            case _:
                del self.files[call["file"]]
                return {}

    @property
    def readable(self) -> set[str]:
        """Return the files that blocks can show."""
        return {file for file in self.files if self.unread.get(file) == 0}

    # Views: modals and Home tabs

    def _wrong_view(self, call: Call) -> str:
        view, kind = call["view"], "home" if call.method == "views.publish" else "modal"
        if word := view_refusal(view, kind):
            return word
        if not {*pictures(view["blocks"])} <= self.readable:
            return "invalid_arguments"
        if call.method == "views.open" and call["trigger_id"] not in self.triggers:
            return "exchanged_trigger_id"
        return "not_found" if call.method == "views.update" and call["view_id"] not in self.views else ""

    def _view(self, call: Call) -> dict[str, Any]:
        match call.method:
            case "views.open":
                self.triggers.remove(call["trigger_id"])
                name = f"V{self._next()}"
            case "views.publish":
                name = self.homes.setdefault(str(call["user_id"]), f"V{self._next()}")
            case _:
                name = str(call["view_id"])
        self.views[name] = {**call["view"], "id": name}
        return {"view": self.views[name]}

    def home(self, user: str = "U0ALICE") -> dict[str, Any]:
        """Return somebody's Home tab as it is now, empty before the app has filled it."""
        return self.views.get(self.homes.get(user, ""), {})

    def modals(self) -> list[dict[str, Any]]:
        """Return the modals that are open."""
        return [view for view in self.views.values() if view["type"] == "modal"]

    def _next(self) -> int:
        self._count += 1
        return self._count


def _right(_: Call) -> str:
    return ""


def _forbidden(method: str, token: str) -> str:
    if not token:
        return "not_authed"
    if token not in {BOT_TOKEN, APP_TOKEN}:
        return "invalid_auth"
    wanted = APP_TOKEN if method == "apps.connections.open" else BOT_TOKEN
    return "" if token == wanted else "not_allowed_token_type"
