"""The real command lines, from their packages, against a provider on the loopback: one edit, trained.

Each package has some 100 to 400 MB, which are deleted again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from loop.experiment import Cost, Status
from loop.proposers.agent.coding_agent import CodingAgent
from loop.proposers.agent.presets import PRESETS
from tests.loop.lab import Lab, value
from tests.servers.agent_provider import CACHED, INPUT, OUTPUT, AgentProvider

KEY = "sk-loopback-0123456789"
LIMIT = 300.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Cli:
    """An agent's package, the variable that takes its key, and what points it at `url`, given its HOME."""

    package: str
    key: str
    point: Callable[[Path, str], dict[str, str]]
    priced: bool


def point_claude(_home: Path, url: str) -> dict[str, str]:
    return {"ANTHROPIC_BASE_URL": url}


def point_codex(home: Path, url: str) -> dict[str, str]:
    file = home / ".codex" / "config.toml"
    file.parent.mkdir()
    file.write_text(f"""
model = "gpt-5.1-codex"
model_provider = "loopback"
[model_providers.loopback]
name = "loopback"
base_url = "{url}/v1"
env_key = "CODEX_API_KEY"
wire_api = "responses"
""")
    return {}


def point_gemini(home: Path, url: str) -> dict[str, str]:
    file = home / ".gemini" / "settings.json"
    file.parent.mkdir()  # it takes another URL for a gateway, unless it is told
    file.write_text(json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}}))
    return {"GOOGLE_GEMINI_BASE_URL": url}


def point_opencode(_home: Path, url: str) -> dict[str, str]:
    provider = {"anthropic": {"options": {"baseURL": f"{url}/v1"}}}
    content = {"model": "anthropic/claude-opus-4-5", "provider": provider}
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(content)}


CLIS = {
    "claude": Cli("@anthropic-ai/claude-code@2.1.197", "ANTHROPIC_API_KEY", point_claude, priced=True),
    "codex": Cli("@openai/codex@0.169.0", "OPENAI_API_KEY", point_codex, priced=False),
    "gemini": Cli("@google/gemini-cli@0.61.0", "GOOGLE_API_KEY", point_gemini, priced=False),
    "opencode": Cli("opencode-ai@1.18.33", "ANTHROPIC_API_KEY", point_opencode, priced=True),
}


def install(package: str, folder: str) -> str:
    """Install a package and return the folder of its programs; skip the test where that cannot be."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    done = subprocess.run(
        [npm, "install", "--prefix", folder, "--no-audit", "--no-fund", package],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install {package}: {done.stderr.strip().splitlines()[-1:]}")
    return f"{folder}/node_modules/.bin"


@pytest.mark.parametrize("name", PRESETS)
async def test_an_edit_of_a_real_agent_is_trained_and_kept(name: str, tmp_path: Path) -> None:
    cli, home = CLIS[name], tmp_path / "user"
    home.mkdir()
    lab = Lab(tmp_path, value(1.0))
    message = "Description: a better number\nRationale: it is lower\nFamily: optimizer"
    provider = AgentProvider("train.py", "summary(1.0)", "summary(0.9)", message)
    with TemporaryDirectory() as packages:
        programs = install(cli.package, packages)
        async with provider.running():
            agent = CodingAgent(
                PRESETS[name],
                repository=lab.repository,
                folder=tmp_path / "agents",
                environ={
                    "PATH": f"{programs}:{os.environ['PATH']}",
                    "HOME": str(home),
                    cli.key: KEY,
                    **cli.point(home, provider.url),
                },
                secrets={KEY},
                limit=LIMIT,
            )
            await lab.engine(ideas=agent).conduct(experiments=1)
    _, experiment = lab.experiments()
    assert (experiment.status, experiment.value) == (Status.KEEP, 0.9)
    assert (experiment.description, experiment.rationale) == ("a better number", "it is lower")
    assert experiment.proposer == name
    assert provider.keys == {KEY}
    assert any("The metric is val_bpb." in prompt for prompt in provider.prompts)
    check_cost(experiment.cost, priced=cli.priced)
    lab.check_invariants()
    lab.close()


def check_cost(cost: Cost | None, *, priced: bool) -> None:
    """See that the agent told of whole requests, and of dollars where it knows prices."""
    assert cost is not None
    requests = cost.input_tokens // INPUT
    assert requests >= 2
    assert cost == Cost(requests * INPUT, requests * CACHED, requests * OUTPUT, cost.dollars)
    assert (cost.dollars is not None and cost.dollars > 0) == priced
