"""What Slack takes and what it refuses: the limits of a message, as its answers enforce them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

SCOPES = {
    "apps.connections.open": "",  # one of the app's own token
    "auth.test": "",
    "chat.delete": "chat:write",
    "chat.postEphemeral": "chat:write",
    "chat.postMessage": "chat:write",
    "chat.update": "chat:write",
    "conversations.history": "channels:history",
    "conversations.join": "channels:join",
    "files.completeUploadExternal": "files:write",
    "files.delete": "files:write",
    "files.getUploadURLExternal": "files:write",
    "files.info": "files:read",
    "pins.add": "pins:write",
    "views.open": "",
    "views.publish": "",
    "views.update": "",
}
"""The scope that each method of the Web API wants from a bot, by its page in https://docs.slack.dev."""

EVENTS = {
    "app_home_opened": "",
    "app_mention": "app_mentions:read",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
    "message.im": "im:history",
}
"""The scope that each event wants, likewise."""

TEXT_CUT = 4000  # chat.update refuses more; chat.postMessage cuts the message in pieces
TEXT_MOST = 40_000
BLOCKS_MOST = 50
CHARACTERS_MOST = 12_000  # of all blocks of a message together


def refusal(method: str, content: Mapping[str, Any]) -> str:
    """Return Slack's word for what is wrong with a message, empty where nothing is."""
    text, blocks = content.get("text") or "", content.get("blocks") or []
    if not isinstance(text, str) or _units(text) > TEXT_MOST:
        return "msg_too_long"
    if not text.strip() and not blocks:
        return "no_text"
    if not blocks and method == "chat.update" and _units(text) > TEXT_CUT:
        return "msg_too_long"
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "invalid_json"
    if next(faults(blocks), ""):
        return "invalid_blocks"
    if sum(_units(part) for part in texts(blocks)) > CHARACTERS_MOST:
        return "msg_blocks_too_long"
    return ""


def view_refusal(view: Mapping[str, Any], kind: str) -> str:
    """Return Slack's word for what is wrong with a view of a kind, empty where nothing is."""
    return "invalid_arguments" if next(_view_faults(view, kind), "") else ""


def _view_faults(view: Mapping[str, Any], kind: str) -> Iterator[str]:
    if view.get("type") != kind or len(json.dumps(view)) > 250_000:
        yield "no such view, or too large"
    if not 1 <= len(view["blocks"]) <= 100:
        yield "1 to 100 blocks allowed"
    yield from faults(view["blocks"], most=100)
    if len(view.get("private_metadata", "")) > 3000 or len(view.get("callback_id", "")) > 255:
        yield "too long"
    for part in ("title", "submit", "close"):
        if kind == "modal" and (part == "title" or part in view):
            yield from _text(view[part], 24, {"plain_text"})
    if kind == "home" and {"title", "submit", "close"} & set(view):
        yield "a home tab has none"
    inputs = [block["block_id"] for block in view["blocks"] if block["type"] == "input"]
    if len(set(inputs)) < len(inputs) or (inputs and kind == "modal" and "submit" not in view):
        yield "fields need names of their own, and a button"


def texts(blocks: Any) -> Iterator[str]:
    """Return every text that is shown anywhere in blocks, in order."""
    if isinstance(blocks, Mapping):
        for key, part in blocks.items():
            if key == "text" and isinstance(part, str):
                yield part
            else:
                yield from texts(part)
    elif isinstance(blocks, Sequence) and not isinstance(blocks, str):
        for part in blocks:
            yield from texts(part)


def pictures(blocks: Any) -> Iterator[str]:
    """Return the files that blocks show."""
    return (block["slack_file"]["id"] for block in blocks if block["type"] == "image")


def as_read(blocks: Sequence[Mapping[str, Any]]) -> str:
    """Return blocks as a person reads them: buttons in brackets, fields with what they begin with."""
    lines = []
    for block in blocks:
        match block["type"]:
            case "actions":
                lines.append(" ".join(f"[{element['text']['text']}]" for element in block["elements"]))
            case "image":
                lines.append(f"(picture: {block['alt_text']})")
            case "divider":
                lines.append("--")
            case "input":
                element = block["element"]
                choices = [option["text"]["text"] for option in element.get("options", ())]
                begins = f"( ) {' ( ) '.join(choices)}" if choices else f"{element.get('initial_value', '')}_"
                hint = f" ({block['hint']['text']})" if "hint" in block else ""
                lines.append(f"{block['label']['text']}: {begins}{hint}")
            case "header":
                lines.append(f"# {block['text']['text']}")
            case _:
                lines.append("".join(map(_as_read, block["elements"])))
    return "\n".join(lines)


def form_as_read(view: Mapping[str, Any]) -> str:
    """Return a modal as a person reads it."""
    submit = f"[{view['submit']['text']}] " if "submit" in view else ""
    title, close = view["title"]["text"], view["close"]["text"]
    return f"« {title} »\n{as_read(view['blocks'])}\n{submit}[{close}]"


def _as_read(element: Mapping[str, Any]) -> str:
    parts = element.get("elements", [element])
    named = {"user": "@{user_id}", "channel": "#{channel_id}", "date": "<date>"}
    return "".join(named.get(part["type"], "{text}").format(**part) for part in parts)


def faults(blocks: Sequence[Mapping[str, Any]], *, most: int = BLOCKS_MOST) -> Iterator[str]:
    """Return what is wrong with blocks."""
    if len(blocks) > most:
        yield f"no more than {most} items allowed"
    for block in blocks:
        check = _BLOCKS.get(block.get("type", ""))
        yield from check(block) if check else [f"unsupported type: {block.get('type')}"]


def _context(block: Mapping[str, Any]) -> Iterator[str]:
    if not 1 <= len(block["elements"]) <= 10:
        yield "1 to 10 elements allowed"
    for element in block["elements"]:
        yield from _text(element, 3000, {"plain_text", "mrkdwn"})


def _image(block: Mapping[str, Any]) -> Iterator[str]:
    if not 1 <= _units(block["alt_text"]) <= 2000 or set(block["slack_file"]) != {"id"}:
        yield "no picture"


def _text(text: Mapping[str, Any], limit: int, kinds: set[str]) -> Iterator[str]:
    if text.get("type") not in kinds:
        yield f"unsupported type: {text.get('type')}"
    if not 1 <= _units(text["text"]) <= limit:
        yield f"must be 1 to {limit} characters"
    if any("\ud800" <= character <= "\udfff" or character == "\x00" for character in text["text"]):
        yield "not a text"


def _actions(elements: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not 1 <= len(elements) <= 25:
        yield "1 to 25 items allowed"
    names = [element["action_id"] for element in elements]
    if len(set(names)) < len(names):
        yield "action_id is already in use"
    for element in elements:
        yield from _text(element["text"], 75, {"plain_text"})
        if element["type"] != "button" or not 1 <= len(element["action_id"]) <= 255:
            yield "no button"
        if _units(element.get("value", "")) > 2000:
            yield "must be at most 2000 characters"


def _input(block: Mapping[str, Any]) -> Iterator[str]:
    yield from _text(block["label"], 2000, {"plain_text"})
    if "hint" in block:
        yield from _text(block["hint"], 2000, {"plain_text"})
    element = block["element"]
    if element["type"] == "radio_buttons":
        if not 1 <= len(element["options"]) <= 10 or element["initial_option"] not in element["options"]:
            yield "1 to 10 options allowed"
        for option in element["options"]:
            yield from _text(option["text"], 75, {"plain_text", "mrkdwn"})
            yield from _text({"type": "plain_text", "text": option["value"]}, 150, {"plain_text"})
    elif element["type"] != "plain_text_input" or not 1 <= len(element["action_id"]) <= 255:
        yield f"unsupported type: {element['type']}"
    if not 1 <= element.get("max_length", 3000) <= 3000:
        yield "max_length is 1 to 3000"
    if "initial_value" in element and not 1 <= _units(element["initial_value"]) <= element["max_length"]:
        yield "initial_value is longer than max_length, or empty"


def _rich(elements: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for element in elements:
        if element["type"] not in {"rich_text_section", "rich_text_preformatted"}:
            yield f"unsupported type: {element['type']}"
        for part in element["elements"]:
            if part["type"] == "text":
                yield from _text({**part, "type": "plain_text"}, 3000, {"plain_text"})
            elif set(part) != _RICH.get(part["type"]):
                yield f"unsupported type: {part['type']}"


_BLOCKS: dict[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
    "actions": lambda block: _actions(block["elements"]),
    "context": _context,
    "divider": lambda _: (),
    "header": lambda block: _text(block["text"], 150, {"plain_text"}),
    "image": _image,
    "input": _input,
    "rich_text": lambda block: _rich(block["elements"]),
    "section": lambda block: _text(block["text"], 3000, {"plain_text", "mrkdwn"}),
}
_RICH = {
    "user": {"type", "user_id"},
    "channel": {"type", "channel_id"},
    "date": {"type", "timestamp", "format", "fallback"},
}


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
