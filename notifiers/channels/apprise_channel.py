"""Every other service (Discord, e-mail, ntfy, Matrix, …) through the apprise library: messages out only."""

from __future__ import annotations

import hashlib
import logging
import mimetypes
from collections.abc import Sequence

from apprise import Apprise, NotifyFormat
from apprise.attachment.memory import AttachMemory

from loop.process.worker import in_thread
from notifiers.channel import RefusedError, UnreachableError
from notifiers.message import Attachment, Message


class AppriseChannel:
    """One service, by its apprise URL, such as `ntfy://ntfy.sh/my-topic`.

    The URL may hold a password, so nothing repeats it: the channel is named after the service and a checksum.
    Loading the library's services takes about a second.

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
        self._called = str(service.service_name)
        self._takes_files = bool(service.attachment_support)
        self.name = f"apprise:{scheme}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"

    async def send(self, message: Message, *, reply_to: str = "", broadcast: bool = False) -> str:
        """Send the text, the block, and files where they are taken.

        Such services know no threads, no buttons and no ids. What is refused with its files is sent without
        them: a server may take none, whatever its kind can do.
        """
        del reply_to, broadcast
        body = f"{message.text}\n\n{message.block}" if message.block else message.text
        if self._takes_files and message.attachments and await self._notify(body, message.attachments):
            return ""
        if not await self._notify(body):
            raise UnreachableError(f"{self._called} did not take the message or could not be reached")
        return ""

    async def _notify(self, body: str, files: Sequence[Attachment] = ()) -> bool:
        attached = [_attached(file) for file in files]
        taken = await in_thread(
            self._service.notify, body, body_format=NotifyFormat.TEXT, attach=attached or None
        )
        return bool(taken)

    async def edit(self, message_id: str, message: Message) -> None:
        """Refuse: nothing that was sent this way can be changed."""
        del message_id, message
        raise RefusedError(f"{self._called} cannot change a message")

    async def pin(self, message_id: str) -> None:
        """Do nothing: there is no pinning."""
        del message_id


def _attached(file: Attachment) -> AttachMemory:
    kind, _ = mimetypes.guess_type(file.name)
    return AttachMemory(content=file.content, name=file.name, mimetype=kind)  # type: ignore[no-untyped-call]
