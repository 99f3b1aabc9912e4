"""The training template in a folder of its own, prepared, for benchmarks that train it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bot.setup.template import Profile, template_files
from loop.program.constants import replace_constants


@dataclass(frozen=True, slots=True)
class Prepared:
    """`own` is the environment of what runs in `folder`; `source` is the text, as in prepare.py."""

    folder: Path
    profile: Profile
    seconds: float
    seeds: tuple[int, ...]
    source: str
    train: str
    own: dict[str, str]

    def set_seed(self, seed: int) -> None:
        program = replace_constants(self.train, {"SEED": seed})
        (self.folder / "train.py").write_text(program, encoding="utf-8")

    def python(self, *command: str) -> str:
        """Run a Python process in the folder; return what it prints."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=os.environ | self.own,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout


@contextmanager
def prepared(doc: str | None) -> Iterator[Prepared]:
    """Read a benchmark's command line, which `doc` describes, and prepare the template that it wants."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="a training (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder of the text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1], metavar="SEED")
    parser.add_argument("--profile", choices=get_args(Profile), help="default: what the machine has")
    parser.add_argument("--cache", type=Path, help="where prepared text lies from before, or shall stay")
    arguments = parser.parse_args()
    profile: Profile = arguments.profile or ("gpu" if has_gpu() else "cpu")
    files = template_files(profile, arguments.seconds)
    source = str(arguments.data.resolve()) if arguments.data else "python"
    files["prepare.py"] = replace_constants(files["prepare.py"], {"SOURCE": source})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        own = {
            "AUTORESEARCH_CACHE": str((arguments.cache or folder / "cache").resolve()),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "kernels"),
            "TRITON_CACHE_DIR": str(folder / "kernels" / "triton"),
        }
        template = Prepared(
            folder, profile, arguments.seconds, tuple(arguments.seeds), source, files["train.py"], own
        )
        template.python("prepare.py")
        yield template


def has_gpu() -> bool:
    """Asked in a process of its own: torch is not imported here."""
    ask = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0
