"""The bot as a service: its systemd unit, its signs of life, its log."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import re
import shlex
import signal
import socket
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from loop.errors import UserError
from loop.text import without_secrets

log = logging.getLogger(__name__)

WATCHDOG_SECONDS = 120  # of silence after which the service manager restarts the bot
LOG_BYTES = 2_000_000
LOG_FILES = 3
_M_ARENA_MAX = -8  # of glibc's malloc.h
_REFUSED = re.compile(r"""[\x00-\x1f\x7f"'\\]""")  # systemd accepts none of them in a program's path

_UNIT = """\
# To install it for yourself:
#
#   mkdir -p ~/.config/systemd/user && {typed} service > ~/.config/systemd/user/autoresearch.service
#   systemctl --user daemon-reload && systemctl --user enable --now autoresearch.service
#   loginctl enable-linger  # or it ends, trainings and all, when you log out

[Unit]
Description=autoresearch: an overnight machine-learning research loop
# However often it has to be started, do not give up.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={executable} up
WorkingDirectory={working_directory}
Environment={home} {path}
Restart=always
RestartSec=10
# The first start may prepare data for an hour.
TimeoutStartSec=infinity
WatchdogSec={watchdog}
# Trainings and their supervisors outlive the bot, and one that the kernel ends for want of memory is a crash
# of its own, not the bot's.
KillMode=process
OOMPolicy=continue

[Install]
WantedBy=default.target
"""


def unit(*, executable: Path, working_directory: Path, home: Path, path: str) -> str:
    """Return the unit file of a bot that works on the state directory `home`.

    `.env` is read from `working_directory`; `path` is the PATH on which it finds git, uv and nvidia-smi, as
    that of the service manager is a short one.

    Raises:
        UserError: a path has quotes, backslashes or control characters.
    """
    for text in (str(executable), str(working_directory), str(home), path):
        if _REFUSED.search(text):
            raise UserError(f"systemd does not accept {text!r}. Use a path without quotes and backslashes.")
    return _UNIT.format(
        typed=shlex.quote(str(executable)),
        executable=_quoted(str(executable)),
        working_directory=_literal(str(working_directory)),  # not unquoted: it is all up to the line's end
        home=_quoted(f"AUTORESEARCH_HOME={home}"),
        path=_quoted(f"PATH={path}"),
        watchdog=WATCHDOG_SECONDS,
    )


def notify(state: str, environ: Mapping[str, str]) -> None:
    """Send the service manager `READY=1`, `STATUS=…`, `WATCHDOG=1` or `STOPPING=1`, if there is one.

    The protocol is sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names, `@` standing for the
    abstract name space.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # a full queue must not hold up the event loop
            sender.sendto(state.encode(), address)
    except OSError as error:
        log.warning("could not notify the service manager of %s: %s", state.partition("=")[0], error)


def watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    limit = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit.isdecimal() or meant != str(os.getpid()):
        return None
    return int(limit) / 1e6 / 2 or None  # twice as often as it must


async def feed_watchdog(environ: Mapping[str, str], *, healthy: Callable[[], bool]) -> None:
    """Send signs of life for as long as `healthy` says so; never returns."""
    import asyncio

    seconds = watchdog_seconds(environ)
    while seconds is not None:
        if healthy():
            notify("WATCHDOG=1", environ)
        await asyncio.sleep(seconds)
    await asyncio.Event().wait()


def _quoted(text: str) -> str:
    return f'"{_literal(text)}"'


def _literal(text: str) -> str:
    return text.replace("%", "%%")  # which would begin a specifier


class Formatter(logging.Formatter):
    """Writes a record as a line, with `***` for each of `secrets` and for what looks like one."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record), self._secrets)


def start_logging(path: Path, secrets: Collection[str] = ()) -> None:
    """Write everything from INFO up to `path`, the older part to `path.1` and so on, without `secrets`."""
    from logging.handlers import RotatingFileHandler

    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    path.chmod(0o600)
    handler.setFormatter(Formatter(secrets))
    logging.raiseExceptions = False  # a log that cannot be written is no reason to write elsewhere
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs, and Telegram's hold the token
    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # two lines a job, one each 10 s
    logging.getLogger("telegram").setLevel(logging.CRITICAL)  # tracebacks of what our own lines say plainly


# What a process finds at its start


def open_standard_streams() -> None:
    """Open what is closed of stdin, stdout and stderr, so that no file of ours gets their numbers.

    Characters that an output cannot take are replaced.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r+" if number == 0 else "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def share_heap() -> None:
    """Let all threads allocate from one heap: a megabyte of those that each has stays unused."""
    with suppress(OSError, AttributeError):  # a C library without such a choice
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def become_init() -> None:
    """Go on in a child where this is the first process of a container.

    The first process gets every process that loses its parent, and has to reap it. It passes signals on, and
    ends as the child does.
    """
    if os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(signal.valid_signals())
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        for pid, status in _reaped():
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)


def _reaped() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def open_state_directory(home: Path, secrets: Collection[str]) -> list[str]:
    """Make the state directory, and close an older one to other users; return what people should know."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        start_logging(home / "bot.log", secrets)
        return close_to_others(home)
    except OSError as error:
        raise UserError(
            f"Cannot write to the state directory {home} ({error.strerror}). "
            "Choose another one with --home or AUTORESEARCH_HOME."
        ) from None


def close_to_others(home: Path) -> list[str]:
    """Take the state directory and its files from other users; return what people should know of that.

    A folder that holds other things too is left as it is: it may be the home of everybody.
    """
    mode = stat.S_IMODE(home.stat().st_mode)
    if not mode & 0o077:
        return []
    ours = (home / "state.db").exists() or not any(path.name != "bot.log" for path in home.iterdir())
    notice = f"Other users could open the state directory {home} ({mode:o}): it is closed to them now (700)."
    try:
        if ours and not mode & stat.S_ISVTX:
            home.chmod(0o700)
            for path in (*home.glob("state.db*"), *home.glob("bot.log*"), *home.glob("history")):
                path.chmod(0o600)
    except OSError as error:
        log.warning("%s cannot be closed to other users: %s", home, error.strerror)
    if stat.S_IMODE(home.stat().st_mode) & 0o077:
        fix = f"chmod 700 {shlex.quote(str(home))}"
        notice = f"Other users can open the state directory {home} ({mode:o}). Run: {fix}"
    log.warning("%s", notice)
    return [notice]
