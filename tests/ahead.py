"""`autoresearch` with a Python that waits for the next training always or never, whatever the machine.

python -m tests.ahead always|never up --tag TAG
"""

from __future__ import annotations

import functools
import sys

from bot import plan
from bot.cli.main import main
from loop.engine.plan import Plan

WHEN = {"always": True, "never": False}

if __name__ == "__main__":
    wanted = WHEN[sys.argv.pop(1)]
    plan.Plan = functools.partial(Plan, starts_ahead=lambda _: wanted)  # type: ignore[assignment, attr-defined]
    main()
