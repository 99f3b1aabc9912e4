from __future__ import annotations

from tests.benchmarks.training import Figures, apart, figures, table

LOG = """\
parameters: 1.2 M, depth: 2, width: 128, heads: 2, tokens per step: 2,048 (1 x 8 rows), cpu
step 00001 (0.0%) | loss: 7.624619 | lrm: 1.00 | dt: 1250ms | tok/sec: 1,638 | mfu: 0.0% | remaining: 4s
step 00004 (20.0%) | loss: 7.1 | lrm: 1.00 | dt: 100ms | tok/sec: 20,480 | mfu: 0.0% | remaining: 3s
step 00009 (60.0%) | loss: 6.5 | lrm: 0.57 | dt: 120ms | tok/sec: 17,066 | mfu: 0.0% | remaining: 2s
step 00014 (100.0%) | loss: 6.1 | lrm: 0.06 | dt: 110ms | tok/sec: 18,618 | mfu: 0.0% | remaining: 0s
benchmark {"imports": 4.5, "evaluation": 2.5}

---
val_bpb:          2.912345
training_seconds: 4.0
total_seconds:    12.5
peak_vram_mb:     1024.0
mfu_percent:      0.00
total_tokens_M:   0.03
num_steps:        14
num_params_M:     1.23
depth:            2
"""


def test_the_first_step_counts_among_the_fixed_seconds_alone() -> None:
    row = figures(LOG, 14.0)
    assert row == Figures(
        val_bpb=2.912345,
        steps=14,
        tokens_m=0.03,
        tokens_s=18618,
        step_ms=110,
        step_p95=120,
        mfu=0.0,
        memory_gib=1.0,
        imports_s=4.5,
        first_s=1.25,
        evaluation_s=2.5,
        beside_s=10.0,
    )


def test_the_last_line_has_the_medians() -> None:
    rows = [figures(LOG.replace("2.912345", value), 14.0) for value in ("2.9", "3.1", "3.0")]
    head, *lines = table([(str(seed), row) for seed, row in enumerate(rows)]).splitlines()
    assert head.split()[:3] == ["training", "val_bpb", "steps"]
    assert [line.split()[1] for line in lines] == ["2.9000", "3.1000", "3.0000", "3.0000"]
    assert lines[-1].split()[0] == "median"
    assert {len(line) for line in lines} == {len(head)}


def test_curves_are_compared_step_by_step() -> None:
    slow = [9.0 - step / 10 for step in range(20)]
    fast = [loss + (0.5 if step == 3 else 0.01) for step, loss in enumerate(slow)]
    assert apart(fast, slow) == "0.0345 in the mean, 0.5000 at most, 0.0100 in the last ten"
