"""The shapes of repository, and the way through each from the first `doctor` to three experiments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loop.logs.summary import PAIRS
from loop.process.environment import find_uv
from tests.family import stand_ins
from tests.family.stand_ins import Files
from tests.family.walk import User, Walk
from tests.loop.lab import git


def _as_it_is(user: User) -> None:
    pass


def _no_more(walk: Walk) -> None:
    pass


@dataclass(frozen=True)
class Shape:
    """A stand-in and the way through it.

    `before` and `after` are the rows of the first and of the last `doctor` that are not ok. `steps` is
    what the user does and on whose word, with {here} for the repository, {python} for the bot's Python
    and {uv} for the uv beside it. `knows` and `does` are what a person brings along, see `Walk`.
    `arrange` makes the machine what it is at first; `proves` asserts what numbers do not show. `wrong`,
    if not empty, is what goes wrong as yet: it must.
    """

    name: str
    like: str
    files: Files
    before: str = "ok"
    steps: tuple[str, ...] = ()
    after: str = "ok"
    knows: Mapping[str, str] = field(default_factory=dict)
    does: Mapping[str, str] = field(default_factory=dict)
    arrange: Callable[[User], None] = _as_it_is
    proves: Callable[[Walk], None] = _no_more
    adopts: tuple[str, ...] = ()
    wrong: str = ""


# What a machine is at first


def _uv_on_the_path(user: User) -> None:
    folder = user.folder / "bin"
    folder.mkdir()
    (folder / "uv").symlink_to(str(find_uv()))
    user.environment["PATH"] = f"{folder}:{user.environment['PATH']}"


def _prepared(user: User) -> None:
    assert not user.type(f"{sys.executable} {user.repository}/prepare.py")


def _prepared_there(user: User) -> None:
    assert not user.type(f"cd {user.repository} && {sys.executable} prepare.py")


def _prepared_with_uv(user: User) -> None:
    _uv_on_the_path(user)
    _prepared(user)


def _elsewhere(user: User) -> None:
    user.environment |= {
        "AUTORESEARCH_CACHE_DIR": str(user.folder / "disk"),
        "AUTORESEARCH_DATASET": "fables",
    }


def _in_a_folder(user: User) -> None:
    user.set({"REPOSITORY": str(user.repository / "examples/minimal")})


def _edited(user: User) -> None:
    _prepared(user)
    program = user.repository / "train.py"
    program.write_text(program.read_text().replace("LEARNING_RATE = 0.05", "LEARNING_RATE = 0.06"))


def _detached(user: User) -> None:
    _prepared(user)
    git(user.repository, "checkout", "--quiet", "--detach")


# A branch of somebody's, with a table in words of their own

_TABLE = """\
commit\tval_bpb\tmemory_gb\tstatus\tdescription
{first}\t1.025237\t0.2\tbaseline\tas it was
{first}\t1.024000\t0.2\ttentative\ta repeat
{best}\t1.020000\t0.2\tbest\tLEARNING_RATE 0.08
deadbee\t0.000000\t0.0\tfailed\ta typo
deadbee\t1.030000\t0.2\trepair\tmended
{best}\t1.019000\t0.2\tkept\tthe same again
"""


def _another_nights(user: User) -> Path:
    _prepared(user)
    first = git(user.repository, "rev-parse", "HEAD")
    git(user.repository, "checkout", "--quiet", "-b", "autoresearch/mar5")
    program = user.repository / "train.py"
    program.write_text(program.read_text().replace("LEARNING_RATE = 0.05", "LEARNING_RATE = 0.08"))
    git(user.repository, "commit", "--quiet", "--all", "--message=LEARNING_RATE 0.08")
    best = git(user.repository, "rev-parse", "HEAD")
    table = user.repository / "results.tsv"
    table.write_text(_TABLE.format(first=first[:7], best=best[:7]))
    return table


def _with_its_table(user: User) -> None:
    _another_nights(user)
    exclude = user.repository / ".git/info/exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("results.tsv\n")
    git(user.repository, "checkout", "--quiet", "main")


def _with_a_table_elsewhere(user: User) -> None:
    table = _another_nights(user)
    table.rename(user.folder / "march.tsv")
    git(user.repository, "checkout", "--quiet", "main")


# What numbers do not show


def _own_environment(walk: Walk) -> None:
    assert (walk.user.repository / ".venv/bin/python").exists()
    assert not (walk.user.home / "environments").exists()


def _made_environment(walk: Walk) -> None:
    assert any((walk.user.home / "environments").iterdir())
    assert not (walk.user.repository / ".venv").exists()


def _said(*words: str) -> Callable[[Walk], None]:
    def proves(walk: Walk) -> None:
        for word in words:
            assert word in walk.said[-1], f"`up` does not say {word!r}"

    return proves


def _batches_moved_together(walk: Walk) -> None:
    assert any("DEVICE_BATCH_SIZE" in text for text in walk.descriptions), walk.descriptions
    for text in walk.descriptions:
        assert ("DEVICE_BATCH_SIZE" in text) <= (" TOTAL_BATCH_SIZE" in f" {text}"), text


def _machine_left_alone(walk: Walk) -> None:
    for text in walk.descriptions:
        assert "AUTOTUNE" not in text, text
        assert "VRAM" not in text, text


def _trained_elsewhere(walk: Walk) -> None:
    assert (walk.user.folder / "disk/datasets/fables/data/val.json").exists()
    assert not (walk.user.folder / ".cache/autoresearch").exists()


def _taken_over(walk: Walk) -> None:
    assert walk.statuses[:6] == ["keep", "discard", "keep", "crash", "discard", "keep"]


_BY_PYTHON = "doctor: $ cd {here} && {python} prepare.py"
_ADOPT = ("adopt", "--repo", "{here}", "--branch", "autoresearch/mar5")

SHAPES = (
    Shape(
        name="uv.lock",
        like="the practice's own repository",
        files=stand_ins.LOCKED,
        arrange=_uv_on_the_path,
        before="FAIL data",
        steps=("doctor: $ cd {here} && uv run prepare.py",),
        proves=_own_environment,
    ),
    Shape(
        name="uv.lock, uv beside the bot only",
        like="after make run",
        files=stand_ins.LOCKED,
        before="FAIL data",
        steps=("doctor: $ cd {here} && {uv} run prepare.py",),
        proves=_own_environment,
    ),
    Shape(
        name="uv.lock, no .venv yet",
        like="a fresh clone",
        files=stand_ins.LOCKED,
        arrange=_prepared_with_uv,
        proves=_made_environment,
    ),
    Shape(
        name="no lock file",
        like="the practice",
        files=stand_ins.USUAL,
        before="FAIL data",
        steps=(_BY_PYTHON,),
    ),
    Shape(
        name="data by name",
        like="forks for Windows and one GPU",
        files=stand_ins.DATASETS,
        before="FAIL data",
        steps=(_BY_PYTHON,),
        proves=_machine_left_alone,
    ),
    Shape(
        name="data where a variable says",
        like="forks for Windows and one GPU",
        files=stand_ins.DATASETS,
        arrange=_elsewhere,
        before="FAIL data",
        steps=(_BY_PYTHON,),
        proves=_trained_elsewhere,
    ),
    Shape(
        name="data in the checkout",
        like="small projects",
        files=stand_ins.IN_CHECKOUT,
        arrange=_prepared_there,
        before="warn files",
        steps=("doctor: LINK_PATHS=data,tokenizer",),
    ),
    Shape(
        name="data in the checkout, not yet",
        like="small projects",
        files=stand_ins.IN_CHECKOUT,
        steps=("up: $ cd {here} && {python} prepare.py", "doctor: LINK_PATHS=data,tokenizer"),
    ),
    Shape(
        name="device batch",
        like="forks for Macs",
        files=stand_ins.DEVICE_BATCH,
        arrange=_prepared_with_uv,
        proves=_batches_moved_together,
    ),
    Shape(
        name="key=value in a folder",
        like="forks for reinforcement learning",
        files=stand_ins.KEY_VALUE,
        arrange=_in_a_folder,
        before="FAIL repository",
        steps=(
            "doctor: REPOSITORY={here} FROZEN=examples/minimal/prepare.py EDITABLE=examples/minimal/train.py",
            f"up: SUMMARY_PATTERN='{PAIRS}'",
        ),
    ),
    Shape(
        name="val_accuracy",
        like="forks for vision",
        files=stand_ins.VISION,
        knows={"METRIC": "val_accuracy"},  # as well as val_loss
        before="FAIL repository",
        steps=("doctor: FROZEN=", "up: METRIC=val_accuracy METRIC_GOAL=maximize"),
    ),
    Shape(
        name="val_accuracy in one line",
        like="forks for vision",
        files=stand_ins.VISION_LINE,
        before="FAIL repository",
        steps=(
            "doctor: FROZEN=",
            f"up: SUMMARY_PATTERN='{PAIRS}' METRIC=val_accuracy METRIC_GOAL=maximize",
        ),
    ),
    Shape(
        name="no prepare.py, no train.py",
        like="any script that prints METRIC",
        files=stand_ins.BENCH,
        knows={"METRIC": "total_us"},
        before="FAIL repository",
        steps=("doctor: EDITABLE=bench.py", "doctor: FROZEN=", "up: METRIC=total_us"),
    ),
    Shape(
        name="a metric of its own",
        like="forks that print val_loss",
        files=stand_ins.LOSS,
        arrange=_prepared,
        steps=("up: METRIC=val_loss",),
    ),
    Shape(
        name="uncommitted edits, committed",
        like="anyone who fits it to a GPU",
        files=stand_ins.USUAL,
        arrange=_edited,
        does={"uncommitted": "git -C {here} commit --quiet --all --message=mine"},
        before="warn repository",
        steps=("doctor: $ git -C {here} commit --quiet --all --message=mine",),
    ),
    Shape(
        name="uncommitted edits, left",
        like="anyone in a hurry",
        files=stand_ins.USUAL,
        arrange=_edited,
        before="warn repository",
        after="warn repository",
        proves=_said("ncommitted", "train.py"),
    ),
    Shape(
        name="detached head",
        like="a checkout of a tag",
        files=stand_ins.USUAL,
        arrange=_detached,
        knows={"BASE_BRANCH": "main"},
        before="FAIL repository",
        steps=("doctor: BASE_BRANCH=main",),
    ),
    Shape(
        name="a table of others, left in the checkout",
        like="runs begun by hand",
        files=stand_ins.USUAL,
        arrange=_with_its_table,
        adopts=_ADOPT,
        proves=_taken_over,
    ),
    Shape(
        name="a table of others, named",
        like="runs begun by hand",
        files=stand_ins.USUAL,
        arrange=_with_a_table_elsewhere,
        adopts=(*_ADOPT, "--results", "march.tsv"),
        proves=_taken_over,
    ),
)
