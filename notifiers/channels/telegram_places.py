"""Where the chats and topics that the settings list are at present."""

from __future__ import annotations

import logging
from collections.abc import Collection

log = logging.getLogger(__name__)


class Places:
    """Which groups have new ids, and which topics were deleted, since the settings `listed` them.

    They are listed as `id` or `id/topic`. All that use the bot share the object.
    """

    def __init__(self, listed: Collection[str] = ()) -> None:
        self._listed = set(listed)
        self._now: dict[int, int] = {}
        self._deleted: dict[int, set[int]] = {}

    def add(self, place: str) -> None:
        self._listed.add(place)

    def move(self, listed: int, now: int) -> None:
        if self._now.get(listed) != now:
            log.warning("telegram:%d: the group has a new id; set %d in TELEGRAM_CHAT_IDS", listed, now)
        self._now[listed] = now

    def now(self, listed: int) -> int:
        return self._now.get(listed, listed)

    def listed(self, chat_id: int) -> int:
        """Return the id by which access and deliveries go on."""
        return next((listed for listed, now in self._now.items() if now == chat_id), chat_id)

    def lose(self, chat: int, topic: int) -> None:
        """Note that a topic was deleted: what was for it goes to the chat itself."""
        if not self.is_lost(chat, topic):
            log.warning(
                "telegram:%d:%d: the topic was deleted; its messages go to the chat itself", chat, topic
            )
        self._deleted.setdefault(chat, set()).add(topic)

    def is_lost(self, chat: int, topic: int) -> bool:
        return topic in self._deleted.get(chat, ())

    def topic_of(self, chat: int, topic: int | None) -> int | None:
        """Return the topic that counts for access and deliveries, None where it is the chat itself.

        A topic of a chat that is listed whole is a part of it. A chat takes the place of its listed topic
        that was deleted: its messages are there now, with their buttons.
        """
        if str(chat) in self._listed and f"{chat}/{topic}" not in self._listed:
            return None
        if topic is None:
            return min(
                (one for one in self._deleted.get(chat, ()) if f"{chat}/{one}" in self._listed), default=None
            )
        return topic
