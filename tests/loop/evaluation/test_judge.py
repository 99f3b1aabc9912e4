"""When a printed number is believed, from what the evaluation found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.evaluation.evaluator import TOLERANCE, Score, Scored, judge
from loop.evaluation.noise import Noise
from loop.evidence import Belief
from loop.experiment import Goal

HEAD = Scored(1.0, {"val_bpb": 1.0})
NUMBERS = {
    "val_bpb": 0.98,
    "val_bpb_se": 0.01,
    "gain_val": 0.02,
    "gain_val_se": 0.001,
    "audit_bpb": 1.2,
    "gain_audit": 0.02,
    "gain_audit_se": 0.001,
}

numbers = st.floats(0.1, 10)
errors = st.floats(0, 0.1)


def belief(
    printed: float, *, head: Scored | None = HEAD, noise: Noise | None = None, **found: float
) -> Belief:
    return judge(Score(NUMBERS | found), printed, head, noise)[0]


def test_what_the_model_has_is_believed() -> None:
    assert judge(Score(NUMBERS), 0.98, HEAD, None) == (Belief.BELIEVED, "")


@pytest.mark.parametrize("printed", [0.97, 0.99, 0.1, 5.0])
def test_a_gain_that_the_model_does_not_have_is_not_believed(printed: float) -> None:
    assert belief(printed) is Belief.NOT_BELIEVED


def test_chance_and_rounding_are_allowed_for() -> None:
    assert belief(0.98 + 0.0029) is Belief.BELIEVED
    assert belief(0.98 - 0.0036) is Belief.NOT_BELIEVED
    assert belief(0.98 - 0.0004, gain_val_se=0.0) is Belief.BELIEVED
    assert belief(0.98 - 0.0006, gain_val_se=0.0) is Belief.NOT_BELIEVED


def test_a_head_that_is_off_as_much_is_compared_with() -> None:
    off = Scored(1.1, {"val_bpb": 1.0})  # another program measures in another way
    assert belief(1.08, head=off) is Belief.BELIEVED
    assert belief(0.98, head=off) is Belief.NOT_BELIEVED


def test_without_a_head_the_number_itself_must_agree() -> None:
    assert belief(0.98 + 0.029, head=None) is Belief.BELIEVED
    assert belief(0.98 + 0.031, head=None) is Belief.NOT_BELIEVED
    assert belief(0.98 + 0.001, head=None, val_bpb_se=0.0) is Belief.NOT_BELIEVED


def test_no_chance_is_allowed_for_where_the_same_rows_were_scored() -> None:
    assert belief(0.98 - 0.0029) is Belief.BELIEVED
    assert belief(0.98 - 0.0029, val_share=0.75) is Belief.NOT_BELIEVED
    assert belief(0.98 - 0.0006, val_share=1.0) is Belief.NOT_BELIEVED
    assert belief(0.98 - 0.0004, val_share=1.0) is Belief.BELIEVED
    assert belief(0.98 - 0.001, head=None, val_share=1.0) is Belief.NOT_BELIEVED


def test_gains_of_rounding_do_not_add_up() -> None:
    found: dict[str, Any] = {"val_bpb_se": 0.0, "gain_val": 0.0, "gain_val_se": 0.0}
    printed, steps = 1.0, 0
    while belief(printed - 0.0004, head=Scored(printed, found | {"val_bpb": 1.0}), **found, val_bpb=1.0) is (
        Belief.BELIEVED
    ):
        printed, steps = printed - 0.0004, steps + 1
    assert steps == 1


def test_a_gain_without_losses_of_the_head_is_that_of_the_numbers() -> None:
    found = Score({"val_bpb": 0.98})
    assert judge(found, 0.98, HEAD, None)[0] is Belief.BELIEVED
    assert judge(found, 0.97, HEAD, None)[0] is Belief.NOT_BELIEVED


def test_without_losses_of_the_head_the_errors_of_both_numbers_are_allowed_for() -> None:
    head = Scored(1.0, {"val_bpb": 1.0, "val_bpb_se": 0.01})
    found = {name: value for name, value in NUMBERS.items() if "gain" not in name}

    def judged(printed: float, **more: float) -> Belief:
        return judge(Score(found | more), printed, head, None)[0]

    assert judged(0.98 - 0.025) is Belief.BELIEVED
    assert judged(0.98 - 0.045) is Belief.NOT_BELIEVED
    assert judged(0.98 - 0.001, val_share=1.0) is Belief.NOT_BELIEVED


def test_another_metric_and_goal_are_compared_too() -> None:
    head = Scored(0.5, {"accuracy": 0.5})
    for printed, expected in ((0.6, Belief.BELIEVED), (0.7, Belief.NOT_BELIEVED)):
        found = judge(Score({"accuracy": 0.6}), printed, head, None, metric="accuracy", goal=Goal.MAXIMIZE)
        assert found[0] is expected
    assert judge(Score({"val_bpb": 1.0}), 0.6, head, None, metric="accuracy")[0] is Belief.UNSURE


def test_what_looks_ahead_is_not_believed_and_what_cannot_be_scored_is_unsure() -> None:
    assert judge(Score(NUMBERS, prefix="it looks"), 0.98, HEAD, None) == (Belief.NOT_BELIEVED, "it looks")
    found, reason = judge(Score(refused="no model"), 0.98, HEAD, None)
    assert found is Belief.UNSURE
    assert "no model" in reason


@pytest.mark.parametrize("audit", [0.0, -0.02, 0.0015])
def test_a_gain_that_is_none_on_the_audit_text_is_not_believed(audit: float) -> None:
    assert belief(0.9, val_bpb=0.9, gain_val=0.1, gain_audit=audit) is Belief.NOT_BELIEVED


def test_a_quarter_of_the_gain_must_show_on_the_audit_text() -> None:
    few: dict[str, Any] = {"val_bpb": 0.8, "gain_val": 0.2}
    assert belief(0.8, gain_audit=0.05, **few) is Belief.BELIEVED
    assert belief(0.8, gain_audit=0.045, **few) is Belief.NOT_BELIEVED


def test_a_gain_within_chance_need_not_show_on_the_audit_text() -> None:
    assert belief(0.998, val_bpb=0.998, gain_val=0.002, gain_audit=-0.001) is Belief.BELIEVED
    assert belief(0.98, gain_audit=-0.001, gain_audit_se=0.01) is Belief.BELIEVED
    assert belief(0.98, gain_audit=0.0, noise=Noise(0.01, 4)) is Belief.BELIEVED


@given(numbers, numbers, errors, st.floats(-1, 1))
def test_an_honest_program_is_believed_whatever_it_gains(
    head: float, own: float, error: float, audit: float
) -> None:
    """The audit text differs from the validation text, but a gain shows there."""
    gain = head - own
    found = {
        "val_bpb": own,
        "gain_val": gain,
        "gain_val_se": error,
        "gain_audit": gain * (1 + audit / 2),
        "gain_audit_se": error,
    }
    assert judge(Score(found), own, Scored(head, {"val_bpb": head}), None)[0] is Belief.BELIEVED


@given(numbers, numbers, errors, st.floats(0.01, 10))
def test_no_program_can_claim_more_than_chance_and_rounding(
    head: float, own: float, error: float, more: float
) -> None:
    found = {"val_bpb": own, "gain_val": head - own, "gain_val_se": error}
    claimed = own - (3 * error + 2 * TOLERANCE * (own + more) + more)
    verdict, reason = judge(Score(found), claimed, Scored(head, {"val_bpb": head}), None)
    assert verdict is Belief.NOT_BELIEVED
    assert reason
