"""The bot's connection to a Ray cluster, as a process of its own that `cluster.py` starts.

Ray takes 120 MB and 25 threads, and a process that is connected ends with its node: neither belongs into the
bot. Each lane is a detached actor named by its number, in a namespace of the bot's, so that a bot that comes
back finds it. An actor runs trainings as child processes and imports nothing but this project, which is
installed on the node: so an idle lane holds no memory of its GPU.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from loop.errors import UserError
from loop.experiment import Ending
from loop.lanes.node import MOST_LOG, Attempt, Described, Look, NodeLane, Place, Recipe
from loop.lanes.node_setup import code_hash
from loop.lanes.protocol import RAY
from loop.process.worker import in_thread
from loop.shell import install_line

LOOK_SECONDS = 1.0  # between looks at a training that says nothing
NODES_INTERVAL = 1.0  # between looks at the nodes
SETTLE_SECONDS = 60.0  # for the first lanes to start
NODES_SECONDS = 20.0  # for a first node to join
UNAVAILABLE_SECONDS = 30.0  # that an actor may not answer before its lane counts as gone
CONNECT_SECONDS = 3.0
NAME = "lane-"


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    host: str
    gpus: int
    cpus: int


def places(nodes: Sequence[Node], wanted: int | None) -> dict[str, int]:
    """Return how many lanes each node can have: one a GPU. Without any GPU one a node, or `wanted` in all."""
    if any(node.gpus for node in nodes):
        return {node.id: node.gpus for node in nodes if node.gpus}
    able = [node for node in nodes if node.cpus]
    each = -(-wanted // len(able)) if wanted and able else 1
    return {node.id: min(each, node.cpus) for node in able}


def missing(nodes: Sequence[Node], taken: Mapping[str, int], wanted: int | None) -> list[str]:
    """Return the node of each lane that is to be made, given how many lanes nodes have."""
    free = {id_: count - taken.get(id_, 0) for id_, count in places(nodes, wanted).items()}
    left = sum(count for count in free.values() if count > 0)
    left = left if wanted is None else min(left, wanted - sum(taken.values()))
    found: list[str] = []
    for _ in range(left):
        emptiest = max(free, key=lambda id_: free[id_])
        free[emptiest] -= 1
        found.append(emptiest)
    return found


def check_address(address: str) -> None:
    """Refuse an address where nothing listens, before Ray waits for it.

    Raises:
        UserError: with the fix.
    """
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"No Ray cluster answers at RAY_ADDRESS={address} ({error.strerror or error}). "
            "Start it there: ray start --head"
        ) from error


def connect(address: str, namespace: str) -> Any:
    """Return Ray, connected.

    Raises:
        UserError: it is not installed, or the cluster does not take us.
    """
    check_address(address)
    try:
        import ray
    except ImportError as error:
        raise UserError(f"EXECUTOR=ray needs Ray. Run: {install_line(RAY)}") from error
    try:
        ray.init(
            address=address,
            namespace=namespace,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except Exception as error:  # whatever it raises, a person reads the reason
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"Ray at {address} refuses the bot: {lines[0]} The bot runs on a node of the cluster, with its "
            f"Python and Ray: ray start --address={address} --num-gpus=0"
        ) from error
    return ray


def probe(address: str) -> tuple[Node, ...]:
    """Return the nodes of a cluster: a worker's function, for `doctor`."""
    return nodes_of(connect(address, "autoresearch-probe"))


def nodes_of(ray: Any) -> tuple[Node, ...]:
    found = []
    for each in ray.nodes():
        if each["Alive"]:
            resources = each["Resources"]
            gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
            found.append(Node(each["NodeID"], each["NodeManagerHostname"], gpus, cpus))
    return tuple(found)


@dataclass(slots=True)
class _Lane:
    actor: Any
    node: str
    described: Described | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Client:
    """Keeps the lanes of a cluster, and does what the bot asks of them. `push` tells the bot."""

    def __init__(self, ray: Any, wanted: int | None, push: Callable[..., None]) -> None:
        self._ray = ray
        self._wanted = wanted
        self._push = push
        self._code = code_hash()
        self._lanes: dict[int, _Lane] = {}
        self._refused: set[str] = set()  # nodes that can have no lane
        self._nodes: tuple[Node, ...] = ()
        self._bundles: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, bot: IO[bytes]) -> None:
        """Do what the bot asks, until it lets go of the cluster or ends."""
        await self._adopt()
        looking = asyncio.create_task(self._look_for_nodes())
        looking.add_done_callback(_end_with)
        asked = messages(bot)
        while message := await in_thread(lambda: next(asked, None)):
            id_, verb, *arguments = message
            if verb == "close":
                self._close(*arguments)
                break
            task = asyncio.create_task(self._answer(id_, verb, arguments))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        looking.cancel()

    async def _answer(self, id_: int, verb: str, arguments: list[Any]) -> None:
        tasks: dict[str, Callable[..., Awaitable[None]]]
        tasks = {"train": self._train, "watch": self._watch, "end": self._end}
        if verb in tasks:
            await tasks[verb](*arguments)
            return
        ask: Callable[..., Awaitable[Any]] = self._prepare if verb == "prepare" else self._evaluate
        try:
            answer = await ask(*arguments)
        except UserError as error:
            self._push("answer", id_, None, str(getattr(error, "cause", None) or error))
        except (self._ray.exceptions.RayError, KeyError) as error:
            self._push("answer", id_, None, f"the node is gone ({type(error).__name__})")
        else:
            self._push("answer", id_, answer, "")

    # Lanes

    async def _adopt(self) -> None:
        """Find the lanes of a bot, or a client, before this one."""
        names = self._ray.util.list_named_actors()
        for name in names:
            with suppress(ValueError, self._ray.exceptions.RayError, TimeoutError):
                actor = self._ray.get_actor(name)
                described = await asyncio.wait_for(_await(actor.describe.remote()), SETTLE_SECONDS)
                if described.code != self._code:
                    self._ray.kill(actor)
                    continue
                index = int(name.removeprefix(NAME))
                self._lanes[index] = _Lane(actor, described.node, described)
                self._keep(index, self._follow(index))
                self._push("ready", index, described)

    async def _look_for_nodes(self) -> None:
        """Make lanes as nodes come; what they still need is waited for once."""
        settled = False
        began = asyncio.get_running_loop().time()
        while True:
            nodes = await in_thread(nodes_of, self._ray)
            self._refused &= {node.id for node in nodes}
            able = [node for node in nodes if node.id not in self._refused]
            taken = Counter(lane.node for lane in self._lanes.values())
            for id_ in missing(able, taken, self._wanted):
                self._make(next(node for node in able if node.id == id_), places(able, self._wanted)[id_])
            if nodes != self._nodes:
                self._nodes = nodes
                self._push("nodes", nodes)
            waits = not self._lanes or any(lane.described is None for lane in self._lanes.values())
            late = SETTLE_SECONDS if self._lanes else NODES_SECONDS
            if not settled and (not waits or asyncio.get_running_loop().time() - began > late):
                settled = True
                self._push("settled")
            await asyncio.sleep(NODES_INTERVAL if settled else 0.1)

    def _make(self, node: Node, lanes: int) -> None:
        index = next(i for i in range(len(self._lanes) + 1) if i not in self._lanes)
        share = max(1, node.cpus // lanes)
        on = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        options = {
            "name": f"{NAME}{index}",
            "lifetime": "detached",
            "num_gpus": 1 if node.gpus else 0,
            "num_cpus": 0 if node.gpus else share,
            "max_restarts": 0,
            "scheduling_strategy": on(node.id, soft=False),
        }
        try:
            actor = self._ray.remote(NodeLane).options(**options).remote(node.id, share)
        except ValueError:  # one of that name is still ending
            return
        self._lanes[index] = _Lane(actor, node.id)
        self._keep(index, self._describe(index, node))

    async def _describe(self, index: int, node: Node) -> None:
        lane = self._lanes[index]
        try:
            lane.described = described = await lane.actor.describe.remote()
        except self._ray.exceptions.RayError as error:
            if "ImportError" in str(error) or "ModuleNotFoundError" in str(error):
                self._refuse(index, node, "has no autoresearch-bot for Ray's Python: install it there")
            else:
                self._lanes.pop(index, None)
            return
        if described.code != self._code:
            self._refuse(index, node, "has another version of autoresearch-bot: install the bot's there")
            return
        self._push("ready", index, described)
        await self._follow(index)

    def _refuse(self, index: int, node: Node, reason: str) -> None:
        lane = self._lanes.pop(index)
        self._refused.add(node.id)
        self._push("refused", node.host, reason)
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(lane.actor)

    async def _follow(self, index: int) -> None:
        """Wait for the end of a lane's actor, or of its node."""
        lane, clock = self._lanes[index], asyncio.get_running_loop().time
        since: float | None = None
        while since is None or clock() - since < UNAVAILABLE_SECONDS:
            try:
                await (lane.actor.forever.remote() if since is None else lane.actor.describe.remote())
                since = None
            except self._ray.exceptions.ActorUnavailableError:
                since = clock() if since is None else since
                await asyncio.sleep(1)
            except self._ray.exceptions.RayError:
                break
        self._gone(index)

    def _gone(self, index: int) -> None:
        lane = self._lanes.pop(index, None)
        if lane is not None and lane.described is not None:
            self._push("gone", index, f"{lane.described.host} was lost")
            for task in lane.tasks - {asyncio.current_task()}:
                task.cancel()

    def _keep(self, index: int, work: Any) -> None:
        task = asyncio.create_task(work)
        tasks = self._lanes[index].tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # What the bot asks

    async def _prepare(self, index: int, recipe: Recipe, bundle: bytes) -> Any:
        if recipe.run not in self._bundles:  # a node takes it from another, once
            self._bundles[recipe.run] = self._ray.put(bundle)
        return await self._lanes[index].actor.prepare.remote(recipe, self._bundles[recipe.run])

    async def _evaluate(self, index: int, attempt: Attempt, head: bytes) -> Any:
        return await self._lanes[index].actor.evaluate.remote(attempt, head)

    async def _train(self, index: int, attempt: Attempt, source: str, kept: Attempt | None) -> None:
        errors = self._ray.exceptions
        try:
            await self._lanes[index].actor.start.remote(attempt, source, kept)
        except errors.ActorUnavailableError:  # it may have begun
            pass
        except errors.RayActorError:
            self._gone(index)
            self._push("lost", attempt, "")
            return
        except (errors.RayError, KeyError) as error:
            cause = getattr(error, "cause", None) or error
            self._push("lost", attempt, "" if isinstance(error, KeyError) else str(cause))
            return
        await self._watch(index, attempt, Place())

    async def _watch(self, index: int, attempt: Attempt, place: Place) -> None:
        errors = self._ray.exceptions
        while (lane := self._lanes.get(index)) is not None:
            try:
                look: Look | None = await lane.actor.look.remote(attempt, place, LOOK_SECONDS)
            except errors.ActorUnavailableError:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            except errors.RayActorError:
                self._gone(index)
                break
            except errors.RayError as error:
                self._push("lost", attempt, str(getattr(error, "cause", None) or error))
                return
            if look is None:
                break
            if look.log or look.outcome is not None or look.life:
                self._push("look", attempt, look)
            if look.outcome is not None:
                return
            place = look.place
            if len(look.log) < MOST_LOG:
                await asyncio.sleep(0)
        self._push("lost", attempt, "")

    async def _end(self, index: int, attempt: Attempt, ending: Ending) -> None:
        with suppress(self._ray.exceptions.RayError, KeyError):
            await self._lanes[index].actor.end.remote(attempt, ending)

    def _close(self, busy: Collection[int]) -> None:
        """Give the GPUs of all lanes back where nothing trains."""
        for index, lane in self._lanes.items():
            if index not in busy:
                with suppress(self._ray.exceptions.RayError):
                    self._ray.kill(lane.actor)


def _end_with(task: asyncio.Task[None]) -> None:
    """End this process with a task that failed: the bot starts another one."""
    if not task.cancelled() and (error := task.exception()):
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(1)


async def _await(reference: Any) -> Any:
    return await reference


def messages(pipe: IO[bytes]) -> Iterator[tuple[Any, ...]]:
    """Yield what the other of bot and client says until it ends, perhaps within a message."""
    with suppress(EOFError, pickle.UnpicklingError):
        while True:
            yield pickle.load(pipe)  # noqa: S301 - both are our own processes


def send(pipe: IO[bytes], message: tuple[object, ...]) -> None:
    pipe.write(pickle.dumps(message))
    pipe.flush()


def pusher() -> Callable[..., None]:
    """Return what tells the bot, on what was stdout: what a library prints is no message."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return lambda *message: send(pipe, message)


def main() -> None:
    address, namespace, wanted = sys.argv[1:]
    push = pusher()
    try:
        ray = connect(address, namespace)
    except UserError as error:
        push("refused", "", str(error))
        return
    asyncio.run(Client(ray, int(wanted) if wanted else None, push).run(sys.stdin.buffer))
    ray.shutdown()


if __name__ == "__main__":
    main()
