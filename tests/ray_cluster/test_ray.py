"""The night of `make ray`, where Ray is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray_cluster.nodes import why_not


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_trained_twice_while_node_bot_and_head_are_killed() -> None:
    if reason := why_not():
        pytest.skip(reason)
    night = subprocess.run(
        [sys.executable, "-m", "tests.ray_cluster"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert night.returncode == 0, night.stdout[-4000:] + night.stderr[-4000:]
