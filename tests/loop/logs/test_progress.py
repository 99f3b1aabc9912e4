from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.logs.progress import Progress, is_progress, read_progress
from tests.loop import toys

LINE = (
    "step 00123 (45.6%) | loss: 4.123456 | lrm: 1.00 | dt: 320ms | tok/sec: 1,640,000 | mfu: 39.8% | "
    "remaining: 163s"
)


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        (LINE, Progress(123, 45.6, 4.123456, 163.0)),
        (toys.PROGRESS, Progress(12, 45.6, 4.123456, 163.0)),
        ("\x1b[2K\x1b[1m" + LINE + "    ", Progress(123, 45.6, 4.123456, 163.0)),
        ("step 00123 | remaining: 163s | mfu: 39.8% | loss: 4.1", Progress(123, None, 4.1, 163.0)),
        ("step 12", Progress(12)),
        ("step 12/100", Progress(12, 12.0)),
        ("Step: 1,200 / 4,800 loss=3.5", Progress(1200, 25.0, 3.5)),
        ("step 101/100", Progress(101, 100.0)),
        ("step 0/0 loss 1", Progress(0, None, 1.0)),
        ("iter 12: loss 3.2", Progress(12, None, 3.2)),
        ("iteration 12 train_loss: 1e-3", Progress(12, None, 0.001)),
        ("[step 12] 45% eta 1:02:43", Progress(12, None, None, 3763.0)),
        ("step 12 45% eta 02:43", Progress(12, 45.0, None, 163.0)),
        ("step 12 | ETA: 2m43s", Progress(12, None, None, 163.0)),
        ("step 12 | remaining: 1h 2m", Progress(12, None, None, 3720.0)),
        ("step 12 | loss: nan | remaining: 5s", Progress(12, None, None, 5.0)),
        ("step 12 | loss: 1e999 | remaining: 5s", Progress(12, None, None, 5.0)),
    ],
)
def test_a_progress_line_is_read(line: str, progress: Progress) -> None:
    assert read_progress(line) == progress
    assert is_progress(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "compiled in step 3",
        "steps 12",
        "stepping",
        "step one",
        "step 3: the loss exploded",
        "val_bpb: 0.99",
        "iterations: 5 loss: 2",
    ],
)
def test_other_lines_are_none(line: str) -> None:
    assert read_progress(line) is None
    assert not is_progress(line)


@pytest.mark.parametrize("separator", ["\r", "\n", "\r\n", " \r"])
def test_the_last_line_counts(separator: str) -> None:
    text = separator.join(["loading", "step 1 | loss: 5.0", "step 2 | loss: 4.0", "a warning", ""])
    assert read_progress(text) == Progress(2, None, 4.0)


@given(st.text() | st.text(alphabet="step iter0123456789,.:/%()hmslosremaining|=\r\n\x1b["))
def test_any_text_can_be_read(text: str) -> None:
    for prefix in ("", "step 1 loss ", "step 1 remaining: ", "step 1/", "iter "):
        progress = read_progress(prefix + text)
        if progress is not None:
            numbers = (progress.percent, progress.loss, progress.remaining_seconds)
            assert all(number is None or math.isfinite(number) for number in numbers)


def test_a_number_without_end_does_no_harm() -> None:
    digits = "9" * 10_000
    assert read_progress(f"step {digits} | loss: {digits} | remaining: {digits}s") is None
