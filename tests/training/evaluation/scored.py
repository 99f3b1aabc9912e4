"""What the tests of the scorer share: a small text, tables for models, a run whose models are threads."""

from __future__ import annotations

import copy
import importlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from training import evaluate

exchange = importlib.import_module("exchange")  # the modules as evaluate.py itself imports them


prepare = importlib.import_module("prepare")
asked: Any = importlib.import_module("questions")
readers: Any = importlib.import_module("readers")


CPU = torch.device("cpu")


LENGTH = 32


VOCABULARY = 50


BOS = VOCABULARY - 1


ROWS = {"train": 900, "val": 240, "audit": 60}


Model = Callable[[Tensor], Tensor]


Serve = Callable[[Any, int], None]


def rows_of(corpus: Any, split: str) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = prepare.Rows(corpus, split, LENGTH).take(np.arange(ROWS[split]))
    return found


@dataclass(frozen=True, slots=True)
class Head:
    """What was found of a model, and the file of its losses."""

    found: dict[str, Any]
    losses: Path


class Run:
    """Scores models of one corpus; `found` is what the last one got."""

    def __init__(self, corpus: Any, folder: Path) -> None:
        self.corpus, self.folder = corpus, folder
        self.head: Path | None = None

    def model(self, model: Callable[[Tensor], Any], *, seed: int = 1, out: str = "losses") -> dict[str, Any]:
        """Score a model; its second process has a copy of it, as it is now."""

        def serving(model: Callable[[Tensor], Any]) -> Serve:
            def serve(channel: Any, memory: int) -> None:
                try:
                    exchange.serve(model, CPU, channel, memory)
                except exchange.RefusedError as error:
                    channel.send({"refused": str(error)})

            return serve

        second = copy.deepcopy(model)
        return self.process(serving(model), serving(second), seed=seed, out=out)

    def process(
        self, *serves: Serve, seed: int = 1, out: str = "losses", seconds: float = 60
    ) -> dict[str, Any]:
        """Score what two processes answer, or the same way in both if only one is given."""
        end = time.monotonic() + seconds
        with ExitStack() as stack:
            first, second = (stack.enter_context(_process(serve, end)) for serve in (serves * 2)[:2])
            found: dict[str, Any] = evaluate.score(
                self.corpus, (first, second), seed=seed, out=self.folder / out, head=self.head
            )
        json.dumps(found, allow_nan=False)
        return found


@contextmanager
def _process(serve: Serve, end: float) -> Iterator[Any]:
    """A thread that answers until the scorer has gone."""
    memory = os.memfd_create("exchange")
    to_model, to_scorer = os.pipe(), os.pipe()

    def other_side() -> None:
        try:
            serve(exchange.Channel(to_model[0], to_scorer[1]), memory)
        except (exchange.RefusedError, OSError):
            pass  # the scorer has gone
        finally:
            os.close(to_scorer[1])

    thread = threading.Thread(target=other_side)
    thread.start()
    try:
        yield evaluate.Asked(exchange.Channel(to_scorer[0], to_model[1], end), memory)
    finally:
        os.close(to_model[1])
        os.close(to_scorer[0])
        thread.join()
        os.close(to_model[0])
        os.close(memory)


def bigrams(*texts: npt.NDArray[np.int64]) -> Tensor:
    """What follows each token how often, as logits."""
    counts = np.full((VOCABULARY, VOCABULARY), 0.05)
    for inputs, targets in texts:
        np.add.at(counts, (inputs.ravel(), targets.ravel()), 1)
    return torch.from_numpy(np.log(counts)).float()


def trigrams(*texts: npt.NDArray[np.int64], prior: float = 0.05) -> Tensor:
    """The same of each two tokens."""
    counts = np.full((VOCABULARY, VOCABULARY, VOCABULARY), prior)
    for inputs, targets in texts:
        before = np.pad(inputs[:, :-1], ((0, 0), (1, 0)))
        np.add.at(counts, (before.ravel(), inputs.ravel(), targets.ravel()), 1)
    return torch.from_numpy(np.log(counts)).float()


def by_two(table: Tensor) -> Model:
    return lambda tokens: table[functional.pad(tokens[:, :-1], (1, 0)), tokens]


def next_tokens(tokens: Tensor) -> Tensor:
    """Logits that are certain of the tokens that follow in the row."""
    sure = 12.0 * functional.one_hot(tokens[:, 1:], VOCABULARY).float()
    return functional.pad(sure, (0, 0, 0, 1))
