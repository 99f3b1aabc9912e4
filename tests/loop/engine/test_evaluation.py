"""Numbers that would be kept are evaluated first: with real processes, and an evaluator without models."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

from loop.engine.judging.evaluations import OWN
from loop.errors import UserError
from loop.evaluation.evaluator import MODEL, NONE, Evaluator
from loop.evidence import Belief
from loop.experiment import EventKind, Experiment, Run, RunState, Stage, Status
from loop.process import together
from loop.process.trainer import Limits
from loop.results.report import read_wakeup_report
from loop.sandbox.sandbox import SandboxKind, find_sandbox
from loop.store.evidence.verdicts import read_evaluation
from tests.bot.preloaded import forking_workers
from tests.loop.engine.engines import conduct, end
from tests.loop.evaluation import toy_evaluator_text
from tests.loop.lab import Lab, program, value
from tests.loop.preloaded import preloaded

ONCE = """\
mine = {gate!r} + ".model"
if os.path.exists(mine):
    value = {value}
else:
    with open(mine + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(mine + ".new", mine)
    {once}
"""
"""A model that does something the first time that it is asked, and then has its value."""


def trained(printed: float, model: str = "", before: str = "") -> str:
    """Return a program that prints a number and saves a model, which has that number unless it is given."""
    return program(
        f"{before}\nopen('model.pt', 'w').write({model or f'value = {printed}'!r})\nsummary({printed})"
    )


@pytest.fixture(autouse=True)
def forked_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    forking = forking_workers(lambda: preloaded().orders, together.__name__)
    monkeypatch.setattr("loop.process.programs.start_worker", forking)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    preloaded()
    before = set(psutil.Process().children(recursive=True))
    lab = Lab(tmp_path / "lab", trained(1.5), files={"evaluate.py": toy_evaluator_text()})
    yield lab
    lab.close()
    left = set(psutil.Process().children(recursive=True)) - before
    assert not psutil.wait_procs(left, timeout=60)[1]  # who waited for a forked one ends just after it


def beside(lab: Lab, name: str) -> Path:
    return lab.gate.with_suffix(f".{name}")


def hanging(lab: Lab, number: float, once: str = "while True: time.sleep(60)") -> str:
    """Return a program whose model does `once` the first time, and says its process."""
    return trained(number, "import os, time\n" + ONCE.format(gate=str(lab.gate), value=number, once=once))


async def until_asked(lab: Lab) -> psutil.Process:
    """Wait until the model of `hanging` is asked; return its process, as it calls itself."""
    mine = beside(lab, "model")
    while not mine.exists():  # noqa: ASYNC110 - a file tells nobody
        await asyncio.sleep(0.005)
    return psutil.Process(int(mine.read_text()))


def last(lab: Lab) -> Experiment:
    return lab.experiments()[-1]


async def make(lab: Lab, *programs: str) -> Experiment:
    await lab.engine(*programs).conduct(len(programs))
    lab.check_invariants()
    return last(lab)


async def test_a_number_that_the_model_has_is_kept(lab: Lab) -> None:
    assert (await make(lab, trained(1.6), trained(1.4))).status is Status.KEEP
    found = [read_evaluation(lab.journal, lab.run.id, number) for number in range(3)]
    assert [one and one.belief for one in found] == [Belief.BELIEVED, None, Belief.BELIEVED]
    assert found[2] is not None
    assert found[2].numbers["gain_val"] == pytest.approx(0.1)
    assert found[2].k == 1


async def test_only_losses_of_what_is_or_may_be_a_head_are_kept(lab: Lab) -> None:
    await make(lab, trained(1.4), trained(1.2, "value = 1.3"), trained(1.35), trained(1.3), trained(1.25))
    names = {path.name for path in lab.folders.losses.iterdir()}
    assert names == {"1.npz", "3.npz", "4.npz", "5.npz"}


async def test_what_its_model_does_not_bear_out_is_no_keep(lab: Lab) -> None:
    await make(lab, trained(1.2, "value = 1.45"), trained(1.2, "value, audit = 1.2, 1.5"), value(1.4))
    _, other_number, no_gain, no_model = lab.experiments()
    assert other_number.status is no_gain.status is Status.DISCARD
    assert "1.450000" in other_number.reason
    decided = [event for event in lab.journal.events_after(0) if event.kind is EventKind.EVALUATED]
    assert decided[1].data["belief"] == Belief.NOT_BELIEVED
    assert no_model.status is Status.QUARANTINE
    assert MODEL in no_model.doubts[0]


async def test_an_evaluation_answers_every_doubt_but_that_of_the_time(lab: Lab) -> None:
    large, longer = trained(1.1), trained(1.0).replace("summary(1.0)", "summary(1.0, seconds=400)")
    await make(lab, large, longer)
    _, believed, late = lab.experiments()
    assert (believed.status, believed.doubts) == (Status.KEEP, ())
    assert (late.status, len(late.doubts)) == (Status.QUARANTINE, 1)
    assert "it trained 400 s" in late.doubts[0]


async def test_the_same_gain_is_doubted_where_nothing_evaluates_it(lab: Lab) -> None:
    await lab.engine(trained(1.1), evaluate=NONE).conduct(1)
    assert last(lab).status is Status.QUARANTINE
    assert "out of scale" in last(lab).doubts[0]


async def test_what_is_within_the_noise_need_not_show_on_the_audit_text(tmp_path: Path) -> None:
    measured = "n = 1.5 + (SEED - 42) * 0.03\nopen('model.pt', 'w').write(f'value = {n}')\nsummary(n)"
    lab = Lab(
        tmp_path / "lab", program(f"SEED = 42\n{measured}"), files={"evaluate.py": toy_evaluator_text()}
    )
    await lab.engine(trained(1.4, "value, audit = 1.4, 1.5"), noise_runs=2).conduct(1)
    assert last(lab).status is Status.KEEP  # without noise it is not believed, as tested above
    lab.close()


UNSCORED = {
    "import os; os._exit(3)": "gave no answer",
    "print('nonsense')\nvalue = 1.4": "gave no answer",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "was killed",
    "value = float('nan')": "no numbers",
    "import os\nwhile True: os.write(2, b'x' * 65536)": "took too long",
    "while True: pass": "took too long",
    "import os, time\nwhile os.fork(): pass\ntime.sleep(60)": "too many processes",
    "hoard = []\nwhile True: hoard.append(b'x' * 10**7)": "more memory",
}
"""Models, each with what is said of it."""


async def test_a_model_that_cannot_be_scored_is_in_quarantine(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [*UNSCORED.values()]

    def limited(*args: Any, **kwargs: Any) -> Evaluator:
        number = len(lab.experiments()) - 1
        # The others answer, and on a busy machine Python takes seconds to start.
        seconds = 1.0 if number > 0 and "too long" in said[number - 1] else 60.0
        return Evaluator(*args, **kwargs, limits=Limits(processes=50, memory=2**28), seconds=seconds)

    monkeypatch.setattr("loop.engine.trainings.Evaluator", limited)
    await make(lab, *[trained(1.4, model) for model in UNSCORED])
    _, *found = lab.experiments()
    assert [each.status for each in found] == [Status.QUARANTINE] * len(said)
    for each, why in zip(found, said, strict=True):
        assert why in each.doubts[0]


@pytest.mark.parametrize("kind", [SandboxKind.NONE, SandboxKind.BWRAP, SandboxKind.LANDLOCK])
async def test_no_training_and_no_model_sees_the_secret_text(kind: SandboxKind) -> None:
    try:
        sandbox = find_sandbox(kind)
    except UserError as error:
        pytest.skip(str(error))
    with TemporaryDirectory(dir="/var/tmp") as folder:
        lab = Lab(Path(folder) / "lab", trained(1.5), files={"evaluate.py": toy_evaluator_text()})
        secret = beside(lab, "audit")
        secret.write_text("secret")
        look = f"try: seen = 'secret' in open({str(secret)!r}).read()\nexcept OSError: seen = False"
        programs = [trained(1.3, "value = 1.3", f"{look}\nif seen: os._exit(1)")]
        programs += [trained(1.2, f"{look}\nvalue = 0 if seen else 1.2")]
        await lab.engine(*programs, sandbox=sandbox, readable=(lab.folder,)).conduct(2)
        found = [each.status for each in lab.experiments()[1:]]
        lab.close()
    hidden = kind is not SandboxKind.NONE
    assert found == ([Status.KEEP, Status.KEEP] if hidden else [Status.CRASH, Status.DISCARD])


# A run without evaluation


async def test_a_baseline_without_a_model_ends_the_evaluation_of_its_run(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", value(1.5), files={"evaluate.py": toy_evaluator_text()})
    found = await make(lab, trained(1.4, "value = 1.45"), value(1.3))
    assert found.status is Status.KEEP
    notices = [event.data["reason"] for event in lab.journal.events_after(0) if event.kind is EventKind.NOTED]
    assert len(notices) == 1
    assert OWN in str(notices[0])
    lab.close()


async def test_another_program_of_that_name_is_not_called(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", value(1.5), files={"evaluate.py": "raise SystemExit('not for you')"})
    assert (await make(lab, value(1.4))).status is Status.KEEP
    lab.close()


async def test_evaluation_can_be_switched_off(lab: Lab) -> None:
    await lab.engine(trained(1.4, "value = 1.45"), evaluate=("none",)).conduct(1)
    assert last(lab).status is Status.KEEP
    assert read_evaluation(lab.journal, lab.run.id, 1) is None


async def test_an_evaluator_of_another_name_is_called(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", trained(1.5), files={"judge.py": toy_evaluator_text()})
    await lab.engine(trained(1.4, "value = 1.45"), evaluate=("python", "judge.py")).conduct(1)
    assert last(lab).status is Status.DISCARD
    with pytest.raises(UserError, match=r"no other\.py"):
        await lab.engine(evaluate=("python", "other.py")).conduct(1)
    lab.close()


def in_report(lab: Lab) -> bool | None:
    return read_wakeup_report(lab.journal, lab.now(), until=lab.journal.clock()).evaluated


@pytest.mark.parametrize(
    ("baseline", "evaluate", "expected"),
    [(trained(1.5), (), True), (trained(1.5), NONE, False), (value(1.5), (), False)],
)
async def test_the_report_knows_whether_anything_checked_the_numbers(
    tmp_path: Path, baseline: str, evaluate: tuple[str, ...], expected: bool
) -> None:
    lab = Lab(tmp_path / "lab", baseline, files={"evaluate.py": toy_evaluator_text()})
    assert in_report(lab) is None
    await lab.engine(trained(1.1), evaluate=evaluate).conduct(1)  # a gain that plausibility looks at, too
    assert in_report(lab) is expected
    lab.close()


# Damaged data


async def test_a_run_does_not_begin_on_damaged_data(lab: Lab) -> None:
    beside(lab, "damaged").write_text("val_00000.npy is damaged: run prepare.py.")
    with pytest.raises(UserError, match="damaged: run"):
        await lab.engine(trained(1.4)).conduct(1)
    assert not lab.experiments()


async def test_nothing_is_kept_on_data_that_was_damaged_meanwhile(lab: Lab) -> None:
    damage = f"open({str(lab.gate)!r} + '.damaged', 'w').write('val_00000.npy is damaged.')"
    found = await make(lab, trained(1.4, before=damage))
    assert found.status is Status.QUARANTINE
    assert "damaged" in found.doubts[0]


# Commands meanwhile


async def test_a_pause_ends_an_evaluation_and_it_is_made_again(lab: Lab) -> None:
    engine = lab.engine(hanging(lab, 1.4), trained(1.3))
    conducting = conduct(engine, 2)
    model = await until_asked(lab)
    async with asyncio.timeout(30):
        await engine.pause(now=True)
        await asyncio.to_thread(psutil.wait_procs, [model], timeout=30)
    assert not model.is_running()
    assert (last(lab).stage, lab.now().state) == (Stage.MEASURED, RunState.PAUSED)
    await engine.resume()
    await conducting
    assert [each.status for each in lab.experiments()] == [Status.KEEP] * 3
    assert [each.attempt for each in lab.experiments()] == [1] * 3


async def test_skip_gives_up_what_is_evaluated(lab: Lab) -> None:
    engine = lab.engine(hanging(lab, 1.4), trained(1.3))
    conducting = conduct(engine, 1)
    await until_asked(lab)
    async with asyncio.timeout(30):
        assert (await engine.skip()).number == 1
    await conducting
    assert [each.status for each in lab.experiments()] == [Status.KEEP, Status.SKIP, Status.KEEP]


async def test_skip_gives_up_no_number_that_only_plausibility_looks_at(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = lab.engine(value(1.4), evaluate=NONE)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def look(_: Run, measured: Experiment) -> None:
        if measured.number:
            asked.set()
            await answer.wait()

    monkeypatch.setattr(engine.evaluations, "of", look)
    conducting = conduct(engine, 1)
    await asked.wait()
    with pytest.raises(UserError, match="#1 has just ended"):
        await engine.skip()
    answer.set()
    await conducting
    assert last(lab).status is Status.KEEP


async def test_stop_gives_up_what_is_evaluated(lab: Lab) -> None:
    engine = lab.engine(hanging(lab, 1.4))
    conducting = conduct(engine, 2)
    model = await until_asked(lab)
    async with asyncio.timeout(30):
        await engine.stop()
        await conducting
        await asyncio.to_thread(psutil.wait_procs, [model], timeout=30)
    assert not model.is_running()
    assert last(lab).status is Status.SKIP
    assert not lab.folders.trainings.exists()


async def test_a_number_that_waits_in_a_pause_still_waits_after_a_restart(lab: Lab) -> None:
    programs = hanging(lab, 1.4), trained(1.3)
    engine = lab.engine(*programs)
    conducting = conduct(engine, 2)
    await until_asked(lab)
    await engine.pause(now=True)
    await end(conducting)
    engine = lab.engine(*programs)
    conducting = conduct(engine, 1)
    while not engine.under_way:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.005)
    await engine.resume()
    await conducting
    assert (last(lab).status, last(lab).attempt) == (Status.KEEP, 1)


BOT = """\
import asyncio, sys
from pathlib import Path
from tests.loop.lab import Lab
lab = Lab.__new__(Lab)
lab.reopen(Path(sys.argv[1]))
asyncio.run(lab.engine(sys.argv[2]).conduct(1))
"""


async def test_an_evaluation_ends_with_the_bot_and_is_made_again(lab: Lab) -> None:
    source = hanging(lab, 1.4)
    command = (sys.executable, "-c", BOT, str(lab.folder), source)
    lab.journal.close()
    bot = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[3])
    model = await until_asked(lab)
    family = psutil.Process(bot.pid).children(recursive=True)
    assert model in family
    os.kill(bot.pid, signal.SIGKILL)
    _, left = await asyncio.to_thread(psutil.wait_procs, family, timeout=30)
    assert not left
    lab.reopen(lab.folder)
    assert last(lab).stage is Stage.MEASURED
    assert (await make(lab, source)).status is Status.KEEP
    assert last(lab).attempt == 1
