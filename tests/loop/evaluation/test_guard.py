"""What reading a program finds, and what it cannot: the edits are in `cheats.py`."""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.evaluation.guard.examine import examine, module_names, refused
from loop.evidence import Finding, Rule, Severity
from loop.program.fingerprint import fingerprint
from tests.loop.evaluation.cheats import CHEATS, HONEST, SEEDS, STRICT, TEMPLATE, Edit, Kind

TRAINED = {fingerprint(TEMPLATE): "experiment #0 (keep)"}


@cache
def findings_of(edit: Edit) -> tuple[Finding, ...]:
    return examine(edit.program(), base=TEMPLATE, earlier=TRAINED.get)


def rules(findings: tuple[Finding, ...], *severities: Severity) -> set[Rule]:
    return {finding.rule for finding in findings if finding.severity in severities}


def named(edit: Edit) -> str:
    return edit.name


def test_nothing_is_found_in_the_template() -> None:
    assert examine(TEMPLATE) == ()
    assert examine(TEMPLATE, base=TEMPLATE) == ()


def test_the_edits_are_many_of_every_kind() -> None:
    kinds = Counter(edit.kind for edit in (*CHEATS, *SEEDS, *HONEST))
    assert len(CHEATS) >= 45
    assert kinds[Kind.HONEST] >= 15
    assert min(kinds[kind] for kind in Kind) >= 3
    assert len({edit.name for edit in (*CHEATS, *SEEDS, *HONEST)}) == sum(kinds.values())


@pytest.mark.parametrize("edit", CHEATS, ids=named)
def test_a_cheat_is_flagged_as_far_as_reading_can_tell(edit: Edit) -> None:
    findings = findings_of(edit)
    assert rules(findings, Severity.REFUSE, Severity.FLAG) == set(edit.rules)
    assert rules(findings, Severity.NOTE) == set(edit.notes)
    assert not refused(findings, strict=False)
    assert bool(refused(findings, strict=True)) == bool(edit.rules)


def test_what_is_found_stands_in_the_lines_that_were_changed() -> None:
    for edit in CHEATS:
        changed = set(edit.program().splitlines()) - set(TEMPLATE.splitlines())
        lines = edit.program().splitlines()
        for finding in findings_of(edit):
            about_all = finding.line == 1  # something is missing
            summary = finding.rule is Rule.SUMMARY or finding.message.endswith("returned.")  # the true one
            assert about_all or summary or lines[finding.line - 1] in changed, (edit.name, finding)


@pytest.mark.parametrize("edit", SEEDS, ids=named)
def test_another_seed_or_layout_is_refused(edit: Edit) -> None:
    (finding,) = findings_of(edit)
    assert finding.rule is Rule.REPEATED
    assert "experiment #0 (keep)" in finding.message
    assert refused((finding,), strict=False) == (finding,)


@pytest.mark.parametrize("edit", HONEST, ids=named)
def test_an_honest_program_is_at_most_noted(edit: Edit) -> None:
    findings = findings_of(edit)
    assert rules(findings, Severity.NOTE) == set(edit.notes)
    assert rules(findings, Severity.REFUSE, Severity.FLAG) == set(STRICT.get(edit.name, ()))
    assert not refused(findings, strict=False)
    assert bool(refused(findings, strict=True)) == (edit.name in STRICT)


# Programs that are none


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\ny = (\n", 2),
        ("x = 1\n\nreturn x\n", 3),
        ("x = 1\0\n", 1),
        ("\ud800", 1),
        ("x = " + "(" * 500 + ")" * 500, 1),
        ("x = " + "-" * 100_000 + "1", 1),
    ],
    ids=["brackets", "return", "null", "surrogate", "nested", "signs"],
)
def test_what_is_no_python_is_refused(text: str, line: int) -> None:
    (finding,) = examine(text, base=TEMPLATE)
    assert (finding.rule, finding.severity, finding.line) == (Rule.SYNTAX, Severity.REFUSE, line)


def test_a_base_that_is_no_python_compares_nothing() -> None:
    assert examine(TEMPLATE, base="x = (") == ()
    assert examine("\ufeff" + TEMPLATE, base="") == ()


# Repositories of others

OTHERS = """\
import gc
import math
import os
import subprocess
os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
import torch
from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb, make_dataloader
from kernels import get_kernel

DEPTH = 8
tokenizer = Tokenizer.from_directory()
vocabulary = tokenizer.get_vocab_size()
commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True).stdout
model = torch.compile(torch.nn.Linear(DEPTH, vocabulary), dynamic=False)
loader = make_dataloader(tokenizer, 8, MAX_SEQ_LEN, "train")
spent = 0
while True:
    x, y, epoch = next(loader)
    loss = model(x, y)
    progress = min(spent / TIME_BUDGET, 1.0)
    if math.isnan(loss.item()):
        print("FAIL")
        exit(1)
    if spent >= TIME_BUDGET:
        break
    gc.freeze()
model.eval()
with torch.no_grad():
    val_bpb = evaluate_bpb(model, tokenizer, 8)
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"depth:            {DEPTH}")
"""

ALONE = """\
import torch, data

SEED = 1
def evaluate(model):
    total = sum(model(x).sum() for x in data.batches("test"))
    return total / 100

accuracy = 0.0
for epoch in range(3):
    accuracy = max(accuracy, evaluate(torch.nn.Linear(1, 1)))
print("---")
print("accuracy:", round(accuracy, 4))
"""


def other(old: str, new: str) -> set[Rule]:
    assert OTHERS.count(old) == 1
    return rules(examine(OTHERS.replace(old, new), base=OTHERS), Severity.FLAG)


def test_what_the_base_does_is_not_reported() -> None:
    assert rules(examine(OTHERS), Severity.FLAG) == {Rule.PROCESS}
    assert examine(OTHERS, base=OTHERS) == ()
    assert examine(f"# further down\n\n{OTHERS.replace('DEPTH = 8', 'DEPTH = 9')}", base=OTHERS) == ()


def test_in_a_repository_of_others_the_same_is_found() -> None:
    assert other("evaluate_bpb(model,", "evaluate_bpb(lambda x: model(x),") == {Rule.EVALUATOR}
    assert other("{val_bpb:.6f}", "{val_bpb - 0.01:.6f}") == {Rule.METRIC}
    assert other("val_bpb = evaluate_bpb(model, tokenizer, 8)", "val_bpb = loss.item()") == {
        Rule.EVALUATOR,
        Rule.METRIC,
    }
    assert other('"train")', '"val")') == {Rule.HELD_OUT}
    assert other("DEPTH = 8\n", "TIME_BUDGET = 600\n") == {Rule.FROZEN}
    assert other(">= TIME_BUDGET", ">= 2 * TIME_BUDGET") == {Rule.TIME}
    assert other("DEPTH = 8\n", "DEPTH = 8\nsubprocess.run(['true'])\n") == {Rule.PROCESS}
    assert other("vocabulary = tokenizer.get", "vocabulary = tokenizer.inner.get") == {Rule.FROZEN}
    assert other("import get_kernel\n", "import get_kernel\nfrom mine import evaluate_bpb\n") == {Rule.FROZEN}


def test_without_an_evaluator_by_name_less_is_said() -> None:
    given = {"frozen": ("data",), "metric": "accuracy"}
    assert rules(examine(ALONE, frozen=("data",), metric="accuracy"), Severity.FLAG) == {Rule.METRIC}
    assert examine(ALONE, base=ALONE, **given) == ()  # type: ignore[arg-type] # a dictionary of both
    changed = ALONE.replace("range(3)", "range(4)").replace("total / 100", "total / 99")
    assert examine(changed, base=ALONE, **given) == ()  # type: ignore[arg-type]
    literal = ALONE.replace("round(accuracy, 4)", "0.99")
    assert rules(examine(literal, base=ALONE, frozen=("data",), metric="accuracy"), Severity.FLAG) == {
        Rule.METRIC
    }


def test_a_budget_of_the_program_itself_is_not_to_change() -> None:
    own = "TIME_BUDGET = 300\nprint('val_bpb:', 1 / TIME_BUDGET)\n"
    findings = examine(own.replace("300", "900"), base=own)
    assert rules(findings, Severity.FLAG) == {Rule.TIME}
    assert "900" in findings[0].message


def test_modules_are_known_by_their_files() -> None:
    assert module_names(("prepare.py", "src/data.py", "words.txt")) == ("prepare", "data", "src.data")


@pytest.mark.parametrize(
    "shorter",
    [
        "prepare.progress(spent / 2)",
        "prepare.progress(spent * 0.5)",
        "prepare.progress(spent - 60)",
        "prepare.progress(spent) / 3",
        "prepare.progress(spent) ** 2",
        "(prepare.progress(spent) < 2)",
        "spent / prepare.TIME_BUDGET",
    ],
)
def test_the_share_of_the_budget_is_to_be_used_as_it_is(shorter: str) -> None:
    changed = TEMPLATE.replace("prepare.progress(spent)", shorter)
    assert rules(examine(changed, base=TEMPLATE), Severity.FLAG) == {Rule.TIME}
    for honest in ("prepare.progress(now - began)", "min(1.0, prepare.progress(spent))"):
        assert examine(TEMPLATE.replace("prepare.progress(spent)", honest), base=TEMPLATE) == ()


# Any text, in linear time

PIECES = st.sampled_from(
    [*TEMPLATE.splitlines(keepends=True)]
    + [line for edit in CHEATS for _, new in edit.changes for line in new.splitlines(keepends=True)]
)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_examined(text: str) -> None:
    findings = examine(text, base=text)
    assert {finding.rule for finding in findings} <= {Rule.SYNTAX}


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=12), st.lists(PIECES, max_size=4))
def test_lines_of_programs_in_any_order_are_examined(lines: list[str], base: list[str]) -> None:
    for findings in (examine("".join(map(str.lstrip, lines)), base="".join(base)), examine("".join(lines))):
        assert all(1 <= finding.line <= len(lines) * 3 + 1 for finding in findings)


SHAPES: dict[str, str | tuple[str, str, str]] = {
    "sums": "val_bpb = val_bpb + 1\n",
    "one long sum": ("x = 'a'", " + 'b'", "\n"),
    "one long sum of names": ("a = 'x'\nx = a", " + a", "\n"),
    "one long chain": ("import os\nx = os", ".a", "\n"),
    "one long chain of calls": ("import prepare\nx = prepare", ".a()", "\n"),
    "calls of each other": "def f(a, b=1):\n    return f(f(a), b=a)\nf(f, b=f)\n",
    "returns of one function": (
        "def f():\n",
        "    return 1, 2\n",
        "val_bpb, b = f()\nprint('val_bpb:', val_bpb)\n",
    ),
    "values of one name": (
        "import prepare\n",
        "val_bpb, x = f(x, val_bpb)\nprint('val_bpb:', val_bpb)\n",
        "",
    ),
    "parameters": ("f(", "a,", ")\n"),
    "keys": ("x = {", "'val_bpb': val_bpb,", "}\n"),
    "texts": "print('---', 'val_bpb: %s' % x, 'val_' + 'bpb', f'val_bpb: {x:.6f} {x}')\n",
    "handlers": "import atexit\ndef f():\n    print(1)\natexit.register(f)\n",
    "one name handed round": "import prepare\na = prepare\nb = a\na = b\nsetattr(a, b, a)\n",
    "evaluations": "import prepare\nval_bpb = prepare.evaluate_bpb(model)\nmodel = torch.compile(model)\n",
    "classes": "class A(A): pass\nimport prepare\nprepare.evaluate_bpb(A())\n",
    "imports": "from prepare import a#\nimport b# as a#\n",
    "members": "import prepare\nx# = prepare.a#.b(x)\n",
    "classes of each other": "import prepare\nclass A#(B, A): pass\nclass A(A#): pass\n"
    "prepare.evaluate_bpb(A#())\n",
    "functions": "def f#():\n    print(f())\ndef f():\n    return f#()\nimport atexit\natexit.register(f#)\n",
    "names": "a# = a\na = a# + 'a'\nprint('val_bpb', a, a#)\n",
    "files": "x = x / 'a'\nopen(x, 'w')\nx.write_text('a')\n",
    "a program": OTHERS,
}


def program_of(shape: str | tuple[str, str, str], times: int) -> str:
    begin, repeated, end = ("", shape, "") if isinstance(shape, str) else shape
    return begin + "".join(repeated.replace("#", str(number)) for number in range(times)) + end


def steps(source: str) -> int:
    """Count the lines of our own code that examining a program takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if "/loop/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    examine("", base=OTHERS)  # which is read once
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        examine(source, base=OTHERS)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_the_time_grows_with_the_length(shape: str) -> None:
    times = {"a program": 3}.get(shape, 64 if "chain" in shape else 20)
    few, many = (steps(program_of(SHAPES[shape], count)) for count in (times, 4 * times))
    assert many < 5 * few


@pytest.mark.parametrize(
    ("before", "after", "is_flagged"),
    [("", "", False), ("", "print(1)\n", True), ("        main()\n", "        os._exit(0)\n", True)],
)
def test_an_end_at_once_is_flagged_unless_nothing_comes_after_it(
    before: str, after: str, is_flagged: bool
) -> None:
    program = TEMPLATE.replace(before, before + after) if before else TEMPLATE + after
    assert (Rule.EXIT in rules(examine(program), Severity.FLAG)) == is_flagged
