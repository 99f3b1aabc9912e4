from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bot.proposers import make_researcher
from bot.setup.doctor import examine
from bot.setup.settings import load_settings
from bot.setup.sources import KINDS, read_sources
from loop.experiment import Reason, Run, Status
from loop.git.workspace import Workspace
from loop.proposers.agent.coding_agent import MARK
from loop.proposers.calling import unavailable
from tests.bot.constant_proposer import CONSTANT
from tests.bot.real_bot import TOY, RealBot
from tests.loop.lab import Lab, git, program

KEY = "a-key-of-nobody-knows-what"
HIDDEN = "a-token-that-looks-like-nothing"

AGENT = """\
import os, sys
prompt = sys.stdin.read()
assert {hidden!r} not in prompt and "`edits`" not in prompt
assert os.environ["OPENAI_API_KEY"] == {key!r}
program = open("train.py").read()
if "the end of its log" in prompt:
    assert "ZeroDivisionError" in prompt and "the token ***" in prompt
    program, said = program.replace("1 / 0", "0.011"), "without the bug"
elif "as wide as you can" in prompt:
    program, said = program.replace("WIDTH = 64", "WIDTH = 128"), "as wide as can be"
else:
    program, said = program.replace('print("---")', 'CLEVER = 1 / 0\\nprint("---")'), "something clever"
open("train.py", "w").write(program)
print("Description:", said)
print("Rationale: I have read " + {hidden!r})
print("Family: architecture")
"""

TRAIN = TOY.replace(
    "import os\n",
    "import os\nassert not [name for name in os.environ if 'KEY' in name or 'TOKEN' in name]\n",
    1,
)


@pytest.fixture
def bot(tmp_path: Path) -> RealBot:
    agent = tmp_path / "my agent.py"
    agent.write_text(AGENT.format(key=KEY, hidden=HIDDEN))
    secret = tmp_path / "secret"
    secret.write_text(HIDDEN)
    made = RealBot(
        tmp_path / "bot",
        train=TRAIN.replace(
            "LEARNING_RATE", f"print('the token', open({str(secret)!r}).read())\nLEARNING_RATE", 1
        ),
        PROPOSER="agent",
        AGENT_COMMAND=f"{sys.executable} '{agent}'",
        OPENAI_API_KEY=KEY,
        LLM_BUDGET_USD="1",
    )
    (made.folder / ".env").write_text(f"TELEGRAM_WEBHOOK_SECRET={HIDDEN}\n")
    return made


def test_an_agent_makes_ideas_into_programs_and_mends_what_crashed(bot: RealBot) -> None:
    (bot.repository / ".git/info").mkdir(exist_ok=True)
    (bot.repository / ".git/info/exclude").write_text("ideas.md\n")
    (bot.repository / "ideas.md").write_text("# For tonight\n- make it as wide as you can\n- [x] done\n")
    done = bot.run("up", "--experiments", "4", "--exit-when-done")
    assert done.returncode == 0, done.stderr
    results = {row["description"]: row for row in bot.json("results")}
    assert results["baseline"]["status"] == "keep"
    assert (results["as wide as can be"]["status"], results["as wide as can be"]["val_bpb"]) == ("keep", 1.01)
    assert results["something clever"]["status"] == "crash"
    assert results["without the bug"]["val_bpb"] is not None
    assert "Experiment #1: as wide as can be\n" in done.stdout
    files = (path for path in bot.home.rglob("*") if path.is_file())
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not [path for path in bot.home.glob("state.db*") if HIDDEN.encode() in path.read_bytes()]


def test_what_a_crash_says_is_told_without_secrets(bot: RealBot) -> None:
    bot.environment["PROPOSER"] = "search"
    program = (bot.repository / "train.py").read_text().replace("print('the token',", "raise KeyError(")
    (bot.repository / "train.py").write_text(program)
    git(bot.repository, "commit", "--quiet", "--all", "--message=crash")
    done = bot.run("up", "--experiments", "1", "--exit-when-done")
    assert "KeyError: '***'" in done.stdout
    assert HIDDEN not in done.stdout
    assert not [p for p in bot.home.glob("state.db*") if HIDDEN.encode() in p.read_bytes()]
    assert not [p for p in (bot.home / "runs").rglob("*.log") if HIDDEN in p.read_text()]


def test_agents_that_another_bot_left_behind_are_ended_at_the_start(bot: RealBot) -> None:
    bot.environment["PROPOSER"] = "search"
    left = bot.home / "agents" / "own" / "0123"
    (left / "checkout").mkdir(parents=True)
    agent = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"], env={**bot.environment, MARK: str(left)}
    )
    try:
        done = bot.run("up", "--experiments", "1", "--exit-when-done")
        assert done.returncode == 0, done.stderr
        assert agent.poll() == -signal.SIGKILL
        assert not left.exists()
    finally:
        agent.kill()
        agent.wait()


def test_without_any_model_that_can_be_asked_the_search_goes_on(bot: RealBot) -> None:
    usual, order = bot.environment, ("up", "--experiments", "1", "--exit-when-done")
    bot.environment = usual | {"PROPOSER": "search"}
    assert bot.run(*order).returncode == 0
    bot.environment = usual | {"AGENT_COMMAND": "no-such-agent"}  # gone: a new run would be refused
    done = bot.run(*order)
    assert done.returncode == 0, done.stderr
    assert len(bot.json("results")) == 3
    assert {row["proposer"] for row in bot.json("results")} == {"baseline", "search"}
    reason = unavailable("agent", "no-such-agent is not installed")
    assert done.stdout.count(f"needs you: {reason}") == 1, done.stdout


async def test_another_proposer_is_its_module_and_one_entry(tmp_path: Path) -> None:
    kinds = (*KINDS, CONSTANT)
    with pytest.raises(ValueError, match=rf", {CONSTANT.usage}, several by comma"):
        read_sources("constant:much", kinds)
    lab = Lab(tmp_path, program("LEARNING_RATE = 0.04\nsummary(1 + LEARNING_RATE)"))
    settings = load_settings(Path("/no/such/.env"), {}, home=lab.home)
    settings = settings.model_copy(update={"proposer": read_sources("constant:0.01", kinds)})

    async def pause(run: Run, reason: Reason) -> None:
        raise AssertionError(f"{run.tag} is paused: {reason}")

    researcher = make_researcher(
        settings,
        lab.run,
        journal=lab.journal,
        workspace=Workspace(repository=lab.repository, path=lab.worktree, tag=lab.run.tag),
        folders=lab.folders,
        environ={},
        pause=pause,
        kinds=kinds,
    )
    try:
        await lab.engine(ideas=researcher).conduct(1)
        _, changed = lab.experiments()
        assert (changed.proposer, changed.value, changed.status) == ("constant", 1.01, Status.KEEP)
        assert [check.ok for check in examine(settings) if check.name == "constant:0.01"] == [True]
    finally:
        lab.close()
