"""Edits of the template's `train.py`: cheats, and honest ones that look odd. Data for every layer's tests.

Each makes a program that trains and prints a summary. `rules` are those by which the guard flags it, empty
where reading cannot tell; `notes` those by which it only notes something.
"""

from __future__ import annotations

from tests.loop.evaluation.cheats.edits import TEMPLATE, Edit, Kind
from tests.loop.evaluation.cheats.honest import HONEST, SEEDS, STRICT
from tests.loop.evaluation.cheats.learning import LEARNING
from tests.loop.evaluation.cheats.machine import LEFTOVERS, SANDBOX, TIME
from tests.loop.evaluation.cheats.models import FUTURE, TARGETS, TEXT
from tests.loop.evaluation.cheats.numbers import EVALUATOR, PRINTS

__all__ = ["CHEATS", "HONEST", "SEEDS", "STRICT", "TEMPLATE", "Edit", "Kind"]

CHEATS = (*PRINTS, *EVALUATOR, *TARGETS, *FUTURE, *LEARNING, *TEXT, *LEFTOVERS, *SANDBOX, *TIME)
