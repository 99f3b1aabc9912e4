"""How trainings run by the settings, examined before one does: their files, their Python, their sandbox."""

from __future__ import annotations

import ast
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bot.setup.data import needed_data
from bot.setup.doctor import DATA, Check, examine, facts_of, nearest
from bot.setup.settings import Settings
from bot.setup.template import TRAIN_EXTRA, TRAIN_MODULES, template_files
from loop.errors import UserError
from loop.evaluation.evaluator import NONE, Description, Evaluator, command_of, evaluator_of
from loop.files import remove, temporary_folder
from loop.git.checkout import Source
from loop.git.commands import locate
from loop.git.repository import EVALUATOR, RepositoryFacts, ignored_mentions, with_imports
from loop.lanes.cache import fill_anew
from loop.lanes.node_setup import make_bundle
from loop.process.environment import (
    Launch,
    Launcher,
    data_folders,
    find_missing_imports,
    interpreter_of,
    readable_for,
    training_environment,
)
from loop.program.constants import parse
from loop.sandbox.proof import Check as Attempt
from loop.sandbox.proof import SandboxFacts, clear_proofs, prove
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from loop.sandbox.view import View, check_named
from loop.shell import install_line
from notifiers.text.status import BREAKS, sandbox_text
from notifiers.text.words import some

_PACKAGES = {"cv2": "opencv-python", "PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def start_checks(
    settings: Settings,
    environ: Mapping[str, str],
    sandbox: Callable[[], SandboxFacts] | None = None,
    *,
    quickly: bool = False,
    facts: RepositoryFacts | None = None,
) -> tuple[Check, ...]:
    """Look at all that a run needs: `up` starts none where one of these fails, and `doctor` says which.

    `facts` are those of the run's repository, which is also made where none is set.
    """
    settings = settings.model_copy(update={"repository": facts.path}) if facts else settings
    checks = examine(settings, facts)
    if settings.executor == "ray":  # each node is looked at as it is prepared
        return (*checks, *filter(None, [_sent_to_nodes(settings, facts)]))
    found = (*checks, *examine_trainings(settings, environ, sandbox, quickly=quickly, facts=facts))
    return tuple(sorted(found, key=lambda check: check.name == DATA))  # what prepares it needs the others


def examine_trainings(
    settings: Settings,
    environ: Mapping[str, str],
    sandbox: Callable[[], SandboxFacts] | None = None,
    *,
    quickly: bool = False,
    facts: RepositoryFacts | None = None,
) -> Iterator[Check]:
    """Look at what keeps a training from starting, or lets it do harm; takes seconds, leaves nothing.

    A bot that runs has its `sandbox` examined already, and perhaps the `facts` of the repository. Done
    `quickly`, no evaluator reads all data.
    """
    environment = training_environment(environ, {}, let_through=settings.train_env)
    with temporary_folder() as folder:
        project = folder / "project"
        if settings.repository is None:
            project.mkdir()
            for name, text in template_files("cpu").items():
                (project / name).write_text(text, encoding="utf-8")
            yield _python(settings, project, None, environment)
            where: tuple[Path, str, Path | None] | None = project, "", None
        else:
            where = yield from _repository(settings, settings.repository, project, environment, facts)
        if where and not quickly:
            yield _evaluation(settings, *where, environment)
    yield sandbox_check(sandbox or (lambda: _examine_from_outside(settings, environment)))


def _repository(
    settings: Settings,
    repository: Path,
    project: Path,
    environment: Mapping[str, str],
    facts: RepositoryFacts | None,
) -> Generator[Check, None, tuple[Path, str, Path | None] | None]:
    """Look at a repository's files; return where a training's are, their commit and the checkout."""
    editable, facts = settings.editable, facts or _facts(settings, repository)
    if facts is None:
        return None
    commit, checkout = facts.base_commit, locate(repository).top
    try:
        frozen = with_imports(repository, commit, settings.frozen, editable=editable)
        source = Source(repository, commit, editable=editable, frozen=frozen, link_paths=settings.link_paths)
        fill_anew(source, project, commit, facts.source)
    except UserError as error:
        yield Check("files", False, str(error))
        if checkout is None:
            return None
        project = checkout
    else:
        linked = f"; linked: {some([*source.links], 'path')}" if source.links else ""
        yield Check("files", True, f"every file of commit {commit[:7]} is here{linked}")
    if checkout is not None:
        yield from _mentions(settings, checkout)
    yield _python(settings, project, checkout, environment)
    return project, commit, checkout


def _facts(settings: Settings, repository: Path) -> RepositoryFacts | None:
    """Return what is known of a repository, None where a check of its own says what is wrong."""
    with suppress(UserError):
        return facts_of(settings, repository)
    return None


def _sent_to_nodes(settings: Settings, facts: RepositoryFacts | None) -> Check | None:
    assert settings.repository is not None, "a cluster trains no template"
    if (facts := facts or _facts(settings, settings.repository)) is None:
        return None
    try:
        make_bundle(settings.repository, facts.base_commit, settings.editable, facts.source)
    except UserError as error:
        return Check("files", False, str(error))
    return Check("files", True, f"every file of commit {facts.base_commit[:7]} is here")


def _mentions(settings: Settings, checkout: Path) -> Iterator[Check]:
    known = settings.link_paths
    found = [
        mention
        for mention in ignored_mentions(checkout, (settings.editable, *settings.frozen))
        if not any(f"{mention.link}/".startswith(f"{path}/") for path in known)
    ]
    if found:
        names = some([mention.path for mention in found], "path")
        detail = f"{names}: named in the program but ignored by git, so no training will have it"
        links = ",".join((*known, *(mention.link for mention in found)))
        yield Check("files", None, detail, f"If it reads that, set LINK_PATHS={links} (linked, read-only).")


# The Python


def _python(
    settings: Settings, project: Path, checkout: Path | None, environment: Mapping[str, str]
) -> Check:
    name = "training"
    try:
        launch = make_launcher(settings, environment).find(project, checkout)
        if launch is None:
            detail = "with the packages of uv.lock, which uv installs at the start of a run"
            return Check(name, True, f"{detail}; imports not checked yet")
        needed, lazy, elsewhere = _imports(project, (settings.editable, *settings.frozen))
    except UserError as error:
        return Check(name, False, str(error))
    place = shutil.which(launch.argv[0], path=environment.get("PATH"))
    python = interpreter_of(Path(place)) if place else None
    if python is None:
        return Check(name, True, f"by {place or launch.argv[0]}; its imports are not checked")
    # What a training would find is not to be shadowed by what lies where the doctor is called.
    searched = {**environment, **launch.environment, "PYTHONSAFEPATH": "1"}
    failed = find_missing_imports(python, [*needed, *lazy], searched)
    which = _which(settings, python, launch, checkout)
    if failed:
        names = [failure.partition(" ")[0] for failure in failed]
        detail = f"by {which}; it cannot import {some(failed, 'module')}"
        fix = _install(settings, python, launch, names)
        if elsewhere:
            return Check(name, None, f"{detail}, unless they are where the program adds to sys.path", fix)
        if settings.editable not in launch.argv:  # another program, which may do without them
            return Check(name, None, f"{detail}, if TRAIN_COMMAND runs {settings.editable}", fix)
        return Check(name, None if set(names) <= set(lazy) else False, detail, fix)
    imports = f"; it imports {some((*needed, *lazy), 'module')}" if needed or lazy else ""
    return Check(name, True, f"by {which}{imports}")


def make_launcher(settings: Settings, environment: Mapping[str, str]) -> Launcher:
    return Launcher(
        settings.home / "environments",
        override=settings.train_command,
        editable=settings.editable,
        environ=environment,
    )


def _which(settings: Settings, python: Path, launch: Launch, checkout: Path | None) -> str:
    if launch.environment:  # that of a lock file
        own = checkout is not None and python.is_relative_to(checkout)
        return f"{python}, {'which fits uv.lock' if own else 'installed from uv.lock'}"
    if settings.train_command:
        return f"TRAIN_COMMAND with {python}"
    return f"the bot's Python, {python}"


def _install(settings: Settings, python: Path, launch: Launch, modules: Sequence[str]) -> str:
    packages = [_PACKAGES.get(module, module) for module in modules]
    if launch.environment:
        return f"Run in the repository: uv add {' '.join(packages)}; commit uv.lock and pyproject.toml."
    if not settings.train_command and set(modules) <= {*TRAIN_MODULES}:
        packages = [TRAIN_EXTRA]
    own = settings.repository is None or settings.train_command
    other = "" if own else f"; or set TRAIN_COMMAND to a Python that has {'them' if modules[1:] else 'it'}"
    return f"Run: {install_line(*packages, python=python)}{other}"


def _imports(project: Path, names: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """Return what programs, and modules beside them, import of other packages: at once, and in functions.

    What is imported in a `try` or an `if` may be missing. The third says whether they look elsewhere too.
    """
    waiting, seen, found, elsewhere = list(names), set(names), set(), False
    own = {path.stem for base in (project, project / "src") if base.is_dir() for path in _modules(base)}
    while waiting:
        path = project / waiting.pop()
        if not path.is_file():
            continue
        beside = {module.stem: module for module in _modules(path.parent)}
        own |= beside.keys()
        source = path.read_text(encoding="utf-8", errors="replace")
        elsewhere = elsewhere or "sys.path" in source
        for module, lazy in _walk(parse(source)):
            if module not in own:
                found.add((module, lazy))
            elif (file := beside.get(module)) and file.is_file():
                name = str(file.relative_to(project))
                waiting += [name] if name not in seen else []
                seen.add(name)
    others = {(module, lazy) for module, lazy in found if module not in (own | sys.stdlib_module_names)}
    needed = {module for module, lazy in others if not lazy}
    return sorted(needed), sorted({module for module, _ in others} - needed), elsewhere


def _modules(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py"))):
            yield path


def _walk(node: ast.AST, *, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name.partition(".")[0], lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module.partition(".")[0], lazy
        elif not isinstance(child, ast.Try | ast.If):
            yield from _walk(child, lazy=lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


# The evaluator


def _evaluation(
    settings: Settings, project: Path, commit: str, checkout: Path | None, environment: Mapping[str, str]
) -> Check:
    """Ask the evaluator what it checks numbers with, as a run does at its start."""
    setting, repository = settings.evaluate, settings.repository
    offered = "" if setting == NONE else EVALUATOR  # by the embedded template
    try:
        name = offered if repository is None else evaluator_of(setting, repository, commit)
        launch = None
        with suppress(UserError):
            launch = make_launcher(settings, environment).find(project, checkout)
        if not name or launch is None or needed_data(settings, repository, commit, environment).missing:
            return evaluation_check(name, None)  # a row of its own says what is missing
        command = command_of(setting, launch, environment, project, settings.editable)
        variables = {**environment, **launch.environment}
        evaluator = Evaluator(command, folder=project, environ=variables)
        return evaluation_check(name, asyncio.run(evaluator.describe()))
    except UserError as error:
        return Check("evaluation", False, str(error))


def evaluation_check(name: str, description: Description | None) -> Check:
    """Return what a run's numbers are checked with; `name` is empty for nothing."""
    title = "evaluation"
    if not name:
        return Check(title, True, "none: numbers are the program's own")
    if description is None:
        return Check(title, True, f"{name}, not asked yet")
    if description.damaged:
        return Check(title, False, description.damaged)
    return Check(title, True, f"{name}, audit text: {description.audit or 'none'}")


# The sandbox


def sandbox_check(examine: Callable[[], SandboxFacts]) -> Check:
    name = "sandbox"
    try:
        facts = examine()
    except UserError as error:
        return Check(name, False, str(error))
    except OSError as error:
        return Check(name, False, f"not tried, as the state directory cannot be written: {error.strerror}")
    text, reason = sandbox_text(facts), facts.sandbox.reason
    if facts.sandbox.kind is SandboxKind.NONE:
        return Check(name, None, text, reason or "Set SANDBOX=auto to confine them.")
    broken = any(attempt in BREAKS for attempt in facts.leaks)
    tried = f"{facts.held} of {facts.held + len(facts.leaks)} checks hold"
    return Check(name, False if broken else None if facts.leaks else True, f"{text}; {tried}", reason)


def _examine_from_outside(settings: Settings, environment: Mapping[str, str]) -> SandboxFacts:
    if settings.home.exists():
        return examine_sandbox(settings, environment)
    with tempfile.TemporaryDirectory(dir=nearest(settings.home)) as folder:
        return examine_sandbox(settings.model_copy(update={"home": Path(folder)}), environment)


def examine_sandbox(settings: Settings, environment: Mapping[str, str]) -> SandboxFacts:
    """Find the sandbox that works here and try to break out of it, which takes a second.

    Raises:
        UserError: SANDBOX asks for what does not work here; or nothing works, and models write programs.
        OSError: the state directory takes no files or no sockets.
    """
    hidden = (settings.home,)
    check_named("SANDBOX_READ", settings.sandbox_read, hidden)
    check_named("SANDBOX_WRITE", settings.sandbox_write, hidden)
    kind = None if settings.sandbox == "auto" else SandboxKind(settings.sandbox)
    sandbox = find_sandbox(kind)
    if sandbox.kind is SandboxKind.NONE:
        return SandboxFacts(sandbox) if kind else _unconfined(settings, sandbox)
    view = View(
        settings.home,
        settings.home,
        environment,
        readable=(
            *readable_for(Path(sys.executable)),
            *where_data_lies(settings, environment),
            *settings.sandbox_read,
        ),
        writable=settings.sandbox_write,
        hidden=hidden,
        network=settings.allow_network,
    )
    proof = prove(sandbox, view, sys.executable, state=settings.home, repository=settings.repository)
    if kind is None and (broken := [row for row in proof.rows if row.check in BREAKS and not row.held]):
        # Such as Landlock with an NVIDIA GPU (driver 580): cuInit fails, and torch takes the CPU.
        reason = f"{sandbox.kind.capitalize()} keeps trainings from their work ({broken[0].detail})."
        return _unconfined(settings, Sandbox(SandboxKind.NONE, reason=f"{reason} {sandbox.reason}".strip()))
    wanted = (Attempt.TCP, Attempt.UDP, Attempt.VSOCK) if settings.allow_network else ()
    return SandboxFacts(
        sandbox,
        held=sum(row.held for row in proof.rows),
        leaks=tuple(check for check in proof.summary[1] if check not in wanted),
        reads=settings.sandbox_read,
        writes=settings.sandbox_write,
        network=settings.allow_network,
    )


def _unconfined(settings: Settings, sandbox: Sandbox) -> SandboxFacts:
    """Go without a sandbox where nobody asked for that: not for what models write."""
    if settings.has_models:
        raise UserError(
            f"No sandbox works here, and models would write the programs. {sandbox.reason} "
            "SANDBOX=none runs them with your permissions."
        )
    return SandboxFacts(sandbox)


def where_data_lies(
    settings: Settings, environment: Mapping[str, str], data: Collection[Path] = ()
) -> tuple[Path, ...]:
    """Return what trainings may read as their data."""
    return (*data_folders(environment), *(data or settings.data_paths))


def clear_left(home: Path, runs: Collection[int]) -> None:
    """Remove what bots that were killed left in a state directory, but for the trainings of these runs."""
    for folder in (home / "trainings").glob("[0-9]*"):
        if folder.name not in map(str, runs):
            remove(folder)
    clear_proofs(home)
