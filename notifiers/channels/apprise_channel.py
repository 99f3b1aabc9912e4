"""Every other service (Discord, e-mail, ntfy, Matrix, …) through the apprise library: messages out only."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from mimetypes import guess_type

from apprise import Apprise, NotifyFormat
from apprise.attachment.memory import AttachMemory

from loop.process.worker import in_thread
from notifiers.message import Attachment, Message, RefusedError, UnreachableError


class AppriseChannel:
    """A service by its apprise URL, such as `ntfy://ntfy.sh/my-topic`; the first one takes a second to load.

    The URL may hold a password and appears nowhere: the channel's name has a checksum of it.

    Raises:
        ValueError: apprise does not understand the URL.
    """

    def __init__(self, url: str) -> None:
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its log repeats URLs that it refuses
        service = Apprise.instantiate(url)
        scheme = url.partition("://")[0] if "://" in url else "?"
        if service is None:
            raise ValueError(
                f"is no address of a service that apprise knows, or not a whole one ({scheme}://…)"
            )
        self._service = Apprise()
        self._service.add(service)
        self._service_name = str(service.service_name)
        self._takes_files = bool(service.attachment_support)
        self.name = f"apprise:{scheme}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"

    async def send(self, message: Message, *, reply_to: str = "", broadcast: bool = False) -> str:
        """Send text and block, with files where the service takes them. There are no threads, buttons or ids.

        A message that is refused with its files is sent without them: a server may take none.
        """
        del reply_to, broadcast
        body = f"{message.text}\n\n{message.block}" if message.block else message.text
        if self._takes_files and message.attachments and await self._notify(body, message.attachments):
            return ""
        if not await self._notify(body):
            raise UnreachableError(f"{self._service_name} did not take the message or could not be reached")
        return ""

    async def _notify(self, body: str, files: Sequence[Attachment] = ()) -> bool:
        attached = [
            AttachMemory(content=file.content, name=file.name, mimetype=guess_type(file.name)[0])  # type: ignore[no-untyped-call]
            for file in files
        ]
        taken = await in_thread(
            self._service.notify, body, body_format=NotifyFormat.TEXT, attach=attached or None
        )
        return bool(taken)

    async def edit(self, message_id: str, message: Message) -> None:
        del message_id, message
        raise RefusedError(f"{self._service_name} cannot change a message")

    async def pin(self, message_id: str) -> None:
        del message_id
