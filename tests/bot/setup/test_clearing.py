from __future__ import annotations

from pathlib import Path

from bot.setup.trainings import clear_left


def test_what_killed_bots_left_is_cleared_but_for_runs_that_go_on(tmp_path: Path) -> None:
    needed = tmp_path / "trainings" / "1" / "3-1"
    outside = tmp_path / "outside"
    for folder in (
        needed,
        outside,
        tmp_path / "trainings" / "2" / "ahead-0.new",
        tmp_path / "trainings" / "proof-x",
    ):
        folder.mkdir(parents=True)
    (tmp_path / "trainings" / "2" / "link").symlink_to(outside)
    (tmp_path / "proof-y").touch()
    clear_left(tmp_path, [1])
    assert [path.name for path in (tmp_path / "trainings").iterdir()] == ["1"]
    assert needed.is_dir()
    assert outside.is_dir()
    assert not (tmp_path / "proof-y").exists()
