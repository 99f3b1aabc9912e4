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


BY_FUNCTION = """
import os

def _default_cache_dir():
    env_cache = os.environ.get("AUTORESEARCH_CACHE_DIR")
    if env_cache:
        return os.path.expanduser(env_cache)
    legacy_cache = os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")
    if os.name != "nt":
        return legacy_cache
    if os.path.exists(legacy_cache):
        return legacy_cache
    return os.environ["LOCALAPPDATA"]

CACHE_DIR = _default_cache_dir()
DATASETS_DIR = os.path.join(CACHE_DIR, "datasets")
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


def test_a_cache_is_found_that_a_function_chooses() -> None:
    assert found(BY_FUNCTION) == ["/home/ann/.cache/autoresearch/datasets"]
    assert found(BY_FUNCTION, AUTORESEARCH_CACHE_DIR="~/ar") == ["/home/ann/ar/datasets"]
    assert found(BY_FUNCTION, AUTORESEARCH_DATASET=" Fineweb") == [
        "/home/ann/.cache/autoresearch/datasets/fineweb"
    ]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('return "/data"', "/data"),
        ('place = "/data"\n    return place + "/text"', "/data/text"),
        ('if not os.environ.get("NONE"):\n        return "/data"\n    return "/other"', "/data"),
        ('if os.name == "nt":\n        return "/data"\n    else:\n        return "/other"', "/other"),
        ('if unknown():\n        return "/data"\n    return "/other"', "/other"),
        ("return where()", None),  # without end
        ("return", None),
        ("pass", None),
    ],
)
def test_functions_are_read_as_far_as_they_are_plain(body: str, path: str | None) -> None:
    source = f"import os\n\ndef where():\n    {body}\n\nDATA_DIR = where()\n"
    assert found(source) == ([path] if path else [])


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
