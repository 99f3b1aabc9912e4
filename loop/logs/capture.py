"""What a training prints, as its supervisor keeps it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

LOG = "training.log"  # in the attempt's folder
CHUNK = 2**20  # bytes of output that are taken at a time, and that the pipe holds


class Log:
    """What a training prints: from a pipe into the attempt's folder, and into a copy that people see.

    When these are more than two times `limit` bytes, all but the last `limit` are left out. The copy lies
    where anybody may change or delete it: no result is read from it, and no failure of it matters.
    """

    def __init__(self, pipe: int, kept: str, copy: str, limit: int) -> None:
        os.set_blocking(pipe, False)
        self.pipe = pipe
        self._kept = kept
        self._copied_to = copy
        self._limit = limit
        self._left_out = self._size = 0
        self._head = self._unwritten = b""
        self._file = os.open(kept, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._copy(b"", anew=True)

    def take(self) -> int:
        """Take what is in the pipe, a chunk at most; return how many bytes it was."""
        try:
            chunk = os.read(self.pipe, CHUNK)
        except BlockingIOError:
            return 0
        self._copy(chunk)
        self._keep(chunk)
        return len(chunk)

    def drain(self) -> None:
        """Take the rest, but wait for nothing: what cannot be killed may hold the pipe and write on."""
        for _ in range(4):
            self.take()
        self._keep(b"")

    def _keep(self, chunk: bytes) -> None:
        self._unwritten = (self._unwritten + chunk)[-CHUNK:]  # it is more only while the disk is full
        with suppress(OSError):
            while self._unwritten:
                written = os.write(self._file, self._unwritten)
                self._unwritten = self._unwritten[written:]
                self._size += written
            if self._size > 2 * self._limit:
                self._shorten()

    def _shorten(self) -> None:
        tail = os.pread(self._file, self._limit, self._size - self._limit)
        left_out = self._left_out + self._size - len(tail) - len(self._head)
        head = f"... {left_out / 1e6:.0f} MB left out ...\n".encode()
        replace(self._kept, head + tail)
        os.close(self._file)
        self._file = os.open(self._kept, os.O_RDWR | os.O_APPEND)
        self._left_out, self._head, self._size = left_out, head, len(head + tail)
        self._copy(head + tail, anew=True)

    def _copy(self, data: bytes, *, anew: bool = False) -> None:
        # Whatever was put there, it is not to be followed and not to be waited for.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        with suppress(OSError):
            if anew and not _is_own_file(self._copied_to):
                os.rename(self._copied_to, f"{os.path.dirname(self._kept)}/aside")
            copy = os.open(self._copied_to, flags | (os.O_TRUNC if anew else 0), 0o600)
            try:
                os.fchmod(copy, 0o600)
                while data:
                    data = data[os.write(copy, data) :]
            finally:
                os.close(copy)


def replace(path: str, content: bytes) -> None:
    """Replace a file in one step, so that a reader finds the whole of it or nothing."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, path)


def _is_own_file(path: str) -> bool:
    with suppress(FileNotFoundError):
        status = os.lstat(path)
        return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    return True
