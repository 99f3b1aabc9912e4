"""What Slack takes and what it refuses: the limits of a message, as its answers enforce them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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


def faults(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return what is wrong with blocks."""
    if len(blocks) > BLOCKS_MOST:
        yield "no more than 50 items allowed"
    for block in blocks:
        match block.get("type"):
            case "section":
                yield from _text(block["text"], 3000, {"plain_text", "mrkdwn"})
            case "header":
                yield from _text(block["text"], 150, {"plain_text"})
            case "context":
                if not 1 <= len(block["elements"]) <= 10:
                    yield "1 to 10 elements allowed"
                for element in block["elements"]:
                    yield from _text(element, 3000, {"plain_text", "mrkdwn"})
            case "actions":
                yield from _actions(block["elements"])
            case "divider":
                pass
            case "image":
                if not 1 <= _units(block["alt_text"]) <= 2000 or set(block["slack_file"]) != {"id"}:
                    yield "no picture"
            case "rich_text":
                yield from _rich(block["elements"])
            case other:
                yield f"unsupported type: {other}"


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


def _rich(elements: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for element in elements:
        if element["type"] not in {"rich_text_section", "rich_text_preformatted"}:
            yield f"unsupported type: {element['type']}"
        for part in element["elements"]:
            yield from _text({**part, "type": "plain_text"}, 3000, {"plain_text"})


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
