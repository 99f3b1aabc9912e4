"""A made-up night for tests of the page: as long as wanted, with a hostile description in it."""

from __future__ import annotations

import math
import random

from loop.experiment import Cost, Family, Goal, Status
from loop.results.constants import Move, Try, Way
from loop.results.export import Provenance
from loop.results.ledger import Ledger, Spent
from loop.results.report import make_report
from loop.store.experiments import Row
from notifiers.page import Content, Detail

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
_IDEAS = (
    "EMBEDDING_LR 0.6 → 0.8",
    "halve the warmdown",
    "SwiGLU instead of squared ReLU",
    "WINDOW_PATTERN SSSL → SSL",
    "weight decay 0.2 → 0.1 on the matrices only, as the embeddings do not need any",
    "TOTAL_BATCH_SIZE 2**19 → 2**18",
)
_DIFF = """\
diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -10,7 +10,7 @@
 DEPTH = 8
-EMBEDDING_LR = 0.6
+EMBEDDING_LR = 0.8
 # <b>not bold</b>
"""


def night_of(count: int, *, diff: str = _DIFF) -> Content:
    """Return the content of a page about `count` experiments, the same for the same count."""
    chance = random.Random(1)
    best, start = 1.012, 1_773_356_280.0
    rows, details = [], {}
    for number in range(count):
        roll = chance.random()
        status = (
            Status.KEEP if number == 0 or roll < 0.12 else Status.CRASH if roll > 0.93 else Status.DISCARD
        )
        value: float | None = None
        if status is Status.KEEP:
            value = best = best - (chance.expovariate(400) if number else 0)
        elif status is Status.DISCARD:
            value = best + chance.expovariate(150)
        begun = start + 330 * number
        rows.append(
            Row(
                number=number,
                commit=f"{chance.randrange(16**7):07x}",
                value=value,
                memory_gb=44.0,
                status=status,
                description=HOSTILE if number == 3 else "baseline" if number == 0 else chance.choice(_IDEAS),
                reason="val_bpb improved" if status is Status.KEEP else "no better",
                proposer="search" if number % 3 else "claude-sonnet-4-5",
                started_at=begun,
                ended_at=begun + 320,
                training_seconds=300.0,
                lines_added=number % 7,
                lines_removed=number % 5,
                family=chance.choice(list(Family)) if number else None,
                expected="a little lower",
                cost=Cost(9000, 8000, 700, 0.021) if number % 3 == 0 else None,
            )
        )
        details[number] = Detail(
            "Because it may help.",
            diff if number else "",
            f"step {number}\n---\nval_bpb: 1",
            tuple((step / 2, 2.9 + 40 / (step + 4) + number / 1000) for step in range(0, 201, 4)),
            {
                "EMBEDDING_LR": round(0.6 + number % 7 / 10, 1),
                "DEPTH": 8,
                "PATTERN": HOSTILE if number == 3 else "SSSL",
            },
        )
    spent = dict.fromkeys(Spent, 0.0) | {Spent.TRAINING: 300.0 * count, Spent.OVERHEAD: 20.0 * count}
    spent |= {
        Spent.PROPOSING: 2.0 * count,
        Spent.CRASHED: 900.0,
        Spent.WAITING: 1800.0,
        Spent.BOT_DOWN: 240.0,
    }
    report = make_report(
        rows,
        metric="val_bpb",
        goal=Goal.MINIMIZE,
        tag="mar12",
        spent=Cost(9 * 10**5, 8 * 10**5, 7 * 10**4, 1.84),
    )
    tries = tuple(
        Try(round(0.6 + number / 10, 1), chance.gauss(0, 0.004), kept=number % 4 == 0) for number in range(12)
    )
    return Content(
        report=report,
        rows=rows,
        details=details,
        title="mar12",
        ledger=Ledger(start, start + sum(spent.values()), spent),
        provenance=Provenance(
            command="uv run train.py",
            commit="c0ffee" * 6 + "beef",
            system="Linux-6.8",
            processor="AMD EPYC 9554, 64 cores",
            accelerators=("NVIDIA H100 80GB HBM3, 81559 MiB, 580.65",),
            packages={"python": "3.11.7", "torch": "2.13.0"},
            seeds={"SEED": 42},
            time_budget=300.0,
        ),
        moves=(
            Move("EMBEDDING_LR", Way.RAISED, 12, -0.0031, 0.0008, tries),
            Move(
                "DEPTH",
                Way.LOWERED,
                3,
                0.004,
                0.0012,
                tuple(Try(n, 0.004 + n / 9000, kept=False) for n in (4, 6, 7)),
            ),
            Move("WINDOW_PATTERN", Way.CHANGED, 2, -0.0004, 0.002, (Try(math.nan, -0.0004, kept=False),) * 2),
            Move(HOSTILE, Way.RAISED, 1, 0.0001, None, ()),
        ),
    )
