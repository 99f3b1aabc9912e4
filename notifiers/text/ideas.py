"""What waits to be tried, what was tried, and what it taught: the answer to `/ideas`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor, log10

from loop.experiment import Experiment, Goal
from loop.results.gains import FamilyRate, Lesson, effect
from loop.store.experiments import Idea
from loop.text import one_line
from notifiers.message import Message
from notifiers.text.words import signed

_TEXT = 80  # characters of an idea or a description
_REASON = 60
_NAME = 24
_DIGITS = 6  # that a value of the metric is shown with


def ideas_message(
    *,
    waiting: Sequence[Idea],
    present: Sequence[Experiment],
    made: Sequence[tuple[Idea, Experiment]],
    families: Iterable[FamilyRate],
    lessons: Iterable[Lesson],
    goal: Goal,
    most: int,
) -> Message:
    """Return the answer to `/ideas`, with `most` lines at most under each heading.

    `waiting` are the ideas of people still to be tried, the next first, and `made` those that became
    experiments, the newest first, among them perhaps those of `present`, which are under way.
    """
    judged = [(idea, experiment) for idea, experiment in made if experiment.status is not None]
    parts = (
        _section("Waiting", [_said(idea) for idea in waiting], most),
        _section("Being tried", [_present(each, made) for each in present], most),
        _section("What became of ideas", [_became(*pair, goal) for pair in judged[:most]], most),
        _section("Families", [_family(rate, goal) for rate in list(families)[:most]], most),
        _section("Lessons", [_lesson(lesson, goal) for lesson in list(lessons)[:most]], most),
    )
    nothing = [] if waiting else ["No ideas are waiting. Send one with /idea TEXT."]
    return Message("\n\n".join("\n".join(part) for part in (nothing, *parts) if part))


def _section(heading: str, lines: Sequence[str], most: int) -> list[str]:
    if not lines:
        return []
    left = len(lines) - most
    return [heading, *lines[:most], *([f"and {left:,} more"] if left > 0 else [])]


def _said(idea: Idea) -> str:
    return f"#{idea.id} {one_line(idea.text, _TEXT)} ({_author(idea)})"


def _author(idea: Idea) -> str:
    return one_line(idea.author, _NAME) or "unknown"


def _present(experiment: Experiment, made: Iterable[tuple[Idea, Experiment]]) -> str:
    line = f"Experiment #{experiment.number}: {one_line(experiment.description, _TEXT)}"
    for idea, other in made:
        if other.number == experiment.number:
            return f"{line} (idea #{idea.id}, {_author(idea)})"
    return line


def _became(idea: Idea, experiment: Experiment, goal: Goal) -> str:
    better = effect(experiment, goal)
    change = [] if better is None else [signed(_change(better, goal))]
    outcome = " ".join([str(experiment.status), *change])
    return f"{_said(idea)}: {outcome}, experiment #{experiment.number}"


def _family(rate: FamilyRate, goal: Goal) -> str:
    best = f", best {signed(_change(rate.best_gain, goal))}" if rate.best_gain else ""
    return f"{rate.family}: {rate.kept:,} of {rate.tried:,} kept{best}"


def _lesson(lesson: Lesson, goal: Goal) -> str:
    description = one_line(lesson.description, _TEXT) or "no description"
    told = "" if lesson.effect is None else f"{_effect(lesson.effect, lesson.noise, goal)}, "
    why = f", {one_line(lesson.reason, _REASON)}" if lesson.reason else ""
    return f"{description}: {told}{lesson.status}{why} ({lesson.tag} #{lesson.number})"


def _effect(better: float, noise: float | None, goal: Goal) -> str:
    """Return `-0.0031 ± 0.0008`: no more digits than the noise leaves sure, but enough to see a gain."""
    change = _change(better, goal)
    if not noise or round(noise, _DIGITS) == 0:
        return signed(change)
    place = floor(log10(noise))
    digits = max(4 if noise < 1 else 0, min(_DIGITS, -place + (noise < 2 * 10**place)))
    return f"{change:+z.{digits}f} ± {noise:.{digits}f}"


def _change(better: float, goal: Goal) -> float:
    return -better if goal is Goal.MINIMIZE else better
