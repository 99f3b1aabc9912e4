from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.telegram.token_lock import TokenInUseError, lock_token

HOLD = """
import sys
from pathlib import Path
from bot.telegram.token_lock import lock_token
with lock_token(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_only_one_has_it_and_the_other_is_told_who(tmp_path: Path) -> None:
    path = tmp_path / "new" / "telegram-4242.lock"
    with (
        lock_token(path),
        pytest.raises(TokenInUseError, match=f"process {os.getpid()}"),
        lock_token(path),
    ):
        pass
    with lock_token(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_process_that_dies_lets_go_of_it(tmp_path: Path) -> None:
    path = tmp_path / "telegram-4242.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TokenInUseError, match=f"process {holder.pid}"), lock_token(path):
            pass
        holder.kill()
    with lock_token(path):
        pass


def test_where_nothing_can_be_locked_it_goes_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with lock_token(tmp_path / "file" / "telegram-4242.lock"):
        pass
    (tmp_path / "elsewhere").touch()
    link = tmp_path / "link.lock"
    link.symlink_to(tmp_path / "elsewhere")
    with lock_token(link):
        assert (tmp_path / "elsewhere").read_text() == ""
