"""The bot goes on whatever becomes of its output, its terminal, its state file, its disk and its chats."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from bot.setup.service import close_to_others
from loop.errors import UserError
from loop.store.journal import Journal
from tests.bot.real_bot import Process, RealBot

ROOT = Path(__file__).parents[2]
ORDER = ("--tag", "toy", "--experiments", "2", "--exit-when-done")
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


def results(bot: RealBot) -> int:
    return len(bot.json("results"))


def has_run(bot: RealBot) -> bool:
    return made_so_far(bot) is not None


def made_so_far(bot: RealBot) -> int | None:
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
    with started(bot, *ORDER, stdout=stdout) as process:
        os.close(stdout)
        assert process.wait(PATIENCE) == 0
    assert results(bot) == 3
    assert logged(bot, "the output cannot be written")


def test_standard_streams_that_are_closed_are_no_files_of_ours(bot: RealBot) -> None:
    command = " ".join((*bot.command("up"), *ORDER, "<&-", ">&-", "2>&-"))
    done = subprocess.run(
        ["sh", "-c", command], cwd=bot.folder, env=bot.environment, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0
    assert results(bot) == 3


def test_characters_that_an_output_does_not_have_are_replaced(bot: RealBot) -> None:
    bot.environment |= {"PYTHONIOENCODING": "ascii", "WAKE_UP": "", "DIGEST_EVERY": "1"}
    done = bot.run("up", *ORDER)
    assert done.returncode == 0
    assert "Experiment #0" in done.stdout
    assert "?" in done.stdout
    assert results(bot) == 3
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
        os.execve(bot.command()[0], [*bot.command("up"), *ORDER], bot.environment)
    seen = b""
    while b"Ctrl-D leaves" not in seen:
        seen += os.read(master, 4096)
    os.close(master)  # its session gets SIGHUP
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert results(bot) == 3
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


def fill(path: Path) -> None:
    """Let a file take all the room that there is."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from tests.bot.real_bot import RealBot
from tests.bot.test_surroundings import ORDER, PATIENCE, fill, results, started, wait_for

bot = RealBot(Path(sys.argv[1]))
bot.forks = False  # what is asked first takes as long as the first experiment
bot.home.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", bot.home], check=True)
with started(bot, *ORDER) as process:
    wait_for(lambda: (bot.home / "state.db").exists() and bot.run("results").returncode == 0)
    fill(bot.home / "checkpoint")
    bot.forks = True
    wait_for(lambda: "FAIL  state file" in bot.run("send", "/health").stdout)
    assert process.poll() is None
    (bot.home / "checkpoint").unlink()
    assert process.wait(PATIENCE) == 0
assert results(bot) == 3
print("went on")
"""


_FILLING = """
import os
os.remove("data.bin")  # what goes with this folder makes no room for the next one
with open(os.environ["HOME"] + "/home/checkpoint", "ab", buffering=0) as file:
    found = os.statvfs(".")
    file.write(bytes(max(0, found.f_bavail * found.f_frsize - 1_000_000)))
"""

_NO_ROOM_FOR_A_TRAINING = """
import os, subprocess, sys
from pathlib import Path
from tests.bot.real_bot import TOY, RealBot
from tests.bot.test_surroundings import _FILLING, ORDER, PATIENCE, results, started, wait_for
from tests.loop.lab import git

bot = RealBot(Path(sys.argv[1]), HEARTBEAT_MINUTES="0.1", train=TOY + _FILLING)
(bot.repository / "data.bin").write_bytes(os.urandom(3_000_000))
git(bot.repository, "add", "--all")
git(bot.repository, "commit", "--quiet", "--message=data")
bot.home.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", bot.home], check=True)
with started(bot, *ORDER) as process:
    wait_for(lambda: "FAIL  lane: toy paused" in bot.run("send", "/health").stdout)
    assert process.poll() is None
    (bot.home / "checkpoint").unlink()
    os.symlink("/dev/null", bot.home / "checkpoint")
    assert process.wait(PATIENCE) == 0
assert results(bot) == 3
print("went on")
"""

_NO_ROOM_AT_THE_START = """
import signal, subprocess, sys
from pathlib import Path
from tests.bot.real_bot import RealBot
from tests.bot.test_surroundings import ORDER, PATIENCE, fill, results, started, wait_for

bot = RealBot(Path(sys.argv[1]), HEARTBEAT_MINUTES="0.1", SANDBOX="auto")
bot.home.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", bot.home], check=True)
with started(bot, *ORDER) as process:
    wait_for(lambda: (bot.home / "state.db").exists() and bot.run("results").returncode == 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
fill(bot.home / "checkpoint")
with started(bot, *ORDER) as process:
    wait_for(lambda: "FAIL" in bot.run("send", "/health").stdout)
    assert process.poll() is None
    (bot.home / "checkpoint").unlink()
    assert process.wait(PATIENCE) == 0
assert results(bot) >= 3
print("went on")
"""


@needs_root
@pytest.mark.parametrize("script", [_SMALL_DISK, _NO_ROOM_FOR_A_TRAINING, _NO_ROOM_AT_THE_START])
def test_a_disk_that_is_full_is_waited_for(tmp_path: Path, script: str) -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script, str(tmp_path / "bot")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE,
    )
    assert done.stdout.endswith("went on\n"), done.stdout + done.stderr


# Chats


@pytest.mark.parametrize(
    ("environment", "fix"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, 'pip install "python-telegram-bot[socks]"'),
        ({"SSL_CERT_FILE": "/nonexistent.pem"}, "correct it or unset it"),
        ({"TELEGRAM_BOT_TOKEN": "123:a bc"}, "copy it again"),
    ],
)
def test_a_chat_that_cannot_be_set_up_is_not_the_end(
    bot: RealBot, environment: dict[str, str], fix: str
) -> None:
    bot.environment |= {"TELEGRAM_BOT_TOKEN": "123:abc", "TELEGRAM_CHAT_IDS": "5"} | environment
    done = bot.run("up", *ORDER)
    assert done.returncode == 0
    assert "Telegram is unavailable" in done.stdout
    assert fix in done.stdout
    assert results(bot) == 3
    doctor = bot.run("doctor")
    assert doctor.returncode == 1
    (line,) = [line for line in doctor.stdout.splitlines() if line.startswith("FAIL  telegram: ")]
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
            wait_for(lambda: (made_so_far(bot) or 0) >= 3)
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
