from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.process.summary import LONG_TAIL, error_line, read_numbers, read_summary, read_tail
from tests.loop import toys

BLOCK = "---\nval_bpb: 0.997900\nnum_steps: 953\n"
NUMBERS = {"val_bpb": 0.9979, "num_steps": 953.0}


@pytest.mark.parametrize(
    "text",
    [
        BLOCK,
        BLOCK.rstrip("\n"),
        BLOCK.replace("\n", "\r\n"),
        BLOCK.replace("\n", "\r"),
        f"{toys.PROGRESS}\r{toys.PROGRESS}\r{BLOCK}",
        f"{toys.PROGRESS}\n\n{BLOCK}\nbye\nException ignored in: <x>\n",
        BLOCK.replace("---", "---  \t"),
        "  ---\nval_bpb: 9\n" + BLOCK,
        BLOCK + "----\nval_bpb: 9\n",
        BLOCK + "a --- b\nval_bpb: 9\n",
        BLOCK + "--- 8< ---\nval_bpb: 9\n",
        BLOCK + "---\nthat was the summary\n",
        BLOCK + "---\nView the run at: https://example.org/runs/1\n---\n",
        "---\nval_bpb: 2.0\n" + BLOCK,
        "---\nval_bpb: 0.997900\n[W1123 12:00:00 warning] interleaved\nnum_steps: 953\n",
        "---\n  val_bpb:0.9979\n\n  num_steps :  953\n",
        "---\nval_bpb: 0.9979 (best so far)\nnum_steps: 953 steps\n",
        "---\nval_bpb: 9.979e-1\nnum_steps: +9.53E+02\n",
        "\ufffd\0---\n" + BLOCK,
    ],
)
def test_the_last_summary_is_found_in_any_dress(text: str) -> None:
    assert read_summary(text) == NUMBERS


@pytest.mark.parametrize(
    "text",
    ["", "---", "---\n", "val_bpb: 1.0\n", "----\nval_bpb: 1.0\n", "x ---\nval_bpb: 1.0\n", "-" * 5000],
)
def test_without_a_summary_there_are_no_numbers(text: str) -> None:
    assert read_summary(text) == {}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1,640,000", 1_640_000.0),
        ("1,640,000.5 tok/s", 1_640_000.5),
        ("39.80%", 39.8),
        ("39.80 %", 39.8),
        ("300.1s", 300.1),
        ("45060.2 MB", 45060.2),
        ("-0.5", -0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("nan", math.nan),
        ("NaN", math.nan),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("1e999", math.inf),
        ("n/a", None),
        ("2026-11-23", None),
        ("12:30", None),
        ("0,9979", None),
        ("1,64", None),
        ("1.2.3", None),
        ("3 of 10 eggs", None),
        ("0x1f", None),
        ("", None),
    ],
)
def test_values_are_numbers_or_nothing(value: str, number: float | None) -> None:
    expected = {"ok": 1.0} if number is None else {"key": number, "ok": 1.0}
    assert read_summary(f"---\nkey: {value}\nok: 1\n") == pytest.approx(expected, abs=0, nan_ok=True)


def test_text_after_the_block_cannot_change_it() -> None:
    assert read_summary(BLOCK + "\nval_bpb: 0.1\n") == NUMBERS
    found = read_summary("---\nval_bpb: nan\nnum_steps: 953\nval_bpb: 0.1\n")
    assert found == pytest.approx({"val_bpb": math.nan, "num_steps": 953.0}, nan_ok=True)


def test_a_last_summary_without_a_good_number_does_not_fall_back_to_an_earlier_one() -> None:
    found = read_summary(BLOCK + "---\nval_bpb: nan\n")
    assert found == pytest.approx({"val_bpb": math.nan}, nan_ok=True)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False),
        min_size=1,
    ),
    st.text(),
)
def test_what_is_printed_is_read_back(numbers: dict[str, float], before: str) -> None:
    block = "".join(f"{key}: {value!r}\n" for key, value in numbers.items())
    assert read_summary(f"{before}\n---\n{block}") == numbers


@given(
    st.text()
    | st.text(alphabet="-\r\n:. 0aEe,%\x1b[(")
    | st.binary().map(lambda b: b.decode(errors="replace"))
)
def test_any_text_can_be_read(text: str) -> None:
    assert all(isinstance(value, float) for value in read_summary(text).values())
    line = error_line(text)
    assert error_line(text, killed=True) in ("", line)
    assert len(line) <= 200
    assert line == line.strip()
    assert line.isprintable()


TRACEBACK = """\
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    main()
  File "train.py", line 2, in main
    raise RuntimeError("CUDA out of memory.")
"""
CHAINED = "\nDuring handling of the above exception, another exception occurred:\n\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{TRACEBACK}RuntimeError: CUDA out of memory.\n", "RuntimeError: CUDA out of memory."),
        (
            f"{TRACEBACK}torch.OutOfMemoryError: CUDA out of memory.\nTried: 2 GiB\nsee the manual\n",
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        (
            f"{TRACEBACK}KeyError: 'a'\n{CHAINED}{TRACEBACK}ValueError: b\n",
            "ValueError: b",
        ),
        (f"{TRACEBACK}AssertionError\nsemaphore leaked\n".replace("\n", "\r\n"), "AssertionError"),
        (
            f"{TRACEBACK}ValueError: a\nException ignored in: <function f>\n{TRACEBACK}TypeError: at exit\n",
            "ValueError: a",
        ),
        (
            "".join(f"[rank0]: {line}\n" for line in f"{TRACEBACK}ValueError: b\nmore".split("\n")),
            "ValueError: b",
        ),
        (f"{TRACEBACK}ValueError: caught\n{toys.PROGRESS}\nKilled\n", "Killed"),
        (f"warming up\n{TRACEBACK}", 'raise RuntimeError("CUDA out of memory.")'),
        (
            '  File "train.py", line 1\n    x = = 1\n        ^\nSyntaxError: invalid syntax\n',
            "SyntaxError: invalid syntax",
        ),
        (f"compiling\r{toys.PROGRESS}\r{toys.PROGRESS}", "compiling"),
        (
            f"{toys.PROGRESS}\nstep 00013: the loss exploded (nan)\n\n=====\n",
            "step 00013: the loss exploded (nan)",
        ),
        ("\x1b[1;31mfatal:\x1b[0m \x1b]0;title\x07no\x08\tGPU\n", "fatal: no GPU"),
        ("bad\u202edrow \x00here\n", "bad drow here"),
        (toys.PROGRESS, ""),
        ("", ""),
    ],
)
def test_the_telling_line_is_found(text: str, line: str) -> None:
    assert error_line(text) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("parameters: 1.2 M, depth: 2\n", ""),
        (f"{BLOCK}peak_vram_mb: 10\n", ""),
        (f"loading\r{toys.PROGRESS}\r", ""),
        (f"{TRACEBACK}ValueError: in a thread\nwaiting\n", "ValueError: in a thread"),
    ],
)
def test_an_ordinary_line_of_a_killed_training_is_no_error(text: str, line: str) -> None:
    assert error_line(text, killed=True) == line


def test_an_error_line_is_cut_at_200_characters() -> None:
    line = error_line("ValueError: " + "x" * 1000)
    assert len(line) == 200
    assert line.endswith("x…")


def test_only_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_bytes(b"0123456789" * 1000)
    assert read_tail(log, limit=4) == "6789"
    assert len(read_tail(log)) == 10_000


def test_a_tail_may_begin_within_a_character(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("ééé", encoding="utf-8")
    assert read_tail(log, limit=3) == "\ufffdé"


def test_a_summary_survives_a_megabyte_after_it(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(BLOCK + "x" * (LONG_TAIL - len(BLOCK) - 1))
    assert read_summary(read_tail(log)) == {}
    assert read_summary(read_tail(log, LONG_TAIL))["val_bpb"] == 0.9979


def test_the_last_line_of_a_log_that_was_cut_off_is_no_number(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("---\nnum_steps: 953\nval_bpb: 0.9979"[:-2])
    assert read_numbers(log, cut_off=False) == {"num_steps": 953.0, "val_bpb": 0.99}
    assert read_numbers(log, cut_off=True) == {"num_steps": 953.0}
    log.write_text(BLOCK + "uploadi")
    assert read_numbers(log, cut_off=True) == NUMBERS


def test_a_log_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "run.log") == ""
    assert read_tail(tmp_path) == ""
