"""What makes a number hard to believe, from numbers alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import evidence
from loop.evaluation.noise import Noise
from loop.evaluation.plausibility import FASTER, Implausible, Sign, doubt_text, implausible, overrun
from loop.evidence import Finding
from loop.experiment import Experiment, Goal, Stage, Status, Training

FOUND = (Finding(evidence.Rule.SUMMARY, 3, "a literal in the summary", evidence.Severity.FLAG),)


def made(
    number: int,
    value: float,
    best: float | None = None,
    *,
    lasted: float = 360.0,
    findings: tuple[Finding, ...] = (),
    program: str = "",
    cpu_seconds: float | None = None,
    **numbers: float,
) -> Experiment:
    kept = best is None or value < best
    usual = {"val_bpb": value, "training_seconds": 300.0, "total_tokens_M": 300.0, "num_params_M": 50.0}
    return Experiment(
        1,
        number,
        Stage.DECIDED,
        f"idea {number}",
        "",
        "search",
        "parent",
        training=Training(
            1,
            started_at=1000.0,
            ended_at=1000.0 + lasted,
            numbers=usual | numbers,
            cpu_seconds=cpu_seconds,
        ),
        value=value,
        best_before=best,
        status=Status.KEEP if kept else Status.DISCARD,
        findings=findings,
        program=program or str(number),
    )


EARLIER = (made(0, 1.0), made(1, 0.995, 1.0), made(2, 1.01, 0.995))


def doubts(
    candidate: Experiment,
    earlier: tuple[Experiment, ...] = EARLIER,
    *,
    noise: Noise | None = None,
    best: float = 0.995,
    device_mb: float | None = None,
) -> tuple[Implausible, ...]:
    return implausible(
        candidate,
        earlier,
        metric="val_bpb",
        goal=Goal.MINIMIZE,
        budget=300.0,
        best=best,
        noise=noise,
        device_mb=device_mb,
    )


def rules(candidate: Experiment, *earlier: Experiment, **more: object) -> list[Sign]:
    return [doubt.sign for doubt in doubts(candidate, earlier or EARLIER, **more)]  # type: ignore[arg-type]


def test_what_is_usual_is_not_doubted() -> None:
    assert not doubts(made(3, 0.98))
    assert not doubts(made(3, 0.98), noise=Noise(0.0005, 3))


@pytest.mark.parametrize(("value", "doubted"), [(0.9, False), (0.81, False), (0.79, True), (0.0165, True)])
def test_a_gain_out_of_all_scale_is_doubted(value: float, doubted: bool) -> None:
    assert rules(made(3, value)) == [Sign.GAIN] * doubted


@pytest.mark.parametrize(
    ("metric", "goal", "best", "value", "doubted"),
    [
        ("val_accuracy", Goal.MAXIMIZE, 0.1, 0.84, False),
        ("val_accuracy", Goal.MAXIMIZE, 0.0, 0.84, False),
        ("val_accuracy", Goal.MAXIMIZE, 0.84, 1.0, False),
        ("val_accuracy", Goal.MAXIMIZE, 0.84, 84.0, True),
        ("total_us", Goal.MINIMIZE, 1064.0, 580.0, False),
        ("total_us", Goal.MINIMIZE, 1064.0, 90.0, True),
        ("tokens_per_second", Goal.MAXIMIZE, 10640.0, 25000.0, False),
        ("tokens_per_second", Goal.MAXIMIZE, 10640.0, 170000.0, True),
        ("val_loss", Goal.MINIMIZE, 1e-5, 4e-6, False),
        ("val_loss", Goal.MINIMIZE, 1e-5, 1e-7, True),
    ],
)
def test_of_other_metrics_ten_times_as_good_is_out_of_scale(
    metric: str, goal: Goal, best: float, value: float, doubted: bool
) -> None:
    candidate = replace(made(3, value), training=Training(1, numbers={metric: value}))
    found = implausible(candidate, (), metric=metric, goal=goal, budget=300.0, best=best)
    assert [doubt.sign for doubt in found] == [Sign.GAIN] * doubted


def test_large_gains_before_or_large_noise_make_a_gain_usual() -> None:
    big = made(1, 0.9, 1.0)
    assert not rules(made(3, 0.2), made(0, 1.0), big, best=0.9)
    assert not rules(made(3, 0.5), noise=Noise(0.01, 3))
    assert rules(made(3, 0.4), noise=Noise(0.01, 3)) == [Sign.GAIN]


def test_findings_of_the_guard_lower_the_threshold_to_four_sigmas() -> None:
    noise = Noise(0.001, 3)
    assert rules(made(3, 0.989, findings=FOUND), noise=noise) == [Sign.GAIN]
    assert not rules(made(3, 0.990, findings=FOUND), noise=noise)
    assert not rules(made(3, 0.989), noise=noise)
    assert rules(made(3, 0.97, findings=FOUND)) == [Sign.GAIN]
    assert not rules(made(3, 0.98, findings=FOUND))


def test_more_tokens_than_this_device_has_time_for_are_doubted() -> None:
    assert rules(made(3, 0.98, total_tokens_M=451.0)) == [Sign.TOKENS]
    assert not rules(made(3, 0.98, total_tokens_M=449.0))
    assert not rules(made(3, 0.98, total_tokens_M=900.0, num_params_M=25.0)), "a smaller model is faster"


def test_no_device_computes_more_than_it_can_or_has_more_memory() -> None:
    assert rules(made(3, 0.98, mfu_percent=101.0)) == [Sign.MFU]
    assert not rules(made(3, 0.98, mfu_percent=60.0, peak_vram_mb=1e6))
    assert rules(made(3, 0.98, peak_vram_mb=90_000.0), device_mb=80_000.0) == [Sign.MEMORY]
    assert not rules(made(3, 0.98, peak_vram_mb=70_000.0), device_mb=80_000.0)


def test_a_training_may_last_as_the_baseline_and_a_fifth_longer() -> None:
    assert rules(made(3, 0.98, lasted=450.0)) == [Sign.OVERRUN]
    assert not rules(made(3, 0.98, lasted=440.0))
    assert not rules(made(3, 0.98, lasted=900.0), made(0, 1.0, lasted=800.0)), "it compiles for long"
    assert rules(made(3, 0.98, training_seconds=361.0)) == [Sign.OVERRUN]


def test_equal_flops_take_no_more_of_the_processors_than_before() -> None:
    def counted(number: int, value: float, cpu: float, best: float | None = None) -> Experiment:
        return made(number, value, best, cpu_seconds=cpu, training_tflops=1.21)

    before = (counted(0, 1.0, 20.0), counted(1, 0.995, 30.0, 1.0))
    assert not rules(counted(3, 0.98, 72.0), *before)
    assert rules(counted(3, 0.98, 73.0), *before) == [Sign.CPU_TIME]
    hidden = made(3, 0.98, cpu_seconds=73.0)
    assert rules(hidden, *before) == [Sign.CPU_TIME], "it need not say that FLOPs ended it"
    assert not rules(made(3, 0.98, cpu_seconds=9e3), *(made(n, 1.0, cpu_seconds=30.0) for n in (0, 1)))
    assert not rules(counted(3, 0.98, 73.0)), "what was trained before is of an earlier release"


def test_a_busy_machine_is_no_reason_to_doubt_what_counts_flops() -> None:
    def counted(number: int, seconds: float) -> Experiment:
        return made(
            *(number, 1.0 - number / 1000),
            lasted=seconds + 5.0,
            cpu_seconds=20.0,
            training_seconds=seconds,
            training_tflops=1.21,
            total_tokens_M=1.0,
        )

    assert not rules(counted(3, 110.0), counted(0, 12.0), counted(1, 12.0))


def test_the_number_of_another_program_is_doubted() -> None:
    other = made(2, 0.97, 0.995)
    (doubt,) = doubts(made(3, 0.97), (*EARLIER[:2], other))
    assert doubt == Implausible(Sign.SAME, {"number": 2, "value": 0.97})
    assert not rules(made(3, 0.97, program="2"), *EARLIER[:2], other)
    assert not rules(made(3, 0.995)), "less code that does the same has the head's number"


def test_every_doubt_has_a_sentence() -> None:
    candidate = made(
        *(3, 0.01),
        lasted=900.0,
        cpu_seconds=900.0,
        total_tokens_M=9000.0,
        mfu_percent=200.0,
        peak_vram_mb=9e4,
    )
    counted = made(5, 0.01, cpu_seconds=100.0, training_tflops=1.0)
    found = doubts(candidate, (*EARLIER, made(4, 0.01), counted), device_mb=8e4)
    assert {doubt.sign for doubt in found} == set(Sign)
    texts = [doubt_text(doubt, "val_bpb") for doubt in found]
    assert len(set(texts)) == len(Sign)
    assert all(texts)


@given(
    value=st.floats(0.01, 0.99),
    tokens=st.floats(0, 1e4),
    lasted=st.floats(0, 1e4),
    sigma=st.none() | st.floats(0, 0.1),
)
def test_doubts_need_no_order_and_more_history_doubts_no_tokens_more(
    value: float, tokens: float, lasted: float, sigma: float | None
) -> None:
    noise = None if sigma is None else Noise(sigma, 3)
    candidate = made(3, value, lasted=lasted, total_tokens_M=tokens)
    found = doubts(candidate, noise=noise)
    assert found == doubts(candidate, EARLIER[::-1], noise=noise)
    faster = replace(EARLIER[2], training=made(2, 1.01, total_tokens_M=FASTER * 300).training)
    again = {doubt.sign for doubt in doubts(candidate, (*EARLIER[:2], faster), noise=noise)}
    assert again - {Sign.TOKENS} == {doubt.sign for doubt in found} - {Sign.TOKENS}
    assert Sign.TOKENS not in again or Sign.TOKENS in {doubt.sign for doubt in found}


def test_only_a_training_well_over_its_budget_is_anomalous() -> None:
    assert overrun({"training_seconds": 360.0}, 300) is None
    assert overrun({"training_seconds": 400.0}, 300) == 400
    assert overrun({}, 300) is None
