"""Text that nobody vouches for, as models, agents and trainings write it: made safe to show and store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# Escape sequences by their shape (ECMA-48): strings such as a window title or a hyperlink, then control
# sequences such as a colour or a cursor move, then the short ones. No part can match across the start of
# another, so the time is linear in the text.
_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]"
)
# Every other control character but line feed and tab, and the marks that reorder text for the eye.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return the text without what a terminal, a file or a chat would obey or cannot take.

    Line ends become line feeds; they and tabs stay. Half a character becomes U+FFFD.
    """
    return _CONTROLS.sub("", _whole(text).replace("\r\n", "\n").replace("\r", "\n"))


def one_line(text: str, limit: int | None = None) -> str:
    """Return the same as one line of at most `limit` characters.

    Where it is cut it ends in `…`, and between two words where that leaves most of it.
    """
    # Most text has nothing but printable characters, of which a space is the only white one.
    line = " ".join((text if text.isprintable() else _CONTROLS.sub(" ", _whole(text))).split())
    if limit is None or len(line) <= limit:
        return line
    cut = line[: limit - 1].rstrip()
    if not line[len(cut)].isspace():
        words = cut.rpartition(" ")[0].rstrip(" ,;:")
        cut = words if 3 * len(words) > 2 * limit else cut
    return f"{cut}…"


def clauses(*parts: str) -> str:
    """Return clauses as one sentence; an empty one is left out."""
    return "; ".join(filter(None, parts))


def _whole(text: str) -> str:
    """Return the text without escape sequences, and with halves of characters joined or replaced."""
    return _ESCAPES.sub("", text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


HIDDEN = "***"  # what stands in the place of a secret
LONG = 16  # letters of a secret; a shorter value may stand in a program by chance
_SHORT = 8  # letters; a shorter value is a placeholder such as EMPTY, and could stand in any text
_SECRET_NAME = re.compile(
    r"KEY|TOKEN(?!IZ)|SECRET|PASS(?:W|PHRASE)|CREDENTIAL|AUTH(?!OR)|PRIVATE|COOKIE", re.IGNORECASE
)
_LOGIN_IN_URL = re.compile(r"(?<=://)[^\s/]+(?=@)")
_KNOWN = re.compile(  # keys of OpenAI and Anthropic, Google, Hugging Face, GitHub, Slack, Telegram
    r"\b(?:sk-[\w-]{16,}|AIza[\w-]{30,}|hf_\w{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|xox[a-z]-[\w-]{10,}"
    r")|(?<!\d)\d{6,12}:[\w-]{30,}"
)


def is_secret(name: str) -> bool:
    """Tell by the name of a variable whether its value is secret (`…KEY…`, `…TOKEN…`)."""
    return _SECRET_NAME.search(name) is not None


def secrets_in(variables: Mapping[str, str]) -> frozenset[str]:
    return frozenset(value for name, value in variables.items() if is_secret(name))


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with `***` for each of `secrets`, for logins in URLs and for what looks like a key."""
    for secret in sorted(secrets, key=len, reverse=True):  # one may begin like another
        if len(secret) >= _SHORT:
            text = text.replace(secret, HIDDEN)
    return _KNOWN.sub(HIDDEN, _LOGIN_IN_URL.sub(HIDDEN, text))


def holds_secret(program: str, secrets: Iterable[str]) -> bool:
    """Tell whether one of `secrets` stands in a program, and not by chance."""
    return any(len(secret) >= LONG and secret in program for secret in secrets)
