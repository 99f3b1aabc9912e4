"""Slack's Web API: a client, and its errors in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from notifiers.channel import GoneError, RateLimitedError, RefusedError, UnreachableError

BASE_URL = "https://slack.com/api/"

_RETRY_AFTER = 30.0  # seconds, where Slack does not say
_BUSY = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
_IN_TROUBLE = frozenset({"fatal_error", "internal_error", "service_unavailable", "request_timeout"})
_GONE = frozenset(
    {
        "message_not_found",
        "thread_not_found",
        "cannot_reply_to_message",
        "cant_update_message",
        "edit_window_closed",
    }
)
_MENDS = {
    "not_in_channel": "invite the bot to the channel",
    "channel_not_found": "give the channel's id (C…) and invite the bot if it is private",
    "is_archived": "the channel is archived",
    "missing_scope": "install the app again with the scopes of its manifest",
    "invalid_auth": "the token is not valid",
    "token_revoked": "the token was revoked",
    "account_inactive": "the app was removed from the workspace",
}


class SlackRefusedError(RefusedError):
    """Slack's `ok: false`; `word` is its name for the reason."""

    def __init__(self, word: str) -> None:
        super().__init__(f"{word}: {_MENDS[word]}" if word in _MENDS else word)
        self.word = word


class SlackGoneError(SlackRefusedError, GoneError):
    """Slack's `ok: false` for a message that cannot be edited or answered (any more)."""


def make_client(token: str, base_url: str = BASE_URL) -> AsyncWebClient:
    """Return a client of the Web API.

    It tries once more after a broken connection. It never waits for a rate limit: whoever sends knows better
    what to do meanwhile.
    """
    client = AsyncWebClient(token=token, base_url=base_url)
    if bypasses_proxy(base_url):
        client.proxy = None
    return client


def bypasses_proxy(url: str) -> bool:
    """Say whether `NO_PROXY` names the server of `url`; Slack's client knows only the other variables."""
    host = urlsplit(url).hostname
    return host is not None and bool(proxy_bypass(host))


@contextmanager
def slack_errors() -> Iterator[None]:
    """Turn whatever Slack's client raises into a `ChannelError`."""
    try:
        yield
    except SlackApiError as error:
        raise _from_answer(error.response) from None
    except (SlackClientError, aiohttp.ClientError, OSError, ValueError, AttributeError) as error:
        # ValueError and AttributeError: the client trips over an answer that is no JSON object.
        told = str(error) if isinstance(error, OSError) else ""
        raise UnreachableError(f"no answer from Slack ({told or type(error).__name__})") from None


async def respond(url: str, body: Mapping[str, Any]) -> None:
    """Answer at the address that came with a slash command or a press.

    Raises:
        ChannelError: Slack did not take it; such an address lives for 30 minutes and takes 5 answers.
    """
    client = AsyncWebhookClient(url)
    if bypasses_proxy(url):
        client.proxy = None
    with slack_errors():
        response = await client.send_dict(dict(body))
    if response.status_code == 429:
        raise RateLimitedError(_retry_after(response.headers))
    if response.status_code >= 500:
        raise UnreachableError(f"Slack answered {response.status_code}")
    if response.status_code != 200 or response.body.startswith("{"):
        raise SlackRefusedError(_word(response.body) or f"Slack answered {response.status_code}")


def _from_answer(response: Any) -> Exception:
    """Return the error for an answer: Slack's own, or aiohttp's where the body was no JSON."""
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
    data = getattr(response, "data", None)
    word = str(data.get("error") or "") if isinstance(data, dict) else ""
    if status == 429 or word in _BUSY:
        return RateLimitedError(_retry_after(response.headers))
    if not word or status >= 500 or word in _IN_TROUBLE:  # without a word it was not Slack who answered
        return UnreachableError(f"Slack answered {status} {word}".rstrip())
    return SlackGoneError(word) if word in _GONE else SlackRefusedError(word)


def _word(body: str) -> str:
    """Return the reason in a refused answer, which is one word or an object with an `error`."""
    found = re.search(r'"error"\s*:\s*"(\w+)"', body) or re.match(r"\s*(\w+)\s*$", body)
    return found[1] if found else ""


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(1.0, float(headers.get("Retry-After", _RETRY_AFTER)))
    except ValueError:
        return _RETRY_AFTER
