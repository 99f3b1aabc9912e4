"""Lanes of a cluster: an engine trains on nodes, which come, go and are compared. Ray is a fake here."""

from __future__ import annotations

import asyncio
import io
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.nodes import Nodes
from loop.engine.run import Engine
from loop.errors import UserError
from loop.experiment import EventKind, RunState, Status
from loop.lanes.cluster import Cluster
from loop.lanes.node import Attempt, Recipe
from loop.lanes.ray_client import Node, messages, missing, places
from loop.process.trainer import Trainer
from loop.store.lanes import lanes_of
from tests.loop.engine.engines import conduct, end, told
from tests.loop.engine.test_evaluation import trained
from tests.loop.evaluation import toy_evaluator_text
from tests.loop.lab import Ideas, Lab, program, value

CLIENT = "from tests.loop.lanes.fake_ray import main; main()"
RECIPE = Recipe(
    editable="train.py",
    frozen=("prepare.py",),
    command=("/usr/bin/env", sys.executable, "-S", "train.py"),  # whose packages are not listed
    variables=("TORCH_GATE",),
    deadline=600.0,
    sandbox="none",
    needs_sandbox=False,
    network=False,
)
WAITS = program("wait()\nsummary(0.9)")


def test_each_gpu_is_a_lane_and_other_nodes_have_none() -> None:
    nodes = [Node("a", "a", 2, 8), Node("b", "b", 1, 8), Node("c", "c", 0, 64)]
    assert places(nodes, None) == {"a": 2, "b": 1}
    assert sorted(missing(nodes, {"a": 1}, None)) == ["a", "b"]
    assert missing(nodes, {"a": 1}, 2) == ["a"] or missing(nodes, {"a": 1}, 2) == ["b"]
    assert missing(nodes, {"a": 2, "b": 1}, None) == []
    assert missing(nodes, {"a": 2, "b": 1}, 1) == [], "LANES was lowered"


def test_without_a_gpu_nodes_share_the_lanes_that_are_wanted() -> None:
    nodes = [Node("head", "head", 0, 0), Node("a", "a", 0, 8), Node("b", "b", 0, 2)]
    assert places(nodes, None) == {"a": 1, "b": 1}
    assert places(nodes, 6) == {"a": 3, "b": 2}
    assert sorted(missing(nodes, {}, 3)) == ["a", "a", "b"]


def test_what_ends_within_a_message_has_said_those_before_it() -> None:
    first, second = (pickle.dumps(message) for message in (("settled",), ("gone", 1, b"0" * 100_000)))
    for cut in (*range(100), len(second) - 1):
        assert list(messages(io.BytesIO(first + second[:cut]))) == [("settled",)]


class Site:
    """A lab with a cluster of nodes `a` and `b`, each with a GPU that is not there."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder / "lab", value(1.0))
        self.nodes = folder / "nodes"
        self.nodes.mkdir()
        command = (sys.executable, "-c", CLIENT)
        self.cluster = Cluster(
            str(self.nodes), home=self.lab.home, wanted=None, trainer=Trainer(), command=command
        )

    def engine(self, *programs: str) -> Engine:
        engine = self.lab.engine(
            ideas=Ideas(*programs), cluster=self.cluster, slots=self.cluster.slots(), recipe=RECIPE
        )
        self.runs = Nodes(self.cluster, lambda: [engine])
        return engine

    def lose(self, node: str) -> None:
        (self.nodes / f"lost-{node}").touch()

    async def until_waits(self, number: int, k: int = 1) -> None:
        log = self.lab.folders.printed(number, k)
        while not (log.exists() and "waiting" in log.read_text()):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.005)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("RAY_FAKE", "a=1,b=1")
    (tmp_path / "lab").mkdir()
    made = Site(tmp_path)
    monkeypatch.setenv("RAY_GATE", str(made.lab.gate))
    yield made
    made.cluster.close()
    made.lab.journal.close()


async def test_experiments_are_trained_on_nodes_and_leave_here_what_they_would_have_left(site: Site) -> None:
    crashes = program("print('hm')\nraise RuntimeError('no such layer')")
    engine = site.engine(value(0.9), crashes)
    await site.runs.follow(engine)
    await engine.conduct(2)
    site.lab.check_invariants()
    made = site.lab.experiments()
    assert [each.status for each in made[1:]] in ([Status.KEEP, Status.CRASH], [Status.CRASH, Status.KEEP])
    (crashed,) = (each for each in made if each.status is Status.CRASH)
    assert "no such layer" in crashed.error
    assert "RuntimeError" in site.lab.folders.log(crashed.number).read_text()
    assert {each.training.device for each in made if each.training} <= {
        lane.device for lane in site.cluster.slots()
    }
    assert not list(site.nodes.glob("*/lane-*/trainings/*/0-1")), "a lane keeps only its last training"


def test_a_training_does_not_begin_with_the_log_of_the_one_before(site: Site, tmp_path: Path) -> None:
    copy = tmp_path / "run.log"
    copy.write_text("step 00070 (100.0%) | loss: 1.0 | remaining: 0s\n")
    site.cluster.train(0, Attempt("1-1", 1, 1), "", None, tmp_path / "1-1", [copy])
    assert not copy.exists()


async def test_what_a_lost_node_trained_is_trained_elsewhere_and_is_no_crash(site: Site) -> None:
    engine = site.engine(WAITS)
    await site.runs.follow(engine)
    task = conduct(engine, 1)
    await site.lab.until(lambda: bool(engine.under_way) and engine.under_way[0].number == 1)
    await site.until_waits(1)
    lost = engine.under_way[0].lane
    site.lose("ab"[lost])
    await site.lab.until(lambda: bool(told(site.lab, EventKind.INTERRUPTED)))
    await site.until_waits(1, 2)
    site.lab.open_gate()
    await task
    site.lab.check_invariants()
    made = site.lab.experiments()[1]
    assert (made.status, made.attempt, made.lane) == (Status.KEEP, 2, 1 - lost)
    (interrupted,) = told(site.lab, EventKind.INTERRUPTED)
    assert "was lost" in str(interrupted["reason"])
    (notice,) = (each for each in told(site.lab, EventKind.NOTED) if "waits" in str(each["reason"]))
    assert "was lost; 1 lane goes on" in str(notice["reason"])


async def test_a_training_that_is_lost_as_it_begins_keeps_no_lane(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lane, *_), sent = site.cluster.slots(), list[tuple[object, ...]]()
    site.lose("a")
    site.lose("b")
    while not site.cluster.why_closed(lane.index):  # noqa: ASYNC110 - it is told to the engine alone
        await asyncio.sleep(0.005)
    training = site.cluster.train(lane.index, Attempt("run", 1, 1), WAITS, None, tmp_path)
    assert not training.alive()
    assert "was lost" in (tmp_path / "supervisor.log").read_text()
    send = site.cluster.send

    def listen(verb: str, *said: object) -> bool:
        sent.append((verb, *said))
        return send(verb, *said)

    monkeypatch.setattr(site.cluster, "send", listen)
    site.cluster.close()
    assert sent == [("close", set())]


async def test_a_node_that_comes_is_used_and_one_with_other_data_is_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.nodes / "off-b").touch()
    engine = site.engine(WAITS, value(0.8))
    assert len(site.cluster.slots()) == 1
    await site.runs.follow(engine)
    task = conduct(engine, 2)
    await site.until_waits(1)
    (site.nodes / "off-b").unlink()
    await site.lab.until(lambda: any(each.number == 2 and each.status for each in site.lab.experiments()))
    assert site.lab.experiments()[2].lane == 1
    site.lab.open_gate()
    await task
    assert len(lanes_of(site.lab.journal, site.lab.run.id)) == 2


async def test_nodes_unlike_the_run_get_no_lane_and_people_read_why_once(site: Site) -> None:
    engine = site.engine(value(0.9))
    alike = site.lab.folders.logs / "alike.json"
    alike.parent.mkdir(parents=True)
    alike.write_text('{"GPU": "", "data": "of another night"}')
    with pytest.raises(UserError, match="has other data than this run is trained with"):
        await engine.conduct(1)


async def test_a_model_is_evaluated_on_the_node_that_trained_it(tmp_path: Path, site: Site) -> None:
    (tmp_path / "evaluated").mkdir()
    (site.nodes / "off-b").touch()
    site.lab.journal.close()
    files = {"evaluate.py": toy_evaluator_text()}
    site.lab = lab = Lab(tmp_path / "evaluated" / "lab", trained(1.5), files=files)
    engine = site.engine(trained(1.2), trained(1.1, model="value = 1.4"))
    await site.runs.follow(engine)
    await engine.conduct(2)
    made = lab.experiments()
    assert [each.status for each in made] == [Status.KEEP, Status.KEEP, Status.DISCARD]
    assert "not believed" in made[2].reason, made[2].reason
    assert not (lab.folders.attempt(1, 1) / "work").exists(), "it was not trained here"


async def test_a_pause_ends_what_trains_on_a_node(site: Site) -> None:
    engine = site.engine(WAITS)
    await site.runs.follow(engine)
    task = conduct(engine, 1)
    await site.until_waits(1)
    await engine.pause(now=True)
    await site.lab.until(lambda: bool(told(site.lab, EventKind.INTERRUPTED)))
    assert told(site.lab, EventKind.INTERRUPTED)[0]["reason"] == "by command"
    await end(task)


async def test_a_bot_that_comes_back_to_lanes_that_are_gone_trains_again(site: Site) -> None:
    engine = site.engine(WAITS)
    await site.runs.follow(engine)
    task = conduct(engine, 1)
    await site.until_waits(1)
    await end(task)
    site.cluster.close()
    after = Cluster(
        str(site.nodes),
        home=site.lab.home,
        wanted=None,
        trainer=Trainer(),
        command=(sys.executable, "-c", CLIENT),
    )
    site.cluster = after
    engine = site.engine(value(0.9))
    await site.runs.follow(engine)
    task = conduct(engine, 1)
    await site.until_waits(1, 2)
    site.lab.open_gate()
    await site.lab.until(lambda: site.lab.now().state is RunState.DONE)
    await task
    assert site.lab.experiments()[1].attempt == 2
