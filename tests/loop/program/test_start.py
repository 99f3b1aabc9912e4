from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from loop.program.start import COMPILER, Start, Variable, find_start


def start(source: str, **files: str) -> Start:
    """Read a program; `files` lie beside it, `a__b` as `a/b.py`."""
    texts = {f"{name.replace('__', '/')}.py": dedent(text) for name, text in files.items()}
    return find_start(dedent(source), {path.partition("/")[0] for path in texts}, texts.get)


def modules(source: str, **files: str) -> list[str]:
    return [module for module, _ in start(source, **files).imports]


def test_packages_are_found_with_their_names_in_their_order() -> None:
    found = start("""
        '''It reads os.environ.'''
        from __future__ import annotations
        import os, math
        import torch, numpy as np
        from torch import nn, Tensor
        from torch.nn import functional as F
        from torch import optim
        x = 1
    """)
    assert found.imports == (
        ("torch", ("nn", "Tensor", "optim")),
        ("numpy", ()),
        ("torch.nn", ("functional",)),
    )
    assert found.variables == ()


def test_what_is_imported_of_the_repository_is_followed_and_not_imported() -> None:
    found = start(
        "import prepare\nfrom tools.data import load\nfrom tools import more\nimport torch\n",
        prepare="""
            import os
            os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
            import tokenizer
            import prepare
        """,
        tokenizer="import tiktoken",
        tools____init__="",
        tools__data="import pyarrow\nfrom . import more\nfrom .deep import thing",
        tools__more="from .deep import thing",
        tools__deep="import zstandard",
    )
    assert [module for module, _ in found.imports] == ["tiktoken", "pyarrow", "zstandard", "torch"]
    assert found.variables == (Variable("OMP_WAIT_POLICY", "PASSIVE", is_default=True),)


def test_a_folder_without_files_of_python_hides_its_name() -> None:
    assert find_start("import datasets, torch", {"datasets"}, lambda _: None).imports == (("torch", ()),)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("try:\n    import fast\nexcept ImportError:\n    fast = None\nimport torch", ["fast", "torch"]),
        ("with suppress(ImportError):\n    import fast\nimport torch", ["fast", "torch"]),
        ("if TYPE_CHECKING:\n    import fast\nimport torch", ["torch"]),
        ("if typing.TYPE_CHECKING:\n    import fast\nelse:\n    import slow", ["slow"]),
        ("if cuda:\n    import fast\nimport torch", ["torch"]),
        ("def later():\n    import fast\nimport torch", ["torch"]),
    ],
)
def test_only_what_is_imported_in_any_case_counts(lines: str, found: list[str]) -> None:
    assert modules(lines) == found


@pytest.mark.parametrize(
    "use", ["f = torch.compile(f)", "@torch.compile\ndef f(): ...", "def f(m):\n    torch.compile(m)"]
)
def test_a_compiler_is_imported_where_it_is_used(use: str) -> None:
    assert modules(f"import torch\n{use}") == ["torch", *COMPILER]
    assert modules("import helpers, torch", helpers=use) == ["torch", *COMPILER]
    assert modules(use) == []


def test_a_compiler_is_not_imported_where_a_variable_is_set_after_torch() -> None:
    assert modules("import os, torch\nos.environ['TORCHINDUCTOR_MAX_AUTOTUNE'] = '1'\ntorch.compile(f)") == [
        "torch"
    ]


def test_variables_set_before_all_packages_are_found() -> None:
    found = start("""
        import os
        from os import environ
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
        environ["ONE"] = "1"
        os.environ.setdefault("TWO", "2")
        import torch
    """)
    assert found.variables == (
        Variable("PYTORCH_ALLOC_CONF", "expandable_segments:True", is_default=False),
        Variable("ONE", "1", is_default=False),
        Variable("TWO", "2", is_default=True),
    )
    assert found.imports == (("torch", ()),)


@pytest.mark.parametrize(
    "change",
    [
        "os.environ['A'] = '1'",
        "os.environ['A'] = str(1)",
        "os.environ[name] = '1'",
        "os.environ |= {'A': '1'}",
        "os.environ.update(A='1')",
        "os.environ.pop('A')",
        "del os.environ['A']",
        "environment = os.environ",
        "os.putenv('A', '1')",
        "os.unsetenv('A')",
        "os.sched_setaffinity(0, {0})",
        "exec('os.environ.clear()')",
        "getattr(os, 'environ').clear()",
        "libc.setenv(b'A', b'1', 1)",
        "if True:\n    os.environ['A'] = '1'",
        "class A:\n    os.environ['A'] = '1'",
        "with change(os.environ):\n    pass",
        "try:\n    pass\nexcept OSError:\n    os.environ['A'] = '1'",
        "import os as system",
        "from os import environ as e",
        "from os import putenv",
        "from os import *",
        "sys.path.insert(0, 'src')",
        "sys.modules['triton'] = None",
        "from sys import path",
        "if True:\n    import mine",
        "import mine",
        "import os; os.environ['A'] = '1'",
    ],
)
def test_after_a_change_that_is_not_plain_or_late_nothing_is_imported_ahead(change: str) -> None:
    files = {"mine": "import os\nos.environ.clear()"}
    assert modules(f"import os, sys\nimport torch\n{change}\nimport numpy", **files) == ["torch"]
    if not change.startswith("os.environ['A'] = '1'"):
        assert modules(f"import os, sys\n{change}\nimport torch", **files) == []


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    os.environ['A'] = '1'",
        "f = lambda: os.environ.clear()",
        "class A:\n    def f(self):\n        os.putenv('A', '1')",
    ],
)
def test_a_change_in_a_function_may_come_at_any_time(code: str) -> None:
    assert start(f"import os, torch\n{code}") == Start()


@pytest.mark.parametrize(
    "reading",
    [
        "os.environ.get('A')",
        "os.environ['A']",
        "'A' in os.environ",
        "dict(os.environ)",
        "{**os.environ}",
        "os.environ.copy()",
        "os.getenv('A')",
    ],
)
def test_to_read_variables_changes_nothing(reading: str) -> None:
    assert modules(f"import os\na = {reading}\nimport torch") == ["torch"]
    assert modules(f"import os\ndef f():\n    return {reading}\nimport torch") == ["torch"]


@pytest.mark.parametrize(
    "source", ["import torch\ndef", "import torch\n\0", "import mine, torch", "import torch\n" * 2**17]
)
def test_what_is_no_python_has_no_start(source: str) -> None:
    assert start(source, mine="def") == Start()


def test_a_python_serves_a_program_that_imports_as_much_after_the_same_variables() -> None:
    torch = start("import torch")
    assert torch.serves(start("import numpy, torch"))
    assert torch.serves(start("from torch import nn\nimport torch"))
    assert not torch.serves(start("import numpy"))
    assert not torch.serves(start("import os\nos.environ['A'] = '1'\nimport torch"))
    assert not start("import os\nos.environ['A'] = '1'\nimport torch").serves(torch)
    assert not start("import torch\ntorch.compile(f)").serves(torch)
    assert not torch.serves(Start())


def test_our_template_is_clear() -> None:
    folder = Path(__file__).parents[3] / "training"

    def read(name: str) -> str | None:
        return (folder / name).read_text() if (folder / name).is_file() else None

    found = find_start(read("train.py") or "", {path.name for path in folder.iterdir()}, read)
    assert {"torch", *COMPILER} <= {module for module, _ in found.imports}
    assert [variable.name for variable in found.variables] == ["OMP_WAIT_POLICY"]
