"""What the client uses of Ray, within one process: nodes that are folders, and actors that are objects.

Its `main` is the client's. A node with a file `lost-<node>` beside it is lost; one with `off-<node>` has yet
to come.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from loop.lanes.node import NodeLane
from loop.lanes.ray_client import Client, pusher
from loop.process.liveness import end_orphan, find_marked

POLL = 0.01


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class ActorUnavailableError(RayActorError):
    pass


class Actor:
    def __init__(self, ray: FakeRay, lane: Any, node: str) -> None:
        self.ray, self.lane, self.node = ray, lane, node
        self.calls: set[asyncio.Task[Any]] = set()
        self.dead = False

    def __getattr__(self, name: str) -> SimpleNamespace:
        async def call(*arguments: Any) -> Any:
            if self.dead:
                raise RayActorError
            task = asyncio.ensure_future(getattr(self.lane, name)(*arguments))
            self.calls.add(task)
            try:
                return await task
            except asyncio.CancelledError:
                raise RayActorError from None

        return SimpleNamespace(remote=call)

    def kill(self) -> None:
        self.dead = True
        for folder in (self.ray.folder / self.node).glob("lane-*"):
            for left in find_marked(folder):
                end_orphan(left)
        for task in self.calls:
            task.cancel()


class FakeRay:
    """`nodes` are their GPUs by name; the lanes of each lie in `folder`."""

    def __init__(self, folder: Path, nodes: dict[str, int]) -> None:
        self.folder, self.hosts = folder, nodes
        self.actors: dict[str, Actor] = {}
        self.exceptions = SimpleNamespace(
            RayError=RayError, RayActorError=RayActorError, ActorUnavailableError=ActorUnavailableError
        )
        strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
        self.util = SimpleNamespace(
            scheduling_strategies=strategies, list_named_actors=lambda: list(self.actors)
        )

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "Alive": not any((self.folder / f"{why}-{host}").exists() for why in ("lost", "off")),
                "NodeID": host,
                "NodeManagerHostname": host,
                "Resources": {"GPU": gpus, "CPU": 2},
            }
            for host, gpus in self.hosts.items()
        ]

    def remote(self, lane: type[NodeLane]) -> SimpleNamespace:
        def options(**chosen: Any) -> SimpleNamespace:
            def make(node: str, threads: int) -> Actor:
                made = lane(node, threads, self.folder / node)
                self.actors[chosen["name"]] = actor = Actor(self, made, node)
                return actor

            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)

    def get_actor(self, name: str) -> Actor:
        return self.actors[name]

    def put(self, value: bytes) -> bytes:
        return value

    def kill(self, actor: Actor) -> None:
        actor.kill()
        self.actors = {name: each for name, each in self.actors.items() if each is not actor}

    async def lose_nodes(self) -> None:
        while True:
            for name, actor in list(self.actors.items()):
                if (self.folder / f"lost-{actor.node}").exists():
                    del self.actors[name]
                    actor.kill()
            await asyncio.sleep(POLL)


def main() -> None:
    """Be the client of a cluster in the folder `sys.argv[1]`, with so many GPUs on each of its nodes."""
    folder, *_ = sys.argv[1:]
    pairs = (pair.split("=") for pair in os.environ["RAY_FAKE"].split(","))
    nodes = {name: int(gpus) for name, gpus in pairs}
    os.environ["TORCH_GATE"] = os.environ["RAY_GATE"]
    ray = FakeRay(Path(folder), nodes)
    asyncio.run(_serve(Client(ray, None, pusher()), ray.lose_nodes))


async def _serve(client: Client, lose: Callable[[], Awaitable[None]]) -> None:
    losing = asyncio.ensure_future(lose())
    await client.run(sys.stdin.buffer)
    losing.cancel()
    os._exit(0)  # as if the machines went on without it
