"""The bot's code with every sentence in other words, and a night that is lived in several processes of it.

    python -m tests.rewording HOME

Reads orders, each a line `[WORDING, CHAPTER, …]` in JSON, and lives the chapters of each in a new process,
forked off from one that has imported the bot in these words. `WORDING` is a number, 0 for the words as they
are; each place in the code has words of its own, others with each wording. What the chapters found is printed
as a line of JSON.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import hashlib
import importlib
import importlib.machinery
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

ROOMS = ("bot", "loop", "notifiers")
NO_SENTENCES = ("loop.store", "loop.process.supervisor", "loop.git")
"""Modules, wherever they are, whose texts are for SQLite and for git, or that are started by their path."""

OTHERS = ("aiohttp", "apscheduler.triggers.cron", "dotenv", "git.cmd", "psutil", "pydantic", "zoneinfo")
"""What the bot imports of others, which each of its processes has from the one that they are forked off."""

OURS = (
    *("bot.heartbeat.decide", "bot.heartbeat.heartbeat", "bot.heartbeat.probe", "bot.runs"),
    *("bot.setup.settings", "loop.results.report", "loop.store.journal", "notifiers.text.status"),
)
"""What a night imports of the bot, which each process has from one with the same words."""

_SQL = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|PRAGMA|BEGIN|WITH|FROM|WHERE|AND|ORDER)\b|number = |.*\?", re.DOTALL
)
_PROGRAM = re.compile(r"\s*(import|from) [\w., ]+\n")  # that another Python is given
_SENTENCE = re.compile(r"[A-Za-z]{2,}\W*\s|\s\W*[A-Za-z]{2,}")
_WORD = re.compile(r"(?<![%{\\/\w-])[A-Za-z]{2,}(?![\w/=-])")


_SIGN = re.compile("\ue000(.{8})")


class _Reworded(ast.NodeTransformer):
    """Puts other words into all literals that read like sentences, but for docstrings, SQL and patterns.

    Each word ends with a mark of its place, for which the loader puts what each wording has there.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def visit_Call(self, node: ast.Call) -> ast.AST:
        pattern = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "re"
        return node if pattern else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        texts = [str(part.value) for part in node.values if isinstance(part, ast.Constant)]
        return node if any(_SQL.match(text) for text in texts) else self.generic_visit(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        node.value = self.visit(node.value)
        return node  # its format is none of our texts

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        text = node.value
        if not isinstance(text, str) or not _SENTENCE.search(text):
            return node
        if _SQL.match(text) or _PROGRAM.match(text):
            return node
        mark = "\ue000" + _hash(f"{self._module} {node.lineno} {node.col_offset}", 8)
        return ast.copy_location(ast.Constant(_WORD.sub(lambda word: word[0][::-1] + mark, text)), node)


def _hash(text: str, length: int) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:length]


def _marked() -> dict[str, CodeType]:
    """Return the code of all modules that have sentences, by the files."""
    root, found = Path(__file__).parents[1], {}
    for path in (path for room in ROOMS for path in (root / room).rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if not module.startswith(NO_SENTENCES):
            tree = ast.fix_missing_locations(_Reworded(module).visit(ast.parse(path.read_bytes())))
            found[str(path)] = compile(tree, path, "exec", dont_inherit=True)
    return found


def _worded(constant: Any, wording: str) -> Any:
    """Return the constant, which may be code with constants of its own, in the words of a wording."""
    match constant:
        case str():
            return _SIGN.sub(lambda mark: _hash(f"{wording} {mark[1]}", 4), constant)
        case tuple() | frozenset():
            return type(constant)(_worded(each, wording) for each in constant)
        case CodeType():
            return constant.replace(co_consts=_worded(constant.co_consts, wording))
    return constant


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, code: CodeType) -> None:
        super().__init__(fullname, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Finder(MetaPathFinder):
    def __init__(self, wording: str, marked: Mapping[str, CodeType]) -> None:
        self._wording = wording
        self._marked = marked

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in ROOMS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec and spec.origin and spec.origin in self._marked:
            code = _worded(self._marked[spec.origin], self._wording)
            spec.loader = _Loader(fullname, spec.origin, code)
        return spec


class LoneBot:
    """A bot without chats on a state directory, whose disk has as much room as a chapter says."""

    def __init__(self, home: Path) -> None:
        from bot.heartbeat import probe as examination
        from bot.heartbeat.heartbeat import Heartbeat
        from bot.runs import Runs
        from bot.setup.settings import Settings
        from loop.machine import Disk
        from loop.store.journal import Journal

        self.home = home
        self.free = 400e9
        self._disk = Disk
        vars(examination)["disks"] = lambda *_: (self._disk(home, self.free, 1000e9),)
        self.journal = Journal(home / "state.db")
        repository = home.parent / "repository"
        given = {
            "AUTORESEARCH_HOME": str(home),
            "REPOSITORY": str(repository),
            "DATA_PATHS": "",
            "SANDBOX": "none",
        }
        settings = Settings.model_validate(given)
        self.host = Runs(
            settings,
            repository=repository,
            journal=self.journal,
            environ=os.environ,
            today=lambda: date(2026, 3, 12),
        )
        self.heartbeat = Heartbeat(
            self.host,
            examination.Examiner(journal=self.journal, home=home, devices=None),
            journal=self.journal,
            minutes=10.0,
            stall_minutes=60.0,
            report=self._outside,
        )
        runs = self.journal.runs()
        self.run_id = runs[0].id if runs else self.host.start_run("mar12").id
        self.host.conduct(self.run)

    async def _outside(self, _: Sequence[str]) -> None:
        pass

    @property
    def run(self) -> Any:
        return self.journal.run_by_id(self.run_id)

    @property
    def engine(self) -> Any:
        return self.host.engine(self.run)

    async def beat(self, free: float) -> str:
        """Let the heartbeat find so much room; return the state of the run after that."""
        self.free = free
        await self.heartbeat.beat()
        return await self.state()

    async def state(self) -> str:
        """Return the run's state, once it is not `pausing` any more."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def listener() -> None:
            loop.call_soon_threadsafe(changed.set)

        self.journal.listeners.append(listener)
        while self.run.state == "pausing":
            await changed.wait()
            changed.clear()
        self.journal.listeners.remove(listener)
        return str(self.run.state)

    def calls(self) -> int:
        """Return for how many things a person is called."""
        from loop.results.report import read_wakeup_report

        return len(read_wakeup_report(self.journal, self.run, until=2e10).calls)

    async def close(self) -> None:
        await self.host.close()
        self.journal.close()


LOW, A_LITTLE, SHORT, SHORTER, ROOMY = 0.3e9, 1.5e9, 4e9, 3e9, 400e9


async def the_disk_fills_up(night: LoneBot) -> object:
    return await night.beat(LOW)


async def there_is_a_little_room(night: LoneBot) -> object:
    return await night.beat(A_LITTLE)


async def there_is_room(night: LoneBot) -> object:
    return await night.beat(ROOMY)


async def ann_pauses(night: LoneBot) -> object:
    await night.engine.pause(now=True)
    return await night.state()


async def ann_pauses_again(night: LoneBot) -> object:
    from loop.errors import UserError

    try:
        await night.engine.pause()
    except UserError:
        return "refused"
    return "accepted"


async def ann_resumes(night: LoneBot) -> object:
    await night.engine.resume()
    return await night.state()


async def how_it_stands(night: LoneBot) -> object:
    from bot.heartbeat.decide import paused_by_us
    from loop.results.report import run_status
    from notifiers.text.status import status_message

    assert paused_by_us(night.run)
    status = run_status(night.journal, night.run, worktree=night.home)
    return status_message(status, now=2e9, zone=UTC).text.splitlines()[0]


async def the_disk_is_short(night: LoneBot) -> object:
    await night.beat(SHORT)
    return night.calls()


async def the_disk_is_shorter(night: LoneBot) -> object:
    await night.beat(SHORTER)
    return night.calls()


async def the_disk_is_no_longer_short(night: LoneBot) -> object:
    await night.beat(ROOMY)
    return night.calls()


async def _live(home: Path, chapters: Sequence[Callable[[LoneBot], Any]]) -> list[object]:
    night = LoneBot(home)
    try:
        return [await chapter(night) for chapter in chapters]
    finally:
        await night.close()


class _Worded:
    """The process that has imported the bot in one wording."""

    def __init__(self, home: Path, wording: int, marked: Mapping[str, CodeType]) -> None:
        (orders, to_it), (from_it, found) = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(to_it)
            os.close(from_it)
            if wording:
                sys.meta_path.insert(0, _Finder(str(wording), marked))
            for module in OURS:
                importlib.import_module(module)
            gc.freeze()
            _serve(home, orders, found)
        os.close(orders)
        os.close(found)
        self._orders, self._found = os.fdopen(to_it, "w"), os.fdopen(from_it)

    def lives(self, chapters: Sequence[str]) -> str:
        self._orders.write(json.dumps(chapters) + "\n")
        self._orders.flush()
        return self._found.readline()


def _serve(home: Path, orders: int, found: int) -> NoReturn:
    for order in os.fdopen(orders):
        child = os.fork()
        if child == 0:
            result = asyncio.run(_live(home, [globals()[name] for name in json.loads(order)]))
            os.write(found, json.dumps(result).encode() + b"\n")
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            os._exit(1)
    os._exit(0)


def main() -> None:
    home = Path(sys.argv[1])
    marked: dict[str, CodeType] = {}
    worded: dict[int, _Worded] = {}
    for module in OTHERS:
        importlib.import_module(module)
    for order in sys.stdin:
        wording, *chapters = json.loads(order)
        if wording and not marked:
            marked = _marked()
        if wording not in worded:
            worded[wording] = _Worded(home, wording, marked)
        found = worded[wording].lives(chapters)
        if not found:
            sys.exit("a chapter failed")
        sys.stdout.write(found)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
