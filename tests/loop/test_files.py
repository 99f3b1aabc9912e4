from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop.files import holds, place


def test_a_file_is_placed_once(tmp_path: Path) -> None:
    assert place(tmp_path, "a/b/train.py", b"x\r\n", executable=False)
    assert holds(tmp_path, "a/b/train.py", b"x\r\n")
    assert not place(tmp_path, "a/b/train.py", b"x\r\n", executable=False)
    assert [entry.name for entry in (tmp_path / "a" / "b").iterdir()] == ["train.py"]


@pytest.mark.parametrize("executable", [False, True])
def test_the_mode_is_the_one_git_would_give(tmp_path: Path, executable: bool) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    place(tmp_path, "file", b"x", executable=executable)
    execute = (plain.stat().st_mode & 0o444) >> 2 if executable else 0
    assert (tmp_path / "file").stat().st_mode == plain.stat().st_mode | execute


def test_what_a_killed_placing_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_text("half")
    place(tmp_path, "file", b"whole", executable=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").symlink_to(outside / "file")
    (root / "folder").symlink_to(outside)
    assert not holds(root, "file", b"x")
    assert not holds(root, "folder/file", b"x")
    place(root, "file", b"y", executable=False)
    place(root, "folder/file", b"y", executable=False)
    assert (outside / "file").read_bytes() == b"x"
    assert holds(root, "file", b"y")
    assert holds(root, "folder/file", b"y")


def test_a_file_where_a_folder_belongs_gives_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("in the way")
    assert not holds(tmp_path, "a/file", b"x")
    place(tmp_path, "a/file", b"x", executable=False)
    assert holds(tmp_path, "a/file", b"x")


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    assert not holds(tmp_path, "file", b"")
    place(tmp_path, "file", b"", executable=False)
    assert holds(tmp_path, "file", b"")
