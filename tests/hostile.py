"""Prints the table of hostile programs: what each wants, what stops it, and whether that held here.

python -m tests.hostile
"""

from __future__ import annotations

import sys

from loop.sandbox.sandbox import SandboxKind
from tests.loop.sandbox.attacks import LEFTOVERS, REACH, Attack, Layer, Trick
from tests.loop.sandbox.campaign import ALL, ENDED, TRICKS, Seen
from tests.loop.sandbox.child import other_python, start
from tests.loop.sandbox.scene import AS_ROOT
from tests.loop.sandbox.tricks import LINKS

Row = tuple[str, Attack | Trick]


def rows() -> list[Row]:
    groups: dict[str, tuple[Attack, ...] | tuple[Trick, ...]] = {
        "leaves": LEFTOVERS,
        "reaches for": REACH,
        "puts": LINKS,
        **TRICKS,
    }
    return [(kind, row) for kind, group in groups.items() for row in group]


def came_of(row: Attack | Trick, seen: Seen | None) -> str:
    if seen is None:
        return "-"
    if row.layer is Layer.NOTHING:
        return "no"
    if isinstance(row, Trick):
        return "yes" if seen.tricks[row.name][0] else f"NO: {seen.tricks[row.name][1]}"
    if row in LEFTOVERS:
        taken = [how for how in ENDED if row.name in seen.honest[f"leftovers, {how}"][1]]
        return f"NO: {taken}" if taken else "yes"
    if row.layer is Layer.FOLDER:
        return "NO" if seen.touched else "yes"
    return "yes" if row.name in seen.refused else f"NO: {seen.got.get(row.name)}"


def main() -> None:
    pythons = [sys.executable, *filter(None, [other_python()])]
    started = [start({SandboxKind.BWRAP: (ALL,)}, python) for python in pythons]
    seen = [found[SandboxKind.BWRAP] for one in started if (found := one.wait())]
    we, other = seen[0], (seen[1] if seen[1:] else None if AS_ROOT else seen[0])
    lines = [f"{'kind':12} {'program':72} {'stopped by':12} {'as we are':9} as a user; not by Landlock: *"]
    for kind, row in rows():
        star = "" if isinstance(row, Trick) or row.landlock else " *"
        columns = f"{came_of(row, we):9} {came_of(row, other)}"
        lines.append(f"{kind:12} {row.name + star:72} {row.layer:12} {columns}")
    failed = [row.name for _, row in rows() for one in seen if came_of(row, one).startswith("NO")]
    touched = [name for one in seen for name in one.touched]
    lines.append(f"{len(rows())} programs; not stopped: {failed or 'none'}; changed: {touched or 'nothing'}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(bool(failed or touched))


if __name__ == "__main__":
    main()
