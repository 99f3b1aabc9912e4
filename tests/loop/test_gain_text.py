from __future__ import annotations

import pytest

from loop.gain import change, is_visible, number, signed, step, with_error


def test_values_of_val_bpb_have_six_digits_and_no_minus_zero() -> None:
    shown = [number(value, 0.9979) for value in (0.9979, 12.5, -0.0, -1e-9)]
    assert shown == ["0.997900", "12.500000", "0.000000", "0.000000"]
    assert [number(value) for value in (0.9979, 0.0, 2.31, 9.99)] == [
        "0.997900",
        "0.000000",
        "2.310000",
        "9.990000",
    ]
    assert [signed(value, 0.9979) for value in (0.5, -0.011859, -1e-9, 0.0)] == [
        "+0.500000",
        "-0.011859",
        "+0.000000",
        "+0.000000",
    ]


def test_a_change_is_that_of_the_values_as_shown() -> None:
    assert change(0.9979004, 0.9860406) == "-0.011859"
    assert change(0.98, 0.98) == "+0.000000"


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (0.84, 0.851, "0.840000 → 0.851000 (+0.011000)"),
        (84.2, 85.1, "84.20000 → 85.10000 (+0.90000)"),
        (10640, 10912.5, "10640.00 → 10912.50 (+272.50)"),
        (10640, 9950, "10640.00 → 9950.00 (-690.00)"),
        (1064, 871, "1064.000 → 871.000 (-193.000)"),
        (5.4e6, 5.5e6, "5400000 → 5500000 (+100000)"),
        (1e-5, 9.2e-6, "1e-05 → 9.2e-06 (-8e-07)"),
        (0.0123456, 0.01, "0.012346 → 0.010000 (-0.002346)"),
        (0.00012, 0.00011, "0.0001200 → 0.0001100 (-0.0000100)"),
        (3e-9, 2.5e-9, "3e-09 → 2.5e-09 (-5e-10)"),
        (0.9979, 3.1e7, "0.997900 → 31000000 (+30999999)"),
        (0.9979, 3.4e38, "0.997900 → 3.4e+38 (+3.4e+38)"),
    ],
)
def test_any_metric_is_shown_with_as_many_digits_as_it_is_worth(
    before: float, after: float, line: str
) -> None:
    assert f"{number(before)} → {number(after, before)} ({change(before, after)})" == line


@pytest.mark.parametrize(
    ("like", "worth"),
    [
        (None, 1e-3),
        (0.9979, 1e-3),
        (0.1, 1e-3),
        (9.99, 1e-3),
        (10640, 10),
        (1064, 1),
        (0.05, 1e-4),
        (1e-5, 1e-7),
    ],
)
def test_a_gain_that_is_worth_something_follows_the_metric(like: float | None, worth: float) -> None:
    assert step(like) == worth


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.9861, 0.00021, "0.9861 ± 0.0002"),
        (0.9861, 0.000012, "0.986100 ± 0.000012"),
        (10640, 31, "10640 ± 31"),
        (10640, 0.5, "10640.0 ± 0.5"),
        (1.02e-5, 1.3e-7, "0.00001020 ± 0.00000013"),
    ],
)
def test_an_error_limits_the_digits(value: float, error: float, text: str) -> None:
    assert with_error(value, error, value) == text


def test_what_would_be_shown_as_zero_is_not_visible() -> None:
    assert not is_visible(4e-7, 0.9979)
    assert is_visible(4e-7, 1e-5)
    assert not is_visible(0.004, 10640)
    assert not is_visible(-0.5, 0.9979), "a loss is no gain"
