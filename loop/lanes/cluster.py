"""The lanes of a Ray cluster, as the bot has them.

A training runs on a node. The attempt's folder on this machine gets its log as it grows, and at the end its
supervisor's record: whatever reads the folder (`/log`, live cards, the outcome) need not know where it ran.
What happens on the nodes is in `node.py`; `ray_client.py` is the process between, started again when it ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

from loop.errors import DiskError, UserError, backoff
from loop.experiment import Actor, Cause, Ending, Outcome, Reason
from loop.files import writing
from loop.lanes.node import Attempt, Described, Evaluated, Look, Place, Prepared, Recipe
from loop.lanes.protocol import Slot
from loop.lanes.ray_client import SETTLE_SECONDS, Node, messages, send
from loop.logs.capture import LOG, replace
from loop.process.liveness import AWAY
from loop.process.supervisor import ERRORS, OUTCOME
from loop.process.trainer import Trainer, home_mark
from loop.process.worker import own_environment

log = logging.getLogger(__name__)

TAMPERED = "tampered.json"  # in the attempt's folder: the fixed files that a training elsewhere has changed
RESTARTS = (0.5, 2.0, 5.0)  # seconds before the client is started again, while the cluster does not answer
SILENCE = 60.0  # seconds without the cluster after which lanes count as closed
CLOSE_SECONDS = 10.0
CLIENT = "from loop.lanes.ray_client import main; main()"  # what it pickles is not of `__main__`

_HOME = Path(__file__).parents[2]
_Outbox: TypeAlias = SimpleQueue[tuple[Any, ...] | None]


@dataclass(eq=False)
class RemoteTraining:
    """A training on a node, of which `folder` has what is known here; `copies` are of its log, for people.

    `request` is with what it has yet to begin: its program, and the attempt whose compile cache it goes on
    with; None where it was begun.
    """

    cluster: Cluster
    lane: int
    attempt: Attempt
    folder: Path
    copies: Sequence[Path]
    request: tuple[str, Attempt | None] | None = None
    place: Place = field(default_factory=Place)
    _over: Future[None] = field(default_factory=Future)

    def alive(self) -> bool:
        return not self._over.done()

    async def end(self, ending: Ending) -> None:
        self.cluster.send("end", self.lane, self.attempt, ending)

    async def wait(self) -> Outcome:
        await asyncio.shield(asyncio.wrap_future(self._over))
        return await self.cluster.trainer.attach(self.folder, None, None).wait()

    # By the thread that reads

    def take(self, look: Look) -> None:
        self.place = look.place
        for path in (self.folder / LOG, *self.copies):
            with suppress(OSError), path.open("wb" if look.anew else "ab") as file:
                file.write(look.log)  # what is not whole at the end is found out then
        seen = {"life": look.life, "at": time.monotonic()}
        with suppress(OSError):
            replace(str(self.folder / AWAY), json.dumps(seen).encode())
        if look.outcome is not None:
            self._finish(look.outcome, look.tampered)

    def _finish(self, outcome: bytes, tampered: Sequence[str]) -> None:
        try:
            with writing(self.folder):
                if (self.folder / LOG).stat().st_size != self.place.offset:
                    raise DiskError(f"The log of {self.folder.name} is not whole: make space on the disk.")
                replace(str(self.folder / TAMPERED), json.dumps(list(tampered)).encode())
                if outcome:
                    replace(str(self.folder / OUTCOME), outcome)
        except UserError as error:  # who attaches finds it there again
            self._over.set_exception(error)
        else:
            self._over.set_result(None)

    def lose(self, reason: str) -> None:
        """Let it have vanished."""
        if self.alive():
            with suppress(OSError):
                (self.folder / ERRORS).write_text(f"{reason}\n")
            self._over.set_result(None)


class Cluster:
    """Has the lanes of the cluster at `address`, `wanted` at most, for the bot whose state is in `home`.

    Its methods may be called from any thread; it connects when it is first asked for its lanes. `on_change`
    is called, in a thread, with the number of each lane that comes or goes.
    """

    def __init__(
        self,
        address: str,
        *,
        home: Path,
        wanted: int | None,
        trainer: Trainer,
        command: Sequence[str] = (sys.executable, "-c", CLIENT),
    ) -> None:
        self.address = address
        self.trainer = trainer
        self.on_change: Callable[[int], object] = lambda _: None
        namespace = f"autoresearch-{home_mark(home).strip('-')}"
        self._command = (*command, address, namespace, "" if wanted is None else str(wanted))
        self._log = home / "ray.log"  # what Ray says of this connection
        self._changed = threading.Condition()  # of all below
        self._client: subprocess.Popen[bytes] | None = None
        self._outbox: _Outbox | None = None
        self._closed = False
        self._settled = False
        self._silent_since: float | None = None
        self._problem = ""
        self._lanes: dict[int, Described] = {}
        self._known: dict[int, Described] = {}  # also those that are gone
        self._nodes: tuple[Node, ...] = ()
        self._refused: dict[str, str] = {}  # by node
        self._calls: dict[int, Future[Any]] = {}
        self._last_call = 0
        self._trainings: dict[Attempt, RemoteTraining] = {}
        self._thread: threading.Thread | None = None

    # Lanes

    def slots(self) -> tuple[Slot, ...]:
        """Return the lanes that are ready, once the first look at the cluster is over.

        Raises:
            UserError: there is no cluster, or no lane in it.
        """
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._connect, name="ray", daemon=True)
                self._thread.start()
            self._changed.wait_for(lambda: self._settled or self._problem, 2 * SETTLE_SECONDS)
            if not self._settled:
                raise UserError(self._problem or f"Ray at {self.address} does not answer.")
            if not self._lanes:
                refused = "; ".join(f"{host} {reason}" for host, reason in self._refused.items())
                why = refused or "no node has a free GPU or processor"
                raise UserError(f"The Ray cluster at {self.address} has no lane: {why}.")
            return tuple(map(self.slot, sorted(self._lanes)))

    def slot(self, index: int) -> Slot:
        with self._changed:
            known = self._known[index]
        return Slot(index, known.device, known.model, node=known.host)

    def actor(self, index: int) -> str:
        """Name the actor of a lane, the last one while there is none."""
        with self._changed:
            return self._known[index].id if index in self._known else ""

    def why_closed(self, index: int) -> str:
        """Say, as a clause, why a lane can begin nothing; empty where it can."""
        with self._changed:
            if self._silent_since is not None:
                return f"Ray at {self.address} does not answer" if self.silence >= SILENCE else ""
            if index in self._lanes:
                return ""
            return f"node {self._known[index].host} was lost" if index in self._known else "its node was lost"

    def nodes(self) -> tuple[tuple[str, int, int, str], ...]:
        """Return each node with its GPUs, its lanes, and why it has none, if it has none."""
        with self._changed:
            lanes = Counter(lane.node for lane in self._lanes.values())
            return tuple((n.host, n.gpus, lanes[n.id], self._refused.get(n.host, "")) for n in self._nodes)

    @property
    def silence(self) -> float:
        """For how many seconds the cluster has not answered, 0 while it does."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    # Trainings

    def train(
        self,
        lane: int,
        attempt: Attempt,
        source: str,
        kept: Attempt | None,
        folder: Path,
        copies: Sequence[Path] = (),
    ) -> RemoteTraining:
        """Begin a training. If that fails it has vanished."""
        return self._follow(RemoteTraining(self, lane, attempt, folder, copies, (source, kept)))

    def attach(
        self, lane: int, attempt: Attempt, folder: Path, copies: Sequence[Path] = ()
    ) -> RemoteTraining:
        """Find a training that a bot before this one began."""
        return self._follow(RemoteTraining(self, lane, attempt, folder, copies))

    def _follow(self, training: RemoteTraining) -> RemoteTraining:
        """Begin a training or watch it, once it is known which lanes there are."""
        lane, attempt = training.lane, training.attempt
        for path in (training.folder / LOG, *training.copies):  # of the lane's last training, or comes again
            with suppress(OSError):
                path.unlink()
        with self._changed:
            self._trainings[attempt] = training
            if self._settled and lane not in self._lanes:
                self._lose(training)
            elif self._settled and training.request:
                self.send("train", lane, attempt, *training.request)
                training.request = None
            elif self._settled:
                self.send("watch", lane, attempt, training.place)
        return training

    def _lose(self, training: RemoteTraining, reason: str = "") -> None:
        training.lose(reason or self.why_closed(training.lane) or "its node was lost")
        self._trainings.pop(training.attempt, None)

    def prepare(self, lane: int, recipe: Recipe, bundle: bytes) -> Future[Prepared]:
        return self._call("prepare", lane, recipe, bundle)

    def evaluate(self, lane: int, attempt: Attempt, head: bytes) -> Future[Evaluated]:
        return self._call("evaluate", lane, attempt, head)

    def _call(self, verb: str, *arguments: object) -> Future[Any]:
        future: Future[Any] = Future()
        with self._changed:
            self._last_call += 1
            self._calls[self._last_call] = future
            if not self.send(verb, *arguments, call=self._last_call):
                del self._calls[self._last_call]
                future.set_exception(UserError(f"Ray at {self.address} does not answer."))
        return future

    def send(self, verb: str, *arguments: object, call: int = 0) -> bool:
        """Have something done; tell whether there is somebody to do it. Its result is that of the `call`."""
        with self._changed:
            if self._outbox is not None:
                self._outbox.put((call, verb, *arguments))
            return self._outbox is not None

    def close(self, busy: Collection[int] = ()) -> None:
        """Let go of the cluster: trainings go on, and lanes that are not `busy` give their GPU back."""
        with self._changed:
            self._closed = True
            self.send("close", {*busy, *(each.lane for each in self._trainings.values())})
            self._changed.notify_all()
            client, thread = self._client, self._thread
        if thread is not None:
            thread.join(timeout=CLOSE_SECONDS)
            if client is not None and client.poll() is None:
                client.kill()

    # The client

    def _connect(self) -> None:
        failures = 0
        while not self._closed:
            client, outbox = self._start()
            settled = False
            try:
                settled = self._read(client)
            except Exception:  # a fault of ours ends the connection, which is made anew, and not the bot
                log.exception("the connection to Ray failed")
                client.kill()
            outbox.put(None)
            client.wait()
            if client.stdout is not None:
                client.stdout.close()
            failures = 0 if settled else failures + 1
            with self._changed:
                self._client = self._outbox = None
                self._settled = False
                if self._silent_since is None:
                    self._silent_since = time.monotonic()
                calls, self._calls = list(self._calls.values()), {}
                known = list(self._known)
                self._changed.notify_all()
            for call in calls:
                call.set_exception(UserError(f"Ray at {self.address} does not answer."))
            if self.silence >= SILENCE:
                for index in known:
                    self.on_change(index)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, backoff(RESTARTS, failures))

    def _start(self) -> tuple[subprocess.Popen[bytes], _Outbox]:
        of_ray = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
        environment = own_environment() | of_ray | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        environment.pop("RAY_ADDRESS", None)
        with self._log.open("wb") as said:
            client = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=_HOME,
                env=environment,
                start_new_session=True,  # a Ctrl-C at the bot's terminal is not for it
            )
        outbox: _Outbox = SimpleQueue()
        # A thread of its own: a pipe that is full must not keep us from reading what the client says.
        threading.Thread(target=_send, args=(client, outbox), name="to ray", daemon=True).start()
        with self._changed:
            self._client, self._outbox = client, outbox
        return client, outbox

    def _read(self, client: subprocess.Popen[bytes]) -> bool:
        """Do what the client says until it ends; say whether it was connected."""
        assert client.stdout is not None
        found: set[int] = set()
        settled = False
        for kind, *values in messages(client.stdout):
            with self._changed:
                changed = self._take(kind, values, found)
                settled = settled or self._settled
                self._changed.notify_all()
            for index in changed:
                self.on_change(index)
        return settled

    def _take(self, kind: str, values: list[Any], found: set[int]) -> Sequence[int]:  # noqa: C901 - one a message
        """Take a message in; return the lanes that came or went."""
        match kind, values:
            case "look", [attempt, look] if training := self._trainings.get(attempt):
                training.take(look)
                if not training.alive():
                    del self._trainings[attempt]
            case "lost", [attempt, reason] if training := self._trainings.get(attempt):
                self._lose(training, reason)
            case "answer", [call, answer, ""] if call in self._calls:
                self._calls.pop(call).set_result(answer)
            case "answer", [call, _, error] if call in self._calls:
                self._calls.pop(call).set_exception(UserError(error))
            case "ready", [index, described]:
                found.add(index)
                self._lanes[index] = self._known[index] = described
                return [index] if self._settled else []
            case "gone", [index, _]:
                self._lanes.pop(index, None)
                return [index]
            case "refused", ["", reason]:
                self._problem = reason
            case "refused", [host, reason]:
                log.warning("node %s %s", host, reason)
                self._refused[host] = reason
            case "nodes", [nodes]:
                self._nodes = nodes
            case "settled", []:
                return self._begin(found)
        return []

    def _begin(self, found: set[int]) -> Sequence[int]:
        gone = self._lanes.keys() - found
        self._lanes = {index: self._lanes[index] for index in sorted(found)}
        self._settled, self._silent_since, self._problem = True, None, ""
        for training in list(self._trainings.values()):
            self._follow(training)
        return sorted(gone | found)


def _send(client: subprocess.Popen[bytes], outbox: _Outbox) -> None:
    assert client.stdin is not None
    with suppress(OSError), client.stdin:
        while (message := outbox.get()) is not None:
            send(client.stdin, message)


def unlike(alike: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Say, as a clause, what of a node differs from what a run is trained with; empty where nothing does."""
    for name in wanted:
        if alike.get(name) != wanted[name]:
            return f"has {'another GPU' if name == 'GPU' else f'other {name}'} than this run is trained with"
    return ""


def node_reason(error: str) -> Reason:
    """Return why a lane is closed for its node, from a clause."""
    return Reason(Actor.LOOP, cause=Cause.NODE, facts={"error": error})
