"""Texts as they read when a person last looked at them.

`UPDATE_GOLDEN=1 pytest -n 0 tests/notifiers tests/bot` writes them anew; read the diff by eye.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent


def check(name: str, texts: Mapping[str, str]) -> None:
    """Compare several texts, each under its title, with a file of this folder."""
    check_text(f"texts/{name}", "\n\n".join(f"## {title}\n{text}" for title, text in texts.items()))


def check_one(name: str, title: str, text: str) -> None:
    """Compare one text with that under its title in a file of this folder, which several tests share."""
    path = FOLDER / f"texts/{name}.txt"
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = known.removeprefix("## ").removesuffix("\n").split("\n\n## ") if known else []
    texts = dict(part.split("\n", 1) for part in parts)
    if os.environ.get("UPDATE_GOLDEN"):
        check(name, texts | {title: text})
    else:
        assert text == texts[title]


def check_text(name: str, text: str) -> None:
    path = FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(f"{text}\n", encoding="utf-8")
    assert f"{text}\n" == path.read_text(encoding="utf-8")
