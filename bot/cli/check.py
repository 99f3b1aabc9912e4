"""`autoresearch check`: what the guard finds in a program, before anything trains it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from bot.cli import print_json, say
from bot.setup.settings import Settings
from bot.setup.template import embedded_folder
from loop.errors import UserError
from loop.evaluation.guard.examine import examine, module_names, refused
from loop.evidence import Finding, Severity
from loop.git.repository import decode, inspect, with_imports
from loop.program.fingerprint import fingerprint
from loop.proposers.calling import experiment_text
from loop.store.experiments import with_program
from loop.store.journal import Journal
from notifiers.text.words import plural


def check_file(settings: Settings, file: Path, repository: Path | None, *, as_json: bool) -> bool:
    """Print what the guard finds in a file; return whether it would be refused."""
    findings = find(settings, read(file), repository)
    is_refused = bool(refused(findings, strict=settings.guard == "strict"))
    if as_json:
        print_json({"refused": is_refused, "findings": [asdict(finding) for finding in findings]})
    else:
        say(table(findings, is_refused=is_refused))
    return is_refused


def read(file: Path) -> str:
    try:
        return decode(file.read_bytes(), str(file))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None


def find(settings: Settings, source: str, repository: Path | None) -> tuple[Finding, ...]:
    """Return what is found in a program; in a repository against its base and what it trained."""
    given, repository = repository, repository or embedded_folder(settings)
    if given is None and not repository.exists():
        return examine(source, frozen=module_names(settings.frozen), metric=settings.metric)
    editable = settings.editable
    facts = inspect(repository, settings.base_branch or None, editable=editable, frozen=settings.frozen)
    frozen = with_imports(facts.path, facts.base_commit, settings.frozen, editable=editable)

    def earlier(program: str) -> str | None:
        is_base = program == fingerprint(facts.source)
        return _trained(settings, facts.path, program) or ("the base program" if is_base else None)

    return examine(
        source, base=facts.source, frozen=module_names(frozen), metric=settings.metric, earlier=earlier
    )


def _trained(settings: Settings, repository: Path, program: str) -> str | None:
    """Return which experiment of the repository's newest run has this fingerprint."""
    state = settings.home / "state.db"
    if not state.exists():
        return None
    with closing(Journal(state, read_only=True)) as journal:
        runs = [run for run in journal.runs() if run.repository.resolve() == repository]
        experiment = with_program(journal, runs[-1].id, program) if runs else None
    return experiment_text(experiment, runs[-1].metric) if experiment else None


def table(findings: Sequence[Finding], *, is_refused: bool) -> str:
    """Return a line for each finding, its line in the program first, and what comes of them."""
    if not findings:
        return "Nothing found."
    lines = [f"{each.line:5d}  {each.severity:<6}  {each.message}" for each in findings]
    if is_refused:
        return "\n".join((*lines, "It would be refused."))
    flags, notes = (sum(each.severity is one for each in findings) for one in (Severity.FLAG, Severity.NOTE))
    said = [plural(flags, "flag")] * bool(flags) + [plural(notes, "note")] * bool(notes)
    return "\n".join((*lines, f"It would be trained, with {' and '.join(said)}."))
