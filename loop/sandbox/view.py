"""What a training sees of the machine: which paths, with which access, and nothing else.

Every folder is shown at its own path, but /tmp, which is the attempt's own. A link on the way to a path is
shown too. Root owns root's files inside as well, so nothing secret may be in view: no home, no `.git`, no
`.env`, no state directory, unless a deeper path of it is named.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import assert_never

from loop.errors import UserError
from loop.sandbox import seccomp

SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/sys",
    "/nix/store", "/run/current-system", "/run/opengl-driver", "/opt/rocm",
)  # fmt: skip
ETC = (
    "alternatives", "ca-certificates", "group", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "localtime", "nsswitch.conf", "os-release", "passwd", "pki/ca-trust", "pki/tls/certs", "ssl/certs",
    "ssl/openssl.cnf", "timezone",
)  # fmt: skip
COMPILERS = ("CC", "CXX", "CUDAHOSTCXX")  # variables that name a program
COMPILER_FOLDERS = ("CUDA_HOME", "CUDA_PATH", "CPATH", "LIBRARY_PATH")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
MOST_LINKS = 40  # on the way to a path, as in the kernel
TMP = Path("/tmp")  # noqa: S108 - in a sandbox an attempt's own
DEVICES = ("nvidia*", "dri", "kfd", "dxg")  # below /dev
SIZE_OF_HOME = 64 * 2**20  # bytes; it is memory
PRIVATE = (".git", ".env")  # hidden in every folder that is shown


@dataclass(frozen=True, slots=True)
class View:
    """What one training sees.

    `work` is its current folder and `tmp` becomes its /tmp. `fixed` lies in `work` and stays as it is.
    What is `hidden` is absent also where a folder above it is shown; a path within it can be shown all the
    same. The training starts with `environment`, of which HOME, PATH and LD_LIBRARY_PATH matter here too.
    `withheld` are devices of GPUs that are another training's.
    """

    work: Path
    tmp: Path
    environment: Mapping[str, str]
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    fixed: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    network: bool = False
    withheld: tuple[str, ...] = ()


class Access(Enum):
    EMPTY = "empty"  # a small folder in memory
    READ = "read"
    WRITE = "write"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class Mount:
    path: Path
    access: Access
    source: Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths without links, those above before those below, and the links that lead to them."""

    mounts: tuple[Mount, ...]
    links: Mapping[Path, str]


def lay_out(view: View, program: str) -> Layout:
    """Say what to show for `view` and a training that starts with `program`. Paths not there are left out."""
    links: dict[Path, str] = {}
    found: dict[Path, Mount] = {}
    for access, path in _wanted(view, program):  # of two with the same path the later wins
        real = resolve(path, links)
        source = view.tmp if path == TMP and access is Access.WRITE else real
        if real != Path("/") and (access is Access.EMPTY or _exists(source)):
            found[real] = Mount(real, access, source)
    return _needed(found, links)


def _wanted(view: View, program: str) -> Iterator[tuple[Access, Path]]:
    if view.environment.get("HOME", "").startswith("/"):
        yield Access.EMPTY, Path(view.environment["HOME"])
    for path in _system(view, program):
        yield Access.READ, path
    yield Access.WRITE, TMP
    shown = (*view.readable, *view.writable)
    yield from ((Access.HIDDEN, path / name) for path in shown for name in PRIVATE)
    yield from ((Access.READ, path) for path in view.readable)
    yield from ((Access.WRITE, path) for path in view.writable)
    yield from ((Access.HIDDEN, path) for path in view.hidden)
    yield Access.WRITE, view.work
    above = {folder for path in view.fixed for folder in path.parents if view.work in folder.parents}
    yield from ((Access.WRITE, folder) for folder in above)  # a mount cannot be moved away
    yield from ((Access.READ, path) for path in view.fixed)


def resolve(path: Path, links: dict[Path, str]) -> Path:
    """Return where `path` leads, and add each link on the way to `links`, with what it says."""
    left, real, followed = list(path.absolute().parts[:0:-1]), "", 0
    while left:
        step = left.pop()
        if step == "..":
            real = real.rpartition("/")[0]
            continue
        place = f"{real}/{step}"
        try:
            target = os.readlink(place)  # noqa: PTH115 - its text, as it is
        except OSError:  # no link
            real = place
            continue
        followed += 1
        if followed > MOST_LINKS:  # a circle
            return path
        links[Path(place)] = target
        real = "" if target.startswith("/") else real
        left += [part for part in reversed(Path(target).parts) if part != "/"]
    return Path(real or "/")


def devices(withheld: Sequence[str] = ()) -> list[str]:
    """Return the devices of GPUs that this machine has, without those of others and what draws on screens."""
    found = (str(path) for pattern in DEVICES for path in Path("/dev").glob(pattern))
    return sorted(path for path in found if path not in withheld and not (withheld and path == "/dev/dri"))


def _of_the_machine() -> list[str]:
    """Return what in /proc is no process: settings of the kernel that root may write without a capability."""
    with os.scandir("/proc") as entries:
        ours = [entry for entry in entries if not entry.name.isdigit() and not entry.is_symlink()]
    return sorted(entry.path for entry in ours if entry.is_dir() or entry.stat().st_mode & 0o222)


def bwrap_arguments(view: View, argv: Sequence[str]) -> tuple[str, ...]:
    """Return what bwrap is to be called with. The program's environment is bwrap's own.

    It is not among the arguments, because every user of the machine can read those.
    """
    layout = lay_out(view, argv[0])
    arguments = ["--unshare-all", "--unshare-user", *(["--share-net"] if view.network else [])]
    arguments += ["--disable-userns", "--cap-drop", "ALL", "--new-session", "--die-with-parent"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for path in _of_the_machine():
        arguments += ["--ro-bind", path, path]
    for path in devices(view.withheld):
        arguments += ["--dev-bind", path, path]
    for mount in layout.mounts:
        arguments += _mounting(mount)
    for place, target in layout.links.items():
        arguments += ["--symlink", target, str(place)]
    covers = [
        str(mount.path) for mount in layout.mounts if mount.access is Access.HIDDEN and mount.path.is_dir()
    ]
    for path in ("/", *covers):  # files there would be in memory that no limit counts
        arguments += ["--remount-ro", path]
    arguments += ["--unsetenv", "SHLVL", "--unsetenv", "_"]  # a shell's, which opens the rules of seccomp
    arguments += ["--setenv", "TMPDIR", str(TMP), "--chdir", str(view.work), "--", *argv]
    return tuple(arguments)


def _mounting(mount: Mount) -> list[str]:
    source, path = str(mount.source), str(mount.path)
    match mount.access:
        case Access.EMPTY:
            return ["--size", str(SIZE_OF_HOME), "--tmpfs", path]
        case Access.READ:
            return ["--ro-bind", source, path]
        case Access.WRITE:
            return ["--bind", source, path]
        case Access.HIDDEN if mount.path.is_dir():
            return ["--tmpfs", path]
        case Access.HIDDEN:
            return ["--ro-bind", os.devnull, path]
        case _:
            assert_never(mount.access)


def landlock_rules(view: View, argv: Sequence[str]) -> str:
    """Return the one argument of `landlock.py`."""
    mounts = lay_out(view, argv[0]).mounts
    hidden = [mount.path for mount in mounts if mount.access is Access.HIDDEN]
    paths = {
        access: [
            str(path) for mount in mounts if mount.access is access for path in _without(mount.source, hidden)
        ]
        for access in (Access.READ, Access.WRITE)
    }
    shown = (mount.source for mount in mounts if mount.access in paths)
    split = [path for path in shown if any(one.is_relative_to(path) for one in hidden)]
    filtered = not view.network and os.uname().machine in seccomp.MACHINES
    own = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")]
    hidden = [resolve(path, {}) for path in view.hidden]
    shared = map(str, _without(Path("/dev/shm"), hidden))  # noqa: S108 - the machine's
    rules = {
        "read": [*paths[Access.READ], "/proc"],
        "write": [*paths[Access.WRITE], *own, *shared, *devices(view.withheld)],
        "list": [str(path) for path in split],  # or nothing below is found, Python's own modules neither
        "network": view.network,
        "seccomp": seccomp.rules().hex() if filtered else "",
    }
    return json.dumps(rules)


def private_environment(cache: Path, tmp: Path) -> dict[str, str]:
    """Return the variables that let a training and its compilers write in folders of its own.

    Under Landlock `tmp` should have at most 70 characters: Python puts sockets below it, whose addresses
    have at most 107, and a DataLoader with workers hangs where they do not fit.
    """
    return {
        "TMPDIR": str(tmp),  # where /tmp is everybody's; bwrap makes it /tmp
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCH_EXTENSIONS_DIR": str(cache / "extensions"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),
    }


def check_named(setting: str, paths: Sequence[Path], hidden: Sequence[Path]) -> None:
    """Refuse what cannot be shown of the paths of SANDBOX_READ or SANDBOX_WRITE.

    Raises:
        UserError: a path is not there, is the whole machine, or lies in what is hidden.
    """
    concealed = [resolve(path, {}) for path in hidden]
    for path in paths:
        real = resolve(path, {})
        if not path.is_absolute() or not _exists(path):
            raise UserError(f"{setting} names {path}, which is not there: give absolute paths that exist.")
        if real == Path("/"):
            raise UserError(f"{setting} names the whole machine: name the folders that a training needs.")
        if inside := next((one for one in concealed if real.is_relative_to(one)), None):
            raise UserError(f"{setting} names {path}, but no training may see {inside}: name another folder.")


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where a folder above may not be entered


def _system(view: View, program: str) -> Iterator[Path]:
    yield from map(Path, SYSTEM)
    yield from (Path("/etc", name) for name in ETC)
    if view.network:
        yield Path("/etc/resolv.conf")
        yield from (Path(view.environment[name]) for name in CERTIFICATES if view.environment.get(name))
    for entry in view.environment.get("LD_LIBRARY_PATH", "").split(":"):
        if entry.startswith("/") and not view.work.is_relative_to(entry):
            yield Path(entry)
    found = shutil.which(program, path=view.environment.get("PATH")) or ""
    if found.startswith("/"):
        yield Path(found)
    yield from _compilers(view.environment)


def _compilers(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield what torch.compile needs where the compilers are not those of the system.

    Of a compiler it is the folder that it is installed in, unless the home directory lies there.
    """
    path, home = environment.get("PATH"), Path(environment.get("HOME") or "/nowhere")
    for name in COMPILERS:
        words = environment.get(name, "").split()
        found = shutil.which(words[0], path=path) if words else None
        if found and Path(found).is_absolute():
            prefix = Path(found).parents[1]
            yield Path(found) if home.is_relative_to(prefix) or prefix == home / ".local" else prefix
    for name in COMPILER_FOLDERS:
        folders = (Path(entry) for entry in environment.get(name, "").split(":") if entry.startswith("/"))
        yield from (folder for folder in folders if not home.is_relative_to(folder))


def _needed(found: Mapping[Path, Mount], links: Mapping[Path, str]) -> Layout:
    """Leave out what a folder above shows already, or does not show at all."""

    def above(path: Path) -> Mount | None:
        return next((found[folder] for folder in path.parents if folder in found), None)

    def shown(path: Path) -> bool:
        over = above(path)
        return over is not None and over.access in (Access.READ, Access.WRITE) and over.source == over.path

    def needed(mount: Mount) -> bool:
        match mount.access:
            case Access.HIDDEN:
                return shown(mount.path)
            case Access.EMPTY:
                return not shown(mount.path)
            case Access.READ:
                over = above(mount.path)
                return not shown(mount.path) or (over is not None and over.access is Access.WRITE)
            case Access.WRITE:
                return True
            case _:
                assert_never(mount.access)

    mounts = sorted(filter(needed, found.values()), key=lambda mount: len(mount.path.parts))
    return Layout(tuple(mounts), {place: text for place, text in links.items() if not shown(place)})


def _without(path: Path, hidden: Sequence[Path]) -> Iterator[Path]:
    """Yield what to allow of a path: Landlock cannot take away what is allowed above.

    A link to what is hidden, or to a folder that holds it, is left out: allowed is what it leads to.
    """
    if not any(one.is_relative_to(path) for one in hidden):
        yield path
    elif path not in hidden:
        for child in path.iterdir():
            if not child.is_symlink():
                yield from _without(child, hidden)
            else:
                real = resolve(child, {})
                if not any(real.is_relative_to(one) or one.is_relative_to(real) for one in hidden):
                    yield child
