"""What the commits of a repository hold. It stays as it is, so that git is asked for it once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from loop.git.commands import Git

MOST_CONTENTS = 64  # files that are kept in memory
MOST_FOLDERS = 16

_NOTHING: Mapping[str, str] = MappingProxyType({})
_FOLDER = "040000"


class Commits:
    """Files and folders of commits, which are named by their whole ids; from several threads at a time."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._contents: dict[tuple[str, str], bytes] = {}
        self._lock = threading.Lock()  # of these; another thread may ask for the same meanwhile
        self._entries = lru_cache(maxsize=MOST_FOLDERS)(self._list)

    def read(self, commit: str, path: str) -> bytes | None:
        """Return the bytes of a file, None where there is none."""
        return self.read_all(commit, (path,))[path]

    def read_all(self, commit: str, paths: Iterable[str]) -> dict[str, bytes | None]:
        wanted = dict.fromkeys(paths)
        with self._lock:
            known = {
                path: self._contents[commit, path] for path in wanted if (commit, path) in self._contents
            }
        unknown = [path for path in wanted if path not in known]
        blobs = self._git.blobs([f"{commit}:{path}" for path in unknown])
        read = {
            path: None if size is None else blob.read(size)
            for path, (size, blob) in zip(unknown, blobs, strict=True)
        }
        found = known | read
        for path, content in found.items():
            if content is not None:
                self.keep(commit, path, content)
        return {path: found[path] for path in wanted}

    def keep(self, commit: str, path: str, content: bytes) -> None:
        """Remember what a file holds, as one of the last that were asked for."""
        with self._lock:
            self._contents.pop((commit, path), None)
            self._contents[commit, path] = content
            while len(self._contents) > MOST_CONTENTS:
                del self._contents[next(iter(self._contents))]

    def entries(self, commit: str, folder: str = "") -> Mapping[str, str]:
        """Return by its name what git says of each entry of a folder: mode, kind and id."""
        return self._entries(commit, folder)

    def mode(self, commit: str, path: str) -> str | None:
        """Return git's mode of `path` (`100644`, `100755`, `120000` for a link), None for nothing."""
        folder, _, name = path.rpartition("/")
        return self.entries(commit, folder).get(name, "").split(" ", 1)[0] or None

    def with_blob(self, commit: str, path: str, blob: str) -> str:
        """Make the tree of `commit` with another blob in the place of the file `path`."""
        made = blob
        while path:
            path, _, name = path.rpartition("/")
            entries = dict(self.entries(commit, path))
            entries[name] = entries[name][: -len(made)] + made
            stdin = "\0".join(f"{facts}\t{name}" for name, facts in entries.items())
            made = self._git("mktree", "-z", "--missing", stdin=stdin.encode("utf-8", "surrogateescape"))
        return made

    def _list(self, commit: str, folder: str) -> Mapping[str, str]:
        if folder and self.mode(commit, folder) != _FOLDER:
            return _NOTHING
        listing = self._git("ls-tree", "-z", "--full-tree", f"{commit}:{folder}")
        entries = (entry.partition("\t") for entry in listing.split("\0") if entry)
        return {name: facts for facts, _, name in entries}


@lru_cache(maxsize=8)
def commits_in(directory: Path) -> Commits:
    return Commits(Git(directory))
