"""A stand-in for a coding agent, run as a real process: `python fake_agent.py TRAIT [PATH …]`.

It reads its prompt on stdin and works in the folder where it is started, as the real ones do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

DAEMON = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(int(sys.argv[1]), b"%d" % os.getpid())
while True:
    signal.pause()
"""
TRAIN = Path("train.py")
BEFORE, AFTER = "DEPTH = 8", "DEPTH = 9"
MESSAGE = """\
I looked around first.

**Description:** a deeper model
**Rationale:** depth helps,
and there is time for it
**Expected:** -0.01
**Family:** architecture
"""


def edit() -> None:
    TRAIN.write_text(TRAIN.read_text().replace(BEFORE, AFTER))
    sys.stdout.write(MESSAGE)


def edit_everything() -> None:
    edit()
    Path("prepare.py").write_text("TIME_BUDGET = 1\n")
    Path("new.py").write_text("import socket\n")


def improve() -> None:
    """Make the program report a better number."""
    TRAIN.write_text(TRAIN.read_text().replace("summary(1.0)", "summary(0.9)"))
    sys.stdout.write(MESSAGE)


def repeat_prompt() -> None:
    """Put the prompt into the program: the one on stdin and the one in a file."""
    prompt = sys.stdin.read()
    assert prompt == Path(sys.argv[2]).read_text()
    TRAIN.write_text(f"PROMPT = {prompt!r}\nPLACE = {str(Path.cwd())!r}\n")


def show_environment() -> None:
    """Put our environment into the program, with no login in it that could be told by its look."""
    TRAIN.write_text(f"ENVIRONMENT = {dict(os.environ)!r}\n".replace("@", " at "))


def tell_secret() -> None:
    edit()
    sys.stdout.write(f"Description: it is {os.environ['OPENAI_API_KEY']}\n")


def write_secret() -> None:
    """Put a secret into the program: the key that we know, or one that we found elsewhere."""
    secret = sys.argv[2] if len(sys.argv) > 2 else os.environ["OPENAI_API_KEY"]
    TRAIN.write_text(f"KEY = {secret!r}\n")


def refuse() -> None:
    edit()
    sys.stderr.write(f"warming up\n{os.environ.get('SAY', '')} {' '.join(sys.argv[2:])}\n")
    sys.exit(1)


def hang() -> None:
    """Hang, deaf to SIGTERM, with a daemon; say both pids."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = _daemon(os.environ)
    Path(sys.argv[2]).write_text(f"{os.getpid()} {child}\n")
    while True:
        signal.pause()


def leave_daemon() -> None:
    """End well, but leave a daemon that holds our stdout and has another environment."""
    child = _daemon({})
    edit()
    Path(sys.argv[2]).write_text(f"{os.getpid()} {child}\n")


def flood() -> None:
    """Print 64 MB and then answer."""
    line = b"x" * 127 + b"\n"
    for _ in range(64):
        sys.stdout.buffer.write(line * 2**13)
    sys.stdout.flush()
    edit()


def flood_for_ever() -> None:
    while True:
        sys.stdout.write("x" * 4096)


def nothing() -> None:
    sys.stdout.write("I have no idea.\n")


def break_syntax() -> None:
    TRAIN.write_text("def train(:\n")


def use_git() -> None:
    """Commit, switch, move what it takes for the user's branches, configure, and plant a hook."""
    edit()
    own = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a",
    }
    for command in (
        ("commit", "--all", "--message=mine"),
        ("switch", "--create", "elsewhere"),
        ("branch", "--force", "main", "HEAD"),
        ("branch", "--force", "autoresearch/mar12", "HEAD"),
        ("update-ref", "refs/autoresearch/mar12/0", "HEAD"),
        ("config", "core.hooksPath", "/tmp"),
    ):
        subprocess.run(["git", *command], env={**os.environ, **own}, check=True, capture_output=True)
    hooks = Path(".git/hooks")
    hooks.mkdir(exist_ok=True)
    (hooks / "post-checkout").write_text("#!/bin/sh\nexit 1\n")


def delete_git() -> None:
    """Delete the repository, then see that git finds no other one above."""
    edit()
    subprocess.run(["rm", "-rf", ".git"], check=True)
    found = subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True, check=False)
    assert found.returncode != 0, found.stdout


def link() -> None:
    TRAIN.unlink()
    TRAIN.symlink_to("/etc/passwd")


def link_folder() -> None:
    """Put a link in the place of the folder that holds the program."""
    Path("src").rename("other")
    Path("src").symlink_to(sys.argv[2])


def pipe() -> None:
    TRAIN.unlink()
    os.mkfifo(TRAIN)


def put_folder() -> None:
    TRAIN.unlink()
    TRAIN.mkdir()


def delete() -> None:
    TRAIN.unlink()


def huge() -> None:
    with TRAIN.open("wb") as file:
        file.truncate(2**40)  # no disk holds so much: it is sparse


def not_text() -> None:
    TRAIN.write_bytes(b"x = '\xff'\n")


def lock_folder() -> None:
    """Leave a folder that cannot be written to, as some package managers do."""
    edit()
    locked = Path("cache/inner")
    locked.mkdir(parents=True)
    (locked / "file").touch()
    Path("cache/link").symlink_to(sys.argv[2])
    locked.chmod(0o500)
    locked.parent.chmod(0o500)


def _daemon(environment: Mapping[str, str]) -> int:
    """Start a process that calls setsid and is deaf to SIGTERM, and return its pid."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.set_inheritable(write, True)
        os.execve(
            sys.executable, (sys.executable, "-I", "-S", "-c", DAEMON, str(write), sys.argv[2]), environment
        )
    os.wait()
    return int(os.read(read, 32))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
