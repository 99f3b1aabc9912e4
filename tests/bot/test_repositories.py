"""The bot with repositories that need more than their own files: data, submodules, LFS, filters, packages."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bot.real_bot import TOY, RealBot, read_until
from tests.bot.test_surroundings import logged, wait_for
from tests.loop.lab import git

ORDER = ("up", "--experiments", "1", "--exit-when-done")
PATIENCE = 60.0  # seconds for a machine that is busy


@pytest.fixture
def tmp_path(disk_path: Path) -> Path:
    return disk_path


@pytest.fixture
def bot(tmp_path: Path) -> RealBot:
    return RealBot(tmp_path / "user", SANDBOX="auto")


def commit(bot: RealBot, **files: str) -> None:
    """Commit files; `__` in a name stands for a dot, and `train` is what the toy begins with."""
    for name, text in files.items():
        path = bot.repository / name.replace("__", ".")
        path.write_text(text + TOY if path.name == "train.py" else text)
    git(bot.repository, "add", "--all")
    git(bot.repository, "commit", "--quiet", "--message=more")


def kept(bot: RealBot, *order: str, **settings: str) -> bool:
    bot.environment |= settings
    done = bot.run(*ORDER, *order)
    rows = bot.json("results") if done.returncode == 0 else []
    return len(rows) == 2 and rows[0]["status"] == "keep"


def refused(bot: RealBot) -> str:
    """Return the only sentence that people get of an order that cannot be carried out."""
    done = bot.run(*ORDER)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (sentence,) = done.stderr.strip().splitlines()
    return sentence


def called(bot: RealBot) -> str:
    """Return what a run that ends with its baseline calls a person for."""
    done = bot.run(*ORDER)
    assert done.returncode == 1
    (line,) = {line for line in done.stdout.splitlines() if "needs you" in line}
    return line


# What a training lacks, and the setting that gives it


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    got.append(connection.recv(100))

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], got
        server.shutdown(socket.SHUT_RDWR)


READS = """\
import os
print(open('data/train.bin').read())
open('{outside}/x.bin').read()
for path in ('data/train.bin', '{outside}/x.bin'):
    try:
        open(path, 'w')
    except OSError:
        continue
    raise SystemExit(3)
assert os.environ['RESEARCH_KEY'] == 'sk-of-a-person'
"""
WRITES = "open('{out}/checkpoint', 'a').write('x')\n"
CALLS = "import socket\nsocket.create_connection(('127.0.0.1', {port})).sendall(b'hello')\n"


@pytest.mark.timeout(600)  # one bot after another, on a machine that may be busy
def test_what_a_training_lacks_is_named_until_it_has_it_all(bot: RealBot, tmp_path: Path) -> None:
    """A file that git ignores, one elsewhere, a variable, a folder to write to, and the network."""
    outside, out = tmp_path / "data", tmp_path / "out"
    files = bot.repository / "data/train.bin", outside / "x.bin"
    for file in (*files, out / "checkpoint"):
        file.parent.mkdir(parents=True)
    for file in files:
        file.write_text("tokens")
    bot.environment["RESEARCH_KEY"] = "sk-of-a-person"
    with listening() as (port, got):
        needs = (READS + WRITES + CALLS).format(outside=outside, out=out, port=port)
        commit(bot, __gitignore="data/\n", train__py=needs)
        for said, setting, value in (
            (f"set LINK_PATHS=data: {bot.repository}/data/train.bin is not in", "LINK_PATHS", "data"),
            (f"set SANDBOX_READ={outside}", "SANDBOX_READ", f"{outside}"),
            ("set TRAIN_ENV=RESEARCH_KEY", "TRAIN_ENV", "RESEARCH_KEY"),
            (f"{out}, or SANDBOX_WRITE", "SANDBOX_WRITE", f"{out}"),
            ("crashed", "ALLOW_NETWORK", "1"),
        ):
            assert said in called(bot)
            assert got == []
            bot.environment[setting] = value
        assert kept(bot)
        assert got == [b"hello"] * 2
    assert [file.read_text() for file in files] == ["tokens"] * 2
    assert (out / "checkpoint").read_text() == "xxx"  # of the one without the network, too


@pytest.mark.timeout(600)  # one bot after another, on a machine that may be busy
def test_under_landlock_it_may_write_and_call_where_it_is_allowed(bot: RealBot, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    bot.environment["SANDBOX"] = "landlock"
    with listening() as (port, got):
        commit(bot, train__py=(WRITES + CALLS).format(out=out, port=port))
        assert f"SANDBOX_READ={out}, or SANDBOX_WRITE" in called(bot)
        bot.environment["SANDBOX_WRITE"] = str(out)
        assert "crashed" in called(bot)
        assert got == []
        assert kept(bot, ALLOW_NETWORK="1")
        assert got == [b"hello"] * 2
    assert (out / "checkpoint").read_text() == "xxx"  # of the one without the network, too


def test_a_program_that_finds_no_files_is_guessed_about(bot: RealBot) -> None:
    source = "import glob\nassert glob.glob('shards/*.bin'), 'nothing to train on'\n"
    commit(bot, __gitignore="shards/\n", train__py=source)
    (bot.repository / "shards").mkdir()
    (bot.repository / "shards/0.bin").touch()
    assert "perhaps set LINK_PATHS=shards" in called(bot)


def test_a_host_that_is_not_reached_is_told_of_with_the_setting(bot: RealBot) -> None:
    commit(bot, train__py="import urllib.request\nurllib.request.urlopen('http://data.example/x')\n")
    assert "set ALLOW_NETWORK=1" in called(bot)


def test_without_a_sandbox_trainings_do_as_their_user(bot: RealBot, tmp_path: Path) -> None:
    commit(bot, train__py=f"open('{tmp_path}/anywhere', 'w').write('x')\n")
    assert kept(bot, SANDBOX="none")
    assert (tmp_path / "anywhere").exists()


# What git would have to fetch or to make


def add_submodule(bot: RealBot) -> None:
    library = bot.folder / "library"
    library.mkdir()
    (library / "helpers.py").write_text("SCALE = 1\n")
    git(library, "init", "--quiet")
    git(library, "add", "--all")
    git(library, "commit", "--quiet", "--message=library")
    add = ("submodule", "--quiet", "add", str(library), "vendor/lib")
    git(bot.repository, "-c", "protocol.file.allow=always", *add)
    commit(bot, train__py="import sys\nsys.path.insert(0, 'vendor/lib')\nimport helpers\n")


def test_a_submodule_is_filled_from_the_checkout(bot: RealBot) -> None:
    add_submodule(bot)
    assert kept(bot)


def drop_submodule(bot: RealBot) -> None:
    add_submodule(bot)
    shutil.rmtree(bot.repository / "vendor/lib")
    (bot.repository / "vendor/lib").mkdir()


def add_pointer(bot: RealBot) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n"
    commit(bot, vocab__bin=pointer, __gitattributes="*.bin filter=lfs -text\n")


def add_filter(bot: RealBot) -> None:
    commit(bot, vocab__bin="x", __gitattributes="*.bin filter=slow\n")
    git(bot.repository, "config", "filter.slow.smudge", "sleep 1000")


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (drop_submodule, "git submodule update --init"),
        (add_pointer, "git lfs pull"),
        (add_filter, "LINK_PATHS=vocab.bin"),
    ],
)
def test_what_is_not_here_is_one_sentence_before_the_run(
    bot: RealBot, make: Callable[[RealBot], None], fix: str
) -> None:
    make(bot)
    assert fix in refused(bot)
    assert not (bot.home / "worktrees").exists()
    assert git(bot.repository, "branch", "--list", "autoresearch/*") == ""


# Packages of a lock file

UV = """\
#!/bin/bash
[ "$1" = sync ] || {{ echo "uv 0.9.0"; exit; }}
case " $* " in *" --check "*) exit 1;; esac
echo x >> {folder}/syncs
for i in $(seq 600); do
    [ -e {folder}/failing ] && {{ echo "error: no such package: torhc" >&2; exit 2; }}
    [ -e {folder}/gate ] && exec {python} -m venv --without-pip "$UV_PROJECT_ENVIRONMENT"
    echo "Downloading torch ($i)" >&2
    read -t 0.1 < {folder}/never
done
"""


@pytest.fixture
def uv(bot: RealBot, tmp_path: Path) -> Path:
    """A uv that makes an environment as soon as there is a `gate` in the returned folder."""
    folder = tmp_path / "uv"
    folder.mkdir()
    os.mkfifo(folder / "never")
    (folder / "uv").write_text(UV.format(folder=folder, python=sys.executable).replace("< ", "<> "))
    (folder / "uv").chmod(0o755)
    bot.environment["PATH"] = f"{folder}:{bot.environment['PATH']}"
    commit(bot, uv__lock="version = 1\n", train__py="import sys\nassert 'environments' in sys.prefix\n")
    return folder


def syncs(uv: Path) -> int:
    return (uv / "syncs").read_text().count("x")


def test_an_environment_is_made_before_the_clock_of_a_training_starts(bot: RealBot, uv: Path) -> None:
    with bot.start(*ORDER[1:]) as running:
        read_until(running, "of uv.lock")
        assert "running" in bot.say("/status")
        wait_for(lambda: logged(bot, "Downloading torch"))
        (uv / "gate").touch()
        read_until(running, "Experiment #1")
        assert running.wait(PATIENCE) == 0
    assert bot.json("results")[0]["status"] == "keep"
    assert kept(bot, "--tag", "other")
    assert syncs(uv) == 1


def test_a_bot_that_is_to_end_does_not_wait_for_an_environment(bot: RealBot, uv: Path) -> None:
    with bot.start(*ORDER[1:]) as running:
        read_until(running, "of uv.lock")
        wait_for(lambda: logged(bot, "Downloading torch"))
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    (uv / "gate").touch()
    assert kept(bot)
    assert syncs(uv) == 2


def test_an_environment_that_cannot_be_made_is_one_sentence(bot: RealBot, uv: Path) -> None:
    (uv / "failing").touch()
    assert "no such package: torhc" in refused(bot)


def test_an_environment_that_could_not_be_made_is_tried_again(bot: RealBot, uv: Path) -> None:
    (uv / "failing").touch()
    with bot.start("--experiments", "1") as running:
        read_until(running, "of uv.lock")
        (uv / "gate").touch()
        (uv / "failing").unlink()
        read_until(running, "Experiment #1")
        running.terminate()
    assert syncs(uv) in (1, 2)
