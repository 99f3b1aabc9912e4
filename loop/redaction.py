"""Keeps secrets out of what is shown, logged or given to a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

HIDDEN = "***"
"""What stands in the place of a secret."""

LONG = 16
"""Letters of a secret; a shorter value may stand in a program by chance."""

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
    """Return the values of those variables whose names say that they are secret."""
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
