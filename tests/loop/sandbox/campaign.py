"""Tries the hostile programs in real trainings, one after another, with honest programs between them.

    python -m tests.loop.sandbox.campaign FOLDER SANDBOX[,GROUP…]…

tries several sandboxes at the same time and prints what came of each as JSON. It runs as the user that it is
started as, and everything that the programs are set upon is its own: a repository, a home, data, an
environment, listeners and processes.
"""

from __future__ import annotations

import ast
import asyncio
import ctypes
import json
import multiprocessing
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from loop.engine.plan import Plan
from loop.engine.run import Engine
from loop.engine.stages import KeepRule
from loop.engine.trainings import Trainings
from loop.experiment import Experiment, Status
from loop.lanes.cache import WORK
from loop.process.environment import Launcher, data_folders, training_environment
from loop.process.supervisor import JOIN_SESSION_KEYRING, KEYCTL
from loop.process.trainer import Job, Limits, Supervisor, Trainer, TrainingProcess
from loop.results.gains import reason_of
from loop.sandbox.sandbox import SandboxKind, find_sandbox
from loop.sandbox.view import private_environment
from tests.loop.forked_supervisors import Forking
from tests.loop.lab import Ideas, Lab
from tests.loop.sandbox.attacks import CACHE, LEFTOVERS, REACH, Trick, honest, one_by_one, source
from tests.loop.sandbox.tricks import CACHES, ENDINGS, LIMITS, LINKS, LOGS

TRICKS = {"limits": LIMITS, "caches": CACHES, "logs": LOGS, "endings": ENDINGS}
ALL = "all"
ADD_KEY = {"x86_64": 248, "aarch64": 217}
SEARCH, UNLINK, USERS_KEYS = 10, 9, -4  # linux/keyctl.h
KEPT = f"{CACHE[: CACHE.index(',')]}, by a program that is kept"
PREPARE = "TIME_BUDGET = 300\nSCALE = 1.0\n"
PLAIN = ("-S",)  # most programs need no site-packages, which take longest; `honest` looks there itself
FRESH, SHARED = "fresh", "shared"
ENDED = {
    "given up": "summary(1.9)",
    "crashed": "raise RuntimeError",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
}
"""How a program ends that has left something behind."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of hostile programs.

    `got` and `refused` are by the names of attacks, `tricks` by theirs: whether it was stopped, and what was
    seen. `honest` are the numbers of the honest programs, by what was before them, with what they had taken;
    `fresh` is the number of a fresh checkout. `touched` is what changed outside.
    """

    fresh: float
    got: dict[str, str]
    refused: dict[str, str]
    tricks: dict[str, tuple[bool, str]]
    honest: dict[str, tuple[float | None, list[str]]]
    touched: list[str]
    keys: bool = False  # whether the kernel has keyrings


class Ground:
    """What hostile programs are set upon."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder.resolve()
        self.home, self.data = self.folder / "person", self.folder / "data"
        self._key = secrets.randbits(30)
        self._canary = f"canary-{secrets.token_hex(8)}"
        self.daemon = f"daemon-{secrets.token_hex(8)}"
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        self.python = self.folder / "environment" / "bin" / "python"
        self._site = self.folder / "environment" / "lib" / version / "site-packages"
        self._user_site = self.home / ".local" / "lib" / version / "site-packages"
        self._make_files()
        self._targets: dict[str, Any] = {}
        self._listen(stack)
        self._tricks: dict[str, Trick] = {}
        self.lab = Lab(self.folder / "lab", self.program(honest(0)), prepare=PREPARE)
        stack.callback(self.lab.close)
        self._bind(self.lab.home / "bot.sock", stack)
        theirs = Path(self._targets["other"])
        theirs.parent.mkdir(parents=True)
        theirs.write_text("theirs")
        self._before = self._look()

    def _make_files(self) -> None:
        texts = {
            self.home / "letters" / "first": "dear",
            self.home / ".ssh" / "id_ed25519": self._canary,
            self.home / ".gitconfig": "[user]\n\tname = ann\n",
            self.folder / "project" / ".env": f"TELEGRAM_TOKEN={self._canary}",
            self._site / "toylib.py": "FACTOR = 1.0\n",
            self.python.parents[1] / "pyvenv.cfg": (
                f"home = {Path(sys.base_prefix, 'bin')}\ninclude-system-site-packages = true\n"
            ),
            self.data / "token_bytes.bin": "".join(map(chr, (7, 8, 9))) * 100,
        }
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.python.parent.mkdir()
        self.python.symlink_to(Path(sys.executable).resolve())

    def _listen(self, stack: ExitStack) -> None:
        state = self.folder / "lab" / "home"
        idle = (sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()", self._canary)
        self._victims = [
            stack.enter_context(subprocess.Popen(idle, stdin=subprocess.PIPE, env={"SECRET": self._canary}))
            for _ in range(2)
        ]
        for victim in self._victims:
            stack.callback(victim.kill)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{self._canary}")
        abstract.listen()
        self._listeners = [tcp, abstract]
        self._heard: list[bytes] = []
        threading.Thread(target=self._answer, args=(udp,), daemon=True).start()
        self._targets |= {
            "abstract": self._canary,
            "add_key": ADD_KEY.get(os.uname().machine, -1),
            "bot": os.getpid(),
            "canary": self._canary,
            "checkout": f"{self.folder}/lab/repository",
            "daemon": self.daemon,
            "data": str(self.data),
            "env": f"{self.folder}/project/.env",
            "git": f"{self.folder}/lab/repository/.git",
            "home": str(self.home),
            "key": self._key,
            "keyctl": KEYCTL.get(os.uname().machine, -1),
            "letters": f"{self.home}/letters",
            "next": f"{state}/trainings/1/ahead-0",
            "other": f"{state}/trainings/2/0-1/work/train.py",
            "second": self._victims[1].pid,
            "site": str(self._site),
            "state": str(state),
            "tcp": tcp.getsockname(),
            "udp": udp.getsockname(),
            "user_site": str(self._user_site),
            "victim": self._victims[0].pid,
            "worktree": f"{state}/worktrees/mar12",
        }

    def _bind(self, path: Path, stack: ExitStack) -> None:
        bot = stack.enter_context(socket.socket(socket.AF_UNIX))
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            bot.bind(f"/proc/self/fd/{folder}/{path.name}")  # a long path is no address
        finally:
            os.close(folder)
        bot.listen()
        self._listeners.append(bot)

    def _answer(self, udp: socket.socket) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                said, address = udp.recvfrom(1000)
                self._heard.append(said)
                udp.sendto(b"answer", address)

    def program(self, code: str, trick: Trick | None = None) -> str:
        name = trick.name if trick else ""
        if trick:
            self._tricks[name] = trick
        places = (
            f"TRICK = {name!r}\nT_WORK = os.getcwd()\n"
            "CACHE = os.path.dirname(os.environ['TORCHINDUCTOR_CACHE_DIR'])\n"
        )
        return source(places + code, self._targets)

    def trick_of(self, program: str) -> Trick | None:
        """Return the trick that a program plays."""
        name = next(line for line in program.splitlines() if line.startswith("TRICK = "))
        return self._tricks.get(ast.literal_eval(name.removeprefix("TRICK = ")))

    def environment(self) -> dict[str, str]:
        """Return the variables of the bot, with secrets among them."""
        own = {"HOME": str(self.home), "AUTORESEARCH_CACHE": str(self.data)}
        return {**os.environ, **own, "TELEGRAM_TOKEN": self._canary, "SSH_AUTH_SOCK": f"/{self._canary}"}

    def _look(self) -> dict[str, object]:
        """Return what no training may change, as it is now."""
        paths = [*self.home.rglob("*"), *self.data.rglob("*"), *self._site.rglob("*")]
        git, project = Path(self._targets["git"]), self.folder / "project"
        paths += [*(git / "hooks").rglob("*"), *(git / "info").rglob("*"), git / "config", project / ".env"]
        paths += [self.lab.worktree / name for name in ("prepare.py",)]
        paths += [Path(self._targets["other"])]
        files = {str(path): (path.read_bytes(), path.stat().st_mode) for path in paths if path.is_file()}
        return {**files, "names": sorted(map(str, paths))}

    def touched(self) -> list[str]:
        """Return what has changed since the beginning: files, processes, and what was heard."""
        before, now = self._before, self._look()
        found = [name for name in {*before, *now} if before.get(name) != now.get(name)]
        if self._heard:
            found.append("udp")
        for listener in self._listeners:
            listener.setblocking(False)
            with suppress(BlockingIOError):
                listener.accept()[0].close()
                found.append(f"connection {listener.family.name} {listener.getsockname()!r}")
        running = (psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING)
        found.extend("process" for v in self._victims if psutil.Process(v.pid).status() not in running)
        left = [p.pid for p in psutil.process_iter(["cmdline"]) if self.daemon in (p.info["cmdline"] or ())]
        found.extend("daemon" for _ in left)
        ours = ("cache", "ahead-0")
        found.extend(str(p) for p in self.lab.folders.trainings.iterdir() if p.name not in ours)
        return sorted([*found, *self.forged()])

    def forged(self) -> set[str]:
        """Return the files that hold what hostile programs write."""
        text = f"forged {self._key + 1}".encode()
        paths = (path for top in (self.lab.folder, self.home) for path in top.rglob("*"))
        return {str(path) for path in paths if path.is_file() and text in path.read_bytes()}

    def clean(self) -> None:
        """Remove what is left on the machine where nothing stops a program."""
        for folder in ("/tmp", "/dev/shm"):
            Path(folder, str(self._key)).unlink(missing_ok=True)

        libc = ctypes.CDLL(None)
        if (segment := libc.shmget(self._key, 4096, 0)) >= 0:
            libc.shmctl(segment, 0, None)
        key = libc.syscall(self._targets["keyctl"], SEARCH, USERS_KEYS, b"user", self._canary.encode(), 0)
        libc.syscall(self._targets["keyctl"], UNLINK, key, USERS_KEYS)


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    with ExitStack() as stack:
        made = Ground(folder, stack)
        stack.callback(made.clean)
        yield made


class LimitedTrainer(Trainer):
    """Trains each trick under limits of its own, with supervisors that have done their imports."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self._ground = ground
        self._forking = Forking()

    def arm(self) -> Supervisor:  # type: ignore[override] # as a method, with the process that forks them
        return self._forking.arm()

    def start(self, supervisor: Supervisor, job: Job) -> TrainingProcess:
        trick = self._ground.trick_of((job.cwd / "train.py").read_text())
        if trick:
            limits = Limits(**dict(trick.limits))
            job = replace(job, limits=limits, deadline=trick.deadline)
        return super().start(supervisor, replace(job, grace=0.1))


def train(ground: Ground, kind: SandboxKind, programs: Sequence[str]) -> list[Experiment]:
    """Train the honest program and these, as the bot does."""
    lab = ground.lab
    bot = ground.environment()
    environ = training_environment(bot, {})
    launcher = Launcher(
        lab.home / "environments",
        override=(str(ground.python), *PLAIN, "train.py"),
        editable="train.py",
        environ=environ,
    )
    plan = Plan(
        KeepRule(),
        launcher,
        deadline=60.0,
        sandbox=find_sandbox(kind),
        readable=data_folders(environ),
        hidden=(lab.home,),
        crash_streak=1000,
        retry_seconds=(0.0,),
        rest_seconds=(0.0,),
    )
    trainings = Trainings(
        plan,
        journal=lab.journal,
        workspace=lab._workspace("mar12"),
        trainer=LimitedTrainer(ground),
        folders=lab.folders,
    )
    engine = Engine(lab.run, trainings, Ideas(*programs))
    asyncio.run(engine.conduct(len(programs)))
    return lab.experiments()


def in_plain_sight(folder: Path) -> Seen:
    """Run the attacks where nothing stops them, in a folder that all programs share: each should work."""
    with ground(folder) as here:
        numbers: dict[str, tuple[float | None, list[str]]] = {}
        got: dict[str, str] = {}
        refused: dict[str, str] = {}
        for place, programs in (
            (FRESH, {FRESH: honest(0)}),
            (SHARED, {"": one_by_one(LEFTOVERS), SHARED: honest(1)}),
            ("reach", {" ": one_by_one(REACH)}),
        ):
            attempt = here.lab.folders.trainings / f"{place}-1"
            work = attempt / WORK
            work.mkdir(parents=True)
            (work / "prepare.py").write_text(PREPARE)
            env = {**here.environment(), **private_environment(attempt / "cache", attempt / "tmp")}
            for name, code in programs.items():
                (work / "train.py").write_text(here.program(code))
                ran = subprocess.run(
                    [here.python, *PLAIN, "train.py"],
                    cwd=work,
                    env=env,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert ran.returncode == 0, ran.stderr
                _read_rows(ran.stdout, got, refused)
                if name.strip():
                    numbers[name] = _read_honest(ran.stdout)
        fresh = numbers[FRESH][0]
        assert fresh is not None
        return Seen(fresh, got, refused, {}, numbers, [])


def campaign(folder: Path, kind: SandboxKind, *groups: str) -> Seen:
    """Train the hostile programs in a sandbox: `LEFTOVERS`, `REACH`, `LINKS` and these groups."""
    with ground(folder) as here:
        steps: list[tuple[str, str]] = []

        def follow_up(name: str) -> None:
            steps.append((name, here.program(honest(len(steps) + 1))))

        for how, ending in ENDED.items() if ALL in groups else [("given up", ENDED["given up"])]:
            steps.append(("", here.program(one_by_one(LEFTOVERS, ending))))
            follow_up(f"leftovers, {how}")
        for name, attacks in (("reach", REACH), ("links", LINKS)):
            steps.append(("", here.program(one_by_one(attacks))))
            follow_up(name)
        for name, group in TRICKS.items():
            if name in groups or ALL in groups:
                steps += [("", here.program(trick.code, trick)) for trick in group]
                follow_up(name)
        poison = next(attack.code for attack in LEFTOVERS if attack.name == CACHE)
        steps.append(("", here.program(f"def plant():\n    {poison}\nplant(); summary(1.005)")))
        follow_up(KEPT)
        found = train(here, kind, [program for _, program in steps])
        return _sum_up(here, found, [("baseline", ""), *steps])


def _sum_up(here: Ground, found: list[Experiment], steps: Iterable[tuple[str, str]]) -> Seen:
    got: dict[str, str] = {}
    refused: dict[str, str] = {}
    tricks, numbers = {}, {}
    for experiment, (name, program) in zip(found, steps, strict=True):
        text = here.lab.folders.log(experiment.number).read_text(errors="replace")
        trick = here.trick_of(program) if program else None
        if name:
            numbers[name] = experiment.value, _read_honest(text)[1]
        elif trick:
            tricks[trick.name] = _judge(here, trick, experiment)
        else:
            _read_rows(text, got, refused)
    forged = here.forged()
    for name in [attack.name for attack in REACH if got.get(attack.name, "").startswith("/")]:
        if got[name] not in forged:  # it was in memory, or in the attempt's own /tmp
            refused[name] = f"nothing came of {got.pop(name)}"
    fresh = numbers.pop("baseline")[0]
    assert fresh is not None
    return Seen(fresh, got, refused, tricks, numbers, here.touched())


def _judge(here: Ground, trick: Trick, experiment: Experiment) -> tuple[bool, str]:
    said = f"{reason_of(experiment, here.lab.run.goal)} {experiment.error or ''}"
    if trick.value is None:
        stopped = experiment.status is Status.CRASH and trick.error in said and said.isprintable()
    else:
        stopped = experiment.value == trick.value and experiment.status is not Status.CRASH
    return stopped, f"{experiment.status}, {experiment.value}, {said}"


def _read_rows(text: str, got: dict[str, str], refused: dict[str, str]) -> None:
    for line in text.splitlines():
        if line.startswith('["row"'):
            _, name, success, detail = json.loads(line)
            (got if success else refused)[name] = detail


def _read_honest(text: str) -> tuple[float | None, list[str]]:
    value, taken = None, []
    for line in text.splitlines():
        if line.startswith("val_bpb: "):
            value = float(line.removeprefix("val_bpb: "))
        if line.startswith("['taken'"):
            taken = ast.literal_eval(line)[1:]
    return value, taken


def seen_in(folder: Path, kind: SandboxKind, *groups: str) -> Seen:
    join = (KEYCTL.get(os.uname().machine, -1), JOIN_SESSION_KEYRING, None)
    keys = ctypes.CDLL(None).syscall(*join) > 0  # so that nothing is left in our session's
    folder.mkdir()
    seen = in_plain_sight(folder) if kind is SandboxKind.NONE else campaign(folder, kind, *groups)
    return replace(seen, keys=keys)


def main() -> None:
    folder, asked = Path(sys.argv[1]), [word.split(",") for word in sys.argv[2:]]
    calls = [(folder / kind, SandboxKind(kind), *groups) for kind, *groups in asked]
    with multiprocessing.get_context("fork").Pool(len(calls)) as pool:  # who has imported everything
        found = pool.starmap(seen_in, calls, chunksize=1)
        pool.close()  # they end by themselves, and remove what they made
        pool.join()
    sys.stdout.write(json.dumps({kind: asdict(seen) for (kind, *_), seen in zip(asked, found, strict=True)}))


if __name__ == "__main__":
    main()
