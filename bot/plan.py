"""How a run makes its experiments, by the settings."""

from __future__ import annotations

from collections.abc import Mapping

from bot.setup.data import needed_data
from bot.setup.settings import Settings
from bot.setup.trainings import where_data_lies
from loop.engine.plan import Plan
from loop.engine.stages import KeepRule
from loop.experiment import Run
from loop.git.repository import with_imports
from loop.lanes.node import Recipe
from loop.process.environment import PREPARE, Launcher, prepare_line
from loop.sandbox.sandbox import Sandbox


def make_plan(
    settings: Settings, run: Run, *, launcher: Launcher, environ: Mapping[str, str], sandbox: Sandbox
) -> Plan:
    rule = KeepRule(
        run.metric,
        run.goal,
        settings.simplicity_gain,
        settings.simplicity_lines,
        settings.summary_pattern,
        settings.equal_within,
    )
    data = needed_data(settings, run.repository, run.base_commit, launcher.environ)
    prepared = prepare_line(run.repository, settings.train_command, settings.editable)
    return Plan(
        rule=rule,
        launcher=launcher,
        deadline=settings.deadline(run.time_budget),
        sandbox=sandbox,
        data=where_data_lies(settings, launcher.environ, data.paths),
        readable=settings.sandbox_read,
        writable=settings.sandbox_write,
        hidden=(settings.home,),
        withheld=frozenset(environ.keys() - launcher.environ.keys()),
        lists={
            "LINK_PATHS": ",".join(settings.link_paths),
            "SANDBOX_READ": ",".join(map(str, settings.sandbox_read)),
            "SANDBOX_WRITE": ",".join(map(str, settings.sandbox_write)),
            "TRAIN_ENV": ",".join(settings.train_env),
        },
        preparation=prepared if PREPARE in settings.frozen else "",
        network=settings.allow_network,
        link_paths=settings.link_paths,
        recipe=_recipe(settings, run) if settings.executor == "ray" else None,
        evaluate=settings.evaluate,
        crash_streak=settings.crash_streak,
        noise_runs=settings.noise_runs_of(run.time_budget),
        certify_repeats=settings.certify_repeats,
    )


def _recipe(settings: Settings, run: Run) -> Recipe:
    editable = settings.editable
    return Recipe(
        editable=editable,
        frozen=with_imports(run.repository, run.base_commit, settings.frozen, editable=editable),
        command=settings.train_command,
        variables=settings.train_env,
        deadline=settings.deadline(run.time_budget),
        sandbox=settings.sandbox,
        needs_sandbox=settings.has_models,
        network=settings.allow_network,
        data=settings.data_paths if settings.names_data else (),
        readable=settings.sandbox_read,
        writable=settings.sandbox_write,
        evaluate=settings.evaluate,
    )
