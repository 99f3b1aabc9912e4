"""What a training has computed, as FLOP_BUDGET counts it. Part of the fixed half.

Nobody has to say what a model costs: each operation that PyTorch does in the thread that trains, backward and
optimizers too, passes by here and is counted from the shapes of its tensors. So the count is the same however
busy the machine is. What another thread or package computes does not pass by: `TIME_BUDGET` is its limit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

ELEMENT_FLOPS = 64  # for each number that is written by what is no product: it takes as long (LOG.md)

_aten = torch.ops.aten
_PRODUCTS = {_aten.mm: 0, _aten.bmm: 0, _aten.addmm: 1, _aten.baddbmm: 1, _aten.addbmm: 1, _aten.linear: 0}
"""The place of the first factor among the arguments. The registry has most of them too, ten times as slow."""
_ATTENTION = {
    getattr(_aten, f"_scaled_dot_product_flash_attention_for_cpu{way}"): flop_registry[
        getattr(_aten, f"_scaled_dot_product_flash_attention{way}")
    ]
    for way in ("", "_backward")
}
_OTHERS = {**flop_registry, **_ATTENTION, _aten._unsafe_view: lambda *_, **__: 0}


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch gives it no types
    """Counts from `start` on, until the process ends."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops, self.started = 0, False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # that would import all of Dynamo, which takes seconds

    def start(self) -> None:
        if not self.started:
            self.started = True
            self.__enter__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        kind = func.overloadpacket
        if (first := _PRODUCTS.get(kind)) is not None:
            rows = args[first].numel()  # of all factors together, times their length
            self.flops += 2 * rows * args[first + 1].shape[0 if kind is _aten.linear else -1]
        elif formula := _OTHERS.get(kind):
            self.flops += formula(*args, **kwargs, out_val=found)
        elif not func.is_view:
            # Of what returns nothing, the first argument is what it writes to: AdamW goes over it once.
            self.flops += ELEMENT_FLOPS * _numbers(args[:1] if found is None or found == () else found)
        return found


def _numbers(tensors: Any) -> int:
    """How many there are in a tensor, or in all of nested lists."""
    if isinstance(tensors, torch.Tensor):
        return tensors.numel()
    return sum(map(_numbers, tensors)) if isinstance(tensors, list | tuple) else 0


COUNTER = Counter()
