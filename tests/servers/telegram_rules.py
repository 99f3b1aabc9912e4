"""What the Bot API accepts, as strictly as the real one: markup, lengths, keyboards, pictures, commands."""

from __future__ import annotations

import json
import re
import struct
from html import unescape
from typing import Any
from urllib.parse import urlsplit

TEXT_LIMIT = 4096
CAPTION_LIMIT = 1024
PHOTO_BYTES = 10_000_000
FILE_BYTES = 50_000_000

_TAGS = frozenset(
    {"a", "b", "blockquote", "code", "del", "em", "i", "ins", "pre", "s", "strike", "strong", "u"}
)
_UNSEEN = re.compile(
    r"[\s\u00ad\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufffc]+"
)
_TOKEN = re.compile(r"<[^>]*>?|&(?:lt|gt|amp|quot|#\d+|#x[0-9a-fA-F]+);|[^<&]+|&")


class ApiError(Exception):
    """A refusal: HTTP status, description, and parameters such as `retry_after`."""

    def __init__(self, status: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.parameters = parameters


def bad_request(description: str) -> ApiError:
    return ApiError(400, f"Bad Request: {description}")


def parse_html(source: str) -> str:
    """Return what HTML shows; ApiError for markup that Telegram cannot parse."""
    shown, opened = [], []
    for token in _TOKEN.finditer(source):
        part = token.group()
        if not part.startswith("<"):
            shown.append(unescape(part) if part.startswith("&") else part)
            continue
        tag = re.fullmatch(r"<(/?)([a-z-]+)(?:\s[^<>]*)?>", part, re.IGNORECASE)
        if tag is None or tag[2].lower() not in _TAGS:
            raise bad_request(
                f'can\'t parse entities: Unsupported start tag "{part[1:20]}" at byte offset {token.start()}'
            )
        if not tag[1]:
            opened.append(tag[2].lower())
        elif not opened or opened.pop() != tag[2].lower():
            raise bad_request(f"can't parse entities: Unexpected end tag at byte offset {token.start()}")
    if opened:
        raise bad_request(
            f"can't parse entities: Can't find end tag corresponding to start tag \"{opened[-1]}\""
        )
    return "".join(shown)


def check_text(source: str, parse_mode: str | None, *, limit: int = TEXT_LIMIT) -> str:
    """Return a text as it is shown, or refuse it."""
    caption = limit == CAPTION_LIMIT
    shown = parse_html(source) if parse_mode == "HTML" else source
    shown = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", " ", shown.replace("\r", "")).rstrip()
    if not caption and not _UNSEEN.sub("", shown):
        raise bad_request("text must be non-empty")
    if len(shown.encode("utf-16-le")) > 2 * limit:
        raise bad_request("message caption is too long" if caption else "message is too long")
    return shown


def check_keyboard(markup: str | None) -> list[list[dict[str, str]]]:
    """Return the rows of an inline keyboard, or refuse it."""
    rows: list[list[dict[str, str]]] = json.loads(markup or "{}").get("inline_keyboard", [])
    for button in (button for row in rows for button in row):
        if not button["text"].strip():
            raise bad_request('can\'t parse inline keyboard button: Field "text" must be non-empty')
        if not 1 <= len(button["callback_data"].encode()) <= 64:
            raise bad_request("BUTTON_DATA_INVALID")
    return rows


def check_keys(markup: str | None) -> list[list[str]] | None:
    """Return the labels of a reply keyboard, none where one is taken away, or refuse it."""
    given = json.loads(markup or "{}")
    if given.get("remove_keyboard"):
        return []
    rows: list[list[Any]] | None = given.get("keyboard")
    if rows is None:
        return None
    if not rows or not all(rows):
        raise bad_request("can't parse reply keyboard markup: the keyboard must have buttons")
    return [[key if isinstance(key, str) else str(key["text"]) for key in row] for row in rows]


def check_photo(content: bytes) -> None:
    """Refuse what is no picture, or one that Telegram would not show."""
    if len(content) > PHOTO_BYTES:
        raise ApiError(413, "Request Entity Too Large")
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise bad_request("IMAGE_PROCESS_FAILED")
    width, height = struct.unpack(">II", content[16:24])
    if width + height > 10_000 or max(width, height) > 20 * min(width, height):
        raise bad_request("PHOTO_INVALID_DIMENSIONS")


def check_file(content: bytes) -> None:
    if len(content) > FILE_BYTES:
        raise ApiError(413, "Request Entity Too Large")
    if not content:
        raise bad_request("file must be non-empty")


def check_commands(commands: str) -> list[dict[str, str]]:
    """Return the commands of a bot's menu, or refuse them."""
    table: list[dict[str, str]] = json.loads(commands)
    if len(table) > 100:
        raise bad_request("BOT_COMMANDS_TOO_MUCH")
    for command in table:
        if not re.fullmatch(r"[a-z0-9_]{1,32}", command["command"]):
            raise bad_request("BOT_COMMAND_INVALID")
        if not 1 <= len(command["description"]) <= 256:
            raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
    return table


def check_action(action: str) -> str:
    if action not in {"typing", "upload_photo", "upload_document"}:  # of those that there are
        raise bad_request("wrong parameter action in request")
    return action


def check_title(title: str) -> str:
    if not 1 <= len(title) <= 128:
        raise bad_request("TOPIC_TITLE_EMPTY" if not title else "TOPIC_TITLE_TOO_LONG")
    return title


def check_webhook(url: str, secret: str) -> None:
    if url and urlsplit(url).scheme != "https":
        raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,256}", secret):
        raise bad_request("secret token contains unallowed characters")


def truth(value: Any) -> bool:
    """Return a boolean parameter, which may come as text."""
    return str(value).lower() in {"true", "1"}
