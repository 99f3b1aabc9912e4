from __future__ import annotations

from pathlib import Path

import pytest

from loop.program.data_paths import find_data

HOME = Path("/home/ann")
KARPATHY = """
import os
CACHE_DIR = os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")
DATA_DIR = os.path.join(CACHE_DIR, "data")
TOKENIZER_DIR = os.path.join(CACHE_DIR, "tokenizer")
BASE_URL = "https://example.org/data"
MAX_SHARD = 6542
"""
BY_NAME = """
import os
from pathlib import Path
CACHE = Path(os.environ.get("AUTORESEARCH_CACHE_DIR", Path.home() / ".cache" / "autoresearch"))
DATASET = os.getenv("AUTORESEARCH_DATASET") or "tinystories"
DATASET_DIR: Path = (CACHE / "datasets" / DATASET).expanduser()
TOKENIZER_PATH = f"{CACHE}/datasets/{DATASET}/tokenizer.pkl"
"""


def found(source: str, **environ: str) -> list[str]:
    return [str(path) for path in find_data(source, environ, HOME)]


def test_folders_below_a_cache_are_found() -> None:
    cache = "/home/ann/.cache/autoresearch"
    assert found(KARPATHY) == [f"{cache}/data", f"{cache}/tokenizer"]


def test_a_dataset_is_found_by_its_name_and_the_variables_that_choose_it() -> None:
    folder = "/home/ann/.cache/autoresearch/datasets/tinystories"
    assert found(BY_NAME) == [folder, f"{folder}/tokenizer.pkl"]
    chosen = found(BY_NAME, AUTORESEARCH_CACHE_DIR="/data/ar", AUTORESEARCH_DATASET="fineweb")
    assert chosen == ["/data/ar/datasets/fineweb", "/data/ar/datasets/fineweb/tokenizer.pkl"]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ('"/data/text"', "/data/text"),
        ('os.path.abspath(os.path.join("/data", "text"))', "/data/text"),
        ('os.path.expanduser("~/text")', "/home/ann/text"),
        ('Path("~").expanduser() / "text"', "/home/ann/text"),
        ('Path("/data", "text").resolve()', "/data/text"),
        ('Path("/data").joinpath("text")', "/data/text"),
        ('str(Path.home()) + "/text"', "/home/ann/text"),
        ('os.environ["PLACE"] + "/text"', "/place/text"),
        ('os.environ.get("NONE", "/data") + "/text"', "/data/text"),
        ('os.environ.get("NONE") or "/data/text"', "/data/text"),
        ('os.environ["NONE"]', None),
        ('"data/text"', None),  # in the checkout
        ('"https://example.org/text"', None),
        ("Path(__file__).parent", None),
        ("where(1)", None),
        ('f"/data/{version!r}"', None),
        ("3", None),
    ],
)
def test_paths_are_read_as_they_are_commonly_made(value: str, path: str | None) -> None:
    assert found(f"DATA_DIR = {value}", PLACE="/place") == ([path] if path else [])


@pytest.mark.parametrize("name", ["OUTPUT_DIR", "CACHE_DIR", "data_dir", "DATA", "METADATA"])
def test_other_names_are_no_data(name: str) -> None:
    assert found(f'{name} = "/data/text"') == []


def test_what_does_not_parse_has_none() -> None:
    assert found("DATA_DIR = (") == []
