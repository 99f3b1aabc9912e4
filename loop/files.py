"""Files in a folder that a training may have tampered with.

A training can put a link, a pipe or a folder where a file was, or a link where its folder was. Nothing here
is led out of the root by such a link, and nothing waits on a pipe.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from loop.errors import DiskError, UserError

log = logging.getLogger(__name__)

_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE)

DEEP = 1_000  # bytes of a path; programs have their difficulties with longer ones


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in a sentence why the file `path`, or files in that folder, cannot be written.

    Raises:
        DiskError: another try may succeed.
        UserError: it will not.
    """
    try:
        yield
    except OSError as error:
        passing = passing_reason(str(error))
        reason = passing or error.strerror or error
        kind = DiskError if passing else UserError
        is_folder = os.path.isdir(path)  # noqa: PTH112 - false also of what cannot be looked at
        name = (is_folder and error.filename) or path
        raise kind(f"{name} cannot be written: {reason}.") from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that goes at the end, where the system has such; a full disk is said as by `writing`."""
    with writing(Path(os.environ.get("TMPDIR", "/tmp"))), tempfile.TemporaryDirectory() as folder:  # noqa: S108
        yield Path(folder)


def passing_reason(text: str) -> str:
    """Return which failure of a disk an error's text names, where it may pass; empty where there is none."""
    return next((reason for reason in map(os.strerror, _PASSING) if reason in text), "")


def holds(root: Path, path: str, content: bytes) -> bool:
    """Tell whether `path` below `root` is a regular file with exactly this content."""
    target = root / path
    try:
        if any(folder.is_symlink() for folder in _folders(root, path)):
            return False
        found = target.lstat()
        return (
            stat.S_ISREG(found.st_mode) and found.st_size == len(content) and target.read_bytes() == content
        )
    except OSError:
        return False


def place(root: Path, path: str, content: bytes, *, executable: bool) -> bool:
    """Give `path` below `root` this content, at once or not at all; False where it has it already."""
    if holds(root, path, content):
        return False
    target = root / path
    make_folders(root, path)
    if target.is_dir() and not target.is_symlink():
        remove(target)
    made = target.with_name(f".{target.name}.new")
    made.unlink(missing_ok=True)
    # The mode is given on creation, so that the umask applies as when git writes the file.
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777 if executable else 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    made.replace(target)
    return True


def make_folders(root: Path, path: str) -> None:
    """Make the folders in which `path` lies below `root`; a link or a file in the place of one goes."""
    for folder in _folders(root, path):
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        folder.mkdir(exist_ok=True)


def remove(path: Path) -> None:
    """Remove what a program may have filled with whatever it liked; no link is followed.

    Folders may lie ten thousand deep, where paths, descriptors and recursion end, so each is moved to the top
    before it is emptied; and it may be closed to us, who own it.
    """
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        unique, moved, left = secrets.token_hex(4), 0, [str(path)]
        while left:
            folder = left[-1]
            os.chmod(folder, 0o700)  # noqa: PTH101 - faster, as all of this
            with os.scandir(folder) as entries:
                inner = list(entries)
            if not inner:
                os.rmdir(left.pop())  # noqa: PTH106
            for entry in inner:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)  # noqa: PTH108
                    continue
                os.chmod(entry.path, 0o700)  # noqa: PTH101 - or it cannot be moved
                left.append(f"{path}/{unique}{moved}")
                os.rename(entry.path, left[-1])  # noqa: PTH104
                moved += 1
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)


def why_not_copied(folder: Path, size: int, number: int) -> str:
    """Return why a folder of a program's is not to be copied: it is no plain one, or too large.

    No name in it is returned, as the program chose them.
    """
    left = [str(folder)]
    try:
        if folder.is_symlink():
            return "it is a link"
        while left:
            if os.stat(left[-1]).st_mode & stat.S_IRWXU != stat.S_IRWXU:  # noqa: PTH116
                return "a folder in it is closed"
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IRUSR:
                        size -= status.st_size
                    elif not entry.is_symlink():
                        return "it holds what cannot be read"
                    number -= 1
                    if size < 0 or number < 0 or len(entry.path) > DEEP:
                        return "it is too large"
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def check_no_link(*folders: Path) -> None:
    """Refuse a folder of ours that was replaced by a link: what is written would go elsewhere."""
    for folder in folders:
        if folder.is_symlink():
            raise UserError(f"{folder} is a link to {folder.readlink()}: remove it.")


def _folders(root: Path, path: str) -> list[Path]:
    return [root / folder for folder in reversed(Path(path).parents[:-1])]


class LockedError(Exception):
    """Another process holds the lock; the text names it."""


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; the system lets go of it however the process ends.

    Raises:
        LockedError: another process holds it.
        OSError: nothing can be locked there.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise LockedError(f"process {owner or 'unknown'}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def check_path(path: str) -> None:
    """Refuse a path of the settings that does not lie inside a repository."""
    pure = PurePosixPath(path)
    if (
        not path.isprintable()
        or path != str(pure)
        or pure.is_absolute()
        or {".", "..", ".git"} & set(pure.parts)
    ):
        raise UserError(
            f"{path!r} is not a path inside the repository: write it like train.py or src/train.py."
        )


def has_something(path: Path) -> bool:
    """Tell whether a path is there, and no folder with nothing in it."""
    try:
        return any(path.iterdir()) if path.is_dir() else path.exists()
    except OSError:
        return os.path.exists(path)  # noqa: PTH110 - false of what cannot be looked at
