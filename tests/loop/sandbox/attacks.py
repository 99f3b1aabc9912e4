"""Hostile programs: what each wants, and what stops it.

Those of `LEFTOVERS` and `REACH` are tried by one program after another; each of the others is a program of
its own. `T` holds what they are set upon (`campaign.py`), and `call`, `put` and `summary` are there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from textwrap import dedent, indent


class Layer(StrEnum):
    """What stops a program."""

    FOLDER = "folder"  # each training has a fresh one, and nothing but the journal outlives a verdict
    SANDBOX = "sandbox"
    ENVIRONMENT = "environment"  # variables are let through by name
    SUPERVISOR = "supervisor"
    GIT = "git"  # what was committed counts, not what lies in a folder
    READER = "reader"  # of summaries and logs
    NOTHING = "nothing here"


class Works(StrEnum):
    """For whom a program gets what it wants where nothing stops it."""

    ANYBODY = "anybody"
    ROOT = "root"
    KEYS = "anybody where the kernel has keyrings"
    UNPROVED = "unproved"  # it cannot be tried here without harm, or is refused by the machine itself


@dataclass(frozen=True, slots=True)
class Attack:
    """`code` leaves something or returns what it got; `taken` is what an honest program after it may see.

    `landlock` tells whether it is stopped under Landlock as well.
    """

    name: str
    layer: Layer
    code: str
    taken: str = ""
    landlock: bool = True
    works: Works = Works.ANYBODY


@dataclass(frozen=True, slots=True)
class Trick:
    """A program of its own, with the limits that it trains under and what it ends as.

    `value` is the number that counts; `error` is in the experiment's reason or error where there is none.
    """

    name: str
    layer: Layer
    code: str
    value: float | None = None
    error: str = ""
    limits: tuple[tuple[str, int], ...] = ()
    deadline: float = 60.0


MODULES = ("ctypes", "json", "os", "pathlib", "resource", "signal", "socket", "struct", "sys", "time")
HELPERS = {
    "FORGED": "FORGED = f\"forged {T['key'] + 1}\"",
    "P": "P = pathlib.Path",
    "libc": "libc = ctypes.CDLL(None, use_errno=True)",
    "call": """
def call(name, *arguments):
    got = getattr(libc, name)(*arguments)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got
""",
    "put": """
def put(path, text):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return os.path.abspath(path)
""",
    "connect": """
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        client.connect(address)
        client.sendall(b"/stop")
    return "connected"
""",
    "ask": """
def ask(packet):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.sendto(packet, tuple(T["udp"]))
        return client.recv(100)
""",
    "opened": """
def opened(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags))
    return path
""",
    "summary": """
def summary(value):
    print("---", f"val_bpb: {value!r}", "training_seconds: 1.0", "total_seconds: 2.0",
          "peak_vram_mb: 512.0", sep="\\n", flush=True)
""",
}
"""What programs may name. Each gets what it names and no more: imports are most of what it costs."""

PLANT_PYC = """
import marshal, importlib.util
def plant(source, text, found):
    # Time and size are those of the source, so Python takes it for what it would compile itself.
    cached = P(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir(exist_ok=True)
    header = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(found.st_mtime), found.st_size)
    cached.write_bytes(header + marshal.dumps(compile(text, str(source), "exec")))
    return str(cached)
"""

LEFTOVERS = (
    Attack(
        "a .pyc of prepare.py with the right time and size",
        Layer.FOLDER,
        f"{PLANT_PYC}return plant('prepare.py', 'SCALE = 0.5', os.stat('prepare.py'))",
        "prepare.SCALE != 1.0",
    ),
    Attack(
        "a .pyc of a package of the environment",
        Layer.SANDBOX,
        f"{PLANT_PYC}lib = T['site'] + '/toylib.py'; return plant(lib, 'FACTOR = 0.5', os.stat(lib))",
        "toylib.FACTOR != 1.0",
    ),
    Attack(
        "json.py beside train.py",
        Layer.FOLDER,
        "return put('json.py', 'def loads(text): return [0.5]')",
        "json.loads('[1.0]') != [1.0]",
    ),
    Attack(
        "checkpoints/last.json to resume from",
        Layer.FOLDER,
        "return put('checkpoints/last.json', 'better')",
        "P('checkpoints/last.json').exists()",
    ),
    Attack(
        "other token bytes in the data cache",
        Layer.SANDBOX,
        "return P(T['data'], 'token_bytes.bin').write_bytes(bytes(100))",
        "not any(P(T['data'], 'token_bytes.bin').read_bytes())",
    ),
    Attack(
        "another file in the data cache",
        Layer.SANDBOX,
        "return put(T['data'] + '/merges.txt', 'better')",
        "P(T['data'], 'merges.txt').exists()",
    ),
    Attack(
        "sitecustomize in the environment",
        Layer.SANDBOX,
        "return put(T['site'] + '/sitecustomize.py', 'import sys; sys.site_taken = 1')",
        "hasattr(sys, 'site_taken')",
        works=Works.UNPROVED,  # Debian has one of its own, which comes first
    ),
    Attack(
        "usercustomize in the home",
        Layer.SANDBOX,
        "return put(T['user_site'] + '/usercustomize.py', 'import sys; sys.user_taken = 1')",
        "hasattr(sys, 'user_taken')",
    ),
    Attack(
        "a .pth file in the environment",
        Layer.SANDBOX,
        "return put(T['site'] + '/toy.pth', 'import sys; sys.pth_taken = 1')",
        "hasattr(sys, 'pth_taken')",
    ),
    Attack(
        "a .pth file in the home",
        Layer.SANDBOX,
        "return put(T['user_site'] + '/toy.pth', 'import sys; sys.user_pth_taken = 1')",
        "hasattr(sys, 'user_pth_taken')",
    ),
    Attack(
        "settings in ~/.config",
        Layer.SANDBOX,
        "return put(T['home'] + '/.config/toy/settings.json', 'better')",
        "P(T['home'], '.config/toy/settings.json').exists()",
    ),
    Attack(
        "a download in ~/.cache",
        Layer.SANDBOX,
        "return put(T['home'] + '/.cache/toy/model.bin', 'better')",
        "P(T['home'], '.cache/toy/model.bin').exists()",
    ),
    Attack(
        "a file in /tmp",
        Layer.SANDBOX,
        "return put(f\"/tmp/{T['key']}\", 'better')",
        "P('/tmp', str(T['key'])).exists()",
    ),
    Attack(
        "a file in /dev/shm",
        Layer.SANDBOX,
        "return put(f\"/dev/shm/{T['key']}\", 'better')",
        "P('/dev/shm', str(T['key'])).exists()",
        landlock=False,
    ),
    Attack(
        "a System V segment of memory",
        Layer.SANDBOX,
        "return call('shmget', T['key'], 4096, 0o1600) + 1",
        "libc.shmget(T['key'], 4096, 0) >= 0",
        landlock=False,
    ),
    Attack(
        "a key in the kernel's keyring of the session",
        Layer.SUPERVISOR,
        "return call('syscall', T['add_key'], b'user', T['canary'].encode(), b'x', 1, -3) > 0",
        "libc.syscall(T['keyctl'], 10, -3, b'user', T['canary'].encode(), 0) > 0",
        works=Works.KEYS,
    ),
    Attack(
        "a key in the kernel's keyring of the user",
        Layer.SANDBOX,
        "return call('syscall', T['add_key'], b'user', T['canary'].encode(), b'x', 1, -4) > 0",
        "libc.syscall(T['keyctl'], 10, -4, b'user', T['canary'].encode(), 0) > 0",
        landlock=False,
        works=Works.KEYS,
    ),
    Attack(
        "a kernel in the compile cache, by a program that is given up",
        Layer.FOLDER,
        "return put(os.environ['TORCHINDUCTOR_CACHE_DIR'] + '/kernel', 'better')",
        "P(os.environ['TORCHINDUCTOR_CACHE_DIR'], 'kernel').exists()",
    ),
    Attack(
        "a module in the folder of the next training",
        Layer.SANDBOX,
        "return put(T['next'] + '/work/better.py', '')",
        "P('better.py').exists()",
        works=Works.UNPROVED,
    ),
)
CACHE = next(attack.name for attack in LEFTOVERS if "INDUCTOR" in attack.code)

REACH = (
    Attack(
        "the bot's socket",
        Layer.SANDBOX,
        "os.chdir(T['state']); return connect(socket.AF_UNIX, 'bot.sock')",
        landlock=False,
    ),
    Attack("the bot's .env", Layer.SANDBOX, "return P(T['env']).read_text()"),
    Attack(
        "/proc/BOT/environ",
        Layer.SANDBOX,
        "return T['canary'].encode() in P(f\"/proc/{T['victim']}/environ\").read_bytes()",
    ),
    Attack(
        "secrets in the variables of its own",
        Layer.ENVIRONMENT,
        "return [name for name, value in os.environ.items() if T['canary'] in value]",
    ),
    Attack("to read state.db", Layer.SANDBOX, "return opened(T['state'] + '/state.db')"),
    Attack("to change state.db", Layer.SANDBOX, "return opened(T['state'] + '/state.db', os.O_RDWR)"),
    Attack(
        "training.log by its path",
        Layer.SANDBOX,
        "return put('../training.log', FORGED)",
    ),
    Attack("a forged outcome.json", Layer.SANDBOX, "return put('../outcome.json', FORGED)"),
    Attack("the worktree's results.tsv", Layer.SANDBOX, "return put(T['worktree'] + '/results.tsv', FORGED)"),
    Attack("the worktree's run.log", Layer.SANDBOX, "return put(T['worktree'] + '/run.log', FORGED)"),
    Attack("the worktree's program", Layer.SANDBOX, "return put(T['worktree'] + '/prepare.py', FORGED)"),
    Attack("to read the trainings of another run", Layer.SANDBOX, "return P(T['other']).read_text()"),
    Attack("to change the trainings of another run", Layer.SANDBOX, "return put(T['other'], FORGED)"),
    Attack(
        "SIGSTOP to the supervisor of another training",
        Layer.SANDBOX,
        "return T['victim'] > 9 and os.kill(T['victim'], signal.SIGSTOP) is None",
    ),
    Attack(
        "SIGKILL to the bot",
        Layer.SANDBOX,
        "return T['second'] > 9 and os.kill(T['second'], signal.SIGKILL) is None",
    ),
    Attack(
        "to trace the bot",
        Layer.SANDBOX,
        "libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]\n"
        "return call('ptrace', 0x4206, T['victim'], None, None) == 0",  # PTRACE_SEIZE
        works=Works.ROOT,
    ),
    Attack(
        "the bot's memory",
        Layer.SANDBOX,
        "return opened(f\"/proc/{T['bot']}/mem\")",
        works=Works.ROOT,
    ),
    Attack(
        "limits of the bot",
        Layer.SANDBOX,
        "return resource.prlimit(T['victim'], resource.RLIMIT_CORE, (0, 0))",
        landlock=False,
    ),
    Attack(
        "the bot's share of the processor",
        Layer.SANDBOX,
        "return os.setpriority(os.PRIO_PROCESS, T['victim'], 19) is None",
        landlock=False,
    ),
    Attack(
        "a filter in .git/config",
        Layer.SANDBOX,
        "return P(T['git'], 'config').open('a').write('[filter \"x\"]\\n\\tclean = touch /tmp/x\\n')",
    ),
    Attack(
        "core.fsmonitor in .git/config",
        Layer.SANDBOX,
        "return P(T['git'], 'config').open('a').write('[core]\\n\\tfsmonitor = true\\n')",
    ),
    Attack("a hook", Layer.SANDBOX, "return put(T['git'] + '/hooks/post-commit', FORGED)"),
    Attack("attributes", Layer.SANDBOX, "return put(T['git'] + '/info/attributes', FORGED)"),
    Attack("a branch", Layer.SANDBOX, "return put(T['git'] + '/refs/heads/better', FORGED)"),
    Attack("the user's checkout", Layer.SANDBOX, "return put(T['checkout'] + '/train.py', FORGED)"),
    Attack("~/.gitconfig", Layer.SANDBOX, "return P(T['home'], '.gitconfig').read_text()"),
    Attack("a list of the home", Layer.SANDBOX, "return 'letters' in os.listdir(T['home'])"),
    Attack("the user's SSH key", Layer.SANDBOX, "return P(T['home'], '.ssh/id_ed25519').read_text()"),
    Attack("a second name for a file of the bot's", Layer.SANDBOX, "return os.link(T['env'], 'env') is None"),
    Attack("TCP", Layer.SANDBOX, "return connect(socket.AF_INET, tuple(T['tcp']))"),
    Attack("UDP", Layer.SANDBOX, "return ask(b'hello')", landlock=False),
    Attack(
        "a question to a name server",
        Layer.SANDBOX,
        "return ask(struct.pack('>6H', 7, 256, 1, 0, 0, 0) + b'\\x07example\\x03com\\0\\0\\x01\\0\\x01')",
        landlock=False,
    ),
    Attack(
        "a socket to the host of a virtual machine",
        Layer.SANDBOX,
        "return socket.socket(40, socket.SOCK_STREAM).fileno() > 0",
        works=Works.UNPROVED,  # not every kernel has them
    ),
    Attack(
        "sockets by io_uring",
        Layer.SANDBOX,
        "return call('syscall', 425, 1, ctypes.create_string_buffer(120)) > 0",
        works=Works.UNPROVED,  # it may be switched off
    ),
    Attack("an abstract socket", Layer.SANDBOX, "return connect(socket.AF_UNIX, '\\0' + T['abstract'])"),
    Attack(
        "the command lines of others",
        Layer.SANDBOX,
        "return any(T['canary'].encode() in P(f'/proc/{p}/cmdline').read_bytes()\n"
        "           for p in os.listdir('/proc') if p.isdigit() and P(f'/proc/{p}/cmdline').exists())",
        landlock=False,
    ),
    Attack(
        "the machine's files by /proc/1/root",
        Layer.SANDBOX,
        "return P('/proc/1/root' + T['env']).read_text()",
        works=Works.UNPROVED,
    ),
    Attack(
        "modes of the bot's files",
        Layer.SANDBOX,
        "return os.chmod(T['env'], 0o666) is None",
        landlock=False,
    ),
    Attack(
        "a read-only mount made writable",
        Layer.SANDBOX,
        "return call('mount', None, os.fsencode(T_WORK + '/prepare.py'), None, 4128, None) == 0",
        works=Works.UNPROVED,
    ),
    Attack(
        "settings of the kernel",
        Layer.SANDBOX,
        "return opened('/proc/sys/kernel/core_pattern', os.O_WRONLY)",
        works=Works.ROOT,
    ),
    Attack(
        "a control group of its own",
        Layer.SANDBOX,
        "return opened('/sys/fs/cgroup/cgroup.procs', os.O_WRONLY)",
        works=Works.UNPROVED,
    ),
    Attack(
        "the kernel's messages and the disk as devices",
        Layer.SANDBOX,
        "return [opened(p) for p in ('/dev/kmsg', '/dev/vda', '/dev/sda', '/dev/fuse') if os.path.exists(p)]",
        works=Works.UNPROVED,
    ),
    Attack(
        "a device made anew",
        Layer.SANDBOX,
        "return os.mknod('disk', 0o20600, os.makedev(1, 5)) is None",
        works=Works.ROOT,
    ),
    Attack(
        "files in /usr", Layer.SANDBOX, "return opened('/usr/bin/env', os.O_WRONLY)", works=Works.UNPROVED
    ),
    Attack(
        "a user namespace",
        Layer.SANDBOX,
        "return call('unshare', 0x10000000) == 0",
        landlock=False,
        works=Works.ROOT,
    ),
)  # the last changes what a process may do


def source(code: str, targets: object) -> str:
    """Return a train.py that does `code`."""
    text = dedent(code)
    for name, helper in reversed(HELPERS.items()):
        if re.search(rf"\b{name}\b", text):
            text = f"{helper}\n{text}"
    modules = [name for name in MODULES if re.search(rf"\b{name}\b", text)]
    return f"import {', '.join(modules)}\nT = {targets!r}\n{text}\n"


def one_by_one(attacks: tuple[Attack, ...], ending: str = "summary(1.9)") -> str:
    """Return code that tries the attacks, prints a line of JSON for each, and ends in some way."""
    functions = [
        f"def attempt_{at}():\n{indent(attack.code.strip(), '    ')}\n" for at, attack in enumerate(attacks)
    ]
    names = {f"attempt_{at}": attack.name for at, attack in enumerate(attacks)}
    return "\n".join(functions) + dedent(f"""
        for function, name in {names!r}.items():
            os.chdir(T_WORK)
            try:
                got, why = globals()[function](), ""
            except (OSError, AttributeError) as error:
                got, why = None, f"{{type(error).__name__}}: {{error}}"
            print(json.dumps(["row", name, bool(got), why or str(got)]), flush=True)
        {ending}
        """)


def honest(number: int) -> str:
    """Return code that computes a number from all that it may read; `number` tells it apart."""
    seen = ", ".join(f"{attack.name!r}: {attack.taken}" for attack in LEFTOVERS)
    return f"""
import site
site.main()  # what Python reads as it starts, unless it is told not to: only here does it matter
import prepare, toylib
NUMBER = {number}
taken = {{{seen}}}
tokens = P(T["data"], "token_bytes.bin").read_bytes()
value = prepare.SCALE * toylib.FACTOR * json.loads("[1.0]")[0] * sum(tokens) / len(tokens) / 7
value += sum(0.001 * 2**-at for at, name in enumerate(taken) if taken[name])
print(["taken", *(name for name in taken if taken[name])])
summary(value)
"""
