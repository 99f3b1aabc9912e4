"""What no training may see."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.training.evaluation.scored import (
    VOCABULARY,
    prepare,
)
from training import evaluate

sources = importlib.import_module("sources")


class TestHidden:
    def of(self, source: str, root: Path, *there: str) -> set[str]:
        for name in there:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        paths = list(evaluate.hidden(prepare.Corpus(source, 1, VOCABULARY, root)))
        assert all(path.exists() for path in paths)
        return {str(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths}

    def test_the_audit_of_every_corpus_in_the_cache_is_hidden(self, tmp_path: Path) -> None:
        audits = {
            "data/climbmix-10-v8192/audit_00000.npy",
            "data/climbmix-10-v8192/audit_00001.npy",
            "data/path-novel-12345678/audit_00000.parquet",
            "data/.new-python-3.11.7-2/audit_00000.parquet",
            "data/climbmix/shard_06541.parquet",
            "data/climbmix/shard_06541.parquet.part",
        }
        others = ("data/climbmix-10-v8192/val_00000.npy", "data/climbmix/shard_06542.parquet")
        assert self.of("climbmix", tmp_path, *audits, *others) == audits

    def test_folders_of_the_standard_library_are_hidden_when_it_is_the_text(self, tmp_path: Path) -> None:
        folders = {Path(path).name for path in self.of("python", tmp_path)}
        assert folders <= {"idlelib", "turtledemo", "test"}
        assert folders == {path.name for path in sources.python_audit_folders()}

    def test_a_parquet_file_that_is_the_audit_is_hidden(self, tmp_path: Path) -> None:
        names = ("own/1.parquet", "own/2.parquet", "own/3.parquet")
        assert self.of(str(tmp_path / "own"), tmp_path, *names) == {"own/2.parquet"}
        assert self.of(str(tmp_path / "away"), tmp_path) == set()

    def test_a_text_of_which_some_documents_are_the_audit_is_hidden(self, tmp_path: Path) -> None:
        assert self.of(str(tmp_path / "own.txt"), tmp_path, "own.txt") == {"own.txt"}
        assert self.of(str(tmp_path / "own"), tmp_path, "own/1.txt", "own/2.txt", "own/3.txt") == {"own"}
        assert self.of(str(tmp_path / "own.parquet"), tmp_path, "own.parquet") == {"own.parquet"}
