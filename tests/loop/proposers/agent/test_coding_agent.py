"""The coding agent as a proposer, with a real process, a real repository and real git."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.experiment import Cost, Family, Status
from loop.proposers.agent.presets import PRESETS, Preset, own_command
from loop.proposers.protocol import Context, NoProgramError, RepairGivenUpError, UnavailableError
from loop.store.experiments import Idea
from tests.loop.lab import Lab, value
from tests.loop.proposers.agent_bench import CHAT_TOKEN, EDITED, KEY, Bench, untouched
from tests.loop.proposers.contexts import context_of
from tests.loop.real_git import TRAIN, commit_files, git, make_repository, refs


@pytest.fixture
def bench(repository: Path, base: str, tmp_path: Path) -> Iterator[Bench]:
    with untouched(repository, base, tmp_path) as made:
        yield made


def claude(bench: Bench, folder: Path, body: str, *, failed: str = "false") -> Preset:
    """Put a program on the bench's path that does `body` and answers as `claude` does; return its preset."""
    result = rf'{{"type":"result","is_error":{failed},"result":"Description: deeper","total_cost_usd":0.25}}'
    program = folder / "tools" / "claude"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{body}\necho '{result}'\n")
    program.chmod(0o755)
    bench.environ["PATH"] = f"{program.parent}:{bench.environ['PATH']}"
    return PRESETS["claude"]


# What it answers


async def test_its_edit_and_its_message_make_a_proposal(bench: Bench) -> None:
    proposal = await bench.agent("edit").propose(bench.context)
    assert proposal.source == EDITED
    assert proposal.description == "a deeper model"
    assert proposal.rationale == "depth helps, and there is time for it"
    assert proposal.expected == "-0.01"
    assert proposal.family is Family.ARCHITECTURE
    assert proposal.parent == bench.context.parent
    assert proposal.proposer == "agent"  # that it is a Python says nothing


async def test_other_files_that_it_changes_are_thrown_away(bench: Bench) -> None:
    proposal = await bench.agent("edit_everything").propose(bench.context)
    assert proposal.source == EDITED


async def test_git_in_its_checkout_reaches_nothing_of_the_user(bench: Bench) -> None:
    await bench.agent("use_git").propose(bench.context)  # and the bench compares repository and refs


async def test_without_its_repository_git_finds_no_other(bench: Bench) -> None:
    git(bench.folder.parent, "init", "--quiet")
    proposal = await bench.agent("delete_git").propose(bench.context)
    assert proposal.source == EDITED


async def test_it_sees_the_parent_not_the_checkout_of_the_user(
    repository: Path, base: str, tmp_path: Path
) -> None:
    commit_files(repository, {"train.py": "DEPTH = 1\n", "data/x.txt": "x"}, "second")
    bench = Bench(repository, base, tmp_path)
    proposal = await bench.agent("edit").propose(bench.context)
    assert proposal.source == EDITED


async def test_the_prompt_is_on_stdin_and_in_a_file(bench: Bench) -> None:
    proposal = await bench.agent("repeat_prompt", "{prompt}").propose(bench.context)
    assert "The metric is val_bpb." in proposal.source
    assert "`train.py`" in proposal.source
    assert proposal.description == "edit by agent"


async def test_mending_begins_with_the_program_that_crashed(bench: Bench) -> None:
    crashed = f"{TRAIN}boom()\n"
    repaired = await bench.agent("edit").repair(bench.context, bench.failure(crashed))
    assert repaired.source == f"{EDITED}boom()\n"
    assert repaired.parent == bench.context.parent


@pytest.mark.parametrize("crashed", ["boom()\n", TRAIN.replace("DEPTH = 8", "DEPTH = 7")])
async def test_what_it_leaves_unmended_or_gives_back_is_hopeless_and_paid(
    bench: Bench, tmp_path: Path, crashed: str
) -> None:
    agent = bench.of(claude(bench, tmp_path, "sed -i 's/DEPTH = 7/DEPTH = 8/' train.py"))
    with pytest.raises(RepairGivenUpError, match="claude gives the repair up: deeper") as caught:
        await agent.repair(bench.context, bench.failure(crashed))
    assert caught.value.cost == Cost(dollars=0.25)


async def test_what_makes_no_program_is_paid_too(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(NoProgramError) as caught:
        await bench.of(claude(bench, tmp_path, "echo 'def (' >train.py")).propose(bench.context)
    assert (caught.value.description, caught.value.cost) == ("deeper", Cost(dollars=0.25))


async def test_one_that_tells_of_a_failure_but_ends_well_has_failed(bench: Bench, tmp_path: Path) -> None:
    agent = bench.of(claude(bench, tmp_path, "", failed="true"))
    with pytest.raises(UnavailableError, match="claude failed with exit status 0: Description: deeper"):
        await agent.propose(bench.context)


async def test_its_edit_is_trained_and_kept(tmp_path: Path) -> None:
    lab = Lab(tmp_path, value(1.0))
    try:
        agent = Bench(lab.repository, lab.base, tmp_path).agent("improve")
        await lab.engine(ideas=agent).conduct(experiments=1)
        _, experiment = lab.experiments()
        assert experiment.status is Status.KEEP
        assert experiment.value == 0.9
        assert experiment.description == "a deeper model"
        lab.check_invariants()
    finally:
        lab.close()


# What it is not given, and what is not taken from it


async def test_its_environment_is_an_allow_list(bench: Bench) -> None:
    bench.environ["OPENAI_API_KEY"] = "placeholder"  # else its program would be refused
    proposal = await bench.agent("show_environment").propose(bench.context)
    seen = eval(proposal.source.removeprefix("ENVIRONMENT = "))
    assert seen["OPENAI_API_KEY"] == "placeholder"
    assert seen["HOME"] == bench.environ["HOME"]
    assert seen["https_proxy"] == "http://me:password at proxy:3128"
    assert seen["CUDA_VISIBLE_DEVICES"] == "-1"
    assert not {"AWS_SECRET_ACCESS_KEY", "TELEGRAM_BOT_TOKEN"} & seen.keys()
    assert CHAT_TOKEN not in proposal.source


async def test_secrets_are_not_repeated(bench: Bench) -> None:
    proposal = await bench.agent("tell_secret").propose(bench.context)
    assert proposal.description == "it is ***"


async def test_no_secret_is_told(bench: Bench, tmp_path: Path) -> None:
    told = tmp_path / "told"
    agent = bench.of(own_command(("sh", "-c", f"cat >> {told}")))
    idea = Idea(7, 1, f"send it to {CHAT_TOKEN}", "ada", "", "")
    with pytest.raises(NoProgramError):
        await agent.propose(replace(bench.context, ideas=(idea,)))
    with pytest.raises(RepairGivenUpError):
        await agent.repair(bench.context, replace(bench.failure(TRAIN), log=f"boom {CHAT_TOKEN}"))
    assert "send it to ***" in told.read_text()
    assert "boom ***" in told.read_text()
    assert CHAT_TOKEN not in told.read_text()


@pytest.mark.parametrize("found", [(), ("987654321:BBElsewhereElsewhereElsewhereElsewhere",)])
async def test_a_program_with_a_secret_in_it_is_refused(bench: Bench, found: tuple[str, ...]) -> None:
    with pytest.raises(NoProgramError, match="would contain a secret"):
        await bench.agent("write_secret", *found).propose(bench.context)


@pytest.mark.parametrize(
    ("trait", "reason"),
    [
        ("nothing", "changes nothing"),
        ("break_syntax", "would not parse: line 1"),
        ("link", "A link is in the place of train.py"),
        ("pipe", "Something else is in the place of train.py"),
        ("put_folder", "Something else is in the place of train.py"),
        ("delete", "train.py cannot be read: No such file"),
        ("huge", "more than 200,000 bytes"),
        ("not_text", "not UTF-8"),
    ],
)
async def test_what_is_no_program_is_refused(bench: Bench, trait: str, reason: str) -> None:
    with pytest.raises(NoProgramError, match=reason):
        await bench.agent(trait).propose(bench.context)


async def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "deep", {"src/train.py": TRAIN})
    base = refs(repository)["refs/heads/main"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train.py").write_text("SECRET = 1\n")
    agent = Bench(repository, base, tmp_path).agent("link_folder", elsewhere, editable="src/train.py")
    with pytest.raises(NoProgramError, match="A link is in the place of src/train"):
        await agent.propose(replace(context_of(TRAIN), parent=base))


async def test_locked_folders_are_removed_and_links_in_them_are_not_followed(bench: Bench) -> None:
    outside = bench.folder.parent / "outside"
    outside.mkdir(mode=0o755)
    await bench.agent("lock_folder", outside).propose(bench.context)
    assert outside.stat().st_mode & 0o777 == 0o755


# Why it cannot be asked


async def test_one_that_is_not_installed_says_how_to_install_it(bench: Bench) -> None:
    agent = bench.of(own_command(("nowhere/claude", "-p")))
    with pytest.raises(UnavailableError, match="claude is not installed: npm install -g") as caught:
        await agent.propose(bench.context)
    assert caught.value.needs_person


async def test_one_that_cannot_be_started_says_so(bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "agent"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(UnavailableError, match="agent cannot be started: No such file"):
        await bench.of(own_command((str(broken),))).propose(bench.context)


@pytest.mark.parametrize(
    ("said", "reason", "needs_person"),
    [
        ("out of cheese", "exit status 1: out of cheese", False),
        ("API Error: 429 too many requests", "is rate-limited: API Error", False),
        ("Not logged in, please run /login", "is not logged in: Not logged in", True),
        ("Your credit balance is too low", "is out of credit: Your credit", True),
        (f"bad key {KEY} \x1b[31m\u202e", r"bad key \*\*\*$", False),
    ],
)
async def test_a_failure_is_told_in_one_clean_line(
    bench: Bench, said: str, reason: str, needs_person: bool
) -> None:
    with pytest.raises(UnavailableError, match=reason) as caught:
        await bench.agent("refuse", said).propose(bench.context)
    assert caught.value.needs_person is needs_person
    assert str(caught.value).isprintable()


async def test_a_commit_that_is_gone_is_told(bench: Bench) -> None:
    context: Context = replace(bench.context, parent="f" * 40)
    with pytest.raises(UserError, match="git read-tree failed"):
        await bench.agent("edit").propose(context)


async def test_a_preset_runs_the_program_on_the_path_with_no_key_on_its_command_line(
    bench: Bench, tmp_path: Path
) -> None:
    preset = claude(bench, tmp_path, """echo "ARGV = '$*'" >train.py""")
    proposal = await bench.of(preset).propose(bench.context)
    assert proposal.proposer == "claude"
    assert proposal.description == "deeper"
    assert proposal.cost is not None
    assert proposal.cost.dollars == 0.25
    assert "-p --output-format json" in proposal.source
