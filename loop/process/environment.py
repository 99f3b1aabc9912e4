"""With what a training is started: its environment and its command."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from loop.text import is_secret, without_secrets

_ALLOWED = re.compile(
    r"""
    PATH | HOME | USER | LOGNAME | SHELL | LANG | LANGUAGE | LC_\w+ | TZ | TMPDIR
    | XDG_(?:CACHE|DATA|CONFIG)_HOME | AUTORESEARCH_CACHE
    | (?:LD|DYLD)_LIBRARY_PATH | LIBRARY_PATH | CPATH | CC | CXX                    # torch.compile compiles
    | (?:CUDA|NVIDIA|NCCL|CUDNN|CUBLAS|HIP|ROCR|ROCM|HSA|MIOPEN|AMD)_\w+
    | (?:OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|RAYON)_\w+ | TOKENIZERS_PARALLELISM
    | TORCH\w* | PYTORCH_\w+ | TRITON_\w+
    | HF_HOME | HF_HUB_(?:CACHE|OFFLINE) | HF_DATASETS_\w+ | TIKTOKEN_CACHE_DIR
    | UV_\w+ | VIRTUAL_ENV | CONDA_(?:PREFIX|DEFAULT_ENV)
    | (?i:(?:https?|all|no)_proxy) | SSL_CERT_(?:FILE|DIR) | REQUESTS_CA_BUNDLE     # uv may fetch packages
    """,
    re.VERBOSE,
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

_PREPARE = "prepare.py"

PROXIES = (*_PROXIES, *map(str.lower, _PROXIES))
"""What says how the network is reached; a proxy may want a login."""


def training_environment(environ: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Choose from `environ` what a training needs, and add `extra`; nothing that looks like a secret goes in.

    A secret is told by its name (`…TOKEN…`, `…KEY…`) or by its look, such as a login within a URL, in `extra`
    too.
    """
    wanted = {name: value for name, value in environ.items() if _ALLOWED.fullmatch(name)} | dict(extra)
    chosen = {
        name: value
        for name, value in wanted.items()
        if not is_secret(name) and without_secrets(value) == value
    }
    chosen["PYTHONUNBUFFERED"] = "1"  # progress and the last words of a killed training reach the log
    return chosen


def launch_command(worktree: Path, override: tuple[str, ...], editable: str = "train.py") -> tuple[str, ...]:
    """Choose how the training is started in `worktree`.

    `override` (TRAIN_COMMAND) is used when not empty; else `uv run` where there is a `uv.lock` and uv is
    installed, else the Python that runs the bot.
    """
    if override:
        return override
    if (worktree / "uv.lock").is_file() and shutil.which("uv"):
        return ("uv", "run", editable)
    return (sys.executable, editable)


def prepare_line(repository: Path, override: tuple[str, ...] = (), editable: str = "train.py") -> str:
    """Return what to type to prepare the data, with the Python that trains.

    The arguments are those of `launch_command`.
    """
    command = launch_command(repository, override, editable)
    words = [_PREPARE if word == editable else word for word in command]
    known = words if _PREPARE in words else ["python", _PREPARE]
    return f"cd {shlex.quote(str(repository))} && {shlex.join(known)}"
