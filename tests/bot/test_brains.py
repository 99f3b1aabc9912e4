from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bot.real_bot import TOY, RealBot

KEY = "a-key-of-nobody-knows-what"

AGENT = """\
import os, re, sys
prompt = sys.stdin.read()
assert os.environ["OPENAI_API_KEY"] == {key!r}
program = open("train.py").read()
if "the end of its log" in prompt:
    program, said = program.replace("bug", "0.011"), "without the bug"
elif "as wide as you can" in prompt:
    program, said = program.replace("WIDTH = 64", "WIDTH = 128"), "as wide as can be"
else:
    program, said = re.sub(r"LEARNING_RATE = [^ ]+", "LEARNING_RATE = bug", program), "something clever"
open("train.py", "w").write(program)
print("Description:", said)
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
    agent.write_text(AGENT.format(key=KEY))
    return RealBot(
        tmp_path / "bot",
        train=TRAIN,
        PROPOSER="agent",
        AGENT_COMMAND=f"{sys.executable} '{agent}'",
        OPENAI_API_KEY=KEY,
        LLM_BUDGET_USD="1",
    )


def test_an_agent_makes_ideas_into_programs_and_mends_what_crashed(bot: RealBot) -> None:
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


def test_without_any_model_that_can_be_asked_the_search_goes_on(bot: RealBot) -> None:
    bot.environment["AGENT_COMMAND"] = "no-such-agent"
    done = bot.run("up", "--experiments", "1", "--exit-when-done")
    assert done.returncode == 0, done.stderr
    assert {row["proposer"] for row in bot.json("results")} == {"baseline", "search"}
    assert done.stdout.count("needs a person: agent is out of reach") == 1
