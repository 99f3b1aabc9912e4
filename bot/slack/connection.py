"""A line to Slack: what Socket Mode and signed HTTP have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from bot.errors import BotError
from notifiers.channels.slack_api import SlackRefusedError

_BAD_TOKEN = frozenset(
    {
        "account_inactive",
        "invalid_auth",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "token_expired",
        "token_revoked",
    }
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take on a line to Slack, in seconds."""

    ping: float = 10.0
    """From one ping to the next."""
    connect: float = 30.0
    close: float = 5.0
    waits: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
    """After each connection in a row that was lost or could not be made; the last for ever."""


class Line(Protocol):
    """A way in which Slack's requests reach us."""

    @property
    def connected(self) -> bool:
        """Whether Slack can reach us."""

    @property
    def last_seen(self) -> float | None:
        """When Slack last gave a sign of life, in seconds since the epoch."""

    async def serve(self) -> None:
        """Connect and serve until the connection is lost, or cancelled.

        Raises:
            ChannelError: it cannot be made, or is lost.
            BotError: it can never be made; the sentence says what to mend.
        """


@contextmanager
def rejected(setting: str, wanted: str) -> Iterator[None]:
    """Turn Slack's refusal of the token in `setting` into a sentence for people."""
    try:
        yield
    except SlackRefusedError as error:
        if error.word not in _BAD_TOKEN:
            raise
        raise BotError(f"Slack does not accept {setting} ({error.word}): it must be {wanted}.") from None
