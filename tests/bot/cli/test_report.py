"""`autoresearch report --results` on the files that people have."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path

import pytest

from bot.cli.report import report_of_file, report_of_run
from bot.setup.settings import Settings, load_settings
from loop.errors import UserError
from loop.experiment import RunState
from loop.shell import own_command
from loop.store.journal import Journal
from tests.loop.store.test_journal import make_run

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
KEYS = "tag experiments keep discard crash skipped baseline best best_commit gain gains"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(tmp_path / "no.env", {"AUTORESEARCH_HOME": str(tmp_path / "home")})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No results yet"),
        (HEADER, "No results yet"),
        (
            "\ufeff" + HEADER.replace("\n", "\r\n") + "baseline\t0.9979\t44.0\tkeep\tas it is",
            "1 experiment\nval_bpb 0.997900, the baseline",
        ),
        (
            HEADER + "a\t0.000000\t0.0\tcrash\tbaseline\nb\t0.000000\t0.0\tcrash\tx\n",
            "2 experiments\nBoth crashed: no val_bpb yet",
        ),
        (
            HEADER + "a\t1e400\t44.0\tkeep\tbaseline\nb\tnan\tnan\tdiscard\tx\n",
            "2 experiments\nKept without a val_bpb",
        ),
        (
            "commit\tval_bpb\tmemory_gb\tmfu\tstatus\tdescription\ttime\na\t0.9\t44\t40\tkeep\tbase\t300\n",
            "1 experiment\nval_bpb 0.900000, the baseline",
        ),
    ],
)
def test_odd_files_read_naturally(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "night.tsv"
    file.write_bytes(text.encode())
    made = report_of_file(settings, file)
    made.show(UTC)
    assert capsys.readouterr().out == f"{said}\n"
    assert {*KEYS.split()} <= {*json.loads(json.dumps(made.night.to_json()))}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((HEADER + "a\t0.9\t44\tkeep\n").encode("utf-16"), r"night\.tsv: line 1 is no text"),
        (b"\x7fELF\0\0", r"night\.tsv: line 1 is no text"),
        (f"{HEADER}a\t0.9\t44\tkeep\tbaseline\nb\t0.8\t4".encode(), r"night\.tsv: line 3 has no status"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(
    settings: Settings, tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "night.tsv"
    file.write_bytes(content)
    with pytest.raises(UserError, match=said):
        report_of_file(settings, file)


@pytest.mark.parametrize(("name", "said"), [("none.tsv", "cannot be read: No such file"), ("", "is no file")])
def test_what_is_no_file_is_a_sentence(settings: Settings, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        report_of_file(settings, tmp_path / name)


def test_how_a_file_of_others_was_read_is_said(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "night.tsv"
    rows = "a\t24.9\t1\tbaseline\tx\nb\t24.9\t1\tkeep\tless code\nc\t1e300\t1\tbest\ty\n"
    rows += "d\t24.9\t1\tkeep\tanew\ne\t25.1\t1\tkeep\tz\n"
    file.write_text(HEADER.replace("val_bpb", "accuracy") + rows)
    report_of_file(settings, file).show(UTC)
    *report, read, _, goal = capsys.readouterr().out.splitlines()
    assert read == "Read 1 row 'baseline' as keep, 1 row 'best' as keep."
    assert goal == "accuracy rises from keep to keep (24.90000 → 1e+300): set METRIC_GOAL=maximize."
    assert max(map(len, report)) < 80  # as wide as a terminal, whatever a number is


@pytest.mark.parametrize(
    ("name", "title"), [("night.tsv", "night"), ("results.tsv", "mar12"), ("jan.results.tsv", "jan.results")]
)
def test_pictures_of_a_table_are_called_as_it_is_or_as_its_folder(
    settings: Settings, tmp_path: Path, name: str, title: str
) -> None:
    file = tmp_path / "mar12" / name
    file.parent.mkdir()
    file.write_text(HEADER + "a\t0.9\t44\tkeep\tbaseline\n")
    report_of_file(settings, file).write_page(tmp_path / "page.html", settings, UTC)
    assert f"<h1>{title}</h1>" in (tmp_path / "page.html").read_text()


def test_a_picture_that_cannot_be_written_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "night.tsv"
    file.write_text(HEADER + "a\t0.9\t44\tkeep\tbaseline\n")
    made = report_of_file(settings, file)
    with pytest.raises(UserError) as caught:
        made.draw(tmp_path)
    assert str(caught.value) == f"{tmp_path} cannot be written: Is a directory."
    with pytest.raises(UserError, match=r"cannot be written: Is a directory\.$"):
        made.write_page(tmp_path, settings, UTC)


def test_a_run_without_its_bot_is_not_said_to_run(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.home.mkdir()
    journal = Journal(settings.home / "state.db")
    run = make_run(journal, repository=tmp_path)
    report_of_run(settings, None).show(UTC)
    assert capsys.readouterr().out.endswith(
        f"\nNo bot is running: `{own_command('up', settings.home)}` continues it\n"
    )
    journal.set_state(run, RunState.STOPPED)
    report_of_run(settings, None).show(UTC)
    assert capsys.readouterr().out.endswith("\nStopped from the terminal\n")
    journal.close()
