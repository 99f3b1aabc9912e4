from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from loop.logs.error_line import error_line
from loop.sandbox.lacking import misses_a_file, what_lacks
from loop.sandbox.view import View
from tests.loop.logs import crash_logs


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for path in (
        *("checkout/data/train.bin", "checkout/mixed/README", "checkout/mixed/a.npy", "checkout/helpers.py"),
        *("checkout/train.py", "work/train.py", "work/mixed/README", "outside/x.bin", "home/state.db"),
        *("data/tokens.bin", "out/x.pt", "gcc/bin/gcc"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "checkout/lib").mkdir()
    return tmp_path


def ask(
    place: Path,
    error: str,
    *,
    sandboxed: bool = True,
    network: bool = False,
    lists: Mapping[str, str] | None = None,
) -> str:
    view = View(
        place / "work",
        place / "tmp",
        {},
        readable=(place / "data",),
        writable=(place / "out",),
        hidden=(place / "home",),
        network=network,
    )
    error = error.replace("PLACE", str(place))
    found = what_lacks(
        error,
        view,
        place / "checkout",
        sandboxed=sandboxed,
        withheld=("HF_TOKEN",),
        lists=lists or {},
    )
    return found.partition(": ")[0]


@pytest.mark.parametrize(
    ("error", "link"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: 'data/train.bin'", "data"),
        ("FileNotFoundError: [Errno 2] No such file or directory: './data/train.bin'", "data"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'PLACE/work/data/train.bin'", "data"),
        ("FileNotFoundError: mixed/a.npy not found.", "mixed/a.npy"),
        ('OSError: Not found: "data/train.bin": No such file or directory Error #2', "data"),
        ("RuntimeError: can't open data/train.bin", "data"),
        ("NotADirectoryError: [Errno 20] Not a directory: 'data'", "data"),
        ("ModuleNotFoundError: No module named 'helpers'", "helpers.py"),
        ("ModuleNotFoundError: No module named 'lib.model'", "lib"),
    ],
)
def test_what_only_the_checkout_has_is_linked(place: Path, error: str, link: str) -> None:
    assert ask(place, error) == f"set LINK_PATHS={link}"
    assert ask(place, error, sandboxed=False) == f"set LINK_PATHS={link}"


@pytest.mark.parametrize(
    "error",
    [
        "FileNotFoundError: [Errno 2] No such file or directory: 'PLACE/outside/x.bin'",
        "PermissionError: [Errno 13] Permission denied: 'PLACE/outside/x.bin'",
        "OSError: [Errno 30] Read-only file system: 'PLACE/outside'",
        "FileNotFoundError: [Errno 2] No such file or directory: '../outside/x.bin'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'PLACE/outside/to_be_written'",
    ],
)
def test_what_lies_outside_is_shown(place: Path, error: str) -> None:
    asked = f"set SANDBOX_READ={place}/outside, or SANDBOX_WRITE to write there"
    assert ask(place, error) == asked
    assert ask(place, error, sandboxed=False) == ""


def test_of_a_program_it_is_the_folder_that_it_is_installed_in(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = error_line(crash_logs.INDUCTOR.replace("/opt", "PLACE"))
    assert ask(place, error) == f"set SANDBOX_READ={place}/gcc, or SANDBOX_WRITE to write there"
    monkeypatch.setenv("HOME", str(place / "gcc"))
    assert ask(place, error) == f"set SANDBOX_READ={place}/gcc/bin, or SANDBOX_WRITE to write there"


def test_what_may_be_read_is_given_to_write(place: Path) -> None:
    error = "OSError: [Errno 30] Read-only file system: 'PLACE/data/cache.bin'"
    assert ask(place, error) == f"set SANDBOX_WRITE={place}/data"
    assert ask(place, error.replace("Read-only file system", "No such file")) == ""


def test_a_home_is_never_named_whole(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place / "outside"))
    error = "FileNotFoundError: [Errno 2] No such file or directory: 'PLACE/outside/x.bin'"
    assert ask(place, error).startswith(f"set SANDBOX_READ={place}/outside/x.bin,")
    assert ask(place, error.replace("x.bin", "y.bin")) == ""


@pytest.mark.parametrize(
    "error",
    [
        "<urlopen error [Errno -3] Temporary failure in name resolution>",
        "ConnectionError: Couldn't reach 'data' on the Hub (LocalEntryNotFoundError)",
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files",
        "OSError: [Errno 101] Network is unreachable",
    ],
)
def test_the_network_is_allowed(place: Path, error: str) -> None:
    assert ask(place, error) == "set ALLOW_NETWORK=1 or fetch the data before"
    assert ask(place, error, network=True) == ""


def test_a_variable_is_let_through(place: Path) -> None:
    assert ask(place, "KeyError: 'HF_TOKEN'") == "set TRAIN_ENV=HF_TOKEN"
    assert ask(place, "KeyError: 'model'") == ""


@pytest.mark.parametrize(
    ("error", "setting"),
    [
        ("No such file or directory: 'data/train.bin'", "LINK_PATHS=lib,data"),
        ("No such file or directory: 'PLACE/outside/x.bin'", "SANDBOX_READ=/text,PLACE/outside,"),
        ("Read-only file system: 'PLACE/data/cache.bin'", "SANDBOX_WRITE=/out,PLACE/data"),
        ("KeyError: 'HF_TOKEN'", "TRAIN_ENV=A,HF_TOKEN"),
    ],
)
def test_a_setting_that_has_a_value_is_named_with_it(place: Path, error: str, setting: str) -> None:
    lists = {"LINK_PATHS": "lib", "SANDBOX_READ": "/text", "SANDBOX_WRITE": "/out", "TRAIN_ENV": "A"}
    assert ask(place, error, lists=lists).startswith(f"set {setting.replace('PLACE', str(place))}")


def test_no_setting_gives_data_that_is_nowhere(place: Path) -> None:
    for path in ("nowhere/x.bin", f"{place}/nowhere/x.bin"):
        error = f"FileNotFoundError: [Errno 2] No such file or directory: '{path}'"
        assert ask(place, error) == ""
        assert misses_a_file(error)
    assert not misses_a_file("ModuleNotFoundError: No module named 'torch'")


@pytest.mark.parametrize(
    "error",
    [
        "",
        "KeyError: 'data'",
        "ValueError: width 640 does not divide by 7 heads",
        "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere/x.bin'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'mixed/README'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'PLACE/home/state.db'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'PLACE/out/y.pt'",
        "PermissionError: [Errno 13] Permission denied: '/usr/local/x'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/x.bin'",
        "ModuleNotFoundError: No module named 'torch'",
        "RuntimeError: Permission denied",
    ],
)
def test_of_anything_else_nothing_is_said(place: Path, error: str) -> None:
    assert ask(place, error) == ""


def test_a_folder_that_is_gone_lacks_nothing(place: Path) -> None:
    error = "No such file or directory: 'data/train.bin'"
    (place / "work").rename(place / "gone")
    assert ask(place, error) == ""
