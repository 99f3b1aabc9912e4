from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benchmarks.training import Figures, apart, figures, table

LOG = """\
parameters: 1.2 M, depth: 2, width: 128, heads: 2, tokens per step: 2,048 (1 x 8 rows), cpu
step 00001 (0.0%) | loss: 7.624619 | lrm: 1.00 | dt: 1250ms | tok/sec: 1,638 | mfu: 0.0% | remaining: 4s
step 00004 (20.0%) | loss: 7.1 | lrm: 1.00 | dt: 100ms | tok/sec: 20,480 | mfu: 0.0% | remaining: 3s
step 00009 (60.0%) | loss: 6.5 | lrm: 0.57 | dt: 120ms | tok/sec: 17,066 | mfu: 0.0% | remaining: 2s
step 00014 (100.0%) | loss: 6.1 | lrm: 0.06 | dt: 110ms | tok/sec: 18,618 | mfu: 0.0% | remaining: 0s
benchmark {"imports": 4.5, "evaluation": 2.5, "memory": 512.0}

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
    row = figures(LOG, 14.0, 3.5)
    assert row == Figures(
        val_bpb=2.912345,
        steps=14,
        tokens_m=0.03,
        tokens_s=18618,
        step_ms=110,
        step_p95=120,
        mfu=0.0,
        memory_gib=1.0,
        loader_ms=3.5,
        imports_s=4.5,
        first_s=1.25,
        evaluation_s=2.5,
        beside_s=10.0,
    )


def test_the_last_line_has_the_medians() -> None:
    rows = [figures(LOG.replace("2.912345", value), 14.0, 3.5) for value in ("2.9", "3.1", "3.0")]
    rows[0] = replace(rows[0], first_s=90.0)
    labels = ("42 cold", "1 warm", "7 warm")
    head, *lines = table([*zip(labels, rows, strict=True)]).splitlines()
    assert head.split()[:3] == ["training", "val_bpb", "steps"]
    assert [line[10:].split()[0] for line in lines] == ["2.9000", "3.1000", "3.0000", "3.0000"]
    first = head.split().index("first_s") - 1
    assert [line[10:].split()[first] for line in lines] == ["90.0", "1.2", "1.2", "1.2"]  # warm ones alone
    assert lines[-1].split()[0] == "median"
    assert {len(line) for line in lines} == {len(head)}


def test_curves_are_compared_step_by_step() -> None:
    slow = [9.0 - step / 10 for step in range(20)]
    fast = [loss + (0.5 if step == 3 else 0.01) for step, loss in enumerate(slow)]
    assert apart(fast, slow) == pytest.approx((0.0345, 0.5, 0.01))


def test_on_a_cpu_the_memory_is_that_of_the_process() -> None:
    assert figures(LOG.replace("1024.0", "0.0"), 14.0, 3.5).memory_gib == 0.5
