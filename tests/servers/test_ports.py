from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context

from tests.servers.ports import free_port


def many(count: int) -> list[int]:
    random.seed(0)  # as Hypothesis does before each test
    return [free_port() for _ in range(count)]


def test_no_two_servers_are_given_one_port() -> None:
    random.seed(0)
    free_port()  # a process that is forked goes on with ports of its own
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as processes:
        ports = list(chain(*processes.map(many, [150] * 4), many(150)))
    assert len({*ports}) == len(ports) == 750
