"""Hostile programs of their own: against limits, against the reader of logs, at their end; and links."""

from __future__ import annotations

from tests.loop.sandbox.attacks import Attack, Layer, Trick, Works

LINKS = (
    Attack(
        "a link in the place of work",
        Layer.SANDBOX,
        "os.rename(os.getcwd(), os.getcwd() + '.old'); return os.symlink(T['letters'], os.getcwd()) is None",
        works=Works.UNPROVED,
    ),
    Attack(
        "a link in the place of cache",
        Layer.SANDBOX,
        "cache = os.path.dirname(os.environ['TORCHINDUCTOR_CACHE_DIR'])\n"
        "os.rename(cache, cache + '.old'); return os.symlink(T['letters'], cache) is None",
        works=Works.UNPROVED,
    ),
    Attack(
        "a link in the place of tmp",
        Layer.SANDBOX,
        "os.rename(os.environ['TMPDIR'], os.environ['TMPDIR'] + '.old')\n"
        "return os.symlink(T['letters'], os.environ['TMPDIR']) is None",
        works=Works.UNPROVED,
    ),
    Attack(
        "a link in the place of run.log",
        Layer.SANDBOX,
        "os.unlink(T['worktree'] + '/run.log')\n"
        "return os.symlink(T['letters'] + '/first', T['worktree'] + '/run.log') is None",
        works=Works.UNPROVED,
    ),
    Attack(
        "a link in the place of results.tsv",
        Layer.SANDBOX,
        "os.unlink(T['worktree'] + '/results.tsv')\n"
        "return os.symlink(T['letters'] + '/first', T['worktree'] + '/results.tsv') is None",
        works=Works.UNPROVED,
    ),
    Attack(
        "links to the home within work, cache and tmp",
        Layer.FOLDER,
        "inside = ['.', os.environ['TMPDIR'], os.path.dirname(os.environ['TORCHINDUCTOR_CACHE_DIR'])]\n"
        "return [os.symlink(T['letters'], folder + '/inductor') for folder in inside]",
        works=Works.UNPROVED,
    ),
)

LIMITS = (
    Trick(
        "a flood of log",
        Layer.SUPERVISOR,
        "for _ in range(4000): print('x' * 1000)\nsummary(1.9)",
        1.9,
        limits=(("log", 65536),),
    ),
    Trick(
        "a sparse file",
        Layer.SUPERVISOR,
        "os.truncate(put('large', ''), 10**9); summary(1.9)",
        error="File too large",
        limits=(("file_size", 10**6),),
    ),
    Trick(
        "a large file in the cache",
        Layer.SUPERVISOR,
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "P(os.environ['CUDA_CACHE_PATH']).write_bytes(bytes(2 * 10**6)); summary(1.9)",
        error="a file larger than",
        limits=(("file_size", 10**6),),
    ),
    Trick(
        "processes that multiply",
        Layer.SUPERVISOR,
        "for _ in range(40):\n    if os.fork() == 0: os.setsid(); time.sleep(1000)\ntime.sleep(1000)",
        error="processes, more than",
        limits=(("processes", 20),),
    ),
    Trick(
        "memory",
        Layer.SUPERVISOR,
        "held = b'1' * 300_000_000; time.sleep(1000)",
        error="of memory, more than",
        limits=(("memory", 150_000_000),),
    ),
    Trick(
        "memory in /dev/shm",
        Layer.SUPERVISOR,
        "P('/dev/shm/x').write_bytes(bytes(300_000_000)); time.sleep(1000)",
        error="of memory, more than",
        limits=(("memory", 150_000_000),),
    ),
    Trick(
        "a full home",
        Layer.SANDBOX,
        "P(T['home'], 'large').write_bytes(bytes(70 * 2**20)); summary(1.9)",
        error="No space left",
    ),
    Trick(
        "a file at the root of the machine",
        Layer.SANDBOX,
        "put('/large', 'x')",
        error="Read-only file system",
    ),
    Trick(
        "files in thousands, in folders a thousand deep that may not be entered",
        Layer.FOLDER,
        "os.mkfifo('pipe')\n"
        "for at in range(2000): os.close(os.open(str(at), os.O_CREAT))\n"
        "for at in range(1500): os.mkdir('deep'); os.chdir('deep')\n"
        "summary(1.9)\n"
        "os.chdir(T_WORK); os.chmod('deep', 0)",
        1.9,
    ),
)

LOGS = (
    Trick("64 KB of ---", Layer.READER, "print('---\\n' * 16384); summary(1.9)", 1.9),
    Trick("64 KB of --- after the summary", Layer.READER, "summary(1.9); print('---\\n' * 16384)", 1.9),
    Trick(
        "a line of 3 MB without its end",
        Layer.READER,
        "summary(1.9); sys.stdout.write('val_bpb: 0.1 ' * 250_000)",
        error="val_bpb is in the log but not in a summary",
        limits=(("log", 4 * 2**20),),
    ),
    Trick("a second number in the summary", Layer.READER, "summary(1.9); print('val_bpb: 0.1')", 1.9),
    Trick("a whole second summary, forged", Layer.NOTHING, "summary(1.9); summary(1.8)", 1.8),
    Trick(
        "escape codes",
        Layer.READER,
        "print('\\x1b]0;title\\x07\\x1b[2J'); raise ValueError('\\x1b[31mred\\x1b[8m hidden \\x07\\x1b[0m')",
        error="ValueError: red hidden",
    ),
    Trick(
        "bytes that are no text",
        Layer.READER,
        "sys.stdout.buffer.write(bytes(range(256)) * 9 + b'\\n'); sys.stdout.flush(); summary(1.9)",
        1.9,
    ),
    Trick(
        "forged progress",
        Layer.READER,
        "print('step 99999 (100.0%) | loss: 0.000001 | remaining: 0s\\r' * 99); summary(1.9)",
        1.9,
    ),
    Trick(
        "a summary of another metric", Layer.READER, "print('---\\nval_acc: 0.99')", error="METRIC=val_acc"
    ),
    Trick("NaN", Layer.READER, "summary(float('nan'))", error="val_bpb is nan"),
    Trick("infinity", Layer.READER, "summary(float('-inf'))", error="val_bpb is -inf"),
    Trick("a number that no loss can be", Layer.READER, "summary(-1.5)", error="val_bpb is -1.5"),
    Trick("a number of 4,000 digits", Layer.READER, "summary(int('1' * 4000))", error="val_bpb is inf"),
)

ENDINGS = (
    Trick(
        "a daemon that outlives it",
        Layer.SUPERVISOR,
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        idle = [sys.executable, '-c', 'import time; time.sleep(1000)', T['daemon']]\n"
        "        os.execv(sys.executable, idle)\n"
        "    os._exit(0)\n"
        "os.wait(); summary(1.9)",
        1.9,
    ),
    Trick(
        "a process without the variable that marks it",
        Layer.SUPERVISOR,
        "import subprocess\nsummary(1.9)\n"
        "idle = [sys.executable, '-c', 'import time; time.sleep(1000)', T['daemon']]\n"
        "subprocess.Popen(idle, env={}, start_new_session=True, stdout=subprocess.DEVNULL)",
        1.9,
    ),
    Trick(
        "SIGTERM ignored, without an end",
        Layer.SUPERVISOR,
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); summary(1.9); time.sleep(1000)",
        1.9,
        deadline=2.0,
    ),
    Trick(
        "a stop of itself, without an end",
        Layer.SUPERVISOR,
        "summary(1.9); os.kill(os.getpid(), signal.SIGSTOP)",
        1.9,
        deadline=2.0,
    ),
    Trick(
        "SIGSTOP and SIGKILL to what started it",
        Layer.SANDBOX,
        "for number in (signal.SIGSTOP, signal.SIGKILL):\n"
        "    try: os.kill(os.getppid(), number)\n"
        "    except PermissionError: pass\n"
        "time.sleep(0.1); summary(1.9)",
        1.9,
    ),
    Trick(
        "a closed output", Layer.SUPERVISOR, "summary(1.9); os.close(1); os.close(2); time.sleep(0.3)", 1.9
    ),
    Trick("an end without a summary", Layer.READER, "sys.exit(0)", error="ended well but without val_bpb"),
    Trick("half a summary", Layer.READER, "print('---\\ntraining_seconds: 1.0')", error="no val_bpb"),
    Trick(
        "a signal after the summary", Layer.READER, "summary(1.9); os.kill(os.getpid(), signal.SIGSEGV)", 1.9
    ),
    Trick("its own program changed", Layer.GIT, "put('train.py', 'better'); summary(1.9)", 1.9),
    Trick(
        "the evaluator changed",
        Layer.SANDBOX,
        "put('prepare.py', 'SCALE = 0.5'); summary(1.9)",
        error="Read-only file system",
    ),
    Trick(
        "another evaluator in its place",
        Layer.SANDBOX,
        "os.rename(put('other.py', 'SCALE = 0.5'), 'prepare.py'); summary(1.9)",
        error="Device or resource busy",
    ),
)

# Of a program that is kept, the compile cache is taken over: with what is in it.
CACHES = (
    Trick(
        "a pipe in the cache of a kept program",
        Layer.FOLDER,
        "os.mkfifo(CACHE + '/pipe'); summary(1.05)",
        1.05,
    ),
    Trick(
        "folders a thousand deep in the cache of a kept program",
        Layer.FOLDER,
        "os.chdir(CACHE)\nfor at in range(1500): os.mkdir('deep'); os.chdir('deep')\nsummary(1.04)",
        1.04,
    ),
    Trick(
        "a sparse file of 60 GB in the cache of a kept program",
        Layer.FOLDER,
        "os.truncate(put(CACHE + '/large', ''), 60 * 10**9); summary(1.03)",
        1.03,
    ),
    Trick(
        "what may not be read in the cache of a kept program",
        Layer.FOLDER,
        "os.mkdir(CACHE + '/closed'); put(CACHE + '/closed/file', 'x')\n"
        "os.chmod(CACHE + '/closed/file', 0); os.chmod(CACHE + '/closed', 0); summary(1.02)",
        1.02,
    ),
    Trick(
        "a cache of a kept program that may not be written",
        Layer.FOLDER,
        "os.chmod(CACHE, 0o500); summary(1.015)",
        1.015,
    ),
    Trick(
        "a link to the home in the cache of a kept program",
        Layer.FOLDER,
        "os.symlink(T['letters'], CACHE + '/home'); summary(1.01)",
        1.01,
    ),
)
