"""Each claim of the README, with the tests that hold it or the command that shows it: `readme_claims.txt`.

A claim there is a few words of the README, as they stand, and the lines below it name what holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.test_readme import PARTS, README_TEXT, ROOT

TESTS = ROOT / "tests"
PLAIN = " ".join(README_TEXT.split())


def claims() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (TESTS / "readme_claims.txt").read_text().splitlines():
        if line.startswith(" "):
            found[[*found][-1]].append(line.strip())
        else:
            found[line] = []
    return found


CLAIMS = claims()


def statements() -> Iterator[str]:
    """Yield each paragraph, bullet and row of the README that is written by hand."""
    text = README_TEXT.partition("\n## Links")[0]
    for name in PARTS:
        text = re.sub(rf"<!-- {name} -->.*<!-- /{name} -->", "", text, flags=re.DOTALL)
    text = re.sub(r"\n(?=- |\d\. |.* \| )", "\n\n", text)
    for block in re.split(r"\n\s*\n", text):
        statement = " ".join(block.split())
        if statement and not re.match(r"#|---|(What|Machine|Rule) \|", statement):
            yield statement


def test_every_claim_stands_in_the_readme_and_something_holds_it() -> None:
    assert [claim for claim, holders in CLAIMS.items() if claim not in PLAIN or not holders] == []


def test_what_holds_a_claim_exists() -> None:
    for holder in {holder for holders in CLAIMS.values() for holder in holders}:
        file, _, name = holder.partition("::")
        if name:
            text = (TESTS / file).read_text()
            assert re.search(rf"\bdef {name}\(|^{name} = ", text, re.MULTILINE), holder
        else:
            target = holder.removeprefix("make ")
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), holder


@pytest.mark.parametrize("statement", [*statements()])
def test_no_statement_is_without_a_claim(statement: str) -> None:
    assert any(claim in statement for claim in CLAIMS)


def test_the_simulated_nights_are_those_of_the_log() -> None:
    log = (TESTS / "benchmarks" / "LOG.md").read_text()
    rows = re.findall(r"^[a-z ,]+ \| (\.\d.*)$", README_TEXT, re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        assert f"| {row.replace(',', '')} |" in log
