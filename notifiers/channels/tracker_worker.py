"""The process in which a tracker's library runs: a request on stdin, what it prints goes nowhere."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys

_NICENESS = 10  # a training that needs the processor goes first


def main() -> None:
    """Log the steps of one request.

    Raises:
        Exception: whatever the library raises; its last line is told to the log.
    """
    os.nice(_NICENESS)
    request = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        service = importlib.import_module(request["service"])
        # The same name and id go on with the run that a worker before this one began.
        names = {"id": request["run"]} if request["service"] == "wandb" else {}
        service.init(project=request["project"], name=request["run"], resume="allow", **names)
        for step in request["steps"]:
            service.log(step["numbers"], step=step["step"])
        service.finish()


if __name__ == "__main__":
    main()
