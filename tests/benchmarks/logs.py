"""How long the readers of a log take for what was made to stop them.

Run it with `.venv/bin/python -m tests.benchmarks.logs`. Each reader reads the end of a log of every kind in
`tests.loop.logs.test_hostile_logs`, as large as it is read and half as large. The exit status is 1 if the
double size takes more than 3 times as long anywhere.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from loop.logs.tail import LONG_TAIL, TAIL
from tests.loop.logs.test_hostile_logs import READERS, UNITS, text_of

LARGEST = 3.0  # times as long for twice the text; what takes less than NOTHING is not compared
NOTHING = 0.02  # seconds


def seconds(function: Callable[[str], object], text: str) -> float:
    """Return the processor time of the fastest of three readings."""
    times = []
    for _ in range(3):
        began = time.process_time()
        function(text)
        times.append(time.process_time() - began)
    return min(times)


def main() -> int:
    too_long = 0
    print("| reader | text | KiB | half, s | whole, s | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for read in READERS:
        size = LONG_TAIL if read.__name__ == "read_summary" else TAIL
        for name, unit in UNITS.items():
            text = f"---\n{text_of(unit, size)}"
            half, whole = seconds(read, text[: size // 2]), seconds(read, text)
            ratio = whole / max(half, NOTHING / 2)
            too_long += ratio > LARGEST
            print(f"| {read.__name__} | {name} | {size >> 10} | {half:.3f} | {whole:.3f} | {ratio:.1f} |")
    return int(too_long > 0)


if __name__ == "__main__":
    sys.exit(main())
