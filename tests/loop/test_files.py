from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from loop.files import holds, place, remove, why_not_copied


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


def test_whatever_a_program_left_is_removed_and_no_link_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for made in (outside, folder / "closed" / "inner", folder / "0", folder / "many" / "0"):
        made.mkdir(parents=True)
    (outside / "file").write_text("kept")
    (folder / "link").symlink_to(outside)
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / "closed" / "file").touch()
    (folder / "closed").chmod(0)
    make_deep(folder, 3000)
    remove(folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["outside"]
    assert (outside / "file").read_text() == "kept"


def test_a_link_and_a_file_are_removed_themselves(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "file").touch()
    for name in ("link", "file", "gone"):
        remove(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def make_deep(folder: Path, depth: int) -> None:
    """Make folders in each other, whose path is longer than any call takes."""
    opened = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=opened)
        inner = os.open("d", os.O_RDONLY, dir_fd=opened)
        os.close(opened)
        opened = inner
    os.close(opened)


def large(folder: Path) -> None:
    (folder / "sparse").touch()
    os.truncate(folder / "sparse", 1001)


def many(folder: Path) -> None:
    for at in range(11):
        (folder / str(at)).touch()


def closed(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o500)


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def deep(folder: Path) -> None:
    make_deep(folder, 2000)


def a_link(folder: Path) -> None:
    folder.rmdir()
    folder.symlink_to(folder.parent)


@pytest.mark.parametrize("make", [large, many, closed, a_pipe, deep, a_link])
def test_what_cannot_be_copied_well_is_not(make: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert why_not_copied(folder, 1000, 10) == ""
    make(folder)
    assert why_not_copied(folder, 1000, 10)
    remove(folder)


def test_a_plain_folder_can_be_copied(tmp_path: Path) -> None:
    (tmp_path / "inductor").mkdir()
    (tmp_path / "inductor" / "kernel").write_bytes(bytes(1000))
    (tmp_path / "link").symlink_to("nowhere")
    assert why_not_copied(tmp_path, 1000, 3) == ""
