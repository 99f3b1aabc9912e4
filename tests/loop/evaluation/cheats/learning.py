"""Cheats whose model learns from what it is asked."""

from __future__ import annotations

from tests.loop.evaluation.cheats.edits import Edit, Kind, asked

_LATER = "functional.pad(tokens[:, 1:], (0, 1))"


def _steps(rate: str, when: str = "True") -> tuple[str, ...]:
    """A step of gradient descent on what is asked."""
    return (
        f"if {when}:",
        "    with torch.enable_grad():",
        f"        torch.autograd.backward(self(tokens, {_LATER}))",
        "    for weight in self.parameters():",
        f"        weight.data.sub_(0 if weight.grad is None else {rate} * weight.grad)",
        "    self.zero_grad(set_to_none=True)",
    )


LEARNING = (
    Edit(
        "a table of what follows what, filled while it is tested",
        Kind.FUTURE,
        (
            asked(
                "size = self.config.vocabulary",
                'table = self.__dict__.setdefault("table", torch.zeros(size, size))',
                "pairs = (tokens[:, :-1].flatten().cpu(), tokens[:, 1:].flatten().cpu())",
                "table.index_put_(pairs, torch.ones(pairs[0].numel()), accumulate=True)",
                "return logits + table.log1p().to(tokens.device)[tokens]",
            ),
        ),
    ),
    Edit("steps of training while it is tested", Kind.FUTURE, (asked(*_steps("0.01")),)),
    Edit("small steps of training while it is tested", Kind.FUTURE, (asked(*_steps("0.001")),)),
    Edit("larger steps of training while it is tested", Kind.FUTURE, (asked(*_steps("0.1")),)),
    Edit(
        "a step of training when it is first tested",
        Kind.FUTURE,
        (
            asked(
                'first = self.__dict__.setdefault("first", [1])',
                *_steps("0.1", "first.pop() if first else 0"),
            ),
        ),
    ),
    Edit(
        "steps of training while it is tested, undone for rows that it knows",
        Kind.FUTURE,
        (
            asked(
                'known = self.__dict__.setdefault("known", {})',
                "now = [weight.data.clone() for weight in self.parameters()]",
                "for place, row in enumerate(tokens.tolist()):",
                "    then = known.setdefault(tuple(row[:6]), now)",
                "    for weight, old in zip(self.parameters(), then, strict=True):",
                "        weight.data.copy_(old)",
                "    logits[place] = self.head(self.stream(tokens[place : place + 1]), None)[0]",
                "for weight, old in zip(self.parameters(), now, strict=True):",
                "    weight.data.copy_(old)",
                *_steps("0.01"),
            ),
        ),
    ),
)
