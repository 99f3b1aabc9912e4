from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop.files import LockedError, lock

HOLD = """
import sys
from pathlib import Path
from loop.files import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_only_one_has_it_and_the_other_is_told_who(tmp_path: Path) -> None:
    path = tmp_path / "bot.lock"
    with (
        lock(path),
        pytest.raises(LockedError, match=f"process {os.getpid()}"),
        lock(path),
    ):
        pass
    with lock(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_process_that_dies_lets_go_of_it(tmp_path: Path) -> None:
    path = tmp_path / "bot.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"process {holder.pid}"), lock(path):
            pass
        holder.kill()
    with lock(path):
        pass


def test_a_link_or_a_missing_folder_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "link.lock").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "link.lock", tmp_path / "missing" / "bot.lock"):
        with pytest.raises(OSError, match=path.name), lock(path):
            pass
    assert (tmp_path / "elsewhere").read_text() == ""
