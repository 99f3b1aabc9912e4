"""The processes beside evaluations and their programs, forked off from one that has imported what they do.

python tests/loop/preloaded.py SOCKET
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from functools import cache
from typing import Any

from loop.process import together
from tests.bot.preloaded import Preloaded, serve
from tests.loop.forked_programs import Begun, become, start


@cache
def preloaded() -> Preloaded:
    made = Preloaded(__file__)
    atexit.register(made.close)
    return made


def _evaluation(*_: Any) -> None:
    subprocess.Popen = start  # type: ignore[misc, assignment]
    sys.argv = [together.__file__]
    try:
        together.main()
        os._exit(0)
    except Begun as program:
        begun = program
    become(begun)


if __name__ == "__main__":
    serve(int(sys.argv[1]), _evaluation)
