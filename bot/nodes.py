"""The nodes of a Ray cluster: the runs use its lanes as they come and go, and `/health` shows them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bot.setup.doctor import Check
from bot.setup.settings import Settings
from loop.engine.run import Engine
from loop.experiment import Reason, Run, RunState
from loop.lanes.cluster import Cluster, node_reason
from loop.lanes.protocol import Slot
from loop.process.trainer import Trainer
from loop.process.worker import in_thread
from notifiers.text.words import duration, plural


@dataclass(eq=False)
class Nodes:
    """Lets the runs of `engines` that are not over follow the lanes of a cluster."""

    cluster: Cluster
    engines: Callable[[], Iterable[Engine]]

    def __post_init__(self) -> None:
        self._changing: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()

    def slots(self, run: Run | None) -> tuple[Slot, ...]:
        slots, own = self.cluster.slots(), run.lanes if run else ()
        return tuple(slot for slot in slots if not own or slot.index in own) or slots

    async def follow(self, engine: Engine) -> None:
        """Have a run begin in the lanes that have come since, and from now on in each that comes."""
        loop = asyncio.get_running_loop()
        self.cluster.on_change = lambda lane: loop.call_soon_threadsafe(self._changed, lane)
        for slot in await in_thread(self.slots, engine.run):
            await engine.join(slot)

    async def close(self) -> None:
        """Let go of the cluster, but of no lane whose experiment has yet to be decided."""
        busy = {each.lane for engine in self.engines() for each in engine.under_way}
        await in_thread(self.cluster.close, busy)

    def _changed(self, lane: int) -> None:
        task = asyncio.create_task(self._change(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _change(self, lane: int) -> None:
        async with self._changing[lane]:
            for engine in tuple(self.engines()):
                is_over = engine.run.state in (RunState.DONE, RunState.STOPPED)
                if is_over or (engine.run.lanes and lane not in engine.run.lanes):
                    continue
                if why := self.cluster.why_closed(lane):
                    await engine.close_lane(lane, node_reason(why))
                else:
                    await engine.join(self.cluster.slot(lane))

    async def blocker(self, _: Run, slot: Slot) -> Reason | None:
        why = self.cluster.why_closed(slot.index)
        return node_reason(why) if why else None

    def checks(self) -> Iterator[Check]:
        cluster = self.cluster
        if silence := cluster.silence:
            detail = f"{cluster.address} has not answered for {duration(silence)}"
            yield Check("ray", False, detail, "Look at its head node: ray status")
        for host, gpus, lanes, refused in cluster.nodes():
            has = f"{host}: {plural(gpus, 'GPU')}, {plural(lanes, 'lane')}"
            yield Check("node", not refused, f"{has}; it {refused}" if refused else has)


def nodes_of(settings: Settings, trainer: Trainer, engines: Callable[[], Iterable[Engine]]) -> Nodes | None:
    """Return the nodes that EXECUTOR=ray trains on; None where trainings run here."""
    if settings.executor == "local":
        return None
    cluster = Cluster(settings.ray_address, home=settings.home, wanted=settings.lanes, trainer=trainer)
    return Nodes(cluster, engines)
