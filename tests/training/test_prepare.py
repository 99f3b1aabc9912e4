"""The command, as a person runs it: in a copy of the template, with a cache of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.training.conftest import Copy, Run, copy_template, parquet, prose, run_in

SMALL = {"MAX_SEQ_LEN": "64", "VOCAB_SIZE": "300", "EVAL_TOKENS": "2**10"}


def write_text(folder: Path) -> Path:
    folder.mkdir()
    (folder / "novel.txt").write_text(prose(1500), encoding="utf-8")
    return folder


@dataclass(frozen=True, slots=True)
class Made:
    """What `python prepare.py` printed and made, for all tests."""

    text: Path
    repository: Path
    cache: Path
    printed: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    text, cache = write_text(folder / "text"), folder / "cache"
    repository = copy_template(folder / "repository", SOURCE=repr(str(text)), **SMALL)
    done = run_in(repository, "prepare.py", cache=cache)
    assert (done.returncode, done.stderr) == (0, "")
    return Made(text, repository, cache, done.stdout)


@pytest.fixture
def repository(made: Made) -> Path:
    return made.repository


@pytest.fixture
def cache(made: Made, tmp_path: Path) -> Path:
    """All that was made, to be harmed."""
    shutil.copytree(made.cache, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text to be changed."""
    return write_text(tmp_path / "text")


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below, with a digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes() if path.is_file() else b""
        ).hexdigest()
        for path in folder.rglob("*")
    }


def test_it_makes_text_tokenizer_and_tokens_and_then_nothing_more(made: Made, run: Run, cache: Path) -> None:
    assert "Prepared: path-text-" in made.printed
    found = tree(cache)
    (name,) = {path.split("/")[1] for path in found if path.startswith("tokenizer/")}
    assert {f"data/{name}/{split}_00000.npy" for split in ("train", "val", "audit")} < found.keys()
    assert f"data/{name.removesuffix('-v300')}/train_00000.parquet" in found
    second = run(made.repository, "prepare.py")
    assert (second.returncode, second.stderr) == (0, "")
    assert tree(cache) == found


def test_the_same_text_gives_the_same_bytes(made: Made, run: Run, tmp_path: Path) -> None:
    assert run(made.repository, "prepare.py").returncode == 0
    assert tree(tmp_path / "cache") == tree(made.cache)


def test_finding_all_in_place_needs_no_heavy_package(made: Made) -> None:
    program = (
        "import sys, prepare; prepare.main([]); prepare.main(['--check'])\n"
        "print({'numpy', 'torch', 'pyarrow', 'tokenizers', 'tiktoken'} & set(sys.modules))"
    )
    done = run_in(made.repository, "-c", program, cache=made.cache)
    assert done.stdout.splitlines()[-1] == "set()"


def test_check_names_what_is_missing_and_the_command_that_makes_it(
    made: Made, run: Run, tmp_path: Path
) -> None:
    before = run(made.repository, "prepare.py", "--check")
    assert before.returncode == 1
    assert "is not prepared" in before.stderr
    assert "run: python prepare.py\n" in before.stderr
    assert not (tmp_path / "cache").exists()
    shutil.copytree(made.cache, tmp_path / "cache")
    assert run(made.repository, "prepare.py", "--check").returncode == 0


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
def test_damage_is_seen_and_mended(harm: str, name: str, made: Made, run: Run, cache: Path) -> None:
    (file,) = cache.rglob(name)
    if harm == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif harm == "delete":
        file.unlink()
    else:  # with the same size and time
        before = file.stat()
        content = file.read_bytes()
        file.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(made.repository, "prepare.py", "--check").returncode == 1
    assert run(made.repository, "prepare.py").returncode == 0
    assert tree(cache) == tree(made.cache)


def test_a_training_starts_also_where_the_audit_is_hidden(repository: Path, run: Run, cache: Path) -> None:
    (hidden,) = cache.rglob("audit_00000.npy")
    hidden.unlink()
    program = "import prepare; print(prepare.Corpus().missing())"
    assert run(repository, "-c", program).stdout == "None\n"


def test_what_an_earlier_version_prepared_is_kept_and_gets_its_hashes(
    repository: Path, run: Run, cache: Path
) -> None:
    whole = tree(cache)
    (path,) = cache.rglob("manifest.json")
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
    made: Made, copy: Copy, run: Run, cache: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(prose(1500, 1), encoding="utf-8")
    elsewhere = run(made.repository, "prepare.py", "--source", str(other))
    assert f"SOURCE = {str(other)!r}" in elsewhere.stdout
    smaller = copy(**{"SOURCE": repr(str(made.text))} | SMALL | {"VOCAB_SIZE": "280"})
    assert run(smaller, "prepare.py").returncode == 0
    assert len(list((cache / "tokenizer").iterdir())) == 3
    assert tree(cache).items() >= tree(made.cache).items()


def test_a_text_that_changed_is_not_prepared_anew_behind_ones_back(
    copy: Copy, text: Path, run: Run, tmp_path: Path
) -> None:
    repository = copy(SOURCE=repr(str(text)), **SMALL)
    assert run(repository, "prepare.py").returncode == 0
    before = tree(tmp_path / "cache")
    (text / "more.txt").write_text(prose(100, 1), encoding="utf-8")
    answer = run(repository, "prepare.py")
    assert answer.returncode == 1
    assert "have changed since they were prepared" in answer.stderr
    assert tree(tmp_path / "cache") == before
    text.rename(text.with_name("away"))  # once it is prepared, the text is no longer needed
    assert run(repository, "prepare.py", "--check").returncode == 0


def test_what_a_killed_preparation_left_is_cleared_away(made: Made, run: Run, cache: Path) -> None:
    (manifest,) = cache.rglob("manifest.json")
    left = manifest.parent.with_name(f".new-{manifest.parent.name}")
    manifest.parent.rename(left)
    assert run(made.repository, "prepare.py").returncode == 0
    assert tree(cache) == tree(made.cache)


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


def test_a_package_that_is_missing_is_one_sentence(repository: Path, run: Run, tmp_path: Path) -> None:
    program = (
        "import runpy, sys; sys.modules['pyarrow'] = None\nrunpy.run_path('prepare.py', run_name='__main__')"
    )
    answer = run(repository, "-c", program)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {sys.executable} has no module pyarrow. ")
    assert answer.stderr.count("\n") == 1
    assert tree(tmp_path / "cache") == {}


def test_a_cache_that_cannot_be_made_is_one_sentence(repository: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = run(repository, "prepare.py", AUTORESEARCH_CACHE=str(tmp_path / "file" / "cache"))
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1


def test_the_manifest_counts_the_tokens(made: Made) -> None:
    import numpy as np

    (path,) = made.cache.rglob("manifest.json")
    tokens = json.loads(path.read_text(encoding="utf-8"))["tokens"]
    for split, count in tokens.items():
        stream = np.load(path.with_name(f"{split}_00000.npy"))
        assert (len(stream), stream.dtype, stream[0]) == (count, np.uint16, 299)
