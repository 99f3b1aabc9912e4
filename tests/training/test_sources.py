from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import parquet, prose
from training import sources
from training.sources import HarnessError


def texts_of(path: Path) -> list[str]:
    return list(itertools.chain.from_iterable(sources.read_texts(path)))


def gather(source: Path, folder: Path) -> dict[str, list[Path]]:
    return sources.gather(str(source), 1, folder, folder)


class TestParquet:
    def test_texts_come_in_order_without_the_empty_ones(self, tmp_path: Path) -> None:
        assert texts_of(parquet(tmp_path / "a.parquet", ["one", None, "", "two"])) == ["one", "two"]

    def test_large_strings_are_text_too(self, tmp_path: Path) -> None:
        assert texts_of(parquet(tmp_path / "a.parquet", ["a"], kind="large_string")) == ["a"]

    @pytest.mark.parametrize("texts", [[], ["", None]])
    def test_a_shard_without_text_is_named(self, texts: list[str | None], tmp_path: Path) -> None:
        with pytest.raises(HarnessError, match=r"a\.parquet is empty"):
            texts_of(parquet(tmp_path / "a.parquet", texts))

    @pytest.mark.parametrize(("column", "kind"), [("words", "string"), ("text", "int64")])
    def test_a_shard_without_a_text_column_is_named_with_its_columns(
        self, column: str, kind: str, tmp_path: Path
    ) -> None:
        path = parquet(tmp_path / "a.parquet", [None], column=column, kind=kind)
        with pytest.raises(HarnessError, match=rf"a\.parquet has no column `text` .*{column}"):
            texts_of(path)

    @pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
    def test_half_a_download_is_named(self, share: float, tmp_path: Path) -> None:
        whole = parquet(tmp_path / "a.parquet", [prose(100, seed) for seed in range(20)]).read_bytes()
        (tmp_path / "a.parquet").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(HarnessError, match=r"a\.parquet cannot be read as parquet"):
            texts_of(tmp_path / "a.parquet")

    def test_damage_in_the_middle_is_named(self, tmp_path: Path) -> None:
        whole = bytearray(parquet(tmp_path / "a.parquet", [prose(2000)]).read_bytes())
        whole[100:2000] = bytes(1900)
        (tmp_path / "a.parquet").write_bytes(whole)
        with pytest.raises(HarnessError, match=r"a\.parquet cannot be read as parquet"):
            texts_of(tmp_path / "a.parquet")


class TestPython:
    @pytest.fixture
    def library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder in the place of the standard library."""
        folder = tmp_path / "library"
        folder.mkdir()
        monkeypatch.setattr("sysconfig.get_path", lambda name: str(folder))
        return folder

    def test_the_standard_library_falls_into_three_splits_that_stay(self) -> None:
        first, second = (list(sources.python_documents()) for _ in range(2))
        assert first == second
        sizes = {split: sum(len(text) for kind, text in first if kind == split) for split in sources.SPLITS}
        total = sum(sizes.values())
        assert total > 5_000_000
        assert 0.02 < sizes["val"] / total < 0.1
        learnt = [text for kind, text in first if kind != "audit"]
        assert len({text for text in learnt if "class TestCase" in text}) <= 1  # unittest's own, no tests

    def test_the_audit_is_made_of_folders_that_can_be_hidden_and_of_nothing_else(
        self, library: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "new").mkdir()
        for name in ("idlelib/idle_test/a.py", "test/b.py", "json/c.py", "json/tests/d.py"):
            (library / name).parent.mkdir(parents=True, exist_ok=True)
            (library / name).write_text(name, encoding="utf-8")
        paths = sources.gather("python", 1, tmp_path, tmp_path / "new")
        assert sorted(texts_of(*paths["audit"])) == ["idlelib/idle_test/a.py", "test/b.py"]
        assert texts_of(*paths["train"]) == ["json/c.py"]
        assert sources.python_audit_folders()[:2] == [library / "idlelib", library / "test"]

    def test_a_library_without_such_folders_has_no_audit(self, library: Path, tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        (library / "a.py").write_text("a", encoding="utf-8")
        assert sources.gather("python", 1, tmp_path, tmp_path / "new")["audit"] == []

    def test_the_audit_has_no_more_text_than_is_needed(
        self, library: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "PYTHON_AUDIT_CHARS", 25)
        (library / "test").mkdir()
        for number in range(9):
            (library / "test" / f"{number}.py").write_text("0123456789", encoding="utf-8")
        assert [split for split, _ in sources.python_documents()] == ["audit", "audit"]


class TestOwnFiles:
    def test_of_many_parquet_files_the_last_two_are_kept_apart_and_none_is_copied(
        self, tmp_path: Path
    ) -> None:
        files = [parquet(tmp_path / f"shard_{number}.parquet", ["x"]) for number in (0, 1, 2, 6542)]
        assert gather(tmp_path, tmp_path) == {"train": files[:2], "audit": [files[2]], "val": [files[3]]}

    def test_of_few_parquet_files_documents_are_kept_apart(self, tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        parquet(tmp_path / "only.parquet", [str(number) for number in range(40)])
        paths = gather(tmp_path / "only.parquet", tmp_path / "new")
        assert {split: texts_of(path) for split, (path,) in paths.items()} == {
            "train": [str(number) for number in range(40) if number % 20 not in {9, 19}],
            "audit": ["9", "29"],
            "val": ["19", "39"],
        }

    def test_text_files_in_folders_are_taken_whole(self, tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "own" / "deep").mkdir(parents=True)
        (tmp_path / "own" / "a.txt").write_text(prose(1000), encoding="utf-8")
        (tmp_path / "own" / "deep" / "b.txt").write_text(prose(1000, 1), encoding="utf-8")
        (tmp_path / "own" / "notes.md").write_text("not this", encoding="utf-8")
        paths = gather(tmp_path / "own", tmp_path / "new")
        found = [text for (path,) in paths.values() for text in texts_of(path)]
        assert sum(map(len, found)) == len(prose(1000)) + len(prose(1000, 1))

    @given(text=st.text("ab é\r\n", max_size=6000))
    def test_pieces_of_a_file_are_whole_lines_and_join_to_it(
        self, text: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        file = tmp_path_factory.mktemp("own") / "a.txt"
        file.write_bytes(text.encode())
        pieces = list(sources.own_documents([file]))
        assert "".join(pieces) == text
        assert all(piece.endswith(("\n", "\r")) for piece in pieces[:-1])

    def test_a_single_file_is_cut_finely_enough_for_three_splits(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text(prose(1000), encoding="utf-8")
        splits = [split for split, _ in sources.spread(sources.own_documents([tmp_path / "a.txt"]))]
        assert splits.count("val") >= 2
        assert splits.count("audit") >= 2

    def test_what_is_not_utf8_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"good\n" * 10 + b"\xff\xfe bad")
        with pytest.raises(HarnessError, match=r"a\.txt is not UTF-8"):
            list(sources.own_documents([tmp_path / "a.txt"]))

    def test_a_path_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(HarnessError, match="nowhere does not exist"):
            gather(tmp_path / "nowhere", tmp_path)

    @pytest.mark.parametrize(("names", "word"), [(["a.md"], "none"), (["a.txt", "b.parquet"], "both")])
    def test_a_folder_of_no_kind_or_of_two_is_refused(
        self, names: list[str], word: str, tmp_path: Path
    ) -> None:
        for name in names:
            (tmp_path / name).touch()
        with pytest.raises(HarnessError, match=word):
            gather(tmp_path, tmp_path)
