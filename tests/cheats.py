"""Prints the table of edits that cheat, and of honest ones that look odd: what each does and what caught it.

python -m tests.cheats [--kind TARGETS] [--only TEXT] [--part 1/4]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from loop.sandbox.sandbox import find_sandbox
from tests.loop.evaluation.campaign import NEED_TIME, ONCE_MORE, Campaign, Layer, Row
from tests.loop.evaluation.cheats import CHEATS, HONEST, SEEDS, Edit, Kind

ALL = (*CHEATS, ONCE_MORE, *SEEDS, *HONEST)


def line(row: Row) -> str:
    number = ALL.index(row.edit) + 1
    strict = "strict" if row.flagged else ""
    caught = "-" if row.layer is Layer.NOTHING else row.layer
    wrong = "" if row.is_right else f"  WRONG: {row.reason}"
    return (
        f"{number:3} {row.edit.name:58} {row.edit.kind:47} {strict:6} "
        f"{caught:21} {row.status:10} {row.seconds:4.0f} s{wrong}\n"
    )


def tell(row: Row) -> None:
    sys.stdout.write(line(row))
    sys.stdout.flush()


def chosen(options: argparse.Namespace) -> list[Edit]:
    kinds = [Kind[name.upper()] for name in options.kind] or list(Kind)
    found = [edit for edit in ALL if edit.kind in kinds and options.only in edit.name]
    part, parts = map(int, options.part.split("/"))
    return found[part - 1 :: parts]


def try_them(edits: Sequence[Edit]) -> list[Row]:
    rows: list[Row] = []
    sandbox = find_sandbox(None)
    sys.stdout.write(f"in the sandbox: {sandbox.kind}\n")
    for real in (False, True):
        if some := [edit for edit in edits if (edit.name in NEED_TIME) is real]:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                campaign = Campaign(Path(folder), sandbox, real_clock=real)
                rows += campaign.try_all(some, tell)
                campaign.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [kind.name.lower() for kind in Kind]
    parser.add_argument(
        "--kind", action="append", default=[], choices=names, help="only this kind; repeatable"
    )
    parser.add_argument("--only", default="", help="only edits with this text in their names")
    parser.add_argument("--part", default="1/1", help="a share of them, such as 2/4")
    rows = try_them(chosen(parser.parse_args()))
    for title, some in (
        ("cheats", [row for row in rows if row.edit.kind is not Kind.HONEST]),
        ("honest", [row for row in rows if row.edit.kind is Kind.HONEST]),
    ):
        counts = Counter(row.layer for row in some)
        told = ", ".join(f"{layer} {counts[layer]}" for layer in Layer if counts[layer])
        sys.stdout.write(f"{len(some)} {title}: {told or 'none'}\n")
    wrong = [row.edit.name for row in rows if not row.is_right]
    sys.stdout.write(f"wrong: {wrong or 'none'}\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
