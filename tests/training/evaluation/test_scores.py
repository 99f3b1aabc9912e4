"""The numbers of the scorer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.training.evaluation.scored import (
    CPU,
    LENGTH,
    Model,
    Run,
    asked,
    by_two,
    prepare,
)
from training import evaluate


@pytest.mark.parametrize(("tokens", "val", "audit"), [(1, 64, 32), (100 * LENGTH, 100, 50), (10**6, 240, 60)])
def test_some_rows_are_scored_evenly_spread(tokens: int, val: int, audit: int, corpus: Any) -> None:
    text = asked.read_text(corpus, asked.Effort(tokens, 1 / 2, 32, LENGTH))
    assert (text.val, len(text.targets) - text.val) == (val, audit)
    whole = prepare.Rows(corpus, "val", LENGTH).take(np.arange(240))[1]
    found = [int((row == whole).all(1).argmax()) for row in text.targets[: text.val]]
    assert found == [row * 240 // val for row in range(val)]


class TestNumbers:
    def test_they_are_those_of_evaluate_bpb(self, run: Run, honest: Model, corpus: Any) -> None:
        found = run.model(honest)
        assert found["refused"] == found["prefix"] == ""
        expected = prepare.evaluate_bpb(honest, corpus, rows=16, device=CPU)
        assert found["val_bpb"] == pytest.approx(expected, rel=1e-6)
        assert 0 < found["val_bpb_se"] < 0.1
        assert found["val_share"] == 1
        assert found["audit_bpb"] == pytest.approx(found["val_bpb"], abs=0.1)
        assert found["gain_val"] is found["gain_audit"] is None

    def test_they_do_not_depend_on_the_order(self, run: Run, honest: Model) -> None:
        one, other = (run.model(honest, seed=seed) for seed in (1, 2))
        assert one["val_bpb"] == pytest.approx(other["val_bpb"], rel=1e-9)
        assert one["audit_bpb"] == pytest.approx(other["audit_bpb"], rel=1e-9)

    def test_a_gain_is_found_position_by_position(
        self, run: Run, head: dict[str, Any], learnt: torch.Tensor
    ) -> None:
        found = run.model(by_two(learnt))
        assert found["prefix"] == ""
        assert found["gain_val"] == pytest.approx(head["val_bpb"] - found["val_bpb"])
        assert found["gain_audit"] == pytest.approx(head["audit_bpb"] - found["audit_bpb"])
        assert found["gain_val_se"] < head["val_bpb_se"]
        assert found["gain_audit"] > 3 * found["gain_audit_se"]

    def test_the_standard_error_is_that_of_other_text_of_the_kind(self) -> None:
        random = np.random.default_rng(0)
        sizes = np.full((400, 9), 2)
        shared = random.normal(1, 0.3, (200, 400, 1))  # positions of a row are alike
        found = [evaluate.bits(rows + np.zeros((400, 9)), sizes) for rows in shared]
        ratios, errors = np.array(found).T
        assert errors.mean() == pytest.approx(ratios.std(), rel=0.15)

    def test_float16_across_is_exact_enough(
        self, run: Run, honest: Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = run.model(lambda tokens: honest(tokens) + 3e4)  # far from 0, as some models have it
        monkeypatch.setattr(evaluate, "has_gpu", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 0))
        half = run.model(lambda tokens: honest(tokens).bfloat16() + 0)
        exact = run.model(honest)
        assert exact["val_bpb"] == pytest.approx(full["val_bpb"], abs=1e-3)
        assert half["val_bpb"] == pytest.approx(exact["val_bpb"], abs=3e-3)
        monkeypatch.undo()

    def test_without_an_audit_text_there_is_no_number_of_it(
        self, run: Run, honest: Model, corpus: Any
    ) -> None:
        path = corpus.tokens / "manifest.json"
        path.write_text(path.read_text().replace(f'"audit": {60 * LENGTH}', '"audit": 0'))
        (corpus.tokens / "audit_00000.npy").unlink()
        found = run.model(honest)
        run.head = run.folder / "losses"
        again = run.model(honest, out="again")
        assert found["refused"] == again["prefix"] == ""
        assert again["gain_val"] == 0
        assert found["audit_bpb"] is again["gain_audit"] is None

    @pytest.mark.parametrize("harm", ["missing", "not losses", "of another text"])
    def test_a_head_that_cannot_be_compared_gives_no_gain(
        self, harm: str, run: Run, honest: Model, corpus: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run.head = run.folder / "head"
        if harm == "not losses":
            run.head.write_bytes(b"PK or something else")
        elif harm == "of another text":
            run.model(honest, out="head")
            run.head = run.folder / "head"
            tokens = np.load(corpus.tokens / "val_00000.npy")
            tokens[7] += 1
            np.save(corpus.tokens / "val_00000.npy", tokens)
        assert run.model(honest)["gain_val"] is None
        assert "no gain is known" in capsys.readouterr().err
