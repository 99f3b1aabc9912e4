"""Rewording any sentence changes nothing but sentences: a bot whose processes differ in their words."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bot.real_bot import TOY
from tests.loop.lab import git


class Bot:
    """Lives a night on a toy repository, a process a chapter, in other words than the three before it."""

    def __init__(self, folder: Path, stack: ExitStack, *, rewords: bool) -> None:
        self.rewords = rewords
        self._wordings = itertools.cycle([1, 2, 3, 4] if rewords else [0])
        repository = folder / "repository"
        repository.mkdir()
        (repository / "prepare.py").write_text("TIME_BUDGET = 60\n")
        (repository / "train.py").write_text(TOY)
        git(repository, "init", "--quiet", "--initial-branch=main")
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", "--message=first")
        command = [sys.executable, "-m", "tests.rewording", str(folder / "home")]
        pipe = subprocess.PIPE
        self._process = stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))

    def lives(self, *chapters: str) -> list[object]:
        """Return what each chapter found."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([next(self._wordings), *chapters]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "a chapter failed: see above"
        found: list[object] = json.loads(line)
        return found


@pytest.fixture(params=[False, True], ids=["as it is", "reworded"])
def bot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bot]:
    with ExitStack() as stack:
        yield Bot(tmp_path, stack, rewords=request.param)


def test_a_night_goes_as_it_goes_whatever_the_words_are(bot: Bot) -> None:
    # The heartbeat pauses for the disk, and lets the run go on when there is room enough on that disk.
    assert bot.lives("the_disk_fills_up") == ["paused"]
    assert bot.lives("there_is_a_little_room") == ["paused"]
    assert bot.lives("there_is_room", "the_disk_fills_up", "there_is_a_little_room") == [
        "running",
        "paused",
        "paused",
    ]
    (told,), (told_later,) = bot.lives("how_it_stands"), bot.lives("how_it_stands")
    assert ("by the heartbeat: 0.3 GB" in str(told)) is not bot.rewords
    assert (told == told_later) is not bot.rewords
    # It does not end the pause of a person, who took over its own.
    assert bot.lives("ann_pauses") == ["paused"]
    assert bot.lives("there_is_room", "the_disk_fills_up", "there_is_room") == ["paused"] * 3
    assert bot.lives("ann_pauses_again", "ann_resumes") == ["refused", "running"]
    # A person is called once for one disk, and the call is over when there is room.
    assert bot.lives("the_disk_is_short") == [1]
    assert bot.lives("the_disk_is_shorter") == [1]
    assert bot.lives("the_disk_is_no_longer_short") == [0]
