"""A model's process that answers nonsense, or means harm."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.evaluation.scored import (
    LENGTH,
    VOCABULARY,
    Model,
    Run,
    Serve,
    exchange,
    readers,
)

SHAPES: dict[str, Callable[[Tensor], Any]] = {
    "another vocabulary": lambda tokens: torch.zeros(*tokens.shape, 7),
    "fewer positions": lambda tokens: torch.zeros(tokens.shape[0], 3, VOCABULARY),
    "one row": lambda tokens: torch.zeros(1, LENGTH, VOCABULARY),
    "flat": lambda tokens: torch.zeros(tokens.numel(), VOCABULARY),
    "whole numbers": lambda tokens: torch.zeros(*tokens.shape, VOCABULARY, dtype=torch.int64),
    "complex numbers": lambda tokens: torch.zeros(*tokens.shape, VOCABULARY, dtype=torch.complex64),
    "no tensor": lambda tokens: [[0.0]],
    "nothing": lambda tokens: None,
}


@pytest.mark.parametrize("kind", SHAPES)
def test_logits_of_another_shape_are_refused(kind: str, run: Run) -> None:
    found = run.model(SHAPES[kind])
    assert found["refused"].startswith("The model's logits must be floats of the shape (8, 32, 50)")
    assert found["val_bpb"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["everywhere", "at one position", "on one token"])
def test_what_is_no_number_is_refused(value: float, where: str, run: Run, honest: Model) -> None:
    def model(tokens: Tensor) -> Tensor:
        logits = honest(tokens).clone()
        if where == "on one token":
            logits[..., 3] = value
        elif where == "at one position":
            logits[0, 5] = value
        else:
            logits[:] = value
        return logits

    found = run.model(model)
    assert found["refused"].startswith("The loss is no finite number at ")
    assert not (run.folder / "losses").exists()


def test_huge_logits_are_only_a_bad_model(run: Run, head: dict[str, Any], honest: Model) -> None:
    found = run.model(lambda tokens: honest(tokens) * 1e20)
    assert found["val_bpb"] > head["val_bpb"]


def raw(channel: Any, *parts: bytes) -> None:
    for part in parts:
        os.set_blocking(channel.writing, True)
        os.write(channel.writing, part)


def framed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def flood(channel: Any, memory: int) -> None:
    while True:
        raw(channel, b"x" * 65536)


def flood_of_answers(channel: Any, memory: int) -> None:
    exchange.Channel.send(channel, {"ready": True})
    channel.receive()
    while True:
        raw(channel, framed(b'{"slot": 0}'))


def hang(channel: Any, memory: int) -> None:
    channel.read(10**9)  # nothing comes that long


def hang_half_way(channel: Any, memory: int) -> None:
    channel.send({"ready": True})
    raw(channel, b"\0\0")
    hang(channel, memory)


def cut_the_file(channel: Any, memory: int) -> None:
    channel.send({"ready": True})
    channel.receive()
    os.ftruncate(memory, 100)
    channel.send({"slot": channel.receive()["slot"]})
    hang(channel, memory)


HARM: dict[str, tuple[Serve, str]] = {
    "noise": (lambda channel, memory: raw(channel, b"\xff" * 100), "no message"),
    "not JSON": (lambda channel, memory: raw(channel, framed(b"{")), "no message"),
    "not UTF-8": (lambda channel, memory: raw(channel, framed(b"\xff\xfe")), "no message"),
    "no object": (lambda channel, memory: raw(channel, framed(b"[1]")), "no message"),
    "very deep": (lambda channel, memory: raw(channel, framed(b"[" * 4000)), "no message"),
    "a huge number": (
        lambda channel, memory: raw(channel, framed(b'{"slot": 1%b}' % (b"0" * 4000))),
        "not asked",
    ),
    "another slot": (lambda channel, memory: channel.send({"slot": 1}), "not asked"),
    "more than was asked": (lambda channel, memory: channel.send({"ready": True, "a": 1}), "not asked"),
    "a flood": (flood, "no message"),
    "a flood of answers": (flood_of_answers, "not asked"),
    "silence": (hang, "in time"),
    "half a message": (hang_half_way, "no message|in time"),
    "an early end": (lambda channel, memory: None, "ended"),
    "an end half-way": (lambda channel, memory: channel.send({"ready": True}), "ended"),
    "a file that shrinks": (cut_the_file, "short|in time"),
    "its own words": (
        lambda channel, memory: channel.send({"refused": "no\x1b[2Jway" + 500 * "!"}),
        r"no\[2Jway!+$",
    ),
    "no words": (lambda channel, memory: channel.send({"refused": "\n"}), "gave up"),
}


@pytest.mark.parametrize("kind", HARM)
def test_harm_is_a_refusal_in_good_time(kind: str, run: Run) -> None:
    serve, sentence = HARM[kind]
    waits = "in time" in sentence  # anything else comes by itself, however busy the machine is
    found = run.process(serve, seconds=1 if waits else 60)
    assert len(found["refused"]) <= 300
    assert re.search(sentence, found["refused"])


def test_what_is_written_after_an_answer_changes_nothing(
    run: Run, honest: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run.model(honest)
    read = readers.read

    def read_then_lose(exchange: int, memory: memoryview, at: int) -> None:
        read(exchange, memory, at)
        os.pwrite(exchange, b"\xff" * len(memory), at)

    monkeypatch.setattr(readers, "read", read_then_lose)
    assert run.model(honest) == expected


def test_the_model_gets_the_tokens_it_is_asked_with_and_no_target(
    run: Run, honest: Model, corpus: Any
) -> None:
    seen: list[int] = []

    def model(tokens: Tensor) -> Tensor:
        seen.append(tokens.untyped_storage().nbytes() // 8 - tokens.numel())
        return honest(tokens)

    run.model(model)
    assert set(seen) == {0}
