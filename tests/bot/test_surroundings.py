"""The bot goes on whatever becomes of its output, its terminal, its state file, its disk and its chats."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event

import psutil
import pytest

from bot.local.wire import send
from bot.setup.service import close_to_others
from loop.errors import UserError
from loop.store.journal import Journal
from tests.bot.real_bot import TOY, Process, RealBot
from tests.loop.lab import git

ORDER = ("--tag", "toy", "--experiments", "2", "--exit-when-done")
SHORT = ("--tag", "toy", "--experiments", "1", "--exit-when-done")
PATIENCE = 100.0  # seconds for a machine that is busy

needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can make namespaces and mounts"
)


@pytest.fixture
def bot(tmp_path: Path) -> RealBot:
    return RealBot(tmp_path)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def started(bot: RealBot, *order: str, stdout: int | None = None) -> Iterator[Process]:
    with Path(os.devnull).open("w") as nothing:
        ours = nothing.fileno()
        process = bot.launch("up", *order, stdout=ours if stdout is None else stdout, stderr=ours)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def logged(bot: RealBot, text: str) -> bool:
    log = bot.home / "bot.log"
    return log.exists() and text in log.read_text()


def has_run(bot: RealBot) -> bool:
    return results(bot) is not None


def results(bot: RealBot) -> int | None:
    """Return how many experiments the bot has made or is at, None where it has no run yet."""
    path = bot.home / "state.db"
    try:
        with closing(Journal(path, read_only=True, patience=0.0)) as journal:
            return next((len(journal.experiments(run.id)) for run in journal.runs()), None)
    except UserError:
        return None  # the bot has not made it yet


# Output


def closed_pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def terminal_that_has_gone() -> int:
    master, slave = pty.openpty()
    os.close(master)
    return slave


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("output", [closed_pipe, full_disk, terminal_that_has_gone])
def test_an_output_that_takes_nothing_ends_nothing(bot: RealBot, output: Callable[[], int]) -> None:
    stdout = output()
    with started(bot, *SHORT, stdout=stdout) as process:
        os.close(stdout)
        assert process.wait(PATIENCE) == 0
    assert results(bot) == 2
    assert logged(bot, "the output cannot be written")


def test_standard_streams_that_are_closed_are_no_files_of_ours(bot: RealBot) -> None:
    command = " ".join((*bot.command("up"), *SHORT, "<&-", ">&-", "2>&-"))
    done = subprocess.run(
        ["sh", "-c", command], cwd=bot.folder, env=bot.environment, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0
    assert results(bot) == 2


def test_characters_that_an_output_does_not_have_are_replaced(bot: RealBot) -> None:
    bot.environment |= {"PYTHONIOENCODING": "ascii", "WAKE_UP": "", "DIGEST_EVERY": "1"}
    done = bot.run("up", *SHORT)
    assert done.returncode == 0
    assert "Experiment #0" in done.stdout
    assert "?" in done.stdout
    assert results(bot) == 2
    # On the way: what is written is for its user alone.
    for path in (bot.home / "state.db", bot.home / "bot.log", bot.home):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_signal_is_obeyed_while_nobody_reads_the_output(bot: RealBot) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    with started(bot, "--tag", "toy", "--experiments", "2", stdout=write) as process:
        wait_for(lambda: has_run(bot))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    os.close(read)
    os.close(write)


@pytest.mark.skipif(sys.platform != "linux", reason="TIOCSCTTY as Linux has it")
def test_a_terminal_that_hangs_up_leaves_the_bot(bot: RealBot) -> None:
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(bot.folder)
        os.execve(bot.command()[0], [*bot.command("up"), *SHORT], bot.environment)
    seen = b""
    while b"Ctrl-D ends" not in seen:
        seen += os.read(master, 4096)
    os.close(master)  # its session gets SIGHUP
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert results(bot) == 2
    assert logged(bot, "the bot goes on without it")


# The state file


def test_a_state_file_that_is_locked_is_waited_for(bot: RealBot) -> None:
    with started(bot, *ORDER) as process:
        wait_for(lambda: has_run(bot))
        with closing(sqlite3.connect(bot.home / "state.db", isolation_level=None, timeout=20)) as browser:
            browser.execute("BEGIN IMMEDIATE")
            wait_for(lambda: logged(bot, "cannot be written, as another program locks it"))
            health = bot.run("send", "/health").stdout
            assert "FAIL  state file: not writable since" in health
            assert "Close that program" in health
            refused = bot.run("send", "/pause")
            assert refused.returncode == 1
            assert "another program locks it" in refused.stdout
            browser.execute("ROLLBACK")
        assert process.wait(PATIENCE) == 0
    assert results(bot) == 3


def test_a_signal_is_obeyed_while_the_state_file_is_locked(bot: RealBot) -> None:
    with started(bot) as process:
        wait_for(lambda: has_run(bot))
        with closing(sqlite3.connect(bot.home / "state.db", isolation_level=None, timeout=20)) as browser:
            browser.execute("BEGIN IMMEDIATE")
            wait_for(lambda: logged(bot, "cannot be written"))
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        with (
            closing(sqlite3.connect(bot.home / "state.db", isolation_level=None, timeout=20)) as browser,
            started(bot) as again,
        ):
            browser.execute("BEGIN IMMEDIATE")
            wait_for(lambda: (bot.home / "bot.log").read_text().count("cannot be written") == 2)
            again.send_signal(signal.SIGTERM)
            assert again.wait(10) == 0


# A disk that is full

HOARDS = """
import os, time
disk = os.environ["HOME"] + "/home"
os.rename("data.bin", f"{disk}/hoard-{os.getpid()}")  # what goes with this folder makes no room
while not os.path.lexists(disk + "/checkpoint"):  # until the test has filled the disk
    time.sleep(0.01)
"""
"""The end of a toy: what it prints before is believed, however the supervisor ends it for the full disk."""


@contextmanager
def disk_of(bot: RealBot, size: str) -> Iterator[Path]:
    """Give the bot's state directory a small disk, that only its processes see; return our way to it."""
    bot.home.mkdir()
    mounting = f"mount -t tmpfs -o size={size} none '{bot.home}' && echo && cat"
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", mounting], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:  # which has the mounts, and they end with it
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        bot.mounts = holder.pid
        yield Path(f"/proc/{holder.pid}/root{bot.home}")


def fill(disk: Path, *, leave: int = 0) -> None:
    """Let a file take all the room that there is, but for some bytes; only then trainings see it.

    It takes a piece whole or not at all: the bot may take room at the same time.
    """
    checkpoint = disk / "checkpoint"
    growing = checkpoint if checkpoint.exists() else disk / "growing"
    with growing.open("ab") as file, suppress(OSError):
        while (room := shutil.disk_usage(disk).free - leave) > 0:
            os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), min(room, 1 << 20))
    growing.rename(checkpoint)


@contextmanager
def kept_full(disk: Path, *, leave: int = 0) -> Iterator[None]:
    """Fill it again and again, before a folder takes the room that another one leaves."""
    over = Event()

    def keep() -> None:
        while not over.wait(0.002):
            fill(disk, leave=leave)

    with ThreadPoolExecutor(1) as threads:
        keeping = threads.submit(keep)
        try:
            yield
        finally:
            over.set()
            keeping.result()


def make_room(disk: Path) -> None:
    (disk / "checkpoint").unlink()
    (disk / "checkpoint").symlink_to(os.devnull)  # no further training waits for it


def health(disk: Path) -> str:
    """Return what a running bot says of its health, empty while it does not answer."""
    try:
        return asyncio.run(send(disk / "bot.sock", "/health")).message.block
    except UserError:
        return ""


def trains(disk: Path) -> bool:
    """Tell whether a training has printed its number. (SQLite does not find its way through /proc.)"""
    log = disk / "worktrees/toy/run.log"
    return log.exists() and "peak_vram_mb" in log.read_text()


def with_data(folder: Path) -> RealBot:
    """Return a bot whose first training waits until its disk is full, and whose folders take 3 MB each."""
    bot = RealBot(folder, HEARTBEAT_MINUTES="0.02", train=TOY + HOARDS)
    (bot.repository / "data.bin").write_bytes(os.urandom(3_000_000))
    git(bot.repository, "add", "--all")
    git(bot.repository, "commit", "--quiet", "--message=data")
    return bot


@needs_root
@pytest.mark.parametrize(
    ("size", "leave", "found"),
    [
        ("24m", 0, "FAIL  state file"),
        ("32m", 1_200_000, "FAIL  lane: toy paused"),  # the state file can be written, no folder be made
    ],
)
def test_a_disk_that_is_full_is_waited_for(tmp_path: Path, size: str, leave: int, found: str) -> None:
    bot = with_data(tmp_path / "bot")
    with disk_of(bot, size) as disk:
        with started(bot, *ORDER) as process:
            wait_for(lambda: trains(disk))
            with kept_full(disk, leave=leave):
                wait_for(lambda: found in health(disk))
            assert process.poll() is None
            make_room(disk)
            assert process.wait(PATIENCE) == 0
        assert len(bot.json("results")) == 3


@needs_root
def test_a_disk_that_is_full_at_the_start_is_waited_for(tmp_path: Path) -> None:
    bot = RealBot(tmp_path / "bot", HEARTBEAT_MINUTES="0.02", SANDBOX="auto")
    with disk_of(bot, "8m") as disk:
        with started(bot, *ORDER) as process:
            wait_for(lambda: trains(disk))
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        fill(disk)
        with started(bot, *ORDER) as process:
            with kept_full(disk):
                wait_for(lambda: "FAIL" in health(disk))
            assert process.poll() is None
            make_room(disk)
            assert process.wait(PATIENCE) == 0
        assert len(bot.json("results")) >= 3


@needs_root
def test_a_full_disk_of_temporary_files_is_told_in_a_sentence(bot: RealBot, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounting = f"mount -t tmpfs -o size=16k none '{small}' && exec \"$@\""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounting, "sh", *bot.command("doctor")],
        env=bot.environment | {"TMPDIR": str(small), "REPOSITORY": ""},  # the template is written there
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"{small}\S* cannot be written: No space left on device\.\n", done.stderr)


# Chats


@pytest.mark.parametrize(
    ("environment", "fix"),
    [
        (
            {"ALL_PROXY": "socks5://127.0.0.1:9"},
            f"{sys.executable} -m pip install 'python-telegram-bot[socks]'",
        ),
        ({"SSL_CERT_FILE": "/nonexistent.pem"}, "correct it or unset it"),
        ({"TELEGRAM_BOT_TOKEN": "123:a bc"}, "copy it again"),
    ],
)
def test_a_chat_that_cannot_be_set_up_is_not_the_end(
    bot: RealBot, environment: dict[str, str], fix: str
) -> None:
    bot.environment |= {"TELEGRAM_BOT_TOKEN": "123:abc", "TELEGRAM_CHAT_IDS": "5"} | environment
    done = bot.run("up", *SHORT)
    assert done.returncode == 0
    assert "Telegram is unavailable" in done.stdout
    assert fix in done.stdout
    assert results(bot) == 2
    doctor = bot.run("doctor")
    assert doctor.returncode == 1
    (line,) = [line for line in doctor.stdout.splitlines() if line.startswith("FAIL  Telegram: ")]
    assert fix in line


# A container


@needs_root
def test_the_first_process_of_a_container_reaps(bot: RealBot) -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", *bot.command("up", "--tag", "toy")]
    with subprocess.Popen(
        command,
        cwd=bot.folder,
        env=bot.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as unshare:
        try:
            wait_for(lambda: (results(bot) or 0) >= 3)
            (first,) = psutil.Process(unshare.pid).children()
            ended = psutil.STATUS_ZOMBIE
            wait_for(lambda: not [child for child in first.children() if child.status() == ended])
            first.send_signal(signal.SIGTERM)
            assert unshare.wait(10) == 0
        finally:
            unshare.kill()


# Other users


def test_a_state_directory_that_others_can_open_is_closed(tmp_path: Path) -> None:
    for name in ("state.db", "state.db-wal", "bot.log", "bot.log.1"):
        (tmp_path / name).touch(mode=0o644)
    tmp_path.chmod(0o755)
    (notice,) = close_to_others(tmp_path)
    assert "closed" in notice
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert close_to_others(tmp_path) == []


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_folder_of_other_things_is_only_warned_of(tmp_path: Path, mode: int) -> None:
    (tmp_path / "thesis.tex").touch()
    if mode & stat.S_ISVTX:
        (tmp_path / "state.db").touch()
    tmp_path.chmod(mode)
    (notice,) = close_to_others(tmp_path)
    assert "chmod 700" in notice
    assert stat.S_IMODE(tmp_path.stat().st_mode) == mode
