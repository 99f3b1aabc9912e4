from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.errors import UserError
from loop.experiment import Cost, Ending, Experiment, Family, Stage, Status, Training
from loop.results.table import append_result, parse_results, read_results, write_results
from loop.store.experiments import Row, read_rows, row_of
from loop.store.journal import Journal
from loop.text import one_line
from tests.loop.store.test_journal import make_run
from tests.loop.trainings import trained

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
BASELINE = Row(0, "a1b2c3d", 0.9979, 44.0, Status.KEEP, "baseline")
CRASH = Row(1, "b2c3d4e", None, 0.0, Status.CRASH, "double model width (OOM)")


# A busy machine says nothing about this code.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def decided(**changes: object) -> Experiment:
    experiment = Experiment(
        run_id=1,
        number=12,
        stage=Stage.DECIDED,
        description="halve batch size",
        rationale="",
        proposer="search",
        parent="f" * 40,
        commit="0123456789abcdef0123456789abcdef01234567",
        lines_added=3,
        lines_removed=1,
        training=Training(
            1,
            started_at=1000.0,
            ended_at=1326.0,
            ending=Ending.EXITED,
            numbers={
                "val_bpb": 0.986041,
                "training_seconds": 300.1,
                "total_seconds": 325.9,
                "peak_vram_mb": 45060.2,
            },
        ),
        value=0.986041,
        best_before=0.9979,
        status=Status.KEEP,
        reason="anomalous: trained 400 s of a budget of 300 s",
    )
    of_training = {name: changes.pop(name) for name in ("started_at", "numbers") if name in changes}
    return trained(replace(experiment, **changes), **of_training)  # type: ignore[arg-type]


# Rows of experiments


def test_the_row_of_an_experiment_has_the_short_commit_and_gibibytes() -> None:
    row = row_of(decided())
    assert (row.number, row.commit, row.value, row.status) == (12, "0123456", 0.986041, Status.KEEP)
    assert row.memory_gb == pytest.approx(44.004, abs=0.001)
    assert (row.training_seconds, row.total_seconds) == (300.1, 325.9)


@pytest.mark.parametrize("status", [Status.CRASH, Status.SKIP])
def test_a_crash_and_a_skip_have_no_value_whatever_was_measured(status: Status) -> None:
    assert row_of(decided(status=status)).value is None


def test_an_experiment_without_a_verdict_has_no_row() -> None:
    with pytest.raises(ValueError, match="experiment 12 is not decided"):
        row_of(decided(status=None))


def test_the_json_of_a_row_is_valid_even_for_numbers_that_are_none() -> None:
    row = row_of(decided(numbers={"training_seconds": float("inf"), "peak_vram_mb": float("nan")}))
    assert json.loads(json.dumps(row.to_json("val_bpb"), allow_nan=False)) == {
        "number": 12,
        "commit": "0123456",
        "val_bpb": 0.986041,
        "memory_gb": 0.0,
        "status": "keep",
        "description": "halve batch size",
        "reason": "anomalous: trained 400 s of a budget of 300 s",
        "started_at": 1000.0,
        "ended_at": 1326.0,
        "training_seconds": None,
        "total_seconds": None,
        "lines_added": 3,
        "lines_removed": 1,
        "proposer": "search",
        "family": None,
        "expected": "",
        "cost": None,
        "invalidated": None,
        "repeats": [],
    }


def test_the_json_of_a_row_tells_what_the_idea_was_and_cost() -> None:
    row = row_of(decided(family=Family.BATCH, expected="-0.002", cost=Cost(200, 100, 10, None)))
    found = json.loads(json.dumps(row.to_json("val_bpb")))
    assert (found["family"], found["expected"]) == ("batch", "-0.002")
    assert found["cost"] == {"input_tokens": 200, "cached_tokens": 100, "output_tokens": 10, "dollars": None}


NUMBERS = st.dictionaries(
    st.sampled_from(["peak_vram_mb", "training_seconds", "total_seconds", "val_bpb"]), st.floats()
)
COSTS = st.builds(Cost, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.none() | st.floats(0, 9))


@st.composite
def experiments(draw: st.DrawFn) -> list[Experiment]:
    return [
        decided(
            number=number,
            lane=number,  # where it may be under way beside the others
            status=draw(st.none() | st.sampled_from(Status)),
            description=draw(st.text(st.characters(exclude_categories=["Cs"]))),
            value=draw(st.none() | st.floats(allow_nan=False)),
            started_at=draw(st.none() | st.floats(0, 1e9)),
            numbers=draw(NUMBERS),
            family=draw(st.none() | st.sampled_from(Family)),
            cost=draw(st.none() | COSTS),
            waited=draw(st.floats(0, 1e6)),
        )
        for number in range(draw(st.integers(0, 4)))
    ]


@settings(unhurried, max_examples=50)
@given(experiments())
def test_rows_that_are_read_alone_are_those_of_the_experiments(
    tmp_path_factory: pytest.TempPathFactory, made: list[Experiment]
) -> None:
    with closing(Journal(tmp_path_factory.mktemp("results") / "state.db")) as journal:
        run = make_run(journal)
        journal.record(*(replace(experiment, run_id=run.id) for experiment in made))
        rows = [row_of(e) for e in journal.experiments(run.id) if e.status is not None]
        assert read_rows(journal, run.id) == rows
        assert read_rows(journal, run.id, start=2) == [row for row in rows if row.number >= 2]
        with mock.patch("loop.store.experiments._PAGE", 2):
            assert read_rows(journal, run.id) == rows
        assert read_rows(journal, run.id + 1) == []


# Writing


def test_the_file_is_what_the_practice_writes(tmp_path: Path) -> None:
    rows = [
        BASELINE,
        CRASH,
        Row(2, "c3d4e5f", None, 12.0, Status.SKIP, "GELU"),
        Row(3, "d4e5f6a", -1e-9, 44.26, Status.DISCARD, "a\ttab,\r\na line end and \x1b[31mred"),
    ]
    write_results(tmp_path / "results.tsv", rows, metric="val_bpb")
    assert (tmp_path / "results.tsv").read_bytes().decode() == (
        HEADER + "a1b2c3d\t0.997900\t44.0\tkeep\tbaseline\n"
        "b2c3d4e\t0.000000\t0.0\tcrash\tdouble model width (OOM)\n"
        "c3d4e5f\t0.000000\t0.0\tskip\tGELU\n"
        "d4e5f6a\t0.000000\t44.3\tdiscard\ta tab, a line end and red\n"
    )


def test_the_second_column_has_the_name_of_the_metric(tmp_path: Path) -> None:
    write_results(tmp_path / "results.tsv", [], metric="accuracy")
    assert (tmp_path / "results.tsv").read_text() == "commit\taccuracy\tmemory_gb\tstatus\tdescription\n"
    assert read_results(tmp_path / "results.tsv").metric == "accuracy"


def test_only_the_new_file_is_left(tmp_path: Path) -> None:
    for rows in ([BASELINE], [BASELINE, CRASH]):
        write_results(tmp_path / "results.tsv", rows, metric="val_bpb")
    assert list(tmp_path.iterdir()) == [tmp_path / "results.tsv"]
    assert len(read_results(tmp_path / "results.tsv").rows) == 2


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.tsv cannot be written: No such file or directory"):
        write_results(tmp_path / "gone" / "results.tsv", [BASELINE], metric="val_bpb")


@pytest.mark.parametrize("name", ["results.tsv", ".results.tsv.new"])
def test_a_link_that_a_training_left_leads_nowhere(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    folder = tmp_path / "worktree"
    folder.mkdir()
    (folder / name).symlink_to(precious)
    append_result(folder / "results.tsv", BASELINE, metric="val_bpb")
    write_results(folder / "results.tsv", [BASELINE, CRASH], metric="val_bpb")
    assert precious.read_text() == "mine\n"
    assert read_results(folder / "results.tsv").rows == (BASELINE, CRASH)


def test_a_pipe_that_a_training_left_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "results.tsv")
    append_result(tmp_path / "results.tsv", BASELINE, metric="val_bpb")
    assert read_results(tmp_path / "results.tsv").rows == (BASELINE,)


def test_rows_added_one_by_one_make_the_file_written_at_once(tmp_path: Path) -> None:
    rows = [BASELINE, CRASH, replace(BASELINE, number=2, description="")]
    for row in rows:
        append_result(tmp_path / "one.tsv", row, metric="val_bpb")
    write_results(tmp_path / "all.tsv", rows, metric="val_bpb")
    assert (tmp_path / "one.tsv").read_bytes() == (tmp_path / "all.tsv").read_bytes()


def test_a_row_is_added_below_a_line_without_its_end(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_text(HEADER + "a1b2c3d\t0.997900\t44.0\tkeep\tbaseline")
    append_result(path, CRASH, metric="val_bpb")
    assert read_results(path).rows == (BASELINE, CRASH)


MINE = ("# the next one is odd", "mine\t0.5\t1.0\tkeep\tby hand", "caf\udce9")


def test_lines_of_others_make_room_for_a_row_and_are_kept_beside_it(tmp_path: Path) -> None:
    path, aside = tmp_path / "results.tsv", tmp_path / "results.tsv.aside"
    comment, row, bytes_ = MINE
    write_results(path, [BASELINE], metric="val_bpb")
    text = f"{comment}\n{path.read_text()}{row}\n{bytes_}"
    path.write_text(text, errors="surrogateescape")
    append_result(path, CRASH, metric="val_bpb")
    assert read_results(path).rows == (BASELINE, CRASH)
    assert aside.read_text(errors="surrogateescape") == f"{comment}\n{row}\n{bytes_}\n"


def test_a_new_start_keeps_them_too_and_each_once(tmp_path: Path) -> None:
    path, aside = tmp_path / "results.tsv", tmp_path / "results.tsv.aside"
    for _ in range(2):
        path.write_text(f"{HEADER}{MINE[1]}\n{MINE[0]}\n")
        write_results(path, [BASELINE, CRASH], metric="val_bpb")
        assert read_results(path).rows == (BASELINE, CRASH)
        assert aside.read_text() == f"{MINE[1]}\n{MINE[0]}\n"


def test_a_row_that_is_there_already_is_not_added_again(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    for row in (BASELINE, CRASH, CRASH):
        append_result(path, row, metric="val_bpb")
    assert read_results(path).rows == (BASELINE, CRASH)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_spreadsheet_made_of_the_rows_stays_until_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_bytes(HEADER.replace("\n", "\r\n").encode() + b"a1b2c3d\t0.9979\t44\tkeep\tbaseline\r\n")
    append_result(path, CRASH, metric="val_bpb")
    assert read_results(path).rows == (BASELINE, CRASH)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_the_lines_of_others_leads_nowhere(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    folder = tmp_path / "worktree"
    folder.mkdir()
    (folder / "results.tsv.aside").symlink_to(precious)
    (folder / "results.tsv").write_text(MINE[0])
    append_result(folder / "results.tsv", BASELINE, metric="val_bpb")
    assert precious.read_text() == "mine\n"
    assert (folder / "results.tsv.aside").read_text() == f"{MINE[0]}\n"


VALUES = st.floats(-1e6, 1e6).map(lambda value: round(value, 6) + 0.0)
DESCRIPTIONS = st.text(max_size=60)


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    made = []
    for number in range(draw(st.integers(0, 5))):
        status = draw(st.sampled_from([one for one in Status if one is not Status.QUARANTINE]))
        measured = status in (Status.KEEP, Status.DISCARD)
        made.append(
            Row(
                number=number,
                commit=draw(st.sampled_from(["a1b2c3d", "baseline", ""])),
                value=draw(VALUES | st.none()) if measured else None,
                memory_gb=round(draw(st.floats(0, 1e4)), 1) if measured else 0.0,
                status=status,
                description=one_line(draw(DESCRIPTIONS)),
            )
        )
    return made


@unhurried
@given(rows())
def test_what_was_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, written: list[Row]) -> None:
    path = tmp_path_factory.mktemp("results") / "results.tsv"
    write_results(path, written, metric="val_bpb")
    assert list(read_results(path).rows) == written


PIECES = st.sampled_from(
    ["\t", "\n", "\r", ",", "keep", "crash", "commit", "val_bpb", "status", "1.5", "nan"]
)


@unhurried
@given(st.lists(PIECES | st.text(max_size=5), max_size=40).map("".join))
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    try:
        said = str(parse_results(text))
    except UserError as error:
        said = str(error)
    assert said.startswith(("Results(", "results.tsv: line "))


# Files of others


def test_rows_whose_commit_is_a_word_with_windows_line_ends_and_no_final_one() -> None:
    text = HEADER + "baseline\t0.997900\t44.0\tkeep\tas it is\r\n\r\nabc1234\t0.000000\t0.0\tcrash\tOOM"
    first, second = parse_results("\ufeff" + text.replace("description\n", "description\r\n")).rows
    assert first == Row(0, "baseline", 0.9979, 44.0, Status.KEEP, "as it is")
    assert second == Row(1, "abc1234", None, 0.0, Status.CRASH, "OOM")


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", HEADER, HEADER.rstrip()])
def test_a_file_without_rows_is_empty(text: str) -> None:
    assert parse_results(text).rows == ()


def test_a_file_without_a_header_has_the_usual_columns() -> None:
    assert parse_results("a1b2c3d\t0.997900\t44.0\tkeep\tbaseline\n").rows == (BASELINE,)


def test_columns_are_found_by_their_names_among_others() -> None:
    text = (
        "Time\tStatus\tval_loss\tdescription\tval_bpb\tcommit\n"
        "22:58\tKEEP\t2.1\tbaseline\t0.997900\ta1b2c3d\n"
    )
    assert parse_results(text).rows == (replace(BASELINE, memory_gb=0.0),)


@pytest.mark.parametrize("header", ["commit\tloss\tstatus\n", "Commit\tloss\tstatus\tnote\n"])
def test_a_metric_of_another_name_stands_after_the_commit(header: str) -> None:
    results = parse_results(header + "a1b2c3d\t2.5\tkeep\n")
    assert (results.metric, results.rows[0].value) == ("loss", 2.5)


def test_the_metric_asked_for_is_taken_wherever_it_stands() -> None:
    results = parse_results("commit\tval_bpb\tstatus\taccuracy\na1b2c3d\t2.5\tkeep\t0.5\n", "accuracy")
    assert (results.metric, results.rows[0].value) == ("accuracy", 0.5)


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf"])
def test_a_number_that_is_none_is_no_value(value: str) -> None:
    (row,) = parse_results(f"{HEADER}abc1234\t{value}\tnan\tdiscard\tlr 10\n").rows
    assert (row.value, row.memory_gb, row.status) == (None, 0.0, Status.DISCARD)


def test_the_numbers_of_a_crash_are_not_read() -> None:
    (row,) = parse_results(f"{HEADER}abc1234\t-\tn/a\tcrash\tOOM\n").rows
    assert (row.value, row.memory_gb) == (None, 0.0)


def test_a_tab_in_the_last_column_is_part_of_the_description() -> None:
    (row,) = parse_results(f"{HEADER}abc1234\t0.99\t44.0\tkeep\tdepth 8\tto 9\n").rows
    assert row.description == "depth 8 to 9"


def test_a_description_that_an_editor_cut_off_is_empty() -> None:
    (row,) = parse_results(f"{HEADER}abc1234\t0.99\t44.0\tkeep\n").rows
    assert row.description == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "commit,val_bpb,memory_gb,status,description\n",
            "line 1 has commas; put one tab between the columns: commit",
        ),
        ("\n\nhello\n", "line 3 has no tabs; put one tab between the columns: commit"),
        (HEADER + "abc\0\t0.99\t44.0\tkeep\tx\n", "line 2 is no text; a results.tsv is text in UTF-8"),
        ("commit\tval_bpb\n", "line 1 is neither a header with a status nor a row of commit, val_bpb,"),
        ("status\tcommit\n", "line 1 is a header without a column named val_bpb"),
        (
            HEADER + "\nabc\t0.99\t44.0\tpromising\tx\n",
            "line 3 has the status 'promising'; it is one of keep, discard, crash",
        ),
        (HEADER + "abc\t0.99\n", "line 2 has no status; it is one of keep"),
        (HEADER + "abc\tlow\t44.0\tkeep\tx\n", "line 2 has 'low' for val_bpb, where a number belongs"),
        (HEADER + "abc\t\t44.0\tkeep\tx\n", "line 2 has no val_bpb, where a number belongs"),
        (HEADER + "abc\tn/a\t44.0\tkeep\tx\n", "line 2 has 'n/a' for val_bpb, where a number belongs"),
        (HEADER + "abc\t0.99\tmuch\tkeep\tx\n", "line 2 has 'much' for memory_gb, where a number belongs"),
        (
            "description\tcommit\tval_bpb\tstatus\na\tb\tc\td\te\n",
            "line 2 has 5 columns, where the header has 4",
        ),
    ],
)
def test_a_malformed_line_is_named(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_results(text)
    assert str(caught.value).startswith(f"results.tsv: {sentence}")


def test_words_of_other_projects_are_read_and_counted() -> None:
    words = "Baseline best tentative best repair failed kept baseline skipped keep duplicate"
    rows = "".join(f"abc\t0.{99 - i}\t1.0\t{word}\tx\n" for i, word in enumerate(words.split()))
    found = parse_results(HEADER + rows)
    assert " ".join(row.status for row in found.rows) == (
        "keep keep discard keep discard crash keep discard skip keep skip"
    )
    assert found.renamed == (
        ("baseline", Status.KEEP, 1),
        ("best", Status.KEEP, 2),
        ("tentative", Status.DISCARD, 1),
        ("repair", Status.DISCARD, 1),
        ("failed", Status.CRASH, 1),
        ("kept", Status.KEEP, 1),
        ("baseline", Status.DISCARD, 1),  # it was trained again: no better than what was kept meanwhile
        ("skipped", Status.SKIP, 1),
        ("duplicate", Status.SKIP, 1),
    )
    assert parse_results(rows).rows == found.rows  # such a first line is no header
    assert parse_results(HEADER + "abc\t0.9\t1.0\tkeep\tx\n").renamed == ()


@pytest.mark.parametrize("nothing", ["-", "n/a", "None", "FAIL"])
def test_what_was_not_kept_needs_no_number(nothing: str) -> None:
    assert parse_results(f"{HEADER}abc\t{nothing}\t1.0\treverted\tx\n").rows[0].value is None


def test_only_a_file_of_reasonable_size_is_read(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match="is no file"):
            read_results(path)
    with large.open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(UserError, match="has 64 MiB"):
        read_results(large)


def test_the_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "night.tsv"
    with pytest.raises(UserError, match=r"night\.tsv cannot be read: No such file or directory"):
        read_results(path)
    path.write_bytes("commit\tval_bpb".encode("utf-16"))
    with pytest.raises(UserError, match=r"night\.tsv: line 1 "):
        read_results(path)


def test_a_result_in_quarantine_is_a_discard_to_other_readers(tmp_path: Path) -> None:
    row = replace(BASELINE, status=Status.QUARANTINE)
    write_results(tmp_path / "results.tsv", [row], metric="val_bpb")
    assert read_results(tmp_path / "results.tsv").rows == (replace(row, status=Status.DISCARD),)


def test_a_verdict_that_was_taken_back_leaves_no_line_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    doubted = Row(1, "b2c3d4e", 0.91, 44.0, Status.QUARANTINE, "halve batch size")
    write_results(path, [BASELINE, doubted], metric="val_bpb")
    assert path.read_text().splitlines()[2].split("\t")[3] == "discard"
    write_results(path, [BASELINE, replace(doubted, status=Status.KEEP)], metric="val_bpb")
    assert path.read_text().splitlines()[2].split("\t")[3] == "keep"
    assert not (tmp_path / "results.tsv.aside").exists()
