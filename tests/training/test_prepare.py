"""The command, as a person runs it: in a copy of the template, with a cache of its own."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.training.conftest import Copy, Run, parquet, prose

SMALL = {"MAX_SEQ_LEN": "64", "VOCAB_SIZE": "300", "EVAL_TOKENS": "2**10"}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text" / "novel.txt"
    path.parent.mkdir()
    path.write_text(prose(1500), encoding="utf-8")
    return path.parent


@pytest.fixture
def repository(copy: Copy, text: Path) -> Path:
    return copy(SOURCE=repr(str(text)), **SMALL)


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below, with a digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes() if path.is_file() else b""
        ).hexdigest()
        for path in folder.rglob("*")
    }


def test_it_makes_text_tokenizer_and_tokens_and_then_nothing_more(
    repository: Path, run: Run, tmp_path: Path
) -> None:
    first = run(repository, "prepare.py")
    assert (first.returncode, first.stderr) == (0, "")
    assert "Prepared: path-text-" in first.stdout
    made = tree(tmp_path / "cache")
    (name,) = {path.split("/")[1] for path in made if path.startswith("tokenizer/")}
    assert {f"data/{name}/{split}_00000.npy" for split in ("train", "val", "audit")} < made.keys()
    assert f"data/{name.removesuffix('-v300')}/train_00000.parquet" in made
    second = run(repository, "prepare.py")
    assert (second.returncode, second.stderr) == (0, "")
    assert tree(tmp_path / "cache") == made


def test_the_same_text_gives_the_same_bytes(repository: Path, run: Run, tmp_path: Path) -> None:
    digests = []
    for cache in ("one", "two"):
        assert run(repository, "prepare.py", AUTORESEARCH_CACHE=str(tmp_path / cache)).returncode == 0
        digests.append(tree(tmp_path / cache))
    assert digests[0] == digests[1]


def test_finding_all_in_place_needs_no_heavy_package(repository: Path, run: Run) -> None:
    assert run(repository, "prepare.py").returncode == 0
    program = (
        "import sys, prepare; prepare.main([]); prepare.main(['--check'])\n"
        "print({'numpy', 'torch', 'pyarrow', 'tokenizers', 'tiktoken'} & set(sys.modules))"
    )
    assert run(repository, "-c", program).stdout.splitlines()[-1] == "set()"


def test_check_names_what_is_missing_and_the_command_that_makes_it(
    repository: Path, run: Run, tmp_path: Path
) -> None:
    before = run(repository, "prepare.py", "--check")
    assert before.returncode == 1
    assert "is not prepared" in before.stderr
    assert "run: python prepare.py\n" in before.stderr
    assert not (tmp_path / "cache").exists()
    assert run(repository, "prepare.py").returncode == 0
    assert run(repository, "prepare.py", "--check").returncode == 0


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        ("cut", "val_00000.npy"),
        ("delete", "ranks.tiktoken"),
        ("delete", "audit_00000.npy"),
        ("cut", "manifest.json"),
        ("exchange", "val_00000.npy"),
        ("exchange", "token_bytes.npy"),
    ],
)
def test_damage_is_seen_and_mended(harm: str, name: str, repository: Path, run: Run, tmp_path: Path) -> None:
    assert run(repository, "prepare.py").returncode == 0
    whole = tree(tmp_path / "cache")
    (file,) = (tmp_path / "cache").rglob(name)
    if harm == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif harm == "delete":
        file.unlink()
    else:  # with the same size and time
        before = file.stat()
        content = file.read_bytes()
        file.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(repository, "prepare.py", "--check").returncode == 1
    assert run(repository, "prepare.py").returncode == 0
    assert tree(tmp_path / "cache") == whole


def test_a_training_starts_also_where_the_audit_is_hidden(repository: Path, run: Run, tmp_path: Path) -> None:
    assert run(repository, "prepare.py").returncode == 0
    (hidden,) = (tmp_path / "cache").rglob("audit_00000.npy")
    hidden.unlink()
    program = "import prepare; print(prepare.Corpus().missing())"
    assert run(repository, "-c", program).stdout == "None\n"


def test_what_an_earlier_version_prepared_is_kept_and_gets_its_hashes(
    repository: Path, run: Run, tmp_path: Path
) -> None:
    assert run(repository, "prepare.py").returncode == 0
    whole = tree(tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob("manifest.json")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["sha256"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    check = run(repository, "prepare.py", "--check")
    assert check.returncode == 0
    assert "without hashes. Add them: python prepare.py\n" in check.stdout
    assert run(repository, "prepare.py").returncode == 0
    now = json.loads(path.read_text(encoding="utf-8"))
    assert {f"{name}": digest for name, digest in now["sha256"].items()} == {
        name: whole[name] for name in now["files"]
    }


def test_other_texts_and_vocabularies_lie_side_by_side(
    copy: Copy, text: Path, run: Run, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(prose(1500, 1), encoding="utf-8")
    own = {"SOURCE": repr(str(text))} | SMALL
    assert run(copy(**own), "prepare.py").returncode == 0
    first = tree(tmp_path / "cache")
    elsewhere = run(copy(**own), "prepare.py", "--source", str(other))
    assert f"SOURCE = {str(other)!r}" in elsewhere.stdout
    assert run(copy(**own | {"VOCAB_SIZE": "280"}), "prepare.py").returncode == 0
    assert len(list((tmp_path / "cache" / "tokenizer").iterdir())) == 3
    assert tree(tmp_path / "cache").items() >= first.items()


def test_a_text_that_changed_is_not_prepared_anew_behind_ones_back(
    repository: Path, text: Path, run: Run, tmp_path: Path
) -> None:
    assert run(repository, "prepare.py").returncode == 0
    before = tree(tmp_path / "cache")
    (text / "more.txt").write_text(prose(100, 1), encoding="utf-8")
    answer = run(repository, "prepare.py")
    assert answer.returncode == 1
    assert "have changed since they were prepared" in answer.stderr
    assert tree(tmp_path / "cache") == before


def test_the_text_is_no_longer_needed_once_it_is_prepared(repository: Path, text: Path, run: Run) -> None:
    assert run(repository, "prepare.py").returncode == 0
    text.rename(text.with_name("away"))
    assert run(repository, "prepare.py", "--check").returncode == 0


def test_what_a_killed_preparation_left_is_cleared_away(repository: Path, run: Run, tmp_path: Path) -> None:
    assert run(repository, "prepare.py").returncode == 0
    whole = tree(tmp_path / "cache")
    (manifest,) = (tmp_path / "cache").rglob("manifest.json")
    left = manifest.parent.with_name(f".new-{manifest.parent.name}")
    manifest.parent.rename(left)
    assert run(repository, "prepare.py").returncode == 0
    assert tree(tmp_path / "cache") == whole


def bad_input(kind: str, folder: Path) -> Path:
    """Something that cannot be prepared."""
    good = [prose(20, seed) for seed in range(60)]
    shards = [parquet(folder / f"shard_{number}.parquet", good) for number in range(3)]
    if kind == "empty shard":
        parquet(shards[1], [])
    elif kind == "no text column":
        parquet(shards[2], good, column="content")
    elif kind == "half a download":
        os.truncate(shards[0], shards[0].stat().st_size // 2)
    elif kind == "too little to validate on":
        parquet(shards[2], ["short"])
    elif kind == "too little altogether":
        (folder / "tiny").mkdir()
        (folder / "tiny" / "a.txt").write_text("Hello.", encoding="utf-8")
        return folder / "tiny"
    elif kind == "not text":
        (folder / "noise").mkdir()
        (folder / "noise" / "a.txt").write_bytes(bytes(range(256)) * 1000)
        return folder / "noise"
    elif kind == "nothing there":
        return folder / "nowhere"
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        "empty shard",
        "no text column",
        "half a download",
        "too little to validate on",
        "too little altogether",
        "not text",
        "nothing there",
    ],
)
def test_bad_input_is_one_sentence_and_leaves_the_cache_as_it_was(
    kind: str, repository: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "data" / "other").mkdir(parents=True)
    (tmp_path / "cache" / "data" / "other" / "manifest.json").touch()
    (tmp_path / "bad").mkdir()
    before = tree(tmp_path / "cache")
    answer = run(repository, "prepare.py", "--source", str(bad_input(kind, tmp_path / "bad")))
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1
    assert tree(tmp_path / "cache") == before


def test_a_full_disk_is_one_sentence_and_leaves_no_trace(repository: Path, run: Run, tmp_path: Path) -> None:
    program = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "runpy.run_path('prepare.py', run_name='__main__')"
    )
    answer = run(repository, "-c", program)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1
    assert tree(tmp_path / "cache") == {}


def test_a_cache_that_cannot_be_made_is_one_sentence(repository: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = run(repository, "prepare.py", AUTORESEARCH_CACHE=str(tmp_path / "file" / "cache"))
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1


def test_the_manifest_counts_the_tokens(repository: Path, run: Run, tmp_path: Path) -> None:
    import numpy as np

    assert run(repository, "prepare.py").returncode == 0
    (path,) = (tmp_path / "cache").rglob("manifest.json")
    tokens = json.loads(path.read_text(encoding="utf-8"))["tokens"]
    for split, count in tokens.items():
        stream = np.load(path.with_name(f"{split}_00000.npy"))
        assert (len(stream), stream.dtype, stream[0]) == (count, np.uint16, 299)
