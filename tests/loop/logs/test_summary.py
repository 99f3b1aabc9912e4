from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.errors import UserError
from loop.logs import summary
from loop.logs.summary import MOST_KEYS, PAIRS, keys_seen, read_numbers, read_pattern, read_summary
from loop.logs.tail import LONG_TAIL, read_tail
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
        ("9" * 400, math.inf),
        ("0.99,", 0.99),
        ("information", None),
        ("nano", None),
        ("nan (best)", math.nan),
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


DECORATED = (
    *(
        "\x1b[36m{}\x1b[0m",
        "\x1b[2K\x1b[1m{}\x1b(B\x1b[m",
        "\x1b]0;title\x07{}",
        "\x1b]8;;https://x.org\x1b\\{}",
    ),
    *("\ufeff{}", "   {}", "\t{}\t", "{}\r", "\x00{}\x08"),
    *("[rank0]: {}", "[rank0]:{}", "[default0]:{}", "[1,0]<stdout>:{}", "0: {}", "[0]: {}"),
    *("(train pid=123) {}", "(train pid=123, ip=10.0.0.1) {}", "train-1  | {}"),
    *("2026-11-29 20:00:01 INFO {}", "2026-11-29 20:00:01,123 - root - INFO - {}", "[20:00:01] {}"),
    *("2026-11-29T20:00:01.123456789Z {}", "2026-11-29T20:00:01+01:00 {}", "[2026-11-29 20:00:01] [INFO] {}"),
    *("INFO:root:{}", "INFO:__main__:{}", "INFO - {}", "[INFO] {}", "INFO: {}", "WARNING  {}"),
    *("2026-11-29 20:00:01.123 | INFO     | __main__:main:12 - {}", "Nov 29 20:00:01 gpu1 python[123]: {}"),
    *("I1129 20:00:01.123456 4120 train.py:10] {}", "[11/29/26 20:00:01] INFO     {}        train.py:12"),
    *("[rank0]: 2026-11-29 20:00:01 INFO {}", "\x1b[32m2026-11-29 20:00:01\x1b[0m | \x1b[1mINFO\x1b[0m | {}"),
    *("│ {}        │", "| {} |", "║ {} ║", "┃ {}", "'{}'", '"{}"', "`{}`", "* {}", "> {}", "# {}", "- {}"),
    "\r 50%|█████     | 5/10 [00:00<00:00, 10.00it/s]{}",
)


@pytest.mark.parametrize("decoration", DECORATED)
def test_a_decorated_summary_is_read(decoration: str) -> None:
    text = "".join(f"{decoration.replace('{}', line)}\n" for line in BLOCK.splitlines())
    assert read_summary(f"loading\n{text}") == NUMBERS
    assert read_summary(f"---\nval_bpb: 9\n{text}bye\n") == NUMBERS
    for other in ("----", "--- 8< ---", "a --- b", "no: number", "val_bpb", "val_bpb 1.0"):
        assert read_summary(decoration.replace("{}", other) + "\n" + BLOCK.replace("---\n", "")) == {}


@pytest.mark.parametrize(
    "line",
    [
        '"val_bpb": 0.9979,',
        "**val_bpb:** 0.9979",
        "`val_bpb`: 0.9979",
        "val_bpb\t:\t0.9979",
        "val_bpb: \x1b[1m0.9979\x1b[0m",
    ],
)
def test_the_key_and_the_value_may_be_decorated_apart(line: str) -> None:
    assert read_summary(f"---\n{line}\n") == {"val_bpb": 0.9979}


@pytest.mark.parametrize("line", ["val_bpb = 0.9", "val_bpb=0.9", "INFO val_bpb = 0.9", "| val_bpb=0.9 |"])
def test_equals_signs_do_in_a_block(line: str) -> None:
    assert read_summary(f"---\n{line}\nsteps=3\n") == {"val_bpb": 0.9, "steps": 3.0}
    assert read_summary(f"{line}\nsteps=3\n") == {}  # which is said in the middle of trainings too


def test_lines_of_metrics_are_read_where_there_is_no_block() -> None:
    lines = "METRIC total_us=1064\nstep 1\n[rank0]: METRIC val/acc = 0.5\nMETRIC total_us=980us\nMETRIC x=y\n"
    assert read_summary(lines) == {"total_us": 980.0, "val/acc": 0.5}
    assert read_summary(f"{lines}---\nval_bpb: 0.9\n") == {"val_bpb": 0.9}
    assert read_summary("best METRIC total_us=3\nMETRICS total_us=3\n") == {}


@pytest.mark.parametrize("line", ["METRIC val_bpb", "val_bpb | 0.9", "1: 0.9", "val_bpb == 0.9"])
def test_other_forms_are_left_to_the_pattern(line: str) -> None:
    assert read_summary(f"---\n{line}\n") == {}


def test_the_rule_may_stand_behind_a_progress_line_without_an_end() -> None:
    assert read_summary(f"{toys.PROGRESS}    {BLOCK}") == NUMBERS


def reference(text: str) -> dict[str, float]:
    """Read plain `key: number` blocks as slowly and as simply as can be."""
    lines = text.split("\n")
    for start in reversed([number for number, line in enumerate(lines) if line.strip() == "---"]):
        found: dict[str, float] = {}
        for line in lines[start:]:
            key, colon, value = (part.strip() for part in line.partition(":"))
            if colon and key in ("a", "b"):
                with suppress(ValueError):
                    found.setdefault(key, float(value))
        if found:
            return found
    return {}


@given(
    st.lists(
        st.sampled_from(
            ["---", " --- ", "----", "a: 1", "a: 2", "b : -3.5", "b: nan?", "b", "", "x ---", ":", "a:"]
        )
    )
)
def test_blocks_are_found_where_a_simple_reader_finds_them(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert read_summary(text) == reference(text)
    decorated = "\r\n".join(f"\x1b[1m[rank0]: {line}\x1b[0m" for line in lines)
    assert read_summary(decorated) == reference(text)


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


def test_a_log_that_was_shortened_is_read(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(f"... 123 MB left out ...\n{toys.PROGRESS}\n{BLOCK}")
    assert read_numbers(log, cut_off=False) == NUMBERS


def test_a_summary_has_a_bounded_number_of_keys() -> None:
    assert len(read_summary("---\n" + "".join(f"k{n}: 1\n" for n in range(2 * MOST_KEYS)))) == MOST_KEYS


PATTERN = r"(?P<key>\w+)=(?P<value>\S+)"


@pytest.mark.parametrize(
    ("text", "pattern", "numbers"),
    [
        ("step=1 val_bpb=1.5\nval_bpb=1.391\n", PATTERN, {"step": 1.0, "val_bpb": 1.391}),
        ("\x1b[1mMETRIC total_us=1064\x1b[0m\r\n", PATTERN, {"total_us": 1064.0}),
        ("METRIC total_us=1064us\nlr=x\n", rf"^METRIC {PATTERN}$", {"total_us": 1064.0}),
        ("| val_bpb | 0.99 |\n", r"(?P<key>\w+)\s*\|\s*(?P<value>[\d.]+)", {"val_bpb": 0.99}),
        ("val_bpb=nan\n", PATTERN, {"val_bpb": math.nan}),
        ("x" * 500 + " val_bpb=1\n", PATTERN, {}),  # beyond what is read of a line
        (BLOCK, PATTERN, {}),
        ("a=1\n", r"(?P<key>a)?(?P<value>=)?", {}),
    ],
)
def test_a_pattern_finds_the_numbers(text: str, pattern: str, numbers: dict[str, float]) -> None:
    assert read_pattern(text, pattern) == pytest.approx(numbers, nan_ok=True)


def test_a_pattern_is_run_in_a_process_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("val_bpb=1.5\nval_bpb=1.391\nval_bpb=1.3")
    assert read_numbers(log, cut_off=True, pattern=PATTERN) == {"val_bpb": 1.391}
    assert read_numbers(log, cut_off=False, pattern=PATTERN) == {"val_bpb": 1.3}


def test_a_pattern_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "PATTERN_SECONDS", 1.0)
    log = tmp_path / "run.log"
    log.write_text("a" * 400 + "\n")
    with pytest.raises(UserError, match="SUMMARY_PATTERN"):
        read_numbers(log, cut_off=False, pattern=r"(?P<key>(a+)+)=(?P<value>\S+)")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("val_bpb=1.39 loss: 2\n", ("val_bpb", "loss")),
        ("METRIC total_us=1064us\nval/acc = .5\n", ("total_us", "val/acc")),
        ("[rank0]: \x1b[1mval_loss\x1b[0m: 3.2e-1\n", ("val_loss",)),
        (f"{toys.PROGRESS}\nat 12:30, 10:20\nhttps://x.org:80/\nlr: none\n2026-11-29\nf(x=1)\n", ("x",)),
        ("--- a\n", ()),
        ("", ()),
    ],
)
def test_the_names_of_numbers_are_seen_in_any_form(text: str, keys: tuple[str, ...]) -> None:
    assert keys_seen(text) == keys
    assert read_pattern(text, PAIRS).keys() >= {*keys}


def test_the_pattern_for_pairs_reads_numbers_whole() -> None:
    text = 'val_acc=68.5%, loss = 3.2e-1, "steps": 1,640.\nval/bpb: .98 | lr: -1e-05\n'
    numbers = {"val_acc": 68.5, "loss": 0.32, "steps": 1640.0, "val/bpb": 0.98, "lr": -1e-05}
    assert read_pattern(text, PAIRS) == numbers


def test_a_log_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "run.log") == ""
    assert read_tail(tmp_path) == ""
