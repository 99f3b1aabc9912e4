"""A Python whose wall clock can be set while it runs, as if somebody had set the machine's.

libfaketime could do that too, but with the monotonic clock left alone its 0.9.10 makes Python's `sleep` fail.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

LIBRARY = """\
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *set_by;

__attribute__((constructor)) static void follow(void) {
    int file = open(getenv("WALL_CLOCK"), O_RDONLY);
    set_by = mmap(NULL, sizeof *set_by, PROT_READ, MAP_SHARED, file, 0);
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int status = syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *set_by;
    return status;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}
"""


class WallClock:
    """The clock of `python`, which is this interpreter with all its packages, and of what it starts.

    The clocks that count from boot are left alone, as are the times of files. Linux with a C compiler only.
    """

    def __init__(self, folder: Path) -> None:
        library, environment = folder / "clock.so", folder / "environment"
        self._file = folder / "clock"
        self.python = environment / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        compiler = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        subprocess.run(compiler, input=LIBRARY, text=True, check=True)
        # An environment like ours, but for its python: that one is a script, so that whatever the bot starts
        # with its own interpreter follows the clock too, in whatever environment variables.
        for name in ("pyvenv.cfg", "lib"):
            (environment / name).symlink_to(Path(sys.prefix) / name)
        variables = f"LD_PRELOAD={shlex.quote(str(library))} WALL_CLOCK={shlex.quote(str(self._file))}"
        program = shlex.quote(str(Path(sys.executable).resolve()))
        self.python.write_text(f'#!/bin/bash\nexport {variables}\nexec -a "$0" {program} "$@"\n')
        self.python.chmod(0o755)
        self.set_by(hours=0)

    def set_by(self, *, hours: int) -> None:
        """Let the clock be ahead of the machine's by so many hours, at once."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write((3600 * hours).to_bytes(8, sys.byteorder, signed=True))
