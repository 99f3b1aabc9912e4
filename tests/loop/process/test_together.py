"""The process beside programs that end with the bot: what tests of evaluations and agents do not see."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from loop.process.programs import Program, Result, run_together
from loop.process.together import EXCHANGE, SECOND, is_ending
from loop.process.trainer import Limits

ENDED_AT_ONCE = """
import os, subprocess
from loop.process import together

class Ended(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

subprocess.Popen = Ended
limits = {"memory": 2**40, "processes": 2**16, "file_size": 2**40}
program = {"argv": ["false"], "cwd": "/", "env": dict(os.environ)}
job = {"programs": [program], "limits": limits, "mark": ["MARK", ""], "stdin": os.devnull, "nice": 0}
programs = together.Programs(job)
assert programs.reap()
print(*programs.exit_codes)
"""


def test_the_status_of_one_that_has_ended_before_it_is_looked_at_is_known() -> None:
    ran = subprocess.run([sys.executable, "-c", ENDED_AT_ONCE], capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n"


def test_one_that_has_been_killed_counts_as_ending_until_it_is_reaped() -> None:
    with subprocess.Popen(["sleep", "60"]) as killed:
        assert not is_ending(killed.pid)
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
        assert is_ending(killed.pid)
    assert not is_ending(killed.pid)


async def test_the_one_that_was_killed_is_known_though_the_other_heard_of_it_first() -> None:
    environment = {"PATH": "/usr/bin:/bin"}
    waits = Program(("sh", "-c", "read answer; exit 1"), Path("/"), environment)
    killed = Program(("sh", "-c", "kill -9 $$"), Path("/"), environment)
    together = [run_together([waits, killed], 60.0, Limits()) for _ in range(16)]
    assert {result.exit_codes for result in await asyncio.gather(*together)} == {(1, -9)}


FIRST = """
import os, sys
own, second = int(sys.argv[1]), [int(each) for each in sys.argv[2].split(",")]
sys.stderr.write(sys.stdin.readline() + open(second[1]).readline())
sys.stderr.write(os.pread(own, 9, 0).decode() + os.pread(second[0], 9, 0).decode())
"""
OTHER = """
import os, sys
os.pwrite(int(sys.argv[1]), sys.argv[2].encode(), 0)
print("told by", sys.argv[2])
"""


async def test_the_first_talks_to_two_others_and_shares_a_file_with_each() -> None:
    python = (sys.executable, "-c")
    programs = [
        Program((*python, FIRST, EXCHANGE, SECOND), Path("/"), {}),
        *(Program((*python, OTHER, EXCHANGE, name), Path("/"), {}) for name in "ab"),
    ]
    result = await run_together(programs, 60.0, Limits())
    assert (result.exit_codes[0], result.said[0]) == (0, "told by a\ntold by b\nab")


async def test_no_shared_file_is_the_one_that_a_sandbox_opens() -> None:
    waits = Program(
        (sys.executable, "-c", "import sys; print(*sys.argv, file=sys.stderr)", EXCHANGE), Path("/"), {}
    )
    result = await run_together([waits] * 3, 60.0, Limits())
    assert int(result.said[0].split()[1]) > 9


def test_one_whose_first_thread_alone_has_ended_is_not_waited_for() -> None:
    goes_on = "threading.Thread(target=threading.Event().wait).start()"
    leaves = f"import ctypes, threading\n{goes_on}\nctypes.CDLL(None).pthread_exit(None)"
    with subprocess.Popen([sys.executable, "-c", leaves]) as half:
        while " Z " not in Path(f"/proc/{half.pid}/stat").read_text():
            time.sleep(0.001)
        found = [is_ending(half.pid)]
        half.kill()
        os.waitid(os.P_PID, half.pid, os.WEXITED | os.WNOWAIT)
        found.append(is_ending(half.pid))
    assert found == [False, True]


async def run(*argv: str, limits: Limits | None = None) -> Result:
    return await asyncio.wait_for(
        run_together([Program(argv, Path("/"), {"PATH": "/usr/bin:/bin"})], 60.0, limits or Limits()), 60
    )


async def test_one_that_cannot_be_started_is_absent() -> None:
    result = await run("/no/program")
    assert (result.ending, result.said) == ("absent", ("cannot be started: No such file or directory\n",))


async def test_one_that_takes_too_much_is_ended() -> None:
    result = await run("sh", "-c", "sleep 60 & sleep 60 & wait", limits=Limits(processes=2))
    assert (result.ending, result.exit_codes) == ("processes", (None,))
