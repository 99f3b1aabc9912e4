"""The process that draws charts: a request in JSON on stdin, a PNG on stdout.

A failure is a traceback on stderr and a non-zero exit status.
"""

from __future__ import annotations

import json
import os
import sys

from loop.experiment import Goal, Status
from loop.store.experiments import Row
from notifiers.charts.drawing import draw
from notifiers.charts.scene import make_scene

_NICENESS = 10  # a training that needs the processor goes first


def main() -> None:
    """Answer one request."""
    os.nice(_NICENESS)
    fields = json.load(sys.stdin)
    rows = [
        Row(number, "", value, 0.0, Status(status), description)
        for number, value, status, description in fields["rows"]
    ]
    goal = Goal(fields["goal"])
    scene = make_scene(rows, metric=fields["metric"], goal=goal, title=fields["title"])
    sys.stdout.buffer.write(draw(scene))


if __name__ == "__main__":
    main()
