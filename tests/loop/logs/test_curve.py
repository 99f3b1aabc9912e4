from __future__ import annotations

import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.logs.progress import POINTS, keep_curve, kept_curve, read_curve


def log_of(folder: Path, text: str) -> Path:
    path = folder / "training.log"
    path.write_text(text)
    return path


def lines(steps: range, total: int = 1000) -> str:
    shown = (f"step {n:05} ({100 * n / total:.1f}%) | loss: {9 - n / total:.6f} | dt: 3ms" for n in steps)
    return "\r".join(shown)


def test_a_curve_is_thinned_over_the_whole_log_and_ends_with_its_end(tmp_path: Path) -> None:
    curve = read_curve(log_of(tmp_path, lines(range(1, 1001)) + "\n---\nval_bpb: 1.0\n"))
    assert POINTS / 2 < len(curve) <= POINTS
    assert curve[-1] == (100.0, 8.0)
    assert curve[0][0] < 3
    assert [*curve] == sorted(curve)


def test_steps_that_begin_again_are_a_new_curve_and_steps_without_a_share_get_one(tmp_path: Path) -> None:
    again = "step 1 loss 5\nstep 2 loss 4\nstep 1 loss 3\nstep 4 loss 2\n"
    assert read_curve(log_of(tmp_path, again)) == ((25.0, 3.0), (100.0, 2.0))


def test_no_curve_is_kept_where_there_is_none(tmp_path: Path) -> None:
    kept = tmp_path / "3.log"
    for text in ("", "step 1 loss 5\n", "step 2 loss nan\nstep 3 loss inf\n", "no step\n"):
        keep_curve(log_of(tmp_path, text), kept)
        assert kept_curve(kept) == ()
    assert not kept.with_suffix(".curve").exists()


def test_a_curve_outlives_its_log_and_what_has_none_shows_the_end_of_its_log(tmp_path: Path) -> None:
    kept = tmp_path / "3.log"
    keep_curve(log_of(tmp_path, lines(range(1, 30), 30)), kept)
    assert len(kept_curve(kept)) == 29
    kept.with_suffix(".curve").write_text("1 <script>\n")
    kept.write_text("step 1 loss 5\nstep 2 loss 4\n")
    assert kept_curve(kept) == ((50.0, 5.0), (100.0, 4.0))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="step 0123456789los:.e-%()\r\n\x1b[", max_size=300))
def test_whatever_a_log_says_its_curve_is_small_and_finite(tmp_path: Path, text: str) -> None:
    kept = tmp_path / "3.log"
    kept.with_suffix(".curve").unlink(missing_ok=True)
    log = log_of(tmp_path, text)
    keep_curve(log, kept)
    kept.write_text(text)
    assert len(kept_curve(kept)) <= POINTS
    assert all(abs(number) < float("inf") for point in kept_curve(kept) for number in point)


def test_a_huge_log_of_nothing_but_steps_takes_no_time(tmp_path: Path) -> None:
    log = log_of(tmp_path, "step 1 loss 5\n" * 400_000)
    before = time.process_time()
    read_curve(log)
    assert time.process_time() - before < 5
