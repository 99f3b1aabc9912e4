"""A user who has a repository, knows what its files mean, and of the bot only what the bot says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bot.setup.settings import Settings
from tests.bot.real_bot import RealBot
from tests.family.stand_ins import Files
from tests.loop.lab import GIT_ENVIRONMENT, git

EXPERIMENTS = 3
PATIENCE = 6  # how often a user does what the bot says before it is enough

_SETTINGS = {str(field.validation_alias) for field in Settings.model_fields.values()}
_NAMED = re.compile(
    r"\b([A-Z][A-Z_]+)\b(='[^']+'|=[^\s,;:]*(?:,[^\s,;:]+)*)?"
)  # a setting, and its value where the sentence has it
_LATER = ("heartbeat", "needs you")  # rows of a run that was there
_COMMAND = re.compile(r"Run: (.+?)(?:; or |\.?$)|run `(.+?)`")


class User(RealBot):
    """A machine with a repository on it, a home directory, a `.env`, and the command line."""

    def __init__(self, folder: Path, files: Files, *, forks: bool = True) -> None:
        super().__init__(folder, SANDBOX="auto")
        self.forks = forks
        for path in self.repository.glob("*.py"):
            path.unlink()
        for name, text in files.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(self.repository, "add", "--all")
        git(self.repository, "commit", "--quiet", "--amend", "--message=first")
        del self.environment["DATA_PATHS"]
        self.settings: dict[str, str] = {}
        self.set({"REPOSITORY": self.environment.pop("REPOSITORY")})

    def set(self, settings: Mapping[str, str]) -> None:
        self.settings |= settings
        lines = (f"{name}={value}\n" for name, value in self.settings.items())
        (self.folder / ".env").write_text("".join(lines))

    def type(self, command: str) -> str:
        """Type a command in a shell; return what it says if it fails."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={**GIT_ENVIRONMENT, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return (done.stdout + done.stderr).strip() if done.returncode else ""


@dataclass(slots=True)
class Walk:
    """From `doctor` to a report. `stuck` says where the way ended too early, empty where it did not.

    `knows` has the values of settings that a person knows once a sentence names the setting, `does` what one
    types where a sentence holds some words, `adopts` a command to give before the first experiment.
    """

    user: User
    knows: Mapping[str, str]
    does: Mapping[str, str]
    adopts: tuple[str, ...] = ()
    before: str = ""  # the first doctor's rows that are not ok
    after: str = ""  # the last one's
    steps: list[str] = field(default_factory=list)  # what was done, on whose word
    taken_over: int = 0  # experiments of others
    statuses: list[str] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)  # the first is the baseline's
    descriptions: list[str] = field(default_factory=list)
    best: float | None = None
    said: list[str] = field(default_factory=list)
    stuck: str = ""
    _typed: set[str] = field(default_factory=set)

    def go(self) -> None:
        self._heed_doctor()
        if self.adopts and not self.stuck:
            self._say(*self.adopts)
            self.taken_over = len(self.user.json("results"))
        for _ in range(PATIENCE):
            if self.stuck:
                return
            if self._say("up", "--experiments", str(EXPERIMENTS), "--exit-when-done"):
                break
            if self._follow("up", self.said[-1].splitlines()):
                self.stuck = ""
                self._heed_doctor()
        rows = self.user.json("results")
        self.statuses = [row["status"] for row in rows]
        self.descriptions = [row["description"] for row in rows]
        self.values = [row.get(self.user.settings.get("METRIC"), row.get("val_bpb")) for row in rows]
        self.best = self.user.json("report")["best"]

    def _heed_doctor(self) -> None:
        sentences = self._doctor()
        self.before = self.before or self.after
        for _ in range(PATIENCE):
            if self.stuck or not self._follow("doctor", sentences):
                break
            sentences = self._doctor()
        if "FAIL" in self.after:
            self.stuck = self.stuck or f"doctor: {' | '.join(sentences)}"

    def _say(self, *arguments: str) -> bool:
        """Run a command of the bot's; where it fails the user is stuck, and the answer is False."""
        done = self.user.run(*arguments)
        self.said.append(done.stdout + done.stderr)
        self.stuck = f"{arguments[0]}: {self.said[-1].strip()[-600:]}" if done.returncode else ""
        return not self.stuck

    def _doctor(self) -> list[str]:
        """Return what `doctor` says of what is not ok, what fails first."""
        done = self.user.run("doctor", "--json")
        words = {None: "warn", False: "FAIL"}
        rows = [row for row in json.loads(done.stdout) if row["ok"] is not True and row["name"] not in _LATER]
        self.after = ", ".join(f"{words[row['ok']]} {row['name']}" for row in rows) or "ok"
        rows.sort(key=lambda row: row["ok"] is None)
        sentences = [f"{row['name']}: {row['detail']} {row['fix']}" for row in rows]
        self.said.append("\n".join(sentences))
        return sentences

    def _follow(self, asker: str, sentences: Iterable[str]) -> bool:
        """Do what the first of the sentences says that says something new; False where none does."""
        for sentence in sentences:
            named = {name: given for name, given in _NAMED.findall(sentence) if name in _SETTINGS}
            new = {
                name: self.knows.get(name, given[1:].rstrip("."))
                for name, given in named.items()
                if name in self.knows or given
            }
            if not new.items() <= self.user.settings.items():
                self.user.set(new)
                self.steps.append(f"{asker}: {' '.join(f'{name}={value}' for name, value in new.items())}")
                return True
            commands = [command for words, command in self.does.items() if words in sentence]
            commands += [found[1] or found[2] for found in _COMMAND.finditer(sentence)]
            for command in commands:
                if command not in self._typed:
                    self._typed.add(command)
                    self.steps.append(f"{asker}: $ {command}")
                    problem = self.user.type(command)
                    if problem:
                        self.stuck = f"{command}: {problem.splitlines()[-1]}"
                    return not problem
        return False
